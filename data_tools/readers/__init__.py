"""Readers of all input formats, which turn files into streams of documents or sentence pairs.

    for part in parts_of(item, max_bytes):
        with InputReader(item, part) as reader:
            for document in reader.documents():      # one language: the sentences of a document
            for source, target in reader.pairs():    # two languages

A reader removes line ends and a byte order mark, insists on UTF-8, and leaves all other characters as they are, since
SentencePiece normalises (nmt_nfkc) all text it encodes, in training and later. By that normalisation

- tabs, no-break and wide spaces, U+2028, U+FFFD, U+FEFF, and U+200B to U+200F except the joiner U+200D become spaces;
- control characters up to U+001F, U+007F, U+008F and U+009F vanish;
- NUL (which ends nothing; it can only come from JSON and Parquet, since text files with a zero byte are refused), the
  other characters from U+0080 to U+009E, soft hyphens, U+200D, directional marks (U+202A to U+202E), U+2060 to U+206F,
  variation selectors and private-use characters stay: with ids of their own if they were frequent enough in the
  training of the tokenizer, otherwise unknown.

Only half of a surrogate pair, which JSON can spell, would make SentencePiece fail; the reader raises an error for it.
"""

from data_tools.files.locations import expand
from data_tools.readers.hub import pinned
from data_tools.readers.reader import InputReader, identity_of, parts_of, size_of

__all__ = ["InputReader", "expand", "identity_of", "parts_of", "pinned", "size_of"]
