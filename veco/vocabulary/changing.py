"""Give a model the vocabulary of another tokenizer, whose rows begin from those of the old one.

Weights (V new, V old) say how: each new row is a sum of old rows, and one without a weight is drawn. Special pieces
begin with the rows of those that have their role, whatever their names: BERT's `[CLS]` with that of XLM-R's `<s>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from veco.convert.weights import listed
from veco.tokenizer import save_tokenizer
from veco.vocabulary.focus import focus_weights
from veco.vocabulary.model_directory import check_fits
from veco.vocabulary.pieces import Pieces, special_matches
from veco.vocabulary.rows import Draw, Model, draw_like_rows, framing_ids, means_of, reindex


def change_vocabulary(
    model: Model,
    old: Pieces,
    new: Pieces,
    weights: csr_array,
    output_dir: str | Path,
    draw: Draw = draw_like_rows,
    seed: int = 0,
) -> Model:
    """Give `model`, in place, the vocabulary of `new`; write its tokenizer, with its own ids, to `output_dir`.

    `weights` come from `copying`, `ranking` or `focusing`; rows without any are drawn, with `seed`. Tied rows and
    output biases follow, and the configuration names the special pieces by their new ids. States and logits of copied
    pieces do not change. Data prepared with the old tokenizer do not fit the new model.
    Spare rows of the model, behind those of `old`, are dropped.
    Raises ValueError for a model that does not fit `old`, and for one whose configuration names a piece, such as a
    language tag, that `new` lacks.
    """
    check_change(model, old, new)
    # Where two new pieces match one of a role, such as `<s>` and `[CLS]`, the one with the role, which comes last.
    new_ids = {old_id: i for i, old_id in special_matches(old, new).items()}
    reindex(model, weights, new_ids, draw, seed)
    save_tokenizer(new.tokenizer, new.directory, Path(output_dir), max_tokens=model.config.max_tokens)
    return model


def check_change(model: Model, old: Pieces, new: Pieces) -> None:
    """Raise ValueError where `change_vocabulary` does, before anything is computed."""
    check_fits(old, model, old.directory)
    if lost := framing_ids(model) - set(special_matches(old, new).values()):
        raise ValueError(
            f"{new.directory}: the model's configuration names {listed([old.names[i] for i in lost])}, which this "
            "tokenizer lacks; add it to the tokenizer first"
        )


def copying(old: Pieces, new: Pieces, shared: Mapping[int, int]) -> csr_array:
    """Weights that copy special pieces, and those of `shared` (from `ordinary_matches`); all others are drawn."""
    old_ids = {**special_matches(old, new), **shared}
    return means_of([[old_ids[i]] if i in old_ids else [] for i in range(len(new))], len(old))


def ranking(
    old: Pieces, new: Pieces, old_counts: np.ndarray, new_counts: np.ndarray, shared: Mapping[int, int]
) -> csr_array:
    """Weights that copy to the i-th most frequent new piece the row of the i-th most frequent old one.

    So Gogoulou et al. (Cross-lingual Transfer of Monolingual Models, section 3) carry a model into another language,
    `[lang → en][en]`; there the order of WordPiece's files stands for the frequencies. Counts (V,) are those of text in
    the language of each tokenizer. Equally frequent pieces, such as those that never occur, have the order of their
    names. Special pieces and those of `shared` are copied and have no rank. If the new tokenizer has more pieces, its
    rarest are drawn.
    """
    old_ids = np.setdiff1d(old.ordinary, list(shared.values()))
    new_ids = np.setdiff1d(new.ordinary, list(shared))
    pairs = zip(by_frequency(new, new_ids, new_counts), by_frequency(old, old_ids, old_counts), strict=False)
    return copying(old, new, {**shared, **dict(pairs)})


def by_frequency(pieces: Pieces, ids: np.ndarray, counts: np.ndarray) -> list[int]:
    """The ids (n,) from the most frequent to the rarest by counts (V,); equal ones in the order of their names."""
    return sorted(ids.tolist(), key=lambda i: (-int(counts[i]), pieces.names[i]))


def focusing(old: Pieces, new: Pieces, vectors: np.ndarray, shared: Mapping[int, int]) -> csr_array:
    """Weights of FOCUS: `shared` pieces are copied, others mixed from those of similar auxiliary vectors (V new, D)."""
    others = np.setdiff1d(new.ordinary, list(shared))
    return csr_array(copying(old, new, shared) + focus_weights(vectors, others, shared, len(old)))
