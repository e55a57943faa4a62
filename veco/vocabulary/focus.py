"""FOCUS: new rows from those of similar pieces that both tokenizers have (Dobler and de Melo, EMNLP 2023).

A piece's auxiliary vector says what it is like: a fastText vector trained on text of the target language, cut by the
new tokenizer. With cosine similarities c_j to the pieces j that both tokenizers have, a new piece's row is

    sum_j w_j row_j,    w = sparsemax(c)

so that few of them count and the weights sum to one. Shared pieces keep their rows; pieces without a vector, being too
rare, are drawn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import normalize

from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import write_pieces

MAX_SIMILARITIES = 1 << 24  # at a time: 128 MB in float64


@dataclass(frozen=True)
class FastTextSettings:
    """How auxiliary vectors are trained; the defaults are those of the authors' `deepfocus` 1.0.1.

    `min_count` is the least number of occurrences that gives a piece a vector. With one thread the vectors are the same
    each time.
    """

    dimension: int = 100
    negatives: int = 10
    epochs: int = 3
    min_count: int = 10
    num_threads: int = os.cpu_count() or 1


def train_vectors(pieces: Pieces, text: Sequence[Path], settings: FastTextSettings) -> np.ndarray:
    """fastText vectors (CBOW), float32 (V, D), of the pieces into which text files are cut; zeros for rare ones.

    Raises ValueError if no piece occurs often enough.
    """
    import fasttext  # only for this

    with TemporaryDirectory() as directory:
        path = Path(directory) / "pieces.txt"
        write_pieces(pieces, text, path)
        # n threads of fastText initialise n tenths of its input matrix, of vectors for pieces and 2,000,000 hashed
        # n-grams; the rest is zero only as fresh memory is, so its size must not get small.
        try:
            model = fasttext.train_unsupervised(
                str(path),
                model="cbow",
                dim=settings.dimension,
                neg=settings.negatives,
                epoch=settings.epochs,
                minCount=settings.min_count,
                thread=settings.num_threads,
                verbose=0,
            )
        except ValueError as error:  # the dictionary is empty
            raise ValueError(
                f"{text[0]}: no piece occurs {settings.min_count} times, so none has a vector ({error}); give more text"
            ) from None
        except RuntimeError as error:  # the vectors diverged
            raise ValueError(f"{text[0]}: fastText cannot train vectors on it ({error}); give more text") from None
    table = np.zeros((len(pieces), settings.dimension), np.float32)
    frequent = set(model.words)
    for i in pieces.ordinary.tolist():
        if pieces.names[i] in frequent:
            table[i] = model.get_word_vector(pieces.names[i])
    return table


def sparsemax(scores: Tensor) -> Tensor:
    """The point of the simplex that is nearest to each row of scores (N, K) (Martins and Astudillo, 2016, eq. 2).

    It is max(scores - t, 0), where t makes the row sum to one: with the scores z_1 >= z_2 >= … in order, and k the
    largest number with 1 + k z_k > z_1 + … + z_k, t = (z_1 + … + z_k - 1) / k.
    """
    ordered = scores.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(dim=-1)
    numbers = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    num_kept = (1 + numbers * ordered > sums).sum(dim=-1, keepdim=True)
    threshold = (sums.gather(-1, num_kept - 1) - 1) / num_kept
    return (scores - threshold).clamp(min=0)


def focus_weights(vectors: np.ndarray, new_ids: np.ndarray, shared: Mapping[int, int], num_old: int) -> csr_array:
    """Weights (V new, V old) with which the rows of `new_ids` (n,) begin; none for those whose vector is zero.

    `vectors` (V new, D) are auxiliary ones. `shared` maps ids of pieces that both tokenizers have to their old ids, of
    which there are `num_old`; those without a vector do not count.
    """
    known = np.asarray(vectors.any(axis=1))
    anchors = [i for i in shared if known[i]]
    columns = np.array([shared[i] for i in anchors], np.int64)
    anchor_vectors = normalize(torch.from_numpy(vectors[anchors]).double())
    rows = new_ids[known[new_ids]]
    chunk = max(1, MAX_SIMILARITIES // max(1, len(anchors)))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for some in np.split(rows, range(chunk, len(rows), chunk)) if anchors else ():
        similarities = normalize(torch.from_numpy(vectors[some]).double()) @ anchor_vectors.t()
        weights = sparsemax(similarities).float().numpy()
        row, column = weights.nonzero()
        entries.append((weights[row, column], some[row], columns[column]))
    shape = (len(vectors), num_old)
    if not entries:
        return csr_array(shape, dtype=np.float32)
    values, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return csr_array((values, (row, column)), shape=shape)
