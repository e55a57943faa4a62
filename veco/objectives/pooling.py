"""Sentence vectors from packed states, and the groups in which they are contrasted.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows; D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

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
