"""Add pieces and special tokens to the vocabulary of a model and its tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array, vstack

from data_tools.text.lines import open_text
from data_tools.tokenizers.encoder import model_file
from data_tools.tokenizers.json_vocabulary import type_of
from data_tools.tokenizers.sentence_piece import TOKENIZER_JSON
from veco.convert.weights import listed
from veco.tokenizer import has_tokenizer, read_json
from veco.vocabulary.model_directory import check_fits
from veco.vocabulary.rows import Model, means_of, reindex
from veco.vocabulary.word_pieces import MODEL_TYPE as WORD_PIECE
from veco.vocabulary.word_pieces import WordPieces
from veco.vocabulary.xlm_r_layout import XlmRVocabulary


class Vocabulary(Protocol):
    """The pieces of a tokenizer directory, which can be extended by others.

    Pieces are named as SentencePiece spells them, `▁` at the start of a word; `name_of` is the tokenizer's own name of
    one. New ones get the ids from `first_new` on; what has these ids now moves behind them. `unk_id` is that of unknown
    text.
    """

    directory: Path
    tokenizer: Any
    unk_id: int
    first_new: int

    def __len__(self) -> int: ...

    def name_of(self, piece: str) -> str:
        """The name of a piece in the tokenizer."""

    def problem_of(self, piece: str) -> str | None:
        """Why a piece cannot occur in text, or None if it can."""

    def parts_of(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        """Ids into which each new piece is split now; ValueError for one that cannot occur in text."""

    def write_extended(
        self, directory: Path, pieces: Mapping[str, float | None], tokens: Sequence[str], *, max_tokens: int
    ) -> None:
        """Write a tokenizer with new pieces, which may have scores, and new special tokens, to a directory."""


def extensible(directory: Path) -> Vocabulary:
    """The vocabulary in a tokenizer directory. Raises ValueError for a kind that cannot be extended."""
    if not has_tokenizer(directory):
        raise ValueError(f"{directory}: expected a directory with a tokenizer")
    if model_file(directory).name == TOKENIZER_JSON and (directory / TOKENIZER_JSON).is_file():
        kind = type_of(read_json(directory / TOKENIZER_JSON)["model"])
        if kind == WORD_PIECE:
            return WordPieces(directory)
        raise ValueError(
            f"{directory}: only WordPiece and SentencePiece in XLM-R's layout can be extended, found {kind}; give the "
            "model another tokenizer with `python -m veco.vocabulary change`"
        )
    return XlmRVocabulary(directory)


def extend_vocabulary(
    model: Model,
    tokenizer_dir: str | Path,
    output_dir: str | Path,
    pieces: Mapping[str, float | None] | None = None,
    tokens: Sequence[str] = (),
    seed: int = 0,
    piece_weights: csr_array | None = None,
) -> Model:
    """Add rows for new pieces and special tokens to `model`, in place; write their tokenizer to `output_dir`.

    `pieces` maps each new piece (`▁` at the start of a word) to its score, a log-probability; None is the mean score of
    the pieces into which it is split now, so that it is preferred to them. WordPiece, which takes the longest piece,
    has no scores. A new row is the mean of those of the pieces into which it is split now, or, with `piece_weights`
    (number of new pieces, V old), that sum of old rows. `tokens`, such as language tags, are matched literally. Their
    rows, and those of pieces without a weight, are drawn, with `seed`, from a normal distribution with the mean and the
    standard deviation of all rows.

    Logits and states of old ids do not change. Text without the new pieces and tokens is split as before.
    Raises ValueError for pieces and tokens that exist already or cannot occur in normalised text, for scores below
    those of all old pieces (`<unk>` would become less probable too), and for a model that does not fit the tokenizer.
    """
    vocabulary = extensible(Path(tokenizer_dir))
    check_fits(vocabulary, model, vocabulary.directory)
    known = vocabulary.tokenizer.get_vocab()
    pieces = pieces or {}
    times = Counter([*known, *map(vocabulary.name_of, pieces), *tokens])
    if twice := {name for name in times if times[name] > 1}:
        raise ValueError(f"{tokenizer_dir}: {listed(twice)}: exists already, or is given twice")
    if not all(token.strip() for token in tokens):
        raise ValueError("a new token is empty")
    parts = vocabulary.parts_of(pieces)
    vocabulary.write_extended(Path(output_dir), pieces, tokens, max_tokens=model.config.max_tokens)
    num_old, first_new = len(vocabulary), vocabulary.first_new
    known_parts = [[i for i in ids if i != vocabulary.unk_id] for ids in parts.values()]
    of_pieces = means_of(known_parts, num_old) if piece_weights is None else piece_weights
    in_front, behind = (means_of([[i] for i in ids], num_old) for ids in (range(first_new), range(first_new, num_old)))
    weights = csr_array(vstack([in_front, of_pieces, behind, csr_array((len(tokens), num_old), dtype=np.float32)]))
    new_ids = {old: old if old < first_new else old + len(pieces) for old in range(num_old)}
    return reindex(model, weights, new_ids, seed=seed)


def read_pieces(path: Path) -> dict[str, float | None]:
    """New pieces and their scores from lines `piece`, with score None, or `piece TAB score`.

    Raises ValueError for empty files and lines, repeated pieces, and scores that are not numbers.
    """
    pieces: dict[str, float | None] = {}
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            piece, tab, score = line.partition("\t")
            try:
                value = float(score) if tab else None
            except ValueError:
                raise ValueError(f"{path}: line {number}: the score {score!r} is not a number") from None
            if not piece or piece in pieces:
                raise ValueError(f"{path}: line {number}: expected one more new piece, found {piece!r}")
            pieces[piece] = value
    if not pieces:
        raise ValueError(f"{path}: expected new pieces, one a line, found an empty file")
    return pieces
