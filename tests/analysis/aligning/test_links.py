"""Links against SimAlign's own for the same states, AwesomeAlign's definition written as a loop, and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.aligning.evidence import OneWayEvidence, StateEvidence
from analysis.aligning.links import Method, Settings, itermax_links, match_links, word_links
from analysis.states import UnitStates

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "simalign_links.json").read_text())
SIMALIGN = [Method.ARGMAX, Method.ITERMAX, Method.MATCH]


def drawn_states(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States of up to 13 units on each side, of which those at equal positions are similar."""
    drawn = np.random.RandomState(seed)
    m, n = drawn.randint(1, 14, 2)
    x, y = np.round(drawn.standard_normal((m, 8)), 2), np.round(drawn.standard_normal((n, 8)), 2)
    shorter = min(m, n)
    y[:shorter] = np.round(x[:shorter] + 0.9 * y[:shorter], 2)
    return x, y


def cases() -> list[dict[str, Any]]:
    """States, words of their units, distortion and SimAlign's links: of a model, and drawn."""
    found = list(GOLDEN["cases"])
    for case in GOLDEN["drawn"]:
        x, y = drawn_states(case["seed"])
        found.append({**case, "x": x, "y": y, "x_words": range(len(x)), "y_words": range(len(y))})
    return found


def in_batch(states: list[Any], words: list[Any]) -> UnitStates:
    """Sentences of different lengths as one batch, in one layer; behind a sentence there is noise."""
    width = max(map(len, words)) + 1
    padded = torch.full((1, len(words), width, len(states[0][0])), 7.0)
    numbers = torch.full((len(words), width), -1)
    for row, (own, own_words) in enumerate(zip(states, words, strict=True)):
        padded[0, row, : len(own)] = torch.tensor(np.asarray(own), dtype=torch.float32)
        numbers[row, : len(own)] = torch.tensor(list(own_words))
    return UnitStates(padded, numbers)


def evidence(x: UnitStates, y: UnitStates, distortion: float = 0.0) -> StateEvidence:
    """That of the only layer."""
    return StateEvidence(x.words, y.words, x.states[0], y.states[0], distortion)


@pytest.mark.parametrize("distortion", [0.0, 0.5, 1.0])
def test_links_of_a_batch_are_those_of_simalign(distortion: float) -> None:
    chosen = [case for case in cases() if case["distortion"] == distortion]
    own_widths = {len(case["x"][0]) for case in chosen}
    num_seen = 0
    for width in own_widths:
        same = [case for case in chosen if len(case["x"][0]) == width]
        x = in_batch([case["x"] for case in same], [case["x_words"] for case in same])
        y = in_batch([case["y"] for case in same], [case["y_words"] for case in same])
        found = word_links(evidence(x, y, distortion), SIMALIGN, Settings())
        for number, case in enumerate(same):
            own = {method: links[number].tolist() for method, links in found.items()}
            assert own == {method: case["links"][method] for method in SIMALIGN}
            num_seen += 1
    assert num_seen == len(chosen) > 10


def test_itermax_by_hand() -> None:
    """Round 1 links (0, 0); in round 2 row 1 prefers the aligned column 0, row 2 and column 2 find each other."""
    similarities = torch.tensor([[[0.9, 0.2, 0.1], [0.8, 0.3, 0.1], [0.1, 0.2, 0.4]]])
    is_cell = torch.ones(1, 3, 3, dtype=torch.bool)
    assert itermax_links(similarities, is_cell, rounds=1).nonzero()[:, 1:].tolist() == [[0, 0], [2, 2]]
    # 0.9 * 0.8 = 0.72 is the largest of row 1, and of column 0, since (0, 0) has both sides aligned.
    assert itermax_links(similarities, is_cell, rounds=2).nonzero()[:, 1:].tolist() == [[0, 0], [1, 0], [2, 2]]


def test_itermax_has_no_further_round_for_two_units() -> None:
    """With a third row and column, row 1 would be linked in the second round."""
    similarities = torch.tensor([[[0.9, 0.2, 0.1], [0.8, 0.3, 0.1], [0.1, 0.2, 0.4]]])
    is_cell = torch.ones(1, 3, 3, dtype=torch.bool)
    is_cell[:, :, 2] = False
    assert itermax_links(similarities, is_cell, rounds=2).nonzero()[:, 1:].tolist() == [[0, 0]]


