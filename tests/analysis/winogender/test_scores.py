"""Parity and accuracy: worked by hand, and of classifiers whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.winogender.items import GenderPair, Subject
from analysis.winogender.report import correlation, parities
from analysis.winogender.scores import (
    OccupationScore,
    Parity,
    accuracy_of_groups,
    scores_of_occupations,
    truth,
)


def pair(is_entailed: bool, occupation: str = "nurse", says: bool = True, share: float | None = 0.9) -> GenderPair:
    return GenderPair(("he", "she"), "hypothesis", is_entailed, Subject(occupation, says, share))


def test_parity_and_accuracy_by_hand() -> None:
    predicted = np.array([[True, True], [True, False], [False, False], [False, False], [False, True]])
    entailed = np.array([True, True, False, True, False])
    score = Parity.of(predicted, entailed, seed=1)
    assert score.gps.value == 3 / 5 and score.accuracy.value == (2 + 1 + 2 + 0 + 1) / 10
    # Wilson's interval, written out.
    z, n, p = 1.959964, 5, 0.6
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert [score.gps.low, score.gps.high] == pytest.approx(expected, abs=1e-5)
    assert score.accuracy.low < 0.6 < score.accuracy.high
    swapped = Parity.of(predicted[:, ::-1], entailed, seed=1)
    assert swapped == score


def test_published_values_decode() -> None:
    """91.57 and 49.72 are 163 and 177 of AX-g's 178 pairs and 356 items."""
    predicted, entailed = np.ones((178, 2), dtype=bool), np.ones(178, dtype=bool)
    predicted[:15, 0] = False  # pairs that differ
    predicted[15:97] = False
    score = Parity.of(predicted, entailed, seed=1)
    assert (round(100 * score.gps.value, 2), round(100 * score.accuracy.value, 2)) == (91.57, 49.72)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_constant_classifiers_are_at_parity_and_know_nothing(share: float) -> None:
    num_entailed = int(40 * share)
    pairs = [pair(number < num_entailed) for number in range(40)]
    predicted = np.random.default_rng(0).random((40, 2)) < 0.5
    scores = parities(pairs, predicted, seed=1)
    always, never = scores["always entailed"], scores["never entailed"]
    assert always.gps.value == never.gps.value == 1
    assert (always.accuracy.value, never.accuracy.value) == (share, 1 - share)
    assert scores["model"] == Parity.of(predicted, truth(pairs), seed=1)


def test_a_classifier_that_goes_by_gender_has_no_parity_and_the_right_one_all() -> None:
    pairs = [pair(number % 2 == 0) for number in range(10)]
    by_gender = np.tile([False, True], (10, 1))
    score = Parity.of(by_gender, truth(pairs), seed=1)
    assert score.gps.value == 0 and score.accuracy.value == 0.5
    right = Parity.of(np.repeat(truth(pairs)[:, None], 2, axis=1), truth(pairs), seed=1)
    assert right.gps.value == right.accuracy.value == 1


def test_the_interval_of_the_accuracy_draws_pairs_whose_items_are_alike() -> None:
    right = np.repeat(np.random.default_rng(0).random(400) < 0.7, 2).reshape(400, 2)
    score = Parity.of(right, np.ones(400, dtype=bool), seed=1)
    half = 1.96 * math.sqrt(score.accuracy.value * (1 - score.accuracy.value) / 400)
    assert score.accuracy.high - score.accuracy.low == pytest.approx(2 * half, rel=0.1)


def test_groups_of_gotchas() -> None:
    # Hypotheses that say the occupation: he is a gotcha for nurses, she for builders; whom a pronoun means is in truth.
    pairs = [pair(True), pair(True, "builder", share=0.1), pair(False, "clerk", share=None)]
    predicted = np.array([[True, False], [True, True], [True, True]])
    assert accuracy_of_groups(pairs, predicted) == {
        ("he", "gotcha"): (1, 1.0),
        ("he", "other"): (1, 1.0),
        ("she", "gotcha"): (1, 1.0),
        ("she", "other"): (1, 0.0),
    }
    assert not accuracy_of_groups([GenderPair(("he", "she"), "x", True)], predicted[:1])


def test_scores_of_occupations() -> None:
    pairs = [pair(True), pair(False, says=False), pair(False, "builder", share=0.1), pair(True, "clerk", share=None)]
    predicted = np.array([[False, True], [False, False], [True, True], [True, True]])
    probabilities = np.array([[0.2, 0.7], [0.4, 0.3], [0.9, 0.6], [0.5, 0.5]])
    found = scores_of_occupations(pairs, predicted, probabilities)
    assert [one.occupation for one in found] == ["builder", "nurse", "clerk"]  # by the share of women
    assert found[1].gps == 1 / 2 and found[1].accuracy == 3 / 4 and found[1].lean == pytest.approx(0.5)
    assert found[0].gps == 1 and found[0].accuracy == 0 and found[0].lean == pytest.approx(-0.3)
    assert not scores_of_occupations([GenderPair(("he", "she"), "x", True)], predicted[:1], probabilities[:1])


def test_correlation_of_lean_and_share() -> None:
    shares, leans = [0.1, 0.4, 0.6, 0.9, None], [-0.2, 0.1, 0.0, 0.3, 9.0]
    own = [OccupationScore(str(number), share, 1, 1, leans[number]) for number, share in enumerate(shares)]
    expected = spearmanr(shares[:4], leans[:4])
    assert correlation(own) == {"spearman": pytest.approx(0.8), "p": pytest.approx(expected.pvalue)}
    assert correlation(own[:2]) is None
    assert correlation([OccupationScore("x", share, 1, 1, 0.0) for share in shares[:4]]) is None
