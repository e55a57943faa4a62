"""Alignment error rate, precision, recall and F1 of links against gold links. Och and Ney (2003), section 6."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

Link = tuple[int, int]  # numbers of a source word and of a target word, from 0


@dataclass(frozen=True)
class Gold:
    """The links of a pair that an aligner must find, and those that it may find, the sure ones among them."""

    sure: frozenset[Link]
    possible: frozenset[Link]


@dataclass(frozen=True)
class Counts:
    """Sums over pairs: links found, sure ones, and how many of those found are sure or possible."""

    num_links: int = 0
    num_sure: int = 0
    num_found_sure: int = 0
    num_found_possible: int = 0

    @classmethod
    def of(cls, links: Iterable[Link], gold: Gold) -> Self:
        """The counts of one pair."""
        found = set(links)
        return cls(len(found), len(gold.sure), len(found & gold.sure), len(found & gold.possible))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.num_links + other.num_links,
            self.num_sure + other.num_sure,
            self.num_found_sure + other.num_found_sure,
            self.num_found_possible + other.num_found_possible,
        )

    @property
    def precision(self) -> float:
        """|A ∩ P| / |A|, NaN without links."""
        return self.num_found_possible / self.num_links if self.num_links else math.nan

    @property
    def recall(self) -> float:
        """|A ∩ S| / |S|, NaN without sure links."""
        return self.num_found_sure / self.num_sure if self.num_sure else math.nan

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, from exact values of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0 * total

    @property
    def aer(self) -> float:
        """1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), NaN without any links; 0 is best."""
        total = self.num_links + self.num_sure
        return 1 - (self.num_found_sure + self.num_found_possible) / total if total else math.nan
