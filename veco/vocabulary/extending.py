"""Add pieces and special tokens to the vocabulary of a model and its tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.sparse import csr_array, vstack

from data_tools.text.lines import read_text
from data_tools.tokenizers.sentence_piece import ID_OFFSET, UNK_ID
from veco.convert.weights import listed
from veco.vocabulary.rows import Model, means_of, reindex
from veco.vocabulary.xlm_r_layout import Splitter, fitting_vocabulary, lowest_score


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
    the pieces into which it is split now, so that it is preferred to them. Its row is the mean of their rows, or, with
    `piece_weights` (number of new pieces, V old), that sum of old rows. `tokens`, such as language tags, are matched
    literally. Their rows, and those of pieces without a weight, are drawn, with `seed`, from a normal distribution with
    the mean and the standard deviation of all rows.

    Logits and states of old ids do not change. Text without the new pieces and tokens is split as before.
    Raises ValueError for pieces and tokens that exist already or cannot occur in normalised text, for scores below
    those of all old pieces (`<unk>` would become less probable too), and for a model that does not fit the tokenizer.
    """
    vocabulary = fitting_vocabulary(model, tokenizer_dir)
    known = vocabulary.tokenizer.get_vocab()
    pieces = pieces or {}
    times = Counter([*known, *pieces, *tokens])
    if twice := {name for name in times if times[name] > 1}:
        raise ValueError(f"{tokenizer_dir}: {listed(twice)}: exists already, or is given twice")
    if not all(token.strip() for token in tokens):
        raise ValueError("a new token is empty")
    parts, lowest = Splitter(vocabulary.proto).parts_of(pieces), lowest_score(vocabulary.proto)
    old_scores = {i: float(vocabulary.proto.pieces[i - ID_OFFSET].score) for ids in parts.values() for i in ids}
    old_scores[UNK_ID] = lowest
    scores = {
        piece: fmean(old_scores[i] for i in parts[piece]) if score is None else score for piece, score in pieces.items()
    }
    if wrong := {piece for piece, score in scores.items() if not lowest <= score <= 0}:  # NaN too
        raise ValueError(f"the score of {listed(wrong)} is not between {lowest:.4g}, the lowest of old pieces, and 0")
    old_ids = range(len(vocabulary))
    vocabulary.write(Path(output_dir), old_ids, scores, tokens, max_tokens=model.config.max_tokens)
    in_front, behind = old_ids[: vocabulary.mask_id], old_ids[vocabulary.mask_id :]
    known_parts = [[i for i in ids if i != UNK_ID] for ids in parts.values()]
    num_old = len(vocabulary)
    of_pieces = means_of(known_parts, num_old) if piece_weights is None else piece_weights
    blocks = [means_of([[i] for i in in_front], num_old), of_pieces, means_of([[i] for i in behind], num_old)]
    weights = csr_array(vstack([*blocks, csr_array((len(tokens), num_old), dtype=np.float32)]))
    new_ids = {old: old if old < vocabulary.mask_id else old + len(pieces) for old in old_ids}
    return reindex(model, weights, new_ids, seed=seed)


def read_pieces(path: Path) -> dict[str, float | None]:
    """New pieces and their scores from lines `piece`, with score None, or `piece TAB score`.

    Raises ValueError for empty lines, repeated pieces, and scores that are not numbers.
    """
    pieces: dict[str, float | None] = {}
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        piece, tab, score = line.partition("\t")
        try:
            value = float(score) if tab else None
        except ValueError:
            raise ValueError(f"{path}: line {number}: the score {score!r} is not a number") from None
        if not piece or piece in pieces:
            raise ValueError(f"{path}: line {number}: expected one more new piece, found {piece!r}")
        pieces[piece] = value
    return pieces
