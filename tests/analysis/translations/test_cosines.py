"""Cosines of translations and of random pairs, against numpy on all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.parallel.vectors import ParallelVectors
from analysis.translations import cosines
from analysis.translations.cosines import EDGES, by_language, cosines_of_layer, other_rows

NAMES = ("en", "de", "fr")


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


@pytest.mark.parametrize("centre", [False, True])
def test_cosines_are_those_of_all_pairs(centre: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0)
    states = {name: (drawn.normal(size=(2, 30, 5)) + drawn.normal(size=5)).astype(np.float32) for name in NAMES}
    pairs = list(itertools.combinations(NAMES, 2))
    others = other_rows(30, seed=2)
    monkeypatch.setattr(cosines, "BLOCK_ROWS", 7)
    found = cosines_of_layer(ParallelVectors([1, 4], states), 4, pairs, others, centre)
    own = {name: x[1] - x[1].mean(axis=0) if centre else x[1] for name, x in states.items()}
    translated, random = (
        {(x, y): [cosine(own[x][i], own[y][chosen[i]]) for i in range(30)] for x, y in pairs}
        for chosen in (np.arange(30), others)
    )
    for pair in pairs:
        compared = found[pair]
        for kind, right in ((compared.translations, translated[pair]), (compared.random, random[pair])):
            assert kind.count == 30 and kind.mean == pytest.approx(np.mean(right), abs=1e-6)
            assert kind.sd == pytest.approx(np.std(right, ddof=1), abs=1e-6)
            assert kind.histogram.sum() == 30 and kind.histogram @ EDGES[:-1] / 30 == pytest.approx(
                np.mean(right), abs=1e-3
            )
        assert compared.higher == np.mean(np.array(translated[pair]) > np.array(random[pair]))
    german = [*translated["en", "de"], *translated["de", "fr"]]
    assert by_language(found)["de"].translations.count == 60
    assert by_language(found)["de"].translations.mean == pytest.approx(np.mean(german), abs=1e-6)
    assert by_language(found)["de"].translations.sd == pytest.approx(np.std(german, ddof=1), abs=1e-6)


def test_each_row_has_another_one() -> None:
    for num_rows in (2, 3, 50):
        others = other_rows(num_rows, seed=num_rows)
        assert sorted(others) == list(range(num_rows)) and not (others == np.arange(num_rows)).any()
    assert other_rows(50, 1).tolist() != other_rows(50, 2).tolist()
