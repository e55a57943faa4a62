"""Probes against their definition word by word, planted trees that are found, and when training ends."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from planted_trees import planted_states, random_tree
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from analysis.probing import training
from analysis.probing.probes import INITIAL, DepthProbe, DistanceProbe, Probe, TagProbe, control_tags, padded
from analysis.probing.stored_states import StoredStates
from analysis.probing.tasks import DepthTask, DistanceTask, TagTask, tag_tasks
from analysis.probing.training import Schedule, Split, fit, mean_loss, predictions
from analysis.probing.treebank import Punctuation, Tree
from veco.labels import IGNORED

LENGTHS = (4, 1, 7)


def stored(states: Sequence[np.ndarray]) -> StoredStates:
    """Known states of words, as layer 0."""
    offsets = np.cumsum([0, *map(len, states)])
    flat = np.concatenate(states).astype(np.float32)
    return StoredStates({0: flat}, offsets, np.ones(len(states), dtype=bool))


@pytest.fixture
def batch() -> tuple[list[np.ndarray], list[Tree]]:
    drawn = np.random.default_rng(0)
    trees = [random_tree(drawn, length) for length in LENGTHS]
    return [drawn.standard_normal((length, 6)) for length in LENGTHS], trees


def test_distances_and_their_loss_by_definition(batch: tuple[list[np.ndarray], list[Tree]]) -> None:
    states, trees = batch
    probe = DistanceProbe(6, 3)
    assert float(probe.projection_DR.detach().abs().max()) <= INITIAL
    b = probe.projection_DR.detach().numpy().T
    gold = [tree.distances() for tree in trees]
    losses = []
    for own, distances in zip(states, gold, strict=True):
        total = 0.0
        for i in range(len(own)):
            for j in range(len(own)):
                total += abs(((b @ (own[i] - own[j])) ** 2).sum() - distances[i, j])
        losses.append(total / len(own) ** 2)
    inputs = stored(states).batch(0, np.arange(3))
    loss, count = probe.loss(probe(inputs), padded(gold))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5) and count == 3


def test_depths_and_their_loss_by_definition(batch: tuple[list[np.ndarray], list[Tree]]) -> None:
    states, trees = batch
    probe = DepthProbe(6, 6)
    b = probe.projection_DR.detach().numpy().T
    gold = [tree.depths() for tree in trees]
    losses = [
        sum(abs(((b @ own[i]) ** 2).sum() - depths[i]) for i in range(len(own))) / len(own)
        for own, depths in zip(states, gold, strict=True)
    ]
    loss, _ = probe.loss(probe(stored(states).batch(0, np.arange(3))), padded(gold))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_tags_and_their_loss(batch: tuple[list[np.ndarray], list[Tree]]) -> None:
    states, _ = batch
    probe = TagProbe(6, 4)
    gold = [np.arange(length) % 4 for length in LENGTHS]
    loss, count = probe.loss(probe(stored(states).batch(0, np.arange(3))), padded(gold))
    with torch.no_grad():
        logits = probe.classifier(torch.from_numpy(np.concatenate(states)).float())
    expected = cross_entropy(logits, torch.from_numpy(np.concatenate(gold)))
    assert loss.item() == pytest.approx(expected.item()) and count == sum(LENGTHS)


def test_planted_distances_are_those_of_the_tree() -> None:
    tree = random_tree(np.random.default_rng(2), 9)
    probe = DistanceProbe(8, 8)
    with torch.no_grad():
        probe.projection_DR.copy_(torch.eye(8))
        found = probe(torch.from_numpy(planted_states(tree, 8)).float()[None])[0]
    assert found.numpy() == pytest.approx(tree.distances(), abs=1e-5)


@pytest.mark.parametrize("task", [DistanceTask(8, Punctuation.UPOS), DepthTask(8, Punctuation.UPOS)])
def test_planted_trees_are_found(task: DistanceTask | DepthTask) -> None:
    """Seven directions have the tree, among seven of noise, all of them turned: UUAS is 100, and so is the root."""
    drawn = np.random.default_rng(5)
    turn = np.linalg.qr(drawn.standard_normal((14, 14)))[0]
    trees = [random_tree(drawn, int(length)) for length in drawn.integers(5, 9, size=240)]
    states = stored(
        [10 * np.hstack([planted_states(one, 7), drawn.standard_normal((len(one), 7))]) @ turn for one in trees]
    )
    gold = [task.gold(tree) for tree in trees]
    parts = {}
    for name, numbers in (("train", range(200)), ("dev", range(200, 220)), ("test", range(220, 240))):
        complete = np.isin(np.arange(240), numbers)
        parts[name] = Split(StoredStates(states.by_layer, states.offsets, complete), 0, gold)
    torch.manual_seed(0)
    probe, loss = fit(task.new_probe(14), parts["train"], parts["dev"], Schedule(40, 8), 1, tqdm(disable=True))
    found = task.metrics(predictions(probe, parts["test"], 8), gold, trees)
    assert loss < 0.2
    assert next(iter(found.values())) == 1.0
    assert list(found.values())[1] > 0.95


class Stubborn(Probe):
    """A probe that learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, states_BWD: Tensor) -> Tensor:
        return states_BWD.sum(dim=2) * 0 + self.weight * 0

    def loss(self, predicted: Tensor, gold: Tensor) -> tuple[Tensor, int]:
        return predicted.sum() + 1, len(gold)