def test_matching_has_the_largest_sum_not_the_largest_first() -> None:
    similarities = torch.tensor([[[0.9, 0.8, 0.0], [0.8, 0.1, 0.0]]])
    is_cell = torch.tensor([[[True, True, False]] * 2])
    assert match_links(similarities, is_cell).nonzero()[:, 1:].tolist() == [[0, 1], [1, 0]]


def softmax_by_hand(x: np.ndarray, y: np.ndarray, threshold: float) -> list[list[int]]:
    """AwesomeAlign's links, cell by cell."""
    scores = x @ y.T
    links = []
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            forward = math.exp(score) / sum(math.exp(other) for other in row)
            backward = math.exp(score) / sum(math.exp(other) for other in scores[:, j])
            if forward > threshold and backward > threshold:
                links.append([i, j])
    return links


@pytest.mark.parametrize("threshold", [0.001, 0.1])
def test_softmax_links_are_likely_in_both_directions(threshold: float) -> None:
    pairs = [drawn_states(seed) for seed in range(12)]
    x, y = (in_batch(list(side), [range(len(own)) for own in side]) for side in zip(*pairs, strict=True))
    found = word_links(evidence(x, y), [Method.SOFTMAX], Settings(threshold=threshold))
    assert [links.tolist() for links in found[Method.SOFTMAX]] == [
        softmax_by_hand(*pair, threshold=threshold) for pair in pairs
    ]


def test_words_are_linked_once_where_any_of_their_pieces_are() -> None:
    identity = np.eye(4)
    x = in_batch([identity], [[0, 0, 1, 2]])
    y = in_batch([identity], [[0, 0, 1, 1]])
    found = word_links(evidence(x, y), [Method.ARGMAX], Settings())
    assert found[Method.ARGMAX][0].tolist() == [[0, 0], [1, 1], [2, 1]]


@pytest.mark.parametrize("method", Method)
def test_sentences_without_words_have_no_links(method: Method) -> None:
    nothing = UnitStates(torch.zeros(1, 2, 3, 4), torch.tensor([[-1, -1, -1], [0, -1, -1]]))
    other = UnitStates(torch.ones(1, 2, 2, 4), torch.tensor([[0, 1], [0, 1]]))
    found = word_links(evidence(nothing, other), [method], Settings())
    assert len(found[method][0]) == 0 and len(found[method][1]) >= 1
    empty = UnitStates(torch.zeros(1, 2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    found = word_links(evidence(empty, other), [method], Settings())
    assert [len(links) for links in found[method]] == [0, 0]


def test_each_target_has_one_link_to_its_best_source() -> None:
    """By loops; several targets may share a source, and cells outside a pair have none."""
    torch.manual_seed(0)
    similarities = torch.rand(3, 4, 5)
    sizes = [(4, 5), (2, 3), (1, 4)]
    is_cell = torch.zeros(3, 4, 5, dtype=torch.bool)
    for number, (m, n) in enumerate(sizes):
        is_cell[number, :m, :n] = True
    x_words, y_words = (torch.arange(size).expand(3, size) for size in (4, 5))
    weights = OneWayEvidence(
        x_words.where(is_cell.any(dim=2), -1), y_words.where(is_cell.any(dim=1), -1), similarities.transpose(1, 2)
    )
    found = word_links(weights, [Method.EACH_TARGET, Method.SOFTMAX], Settings(threshold=0.5))
    for number, (m, n) in enumerate(sizes):
        own = similarities[number, :m, :n].numpy()
        expected = sorted((int(np.argmax(own[:, column])), column) for column in range(n))
        assert [tuple(link) for link in found[Method.EACH_TARGET][number].tolist()] == expected
        # Both directions of softmax are the same weights.
        above = [(i, j) for i in range(m) for j in range(n) if own[i, j] > 0.5]
        assert [tuple(link) for link in found[Method.SOFTMAX][number].tolist()] == above
