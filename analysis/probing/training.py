"""How probes are trained: Adam, a smaller step where the development set gains nothing, and an early end.

The settings are those of Hewitt and Manning's program (2019): learning rate 1e-3, divided by 10 after an epoch without
gain, Adam starting anew; the end after 5 epochs without a gain of more than 1e-4, or 40 epochs; 20 sentences a batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from analysis.probing.probes import Probe, padded
from analysis.probing.stored_states import StoredStates

LEARNING_RATE, DECAY = 1e-3, 0.1
GAIN = 1e-4  # of the development loss, that counts
PATIENCE = 5  # epochs without gain
ProbeT = TypeVar("ProbeT", bound=Probe)


@dataclass(frozen=True)
class Split:
    """Sentences with the states of their words in a layer, and the numbers that a probe should read from them."""

    states: StoredStates
    layer: int
    gold: Sequence[np.ndarray]  # of each sentence, (W,) or (W, W)

    @property
    def sentences(self) -> np.ndarray:
        """The numbers of those whose words all have states."""
        return np.flatnonzero(self.states.complete)

    def batches(
        self, order: np.ndarray, batch_size: int, device: torch.device
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """(numbers, states (B, W, D), gold numbers) of sentences in that order."""
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            gold = padded([self.gold[number] for number in numbers])
            yield numbers, self.states.batch(self.layer, numbers).to(device), gold.to(device)


@dataclass(frozen=True)
class Schedule:
    """The number of epochs at most, and of sentences in a batch."""

    epochs: int = 40
    batch_size: int = 20


def fit(probe: ProbeT, train: Split, dev: Split, schedule: Schedule, seed: int, progress: tqdm) -> tuple[ProbeT, float]:
    """(the probe after its best epoch, the development loss then); `progress` counts epochs, also those saved."""
    drawn, device = np.random.default_rng(seed), device_of(probe)
    rate = LEARNING_RATE
    optimizer = torch.optim.Adam(probe.parameters(), lr=rate)
    best, best_epoch, best_probe = math.inf, -1, copy.deepcopy(probe)
    for epoch in range(schedule.epochs):
        for _, states, gold in train.batches(drawn.permutation(train.sentences), schedule.batch_size, device):
            optimizer.zero_grad()
            loss, _ = probe.loss(probe(states), gold)
            loss.backward()
            optimizer.step()
        found = mean_loss(probe, dev, schedule.batch_size)
        if found < best - GAIN:
            best, best_epoch, best_probe = found, epoch, copy.deepcopy(probe)
        elif epoch - best_epoch >= PATIENCE:
            progress.update(schedule.epochs - epoch)
            break
        else:
            rate *= DECAY
            optimizer = torch.optim.Adam(probe.parameters(), lr=rate)
        progress.update()
    return best_probe, best


def mean_loss(probe: Probe, split: Split, batch_size: int) -> float:
    """The mean loss over the items of a split."""
    total, num_items = 0.0, 0
    with torch.no_grad():
        for _, states, gold in split.batches(split.sentences, batch_size, device_of(probe)):
            loss, count = probe.loss(probe(states), gold)
            total, num_items = total + loss.item() * count, num_items + count
    return total / num_items


def predictions(probe: Probe, split: Split, batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(number of a sentence, what the probe predicts for its words (W, …) or pairs of words (W, W)) for all of them."""
    with torch.no_grad():
        for numbers, states, _ in split.batches(split.sentences, batch_size, device_of(probe)):
            for number, found in zip(numbers.tolist(), probe(states).cpu().numpy(), strict=True):
                own = (slice(len(split.gold[number])),) * split.gold[number].ndim
                yield number, found[own]


def device_of(probe: Probe) -> torch.device:
    """The device of a probe's weights."""
    return next(probe.parameters()).device
