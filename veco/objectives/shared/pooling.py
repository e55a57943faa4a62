"""Sentence vectors from packed states, and the groups in which they are contrasted.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows; G rows of all ranks; D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

from veco.packing import PackedViews

POOLINGS = ("mean", "cls")


def pooled(states_ND: Tensor, packed: PackedViews, view: str, pooling: str) -> Tensor:
    """Vectors (R, D), in float32 at least, of a view's rows: the mean of a row's states, or that of its first token."""
    starts = packed.starts_of([view]).long()
    states_ND = states_ND.to(torch.promote_types(states_ND.dtype, torch.float32))
    if pooling == "cls":
        return states_ND.index_select(0, starts[:-1])
    lengths = starts.diff()
    places = torch.arange(len(states_ND), device=states_ND.device)
    rows = torch.bucketize(places, starts[1:], right=True)
    sums = states_ND.new_zeros(len(lengths), states_ND.shape[1])
    return sums.index_add(0, rows, states_ND) / lengths.unsqueeze(1)


def groups(packed: PackedViews, *of_rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The parts of tensors (R, ...) that belong to each group of pairs; the last group may be smaller."""
    return zip(*(tensor.split(packed.group_pairs) for tensor in of_rows), strict=True)


def products(x_RD: Tensor, y_GD: Tensor) -> Tensor:
    """The products (..., R, G) of vectors (..., R, D) and (..., G, D), in their own precision.

    Autocast would round them to 8 bits before a softmax.
    """
    with torch.autocast(x_RD.device.type, enabled=False):
        return x_RD @ y_GD.mT


class Everyones(NamedTuple):
    """Vectors (G, D) of the pairs of all ranks; this rank's begin with pair `first`."""

    x_GD: Tensor
    y_GD: Tensor
    first: int


def with_other_ranks(x_RD: Tensor, y_RD: Tensor) -> Everyones:
    """The vectors of the pairs of all ranks, of which each has equally many; their gradients go back to their rank."""
    if not distributed.is_initialized():
        return Everyones(x_RD, y_RD, 0)
    return Everyones(torch.cat(all_gather(x_RD)), torch.cat(all_gather(y_RD)), distributed.get_rank() * len(x_RD))
