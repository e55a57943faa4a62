"""The logits and labels of a batch's sequences, x and, plugged in, y."""

from __future__ import annotations

from torch import nn

from training.step import Batch
from veco.labels import Labelled
from veco.pairs import pair_argument


def labelled_sides(model: nn.Module, batch: Batch) -> list[Labelled]:
    """A model's logits of x, plugged in also of y, each with its labels; it computes no loss itself."""
    sides = {"labels": "logits", pair_argument("labels"): "pair_logits"}
    output = model(**{name: tensor for name, tensor in batch.items() if name not in sides})
    return [Labelled(name, output[logits], batch[name]) for name, logits in sides.items() if name in batch]
