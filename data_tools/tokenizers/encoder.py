"""What data_tools and pre-training ask of a tokenizer, and opening whichever one a directory has."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece

from data_tools.tokenizers.json_vocabulary import model_pieces
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID, ID_OFFSET, MODEL_FILE, TOKENIZER_JSON, PieceEncoder
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.tokenizer_json import TokenizerJsonEncoder

XLM_R_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


class Encoder(Protocol):
    """Encodes lines as ids, without the special ids around a sentence, and decodes them.

    It pickles as the path of its directory. `vocab_size` counts all ids, special ones too. `tokenizer_sha256` is that
    of the file which decides the ids.
    """

    tokenizer_dir: Path
    vocab_size: int
    tokenizer_sha256: str

    @property
    def special(self) -> SpecialIds:
        """The special ids, of which no text becomes one but `unk`."""

    @property
    def table(self) -> PieceTable:
        """Of each id, whether it begins a word, and the number of its characters."""

    @property
    def spellings(self) -> list[str]:
        """The characters of each id, without what marks the beginning of a word; none for special ids."""

    def encode_flat(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): the int32 ids of all lines end to end, and the int64 number of ids of each line.

        A line of white space, or of characters that normalisation removes, may have length 0. Raises ValueError for
        half of a surrogate pair, which is possible in Python's strings but not in text.
        """

    def encode_words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode_flat`, of words as they stand inside a sentence."""

    def unknown_records(self, lines: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """RECORD (m,) of the unknown ids, in order, that `encode_flat` gave these lines (see `unknown_pieces`)."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids (n,), without special ones; unknown text is `⁇`."""


def open_encoder(directory: Path | str) -> Encoder:
    """The tokenizer in a directory: SentencePiece's where it has XLM-R's layout, else that of its tokenizer.json.

    SentencePiece is five to ten times as fast. Raises ValueError if the directory has neither, or a tokenizer that
    cannot be used.
    """
    is_json = model_file(Path(directory)).name == TOKENIZER_JSON
    return TokenizerJsonEncoder(directory) if is_json else PieceEncoder(directory)


def model_file(directory: Path) -> Path:
    """The file in a tokenizer directory that decides the ids, whose SHA-256 an encoder has; it may be missing."""
    is_sentence_piece = (directory / MODEL_FILE).is_file() and has_xlm_r_layout(directory)
    return directory / (MODEL_FILE if is_sentence_piece else TOKENIZER_JSON)


def has_xlm_r_layout(directory: Path) -> bool:
    """Whether a directory's tokenizer.json, if there is one, has the pieces and ids that `PieceEncoder` gives.

    CamemBERT's, for one, has the same files, but other ids; one trained anew with transformers may lie beside the
    model of the old one.
    """
    try:
        content = json.loads((directory / TOKENIZER_JSON).read_text(encoding="utf-8"))
        ids = {token["content"]: token["id"] for token in content["added_tokens"]}
        pieces = model_pieces(content["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return True  # none, or one that nothing can read: the model says it all
    if [ids.get(token) for token in XLM_R_TOKENS] not in ([0, 1, 2, 3, len(pieces) - 1], [0, 1, 2, 3, len(pieces)]):
        return False
    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / MODEL_FILE))
    except (RuntimeError, OSError):
        return True  # `PieceEncoder` says what is wrong with it
    of_model = processor.id_to_piece(list(range(FIRST_PIECE_ID - ID_OFFSET, processor.get_piece_size())))
    return [pieces.get(id_) for id_ in range(FIRST_PIECE_ID, ids[XLM_R_TOKENS[-1]])] == of_model
