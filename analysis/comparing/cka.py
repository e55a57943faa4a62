"""Centred kernel alignment of two sets of vectors of the same sentences (Kornblith et al., 2019), debiased."""

from __future__ import annotations

import math

import numpy as np

MIN_SENTENCES = 4  # for an unbiased estimate


def batches_of(num_rows: int, batch_size: int | None, seed: int) -> list[np.ndarray]:
    """The numbers of the rows of each mini-batch, drawn at random, of at most `batch_size`; None: all rows at once.

    Batches are about equal, and have MIN_SENTENCES or more. They are drawn as Nguyen et al. (2021) do, since sentences
    that are beside each other in a file are often alike.
    Raises ValueError for too few rows, and for batches that are too small.
    """
    if num_rows < MIN_SENTENCES:
        raise ValueError(f"{num_rows:,} sentences: expected at least {MIN_SENTENCES} for CKA")
    if batch_size is None or batch_size >= num_rows:
        return [np.arange(num_rows)]
    if batch_size < 2 * MIN_SENTENCES:
        raise ValueError(f"--batch-size {batch_size}: expected at least {2 * MIN_SENTENCES}")
    drawn = np.random.default_rng(seed).permutation(num_rows)
    return np.array_split(drawn, -(-num_rows // batch_size))


def cka(xy: float, xx: float, yy: float) -> float:
    """CKA from the three values of HSIC.

    0 for independent sets and 1 for equal ones, up to rotation and scale; being unbiased, it can be beyond both. NaN if
    a set does not vary.
    """
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else math.nan
