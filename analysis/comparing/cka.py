"""Centred kernel alignment of two sets of vectors of the same sentences (Kornblith et al., 2019), debiased."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from analysis.comparing.sums import PairSums

MIN_SENTENCES = 4  # for an unbiased estimate


def batches_of(num_rows: int, batch_size: int | None) -> list[slice]:
    """Slices of all rows, about equal and of at most `batch_size`, but of MIN_SENTENCES or more; None: one slice.

    Raises ValueError for too few rows, and for batches that are too small.
    """
    if num_rows < MIN_SENTENCES:
        raise ValueError(f"{num_rows:,} sentences: expected at least {MIN_SENTENCES} for CKA")
    if batch_size is None or batch_size >= num_rows:
        return [slice(0, num_rows)]
    if batch_size < 2 * MIN_SENTENCES:
        raise ValueError(f"--batch-size {batch_size}: expected at least {2 * MIN_SENTENCES}")
    bounds = np.linspace(0, num_rows, -(-num_rows // batch_size) + 1).astype(int).tolist()
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]


def hsic(batches: Sequence[PairSums]) -> float:
    """The sum of HSIC over mini-batches (Nguyen et al., 2021), or HSIC itself of a single one."""
    return math.fsum(batch.hsic for batch in batches)


def cka(xy: float, xx: float, yy: float) -> float:
    """CKA from the three values of HSIC.

    0 for independent sets and 1 for equal ones, up to rotation and scale; being unbiased, it can be beyond both. NaN if
    a set does not vary.
    """
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else math.nan
