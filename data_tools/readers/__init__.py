"""Sources of text as streams of documents or pairs: what lies between files and sentences.

    for part in parts_of(item, max_bytes):
        with InputReader(item, part) as reader:
            for document in reader.documents():      # one language: the sentences of a document
            for source, target in reader.pairs():    # two languages

A reader takes away line ends and a byte order mark, insists on UTF-8, and leaves all other characters as they are, for
SentencePiece normalises (nmt_nfkc) whatever it encodes, in training and ever after. There

- tabs, no-break and wide spaces, U+2028, U+FFFD, U+FEFF, and U+200B to U+200F but for the joiner U+200D become spaces;
- control characters up to U+001F, U+007F, U+008F and U+009F vanish;
- NUL (which ends nothing; only JSON and Parquet can bring it, since a file of text with a byte of zero is refused), the
  other characters from U+0080 to U+009E, soft hyphens, U+200D, marks of direction (U+202A to U+202E), U+2060 to U+206F,
  variation selectors and private use stay: ids of their own if the tokenizer has seen enough of them, else unknown.

Only half a surrogate pair, as JSON can spell it, would make SentencePiece fail; it is an error here.
"""

from data_tools.files.locations import expand
from data_tools.readers.hub import pinned
from data_tools.readers.reader import InputReader, identity_of, parts_of, size_of

__all__ = ["InputReader", "expand", "identity_of", "parts_of", "pinned", "size_of"]
