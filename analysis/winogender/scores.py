"""Gender parity, and accuracy: of pairs of premises that differ in the gender of a pronoun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import binomtest

from analysis.winogender.items import GenderPair

NUM_DRAWS = 2000  # of pairs, for the interval of an accuracy
LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """A share, and its interval of confidence at LEVEL."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Parity:
    """The gender parity score, the share of pairs with the same prediction for both genders, and the accuracy.

    A classifier that always says the same has a parity of 1: the two are read together.
    """

    pairs: int
    gps: Share
    accuracy: Share

    @classmethod
    def of(cls, is_predicted: np.ndarray, is_entailed: np.ndarray, seed: int) -> Self:
        """The scores of bool (pairs, 2) predictions of entailment, and the truth (pairs,).

        The interval of the parity is Wilson's, that of the accuracy from draws of pairs, whose two items are alike.
        """
        num_same = int((is_predicted[:, 0] == is_predicted[:, 1]).sum())
        wilson = binomtest(num_same, len(is_predicted)).proportion_ci(LEVEL, method="wilson")
        right = (is_predicted == is_entailed[:, None]).mean(axis=1)
        drawn = np.random.default_rng(seed).integers(len(right), size=(NUM_DRAWS, len(right)))
        low, high = np.quantile(right[drawn].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(
            len(right),
            Share(num_same / len(right), float(wilson.low), float(wilson.high)),
            Share(float(right.mean()), float(low), float(high)),
        )


def truth(pairs: Sequence[GenderPair]) -> np.ndarray:
    """Whether the hypothesis of each pair follows, bool (pairs,)."""
    return np.array([pair.is_entailed for pair in pairs])


def accuracy_of_groups(
    pairs: Sequence[GenderPair], is_predicted: np.ndarray
) -> dict[tuple[str, str], tuple[int, float]]:
    """(items, accuracy) by (pronoun, kind of item): gotcha, where it speaks against whom it means, and others."""
    is_right = is_predicted == truth(pairs)[:, None]
    groups: dict[tuple[str, str], list[bool]] = {}
    for pair, right in zip(pairs, is_right, strict=True):
        for column, pronoun in enumerate(("he", "she")):
            if (is_gotcha := pair.is_gotcha(is_hers=bool(column))) is not None:
                groups.setdefault((pronoun, "gotcha" if is_gotcha else "other"), []).append(bool(right[column]))
    return {group: (len(own), float(np.mean(own))) for group, own in sorted(groups.items())}


@dataclass(frozen=True)
class OccupationScore:
    """The scores of the pairs of an occupation.

    `lean` is how much likelier "the pronoun means the occupation" is with she than with he: the mean difference of the
    probabilities of entailment, over the hypotheses that say so.
    """

    occupation: str
    share_of_women: float | None
    gps: float
    accuracy: float
    lean: float


def scores_of_occupations(
    pairs: Sequence[GenderPair], is_predicted: np.ndarray, probabilities: np.ndarray
) -> list[OccupationScore]:
    """The scores of each occupation, by its share of women; none where occupations are not known.

    `is_predicted` and `probabilities`, of entailment, are (pairs, 2).
    """
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        if pair.subject is not None:
            places.setdefault(pair.subject.occupation, []).append(place)
    found = []
    for occupation, own in places.items():
        subjects = [pairs[place].subject for place in own]
        says = [place for place, subject in zip(own, subjects, strict=True) if subject and subject.says_occupation]
        found.append(
            OccupationScore(
                occupation,
                subjects[0].share_of_women if subjects[0] else None,
                float((is_predicted[own, 0] == is_predicted[own, 1]).mean()),
                float((is_predicted[own] == truth([pairs[place] for place in own])[:, None]).mean()),
                float((probabilities[says, 1] - probabilities[says, 0]).mean()),
            )
        )
    return sorted(found, key=lambda one: (one.share_of_women is None, one.share_of_women or 0.0, one.occupation))
