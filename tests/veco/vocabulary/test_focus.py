"""FOCUS, against deepfocus 1.0.1 on a small case and against its formula."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from focus_case import DRAWN, GOLDEN, NEW, OLD, SPECIAL, rows, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from word_tokenizers import write_words

from veco.vocabulary import focus
from veco.vocabulary.changing import focusing
from veco.vocabulary.focus import FastTextSettings, focus_weights, sparsemax, train_vectors
from veco.vocabulary.pieces import Pieces, ordinary_matches


@pytest.mark.parametrize("match", ["exact", "fuzzy"])
def test_rows_are_those_of_deepfocus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, match: str) -> None:
    monkeypatch.setattr(focus, "MAX_SIMILARITIES", 20)  # several chunks
    write_words(OLD, tmp_path / "old")
    write_words(NEW, tmp_path / "new")
    old, new = Pieces.open(tmp_path / "old"), Pieces.open(tmp_path / "new")
    weights = focusing(old, new, vectors(), ordinary_matches(old, new, match == "fuzzy"))
    found = weights @ rows()
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[match]
    for name, row, expected_row, num_sources in zip(NEW, found, expected, np.diff(weights.indptr), strict=True):
        assert (num_sources == 0) == (name == DRAWN) == (expected_row is None), name
        if expected_row is not None:
            np.testing.assert_allclose(row, expected_row, rtol=0, atol=2e-6, err_msg=name)


def plain_sparsemax(scores: list[float]) -> list[float]:
    """The formula, one number at a time."""
    ordered = sorted(scores, reverse=True)
    threshold = None
    for k in range(1, len(ordered) + 1):
        if 1 + k * ordered[k - 1] > sum(ordered[:k]):
            threshold = (sum(ordered[:k]) - 1) / k
    assert threshold is not None
    return [max(score - threshold, 0.0) for score in scores]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30))
def test_sparsemax_is_its_formula(scores: list[float]) -> None:
    found = sparsemax(torch.tensor([scores, scores[::-1]], dtype=torch.float64))
    np.testing.assert_allclose(found[0], plain_sparsemax(scores), rtol=0, atol=1e-9)
    assert torch.equal(found[1], found[0].flip(0))
    assert float(found[0].sum()) == pytest.approx(1.0)


def test_without_shared_pieces_or_vectors_nothing_is_combined() -> None:
    table = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    assert focus_weights(table, np.array([1, 2]), {}, num_old=4).nnz == 0
    assert focus_weights(table, np.array([1, 2]), {0: 3}, num_old=4).nnz == 0, "the shared piece has no vector"
    weights = focus_weights(table, np.array([0, 2]), {1: 3}, num_old=4).toarray()
    assert weights.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], "a piece without a vector has no weights"


def text_of_two_groups(directory: Path) -> tuple[list[str], Pieces]:
    """Two hundred words, of which those of one half never occur beside those of the other, and one rare word."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(200)]
    write_words([*SPECIAL, *(f"Ġ{word}" for word in words), "Ġrare", "<mask>"], directory)
    groups = np.array(words).reshape(2, 100)
    lines = [" ".join(generator.choice(groups[number % 2], 8)) for number in range(4000)]
    (directory / "text.txt").write_text("".join(f" {line}\n" for line in [*lines, "rare"]), encoding="utf-8")
    return words, Pieces.open(directory)


def test_frequent_pieces_have_vectors(tmp_path: Path) -> None:
    words, pieces = text_of_two_groups(tmp_path)
    text, settings = [tmp_path / "text.txt"], FastTextSettings(dimension=10, epochs=1, num_threads=1)
    table = train_vectors(pieces, text, settings)
    assert [bool(vector.any()) for vector in table] == [name[1:] in words for name in pieces.names]
    assert np.array_equal(table, train_vectors(pieces, text, settings)), "one thread always finds the same"
    with pytest.raises(ValueError, match=r"text\.txt: no piece occurs 9000 times"):
        train_vectors(pieces, text, FastTextSettings(dimension=10, min_count=9000))


@pytest.mark.slow
def test_pieces_that_occur_together_become_similar(tmp_path: Path) -> None:
    _, pieces = text_of_two_groups(tmp_path)
    table = train_vectors(pieces, [tmp_path / "text.txt"], FastTextSettings(dimension=10, epochs=40, num_threads=1))
    own = table[4:204] / np.linalg.norm(table[4:204], axis=1, keepdims=True)
    assert (own[:100] @ own[:100].T).min() > 0.5 + (own[:100] @ own[100:].T).max()
