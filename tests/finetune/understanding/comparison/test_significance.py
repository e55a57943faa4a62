"""Tests of differences: all draws enumerated, scipy's t-test, and models that are equal or better everywhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from finetune.understanding.comparison.significance import (
    Estimate,
    bootstrap_differences,
    bootstrap_p,
    seed_difference,
)
from finetune.understanding.metrics.resampling import Scored
from finetune.understanding.tasks.catalogues import task_named

TASK = task_named("pawsx")
DRAWS = 1_000


def predictions(correct: str) -> Scored:
    """Predictions of a language, of which those that are marked 1 are right."""
    return Scored(TASK, "de", ["1"] * len(correct), list(correct), [range(row, row + 1) for row in range(len(correct))])


def difference(model: str, baseline: str, draws: int = DRAWS) -> Estimate:
    found = bootstrap_differences({"de": [predictions(model)]}, {"de": [predictions(baseline)]}, draws)
    assert found["de"] == found[""], "one language is the average"
    return found["de"]


def test_the_bootstrap_agrees_with_all_draws() -> None:
    """Five examples have 3,125 draws, whose differences are all computed here."""
    model, baseline = "11101", "10100"
    gaps = np.array([100.0 * (int(a) - int(b)) for a, b in zip(model, baseline, strict=True)])
    every = np.array([gaps[list(draw)].mean() for draw in itertools.product(range(5), repeat=5)])
    found = difference(model, baseline, draws=20_000)
    assert found.p_value == pytest.approx(2 * min((every <= 0).mean(), (every >= 0).mean()), abs=0.01)
    assert (found.low, found.high) == pytest.approx(np.percentile(every, [2.5, 97.5]))


def test_equal_models_do_not_differ() -> None:
    assert difference("1100" * 20, "1100" * 20) == Estimate(0.0, 0.0, 1.0)


def test_a_model_that_is_right_where_the_other_is_wrong_is_better() -> None:
    found = difference("1" * 60, "0" * 60)
    assert found == Estimate(100.0, 100.0, 2 / (DRAWS + 1))
    assert difference("0" * 60, "1" * 60) == Estimate(-100.0, -100.0, 2 / (DRAWS + 1))


def test_the_same_difference_is_clearer_with_more_examples() -> None:
    few, many = difference("1110" * 5, "1010" * 5), difference("1110" * 50, "1010" * 50)
    assert many.p_value < few.p_value and many.high - many.low < few.high - few.low


def test_seeds_and_languages_are_averaged_in_each_draw() -> None:
    """Two seeds that are right in turn are half right; tests of equal length are drawn together."""
    halves, whole = [predictions("10" * 30), predictions("01" * 30)], [predictions("1" * 60)]
    nothing = [predictions("0" * 60)]
    found = bootstrap_differences({"de": halves, "fr": whole}, {"de": nothing, "fr": halves}, DRAWS)
    assert found["de"] == found["fr"] == found[""] == Estimate(50.0, 50.0, 2 / (DRAWS + 1))
    # Translations of one test, right and wrong in the same rows, vary as much as the test alone.
    model = {language: [predictions("110" * 20)] for language in ("de", "fr", "sw")}
    found = bootstrap_differences(model, dict.fromkeys(model, nothing), DRAWS)
    assert found[""] == found["de"]


def test_a_single_example_cannot_be_drawn() -> None:
    assert bootstrap_differences({"de": [predictions("1")]}, {"de": [predictions("0")]}, DRAWS) == {}


def test_no_p_value_is_zero() -> None:
    assert bootstrap_p(np.ones(999)) == 2 / 1000
    assert bootstrap_p(np.array([-1.0, 0.0, 1.0])) == 1.0


def test_the_difference_over_seeds_is_scipys_paired_t_test() -> None:
    own, other = {1: 60.0, 2: 63.0, 3: 61.5, 4: 50.0}, {1: 58.0, 2: 60.5, 3: 61.0, 5: 70.0}
    found = seed_difference(own, other)
    gaps = np.array([2.0, 2.5, 0.5])
    expected = stats.ttest_1samp(gaps, 0.0)
    margin = stats.t.ppf(0.975, 2) * gaps.std(ddof=1) / np.sqrt(3)
    assert found is not None and found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((gaps.mean() - margin, gaps.mean() + margin))
    assert seed_difference({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}) is None, "two seeds are too few"
    assert seed_difference(own, own) == Estimate(0.0, 0.0, 1.0)
