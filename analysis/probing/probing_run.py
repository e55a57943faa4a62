"""Probes for every task and layer, trained on pooled treebanks and scored on each test treebank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from analysis.probing.stored_states import StoredStates
from analysis.probing.tasks import ProbeTask
from analysis.probing.training import Schedule, Split, fit, predictions
from analysis.probing.treebank import Tree
from finetune.understanding.retrieval.embeddings import Embedder


@dataclass(frozen=True)
class Treebanks:
    """Trees to train on and to stop by, of all languages together, and tests by name."""

    train: Sequence[Tree]
    dev: Sequence[Tree]
    tests: Mapping[str, Sequence[Tree]]

    @property
    def parts(self) -> dict[str, Sequence[Tree]]:
        """All of them by what they are called in progress bars."""
        return {"train": self.train, "dev": self.dev, **{f"test {name}": own for name, own in self.tests.items()}}


@dataclass
class Found:
    """The metrics of each layer on each test, and each probe's development loss by layer."""

    metrics: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)  # layer: test: metric: value
    names: dict[str, list[str]] = field(default_factory=dict)  # task: its metrics
    dev_loss: dict[str, dict[int, float]] = field(default_factory=dict)  # task: layer: loss

    def best_layer(self, task: str) -> int:
        """The layer whose probe has the lowest development loss, the first of equals."""
        losses = self.dev_loss[task]
        return min(losses, key=lambda layer: losses[layer])


def states_of_treebanks(embedder: Embedder, treebanks: Treebanks, scratch: Path) -> dict[str, StoredStates]:
    """The states of each part's words. Raises ValueError for a part all of whose sentences are too long."""
    states = {
        name: StoredStates.of(embedder, [tree.words for tree in trees], scratch, name)
        for name, trees in treebanks.parts.items()
    }
    for name, own in states.items():
        if not own.complete.any():
            raise ValueError(f"{name}: no sentence fits into {embedder.max_length} tokens; raise --max-length")
    return states


def run_probes(
    tasks: Sequence[ProbeTask],
    layers: Sequence[int],
    treebanks: Treebanks,
    states: Mapping[str, StoredStates],
    schedule: Schedule,
    seed: int,
) -> Found:
    """Train and score a probe for each task and layer; every probe starts from the same seed."""
    found = Found({layer: {name: {} for name in treebanks.tests} for layer in layers})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tqdm(total=len(tasks) * len(layers) * schedule.epochs, unit=" epochs", disable=None) as progress:
        for task in tasks:
            found.dev_loss[task.name] = {}
            gold = {name: [task.gold(tree) for tree in trees] for name, trees in treebanks.parts.items()}
            for layer in layers:
                progress.set_description(f"{task.name}, layer {layer}")
                splits = {name: Split(states[name], layer, gold[name]) for name in gold}
                torch.manual_seed(seed)
                width = states["train"].by_layer[layer].shape[1]
                probe = task.new_probe(width).to(device)
                probe, loss = fit(probe, splits["train"], splits["dev"], schedule, seed, progress)
                found.dev_loss[task.name][layer] = loss
                for name, trees in treebanks.tests.items():
                    test = splits[f"test {name}"]
                    own = task.metrics(predictions(probe, test, schedule.batch_size), test.gold, trees)
                    found.metrics[layer][name] |= own
                    found.names[task.name] = list(own)
    return found
