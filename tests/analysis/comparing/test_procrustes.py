"""A planted rotation is found, and found again on pairs that it was not learned from."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.comparing.procrustes import Rotation, rotated_accuracy


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_planted_rotation_is_found() -> None:
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(80, 6)).astype(np.float32)
    planted = np.linalg.qr(drawn.normal(size=(6, 6)))[0].astype(np.float32)
    y = x @ planted + np.float32(3)  # of another mean, too
    found = Rotation.learned(x[:40], y[:40])
    assert found.matrix == pytest.approx(planted, abs=1e-4)
    assert found.matrix @ found.matrix.T == pytest.approx(np.eye(6), abs=1e-5)
    accuracies = rotated_accuracy(found, x[40:], y[40:])
    assert accuracies["held_out_rotated"] == 1
    assert accuracies["held_out"] < 0.3 and accuracies["held_out_centred"] < 0.3


def test_of_noisy_pairs_it_is_the_best_rotation() -> None:
    """W = U V' of the singular vectors of X'Y, and no rotation drawn at random is nearer."""
    drawn = np.random.default_rng(1)
    x, y = drawn.normal(size=(50, 4)) + 1, drawn.normal(size=(50, 4))
    found = Rotation.learned(x, y)
    left, right = unit(x - x.mean(axis=0)), unit(y - y.mean(axis=0))
    u, _, v = np.linalg.svd(left.T @ right)
    assert found.matrix == pytest.approx(u @ v, abs=1e-6)
    for _ in range(50):
        other = np.linalg.qr(drawn.normal(size=(4, 4)))[0]
        assert np.linalg.norm(left @ found.matrix - right) <= np.linalg.norm(left @ other - right)


def test_means_are_those_learned() -> None:
    """The tested pairs alone have another mean, which must not be used."""
    x = np.array([[2.0, 0], [-2, 0], [0, 2], [0, -2]], dtype=np.float32)
    found = Rotation.learned(x, x)
    tested = np.array([[5.0, 0], [7, 1]], dtype=np.float32)
    left, right = found.centred(tested, tested)
    assert left == pytest.approx(unit(tested)) and right == pytest.approx(unit(tested))
