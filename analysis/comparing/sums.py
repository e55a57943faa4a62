"""Sums over sentences from which the measures of similarity of two sets of vectors follow.

They can be added, and no matrix has a row and a column for each sentence. Letters of shapes: N sentences, D and E the
widths of the vectors x and y of a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class PairSums:
    """Sums over the sentences of float64 numbers of x and y."""

    count: int
    x: np.ndarray  # (D,): of x
    y: np.ndarray  # (E,)
    xy: np.ndarray  # (D, E): of x y'
    x_by_y: np.ndarray  # (D,): of x |y|^2
    y_by_x: np.ndarray  # (E,): of y |x|^2
    x_squares: float  # of |x|^2
    y_squares: float
    squares: float  # of |x|^2 |y|^2

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> PairSums:
        """The sums of some rows (N, D) and (N, E).

        What follows from them does not depend on the means of x and y, but is more exact where these are near 0.
        """
        x, y = x.astype(np.float64), y.astype(np.float64)
        x_norms, y_norms = (np.einsum("nd,nd->n", side, side) for side in (x, y))
        return cls(
            count=len(x),
            x=x.sum(axis=0),
            y=y.sum(axis=0),
            xy=x.T @ y,
            x_by_y=x.T @ y_norms,
            y_by_x=y.T @ x_norms,
            x_squares=float(x_norms.sum()),
            y_squares=float(y_norms.sum()),
            squares=float(x_norms @ y_norms),
        )

    def __add__(self, other: PairSums) -> PairSums:
        return PairSums(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xy + other.xy,
            self.x_by_y + other.x_by_y,
            self.y_by_x + other.y_by_x,
            self.x_squares + other.x_squares,
            self.y_squares + other.y_squares,
            self.squares + other.squares,
        )

    @property
    def covariance(self) -> np.ndarray:
        """(D, E), from n."""
        return self.xy / self.count - np.outer(self.x, self.y) / self.count**2

    @property
    def hsic(self) -> float:
        """The unbiased HSIC of the linear kernels k = x x' and l = y y' (Song et al., 2012, eq. 5), from 4 rows on.

        With K and L without their diagonals, it is

            [tr(KL) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 1'KL1 / (n - 2)] / (n (n - 3)).

        The sums give each term: tr(KL) = |X'Y|^2 - sum |x|^2 |y|^2, row i of K1 is x_i . sum(x) - |x_i|^2, and so on.
        """
        n = self.count
        trace = float((self.xy**2).sum()) - self.squares
        k_total = float(self.x @ self.x) - self.x_squares
        l_total = float(self.y @ self.y) - self.y_squares
        rows = float(self.x @ self.xy @ self.y - self.x @ self.x_by_y - self.y @ self.y_by_x) + self.squares
        return (trace + k_total * l_total / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


@dataclass(frozen=True)
class BatchedSums:
    """The sums over all sentences, and the sum of HSIC over mini-batches of them (Nguyen et al., 2021)."""

    total: PairSums
    hsic: float

    @classmethod
    def of(cls, batches: Iterable[PairSums]) -> Self:
        """Add batches up as they come, so that two of them are in memory, however many there are.

        Raises ValueError if there is none.
        """
        total, hsic = None, 0.0
        for batch in batches:
            total = batch if total is None else total + batch
            hsic += batch.hsic
        if total is None:
            raise ValueError("no batches: expected at least one")
        return cls(total, hsic)
