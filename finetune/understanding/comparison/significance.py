"""Significance of the difference between two models: over the examples of the tests, and over the seeds.

Over examples: paired bootstrap. Examples are drawn with replacement, the same for both models and all their seeds, and
the score of each model is its mean over the seeds. Tests of equal length share the draws, since tests that translate
each other are not independent. The interval has the middle 95 % of the differences; p is twice the share of draws in
which the difference has the other sign or is zero.

Over seeds: a paired t-test of the scores of the seeds that both models have, at least MIN_SEEDS. No p-value is
corrected for the number of tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.understanding.metrics.resampling import Scored

CONFIDENCE = 0.95
MIN_SEEDS = 3
BATCH = 50  # draws at once: memory
BOOTSTRAP_SEED = 1


@dataclass(frozen=True)
class Estimate:
    """A difference in percent with its interval and the p-value of no difference, two-sided."""

    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Difference:
    """The score of a model less that of a baseline, in a language or on average.

    `over_examples` and `over_seeds` are None where there are too few examples or seeds, or no predictions.
    """

    model: str
    baseline: str
    language: str
    difference: float
    over_examples: Estimate | None
    over_seeds: Estimate | None


def bootstrap_differences(
    model: Mapping[str, Sequence[Scored]], baseline: Mapping[str, Sequence[Scored]], draws: int
) -> dict[str, Estimate]:
    """{language: the difference over examples, "": that of the averages over languages}.

    Both models have the predictions of each seed by language. Empty where a language has fewer than two examples.
    """
    from scipy.stats import bootstrap  # takes half a second to import

    sizes = {language: len(own[0].keys) for language, own in model.items()}
    if min(sizes.values()) < 2:
        return {}
    lengths = sorted(set(sizes.values()))
    scorers = {language: [[one.scorer for one in side[language]] for side in (model, baseline)] for language in model}

    def differences(*drawn: np.ndarray, axis: int) -> np.ndarray:
        """(languages + 1, draws) from (draws, examples) for each length."""
        rows = []
        for language, (own, other) in scorers.items():
            draws = drawn[lengths.index(sizes[language])]
            rows.append(np.mean([one(draws) for one in own], 0) - np.mean([one(draws) for one in other], 0))
        return np.stack([*rows, np.mean(rows, 0)])

    found = bootstrap(
        [np.arange(length) for length in lengths],
        differences,
        n_resamples=draws,
        batch=BATCH,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        random_state=np.random.default_rng(BOOTSTRAP_SEED),
    )
    limits = found.confidence_interval
    return {
        language: Estimate(
            float(limits.low[row]), float(limits.high[row]), bootstrap_p(found.bootstrap_distribution[row])
        )
        for row, language in enumerate([*scorers, ""])
    }


def bootstrap_p(differences: np.ndarray) -> float:
    """The two-sided p-value of no difference; the observed one counts as a draw, so that no p is 0."""
    opposite = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (opposite + 1) / (len(differences) + 1))


def seed_difference(model: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate | None:
    """The difference over seeds by a paired t-test; scores are by seed. None for fewer than MIN_SEEDS in common."""
    from scipy.stats import ttest_rel

    seeds = sorted(model.keys() & baseline.keys())
    if len(seeds) < MIN_SEEDS:
        return None
    own, other = [model[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    gaps = np.subtract(own, other)
    if np.ptp(gaps) == 0:  # t is not defined without variance
        return Estimate(float(gaps[0]), float(gaps[0]), 0.0 if gaps[0] else 1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Precision loss")
        found = ttest_rel(own, other)
    limits = found.confidence_interval(CONFIDENCE)
    return Estimate(float(limits.low), float(limits.high), float(found.pvalue))
