"""What probes are trained to read from words: distances and depths in trees, tags, and tags drawn for a control."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.probing.probes import DepthProbe, DistanceProbe, Probe, TagProbe, control_tags
from analysis.probing.tree_scores import DepthScores, DistanceScores
from analysis.probing.treebank import Punctuation, Tree
from veco.labels import IGNORED

Predictions = Iterable[tuple[int, np.ndarray]]  # the number of a sentence, and what was predicted for its words


class ProbeTask(ABC):
    """The gold numbers of a tree, a fresh probe for them, and the scores of its predictions."""

    name: str

    @abstractmethod
    def gold(self, tree: Tree) -> np.ndarray:
        """Whole numbers (words,) or (words, words)."""

    @abstractmethod
    def new_probe(self, width: int) -> Probe:
        """A probe for states of that width."""

    @abstractmethod
    def metrics(
        self, predictions: Predictions, gold: Sequence[np.ndarray], trees: Sequence[Tree]
    ) -> Mapping[str, float]:
        """The scores of predictions, by name, between 0 and 1 or, of correlations, -1 and 1."""


@dataclass(frozen=True)
class DistanceTask(ProbeTask):
    """Distances of words in the tree; `rank` None is the width of the states."""

    rank: int | None
    punctuation: Punctuation
    name: str = "distance"

    def gold(self, tree: Tree) -> np.ndarray:
        return tree.distances().astype(np.int16)  # of all sentences at once: a quarter of the memory

    def new_probe(self, width: int) -> Probe:
        return DistanceProbe(width, self.rank or width)

    def metrics(
        self, predictions: Predictions, gold: Sequence[np.ndarray], trees: Sequence[Tree]
    ) -> Mapping[str, float]:
        scores = DistanceScores()
        for number, predicted in predictions:
            scores.add(predicted, gold[number], trees[number].is_kept(self.punctuation))
        return scores.metrics()


@dataclass(frozen=True)
class DepthTask(ProbeTask):
    """Depths of words in the tree; `rank` None is the width of the states."""

    rank: int | None
    punctuation: Punctuation
    name: str = "depth"

    def gold(self, tree: Tree) -> np.ndarray:
        return tree.depths()

    def new_probe(self, width: int) -> Probe:
        return DepthProbe(width, self.rank or width)

    def metrics(
        self, predictions: Predictions, gold: Sequence[np.ndarray], trees: Sequence[Tree]
    ) -> Mapping[str, float]:
        scores = DepthScores()
        for number, predicted in predictions:
            scores.add(predicted, gold[number], trees[number].is_kept(self.punctuation))
        return scores.metrics()


@dataclass(frozen=True)
class TagTask(ProbeTask):
    """The tag of each word: `numbers` has that of each known one or, for the control task, of each word type."""

    name: str  # upos, xpos, or one of them with _control
    tag: str
    num_tags: int
    numbers: Mapping[str, int]
    is_control: bool = False

    def gold(self, tree: Tree) -> np.ndarray:
        names = tree.words if self.is_control else tags_of(tree, self.tag)
        return np.array([self.numbers.get(name, IGNORED) for name in names], dtype=np.int64)

    def new_probe(self, width: int) -> Probe:
        return TagProbe(width, self.num_tags)

    def metrics(
        self, predictions: Predictions, gold: Sequence[np.ndarray], trees: Sequence[Tree]
    ) -> Mapping[str, float]:
        """The share of words with the right tag; a tag that training lacks is never right."""
        num_right = num_words = 0
        for number, logits in predictions:
            num_right += int((logits.argmax(axis=1) == gold[number]).sum())
            num_words += len(logits)
        return {f"{self.name}_accuracy": num_right / num_words if num_words else math.nan}


def tags_of(tree: Tree, tag: str) -> Sequence[str]:
    """The tags of the words of a tree; `tag` is upos or xpos."""
    return tree.upos if tag == "upos" else tree.xpos


def tag_tasks(tag: str, train: Sequence[Tree], others: Sequence[Tree], seed: int) -> list[TagTask]:
    """The task of a tag and its control task, for which each word type of any split has a tag, drawn once."""
    known = sorted({name for tree in train for name in tags_of(tree, tag)})
    numbers = {name: number for number, name in enumerate(known)}
    seen = [numbers[name] for tree in train for name in tags_of(tree, tag)]
    words = [word for tree in (*train, *others) for word in tree.words]
    return [
        TagTask(tag, tag, len(known), numbers),
        TagTask(f"{tag}_control", tag, len(known), control_tags(words, seen, len(known), seed), is_control=True),
    ]
