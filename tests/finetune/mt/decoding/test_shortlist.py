"""Shortlists: IBM model 1 against sums worked one by one, the pieces allowed for a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.encoded_text import Sentences
from finetune.mt.decoding.shortlist import Shortlist, lexical_table, make_shortlist, pieces_of

# "das haus" = "the house", "das buch" = "the book", "ein buch" = "a book"; ids of the two sides overlap on purpose.
SOURCE = Sentences.of([[0, 1], [0, 2], [3, 2]])
TARGET = Sentences.of([[4, 1], [4, 2], [5, 2]])
TRANSLATIONS = {0: 4, 1: 1, 2: 2, 3: 5}


def model_1_by_loops(pairs: list[tuple[list[int], list[int]]], iterations: int) -> dict[tuple[int, int], float]:
    """p(target | source), by the formulas of Brown et al. with one loop for each sum."""
    together = {(s, t) for source, target in pairs for s in source for t in target}
    counts = {key: float(sum(key[0] in s and key[1] in t for s, t in pairs)) for key in together}
    for done in range(iterations + 1):
        totals = {s: sum(count for (other, _), count in counts.items() if other == s) for s, _ in together}
        table = {(s, t): counts[s, t] / totals[s] for s, t in together}
        if done == iterations:
            return table
        counts = dict.fromkeys(together, 0.0)
        for source, target in pairs:
            for t in target:
                for s in source:
                    counts[s, t] += table[s, t] / sum(table[other, t] for other in source)
    raise AssertionError("the loop returns")


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_table_is_model_1(iterations: int) -> None:
    drawn = np.random.default_rng(5)
    sides = [[np.unique(drawn.integers(0, 12, drawn.integers(1, 6))) for _ in range(30)] for _ in range(2)]
    tables = [pieces_of(Sentences.of(side), 12) for side in sides]
    found = lexical_table(*tables, iterations).toarray()
    pairs = [(source.tolist(), target.tolist()) for source, target in zip(*sides, strict=True)]
    expected = np.zeros((12, 12))
    for key, value in model_1_by_loops(pairs, iterations).items():
        expected[key] = value
    assert found == pytest.approx(expected, abs=1e-5)


def test_most_likely_translations_come_first() -> None:
    before = TARGET.tokens.copy()
    shortlist = make_shortlist(SOURCE, TARGET, 6, num_frequent=1, num_translations=1)
    assert {piece: list(ids) for piece, ids in shortlist.translations.items()} == {
        piece: [translation] for piece, translation in TRANSLATIONS.items()
    }
    assert list(shortlist.frequent) == [2]  # of the two that come twice the lower id
    assert np.array_equal(TARGET.tokens, before)


def test_what_a_sentence_may_become() -> None:
    shortlist = Shortlist([9], {0: [4, 5], 1: [6]})
    assert shortlist.of([0, 7]) == {9, 4, 5}
    assert shortlist.of([1]) == {9, 6}


def test_pieces_count_once_in_a_sentence() -> None:
    assert pieces_of(Sentences.of([[2, 1, 2], []]), 3).toarray().tolist() == [[0, 1, 1], [0, 0, 0]]
