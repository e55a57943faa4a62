"""Accuracy of retrieval against distances of all pairs, and what each variant is blind to."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.comparing.retrieval import Variant, retrieval_accuracy


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def right_by_hand(similarities: np.ndarray) -> float:
    """The mean over both directions of the share of rows whose own number is the most similar."""
    own = np.arange(len(similarities))
    return float(((similarities.argmax(axis=1) == own).mean() + (similarities.argmax(axis=0) == own).mean()) / 2)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Translations whose languages have other means, and dimensions of other variances."""
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(60, 8)) * np.linspace(0.2, 2, 8)
    y = x + 0.6 * drawn.normal(size=(60, 8)) * np.linspace(2, 0.2, 8) + 2 * drawn.normal(size=8)
    return x.astype(np.float32), y.astype(np.float32)


def test_each_variant_is_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (side.astype(np.float64) for side in pair)
    offset = np.mean([target - source for source, target in zip(x, y, strict=True)], axis=0)
    distances = np.array([[np.sum((source + offset - target) ** 2) for target in y] for source in x])
    cosines = unit(x) @ unit(y).T
    largest = np.sort(cosines, axis=1)[:, -10:].mean(axis=1), np.sort(cosines, axis=0)[-10:].mean(axis=0)
    by_hand = {
        Variant.COSINE: cosines,
        Variant.CSLS: 2 * cosines - largest[0][:, None] - largest[1],
        Variant.OFFSET: -distances,
        Variant.CENTRED: unit(x - x.mean(axis=0)) @ unit(y - y.mean(axis=0)).T,
        Variant.NORMED: unit((x - x.mean(axis=0)) / x.std(axis=0)) @ unit((y - y.mean(axis=0)) / y.std(axis=0)).T,
    }
    found = {variant: retrieval_accuracy(*pair, variant) for variant in Variant}
    assert found == pytest.approx({variant: right_by_hand(own) for variant, own in by_hand.items()}, abs=1e-9)
    assert len(set(found.values())) == len(Variant)  # the fixture tells them apart


def test_offsets_and_scales_are_undone() -> None:
    """Planted: y is x moved, or x with dimensions of another mean and variance."""
    x = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    moved, scaled = x + np.float32(5), x * np.float32([1, 9, 0.1, 4, 1, 20]) + np.float32(5)
    assert retrieval_accuracy(x, moved, Variant.OFFSET) == retrieval_accuracy(x, moved, Variant.CENTRED) == 1
    assert retrieval_accuracy(x, moved, Variant.COSINE) < 0.5
    assert retrieval_accuracy(x, scaled, Variant.NORMED) == 1 > retrieval_accuracy(x, scaled, Variant.CENTRED)
    constant = np.concatenate([x, np.ones((50, 1), dtype=np.float32)], axis=1)
    assert retrieval_accuracy(constant, constant, Variant.NORMED) == 1