def test_training_ends_after_five_epochs_without_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    adam = torch.optim.Adam
    monkeypatch.setattr(training.torch.optim, "Adam", lambda weights, lr: rates.append(lr) or adam(weights, lr=lr))
    split = Split(stored([np.ones((3, 2))] * 4), 0, [np.zeros(3, dtype=int)] * 4)
    with tqdm(total=40, file=io.StringIO()) as progress:
        _, loss = fit(Stubborn(), split, split, Schedule(40, 2), 1, progress)
        assert progress.n == 40  # with the epochs that are saved
    assert loss == 1
    assert rates == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6, 1e-7])


def test_sentences_without_a_known_tag_add_nothing_to_the_loss() -> None:
    """The last batch of development trees may have none."""
    probe = TagProbe(2, 3)
    states = stored([np.ones((2, 2)), np.zeros((1, 2))])
    known, unknown = np.array([0, 1]), np.array([IGNORED])
    alone = mean_loss(probe, Split(stored([np.ones((2, 2))]), 0, [known]), 1)
    assert mean_loss(probe, Split(states, 0, [known, unknown]), 1) == pytest.approx(alone)


def test_a_word_has_the_same_control_tag_everywhere() -> None:
    drawn = np.random.default_rng(0)
    trees = [random_tree(drawn, 8) for _ in range(30)]
    task, control = tag_tasks("upos", trees[:20], trees[20:], seed=3)
    assert (task.name, control.name) == ("upos", "upos_control")
    by_word: dict[str, set[int]] = {}
    for tree in trees:
        for word, tag in zip(tree.words, control.gold(tree), strict=True):
            by_word.setdefault(word, set()).add(int(tag))
    assert all(len(tags) == 1 for tags in by_word.values())
    assert tag_tasks("upos", trees[:20], trees[20:], seed=3)[1] == control
    types = [f"w{number}" for number in range(4000)]
    shares = np.bincount(list(control_tags(types, [0, 0, 0, 2], 3, 1).values()), minlength=3) / 4000
    assert shares == pytest.approx([0.75, 0, 0.25], abs=0.03)


def test_accuracy_counts_unknown_tags_as_wrong() -> None:
    tree = Tree(["a", "b", "c"], ["X", "Y", "Z"], ["", "", ""], np.array([-1, 0, 0]))
    task = TagTask("upos", "upos", 2, {"X": 0, "Y": 1})
    gold = [task.gold(tree)]
    logits = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    assert task.metrics([(0, logits)], gold, [tree]) == {"upos_accuracy": 1 / 3}
