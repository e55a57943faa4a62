"""Encoding text with SentencePiece itself: the ids of transformers' tokenizer at about ten times its speed.

A tokenizer directory like XLM-R's has a `sentencepiece.bpe.model`. Its ids are SentencePiece's plus one, because
fairseq put `<pad>` between `<s>` and `</s>`:

    piece       <unk>  <s>  </s>  first …  last      (none)
    SentencePiece   0    1     2      3 …   n - 1
    here            3    0     2      4 …   n        <mask> n + 1     (<pad> 1)

**Raw text never becomes a special id.** For SentencePiece `<s>`, `</s>`, `<unk>` are control symbols, which it does not
match in text, and `<pad>`, `<mask>` do not exist: a line with "</s>" becomes pieces like "<", "/", "s", ">", at worst
the unknown id 3. transformers' tokenizer maps such strings to the special ids (also with `split_special_tokens`): on
these lines this encoder differs on purpose. All the rest (NFKC-like normalisation, white space) is part of the
SentencePiece model, so both agree, except for runs of zeros cut in another order, control characters, and decomposed
vowels of Indic scripts, which transformers does not compose: they differed in 54 of 104,144 lines of 47 languages, of
which 51 are Sinhala.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece

from data_tools.files.atomic import sha256_of
from data_tools.files.formats import LOOKED_AT_BYTES, check_signature
from data_tools.text.characters import refuse_surrogates
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import records_of_lines

MODEL_FILE = "sentencepiece.bpe.model"
TOKENIZER_JSON = "tokenizer.json"  # the only model file that transformers 5 writes
WORD_START = "▁"
BOS_ID, PAD_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
FIRST_PIECE_ID = 4
NUM_EXTRA_IDS = 2  # <pad> and <mask>, which SentencePiece does not have
ID_OFFSET = 1
SENTENCEPIECE_UNK_ID, SENTENCEPIECE_BOS_ID, SENTENCEPIECE_EOS_ID = 0, 1, 2


def not_a_model(path: Path, error: Exception) -> ValueError:
    """The error for a file that SentencePiece cannot load, with its reason but without the place in its source."""
    with path.open("rb") as file:
        check_signature(str(path), file.read(LOOKED_AT_BYTES), "a SentencePiece model")
    if re.search("parse|unk is not defined", str(error), re.IGNORECASE):
        return ValueError(f"{path}: not a SentencePiece model, or cut short; fetch it again")
    return ValueError(f"{path}: not a SentencePiece model ({str(error).removeprefix('INTERNAL: ')})")


class PieceEncoder:
    """Encodes lines as ids (without `<s>` and `</s>`) and decodes them; it pickles as the path of its directory.

    `vocab_size` counts all pieces, including special ones, like `len(tokenizer)` of transformers, but not special
    tokens added to the directory later, such as language tags, which no text becomes. Raises ValueError if the
    directory has no SentencePiece model like XLM-R's.
    """

    def __init__(self, tokenizer_dir: Path | str) -> None:
        self.tokenizer_dir = Path(tokenizer_dir)
        path = self.tokenizer_dir / MODEL_FILE
        if not path.is_file():
            if (self.tokenizer_dir / TOKENIZER_JSON).is_file():
                raise ValueError(
                    f"{path}: no such file, only {TOKENIZER_JSON}; make a directory with both with "
                    f"`python -m data_tools.import_tokenizer {self.tokenizer_dir} --output TOKENIZER`"
                )
            raise ValueError(
                f"{path}: no such file; expected a tokenizer directory made by data_tools.train_tokenizer or XLM-R's"
            )
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise not_a_model(path, error) from None
        found = (self._processor.unk_id(), self._processor.bos_id(), self._processor.eos_id())
        expected = (SENTENCEPIECE_UNK_ID, SENTENCEPIECE_BOS_ID, SENTENCEPIECE_EOS_ID)
        if found != expected:
            raise ValueError(
                f"{path}: ids of <unk>, <s>, </s> are {found}, expected XLM-R's {expected}; convert it with "
                "data_tools.import_tokenizer"
            )
        self.vocab_size = int(self._processor.get_piece_size()) + NUM_EXTRA_IDS
        self.tokenizer_sha256 = sha256_of(path)

    @cached_property
    def special(self) -> SpecialIds:
        """XLM-R's special ids."""
        return SpecialIds.xlm_r(self.vocab_size)

    @cached_property
    def pieces(self) -> list[str]:
        """The pieces of the ids from FIRST_PIECE_ID up to `<mask>`; the first of a word begins with WORD_START."""
        ids = range(FIRST_PIECE_ID - ID_OFFSET, self.vocab_size - NUM_EXTRA_IDS)
        return list(self._processor.id_to_piece(list(ids)))

    @cached_property
    def spellings(self) -> list[str]:
        """The characters of each id, without WORD_START; none for special ids."""
        return [*[""] * FIRST_PIECE_ID, *(piece.replace(WORD_START, "") for piece in self.pieces), ""]

    @cached_property
    def table(self) -> PieceTable:
        """For each piece, whether it begins a word, and its number of characters."""
        starts_word = np.zeros(self.vocab_size, bool)
        starts_word[FIRST_PIECE_ID:-1] = [piece.startswith(WORD_START) for piece in self.pieces]
        num_characters = np.zeros(self.vocab_size, np.uint16)
        first = FIRST_PIECE_ID - ID_OFFSET
        num_characters[FIRST_PIECE_ID:-1] = [
            self._num_characters(i, piece) for i, piece in enumerate(self.pieces, first)
        ]
        num_characters[:FIRST_PIECE_ID] = 0
        return PieceTable(starts_word, num_characters)

    def _num_characters(self, sentencepiece_id: int, piece: str) -> int:
        if self._processor.is_byte(sentencepiece_id):  # "<0xE4>": a character counts for its first byte
            return int(int(piece[1:-1], 16) & 0b1100_0000 != 0b1000_0000)
        return len(piece) - piece.count(WORD_START)

    def __reduce__(self) -> tuple[type["PieceEncoder"], tuple[Path]]:
        return PieceEncoder, (self.tokenizer_dir,)

    def encode_flat(self, lines: Sequence[str], num_threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): the int32 ids of all lines end to end, and the int64 number of ids of each line.

        A line of white space (or of characters that normalisation removes) has length 0; NUL is an unknown character.
        Raises ValueError for half of a surrogate pair, which is possible in Python's strings but not in text.
        """
        try:
            arrays = self._processor.encode(list(lines), return_type="numpy", num_threads=num_threads)
        except TypeError:
            refuse_surrogates(lines)
            raise
        lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
        ids = np.frombuffer(b"".join(arrays), np.int32) + np.int32(ID_OFFSET)
        ids[ids == SENTENCEPIECE_UNK_ID + ID_OFFSET] = UNK_ID
        return ids, lengths

    def unknown_records(self, lines: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """RECORD (m,) of the unknown ids, in order, that `encode_flat` gave these lines (see `unknown_pieces`).

        Only lines with an unknown piece are looked at. Their characters that no known piece covers are unknown.
        """

        def normalized(rows: list[int]) -> tuple[list[str], np.ndarray]:
            texts = self._processor.normalize([lines[row] for row in rows])
            return texts, np.array([len(text) - text.count(WORD_START) for text in texts])

        return records_of_lines(ids, lengths, ids == UNK_ID, self.table.num_characters, normalized)

    def encode_words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode_flat`, of words as they stand inside a sentence: each line begins like a word of its own."""
        return self.encode_flat(words)

    def encode_lines(self, lines: Sequence[str], num_threads: int = 1) -> list[np.ndarray]:
        """The int32 ids (n_i,) of each line, in order."""
        if not lines:
            return []
        ids, lengths = self.encode_flat(lines, num_threads)
        return np.split(ids, np.cumsum(lengths)[:-1])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids (n,). Special ids and ids beyond the pieces are skipped; an unknown piece is ` ⁇ `."""
        last = self.vocab_size - 1  # <mask>; tags added later follow it
        kept = [i for i in map(int, ids) if UNK_ID <= i < last]
        return str(self._processor.decode([SENTENCEPIECE_UNK_ID if i == UNK_ID else i - ID_OFFSET for i in kept]))
