"""AER by hand and against its formula on sets; the choice of a layer never sees the pairs that it is for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.aligning.choice import chosen_elsewhere
from analysis.aligning.scores import Counts, Gold

LINKS = st.frozensets(st.tuples(st.integers(0, 3), st.integers(0, 3)))


def test_by_hand() -> None:
    """A has 4 links, of which 2 are sure and 3 possible; S has 3."""
    gold = Gold(frozenset({(0, 0), (1, 1), (2, 2)}), frozenset({(0, 0), (1, 1), (2, 2), (2, 3)}))
    counts = Counts.of([(0, 0), (1, 1), (2, 3), (3, 3)], gold)
    assert counts.precision == 3 / 4
    assert counts.recall == 2 / 3
    assert counts.f1 == pytest.approx(12 / 17)
    assert counts.aer == pytest.approx(1 - 5 / 7)


@given(st.lists(st.tuples(LINKS, LINKS, LINKS), min_size=1, max_size=4))
def test_sums_over_pairs_are_the_formula(pairs: list[tuple[frozenset, frozenset, frozenset]]) -> None:
    total = Counts()
    tagged: list[set] = [set(), set(), set()]
    for number, (links, sure, more) in enumerate(pairs):
        total = total + Counts.of(links, Gold(sure, sure | more))
        for seen, own in zip(tagged, (links, sure, sure | more), strict=True):
            seen |= {(number, *link) for link in own}
    a, s, p = tagged
    if a or s:
        assert total.aer == pytest.approx(1 - (len(a & s) + len(a & p)) / (len(a) + len(s)))
        assert 0 <= total.aer <= 1
    else:
        assert math.isnan(total.aer)
    assert math.isnan(total.precision) if not a else total.precision == len(a & p) / len(a)
    assert math.isnan(total.recall) if not s else total.recall == len(a & s) / len(s)


def counts(aer: float) -> Counts:
    """Of 100 links and 100 sure ones, so many are equal as give an AER."""
    equal = round(100 * (1 - aer))
    return Counts(100, 100, equal, equal)


def test_each_half_has_the_layer_that_is_best_on_the_other() -> None:
    by_layer = {1: [counts(0.1), counts(0.5)], 2: [counts(0.3), counts(0.2)]}
    chosen = chosen_elsewhere(by_layer, None)
    assert chosen is not None and chosen.layers == (2, 1)
    assert chosen.counts.aer == pytest.approx((0.3 + 0.5) / 2)


def test_development_pairs_choose_for_all() -> None:
    by_layer = {1: [counts(0.1), counts(0.5)], 2: [counts(0.3), counts(0.2)], 3: [counts(0.0), counts(0.0)]}
    development = {1: [counts(0.2), counts(0.2)], 2: [counts(0.1), counts(0.3)], 3: [Counts(), Counts()]}
    chosen = chosen_elsewhere(by_layer, development)
    assert chosen is not None and chosen.layers == (1, 1) and chosen.counts.aer == pytest.approx(0.3)


def test_nothing_is_chosen_where_there_is_nothing_to_choose_on() -> None:
    """A single pair: its other half is empty."""
    by_layer = {layer: [counts(0.0), Counts()] for layer in (0, 1, 2)}
    assert chosen_elsewhere(by_layer, None) is None
    assert chosen_elsewhere(by_layer, {layer: [Counts(), Counts()] for layer in by_layer}) is None
