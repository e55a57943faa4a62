"""Batches without their padding: where each token stands, told once, on the CPU if it can be.

Shape suffixes: B sequences, T tokens of the longest one; N tokens of all sequences together, packed end to end; P those
of them that are predicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from veco.labels import IGNORED


@dataclass(frozen=True)
class Padding:
    """Rows with padding: `is_token_BT` is true at their tokens, `index_N` has the places of these in flattened rows."""

    is_token_BT: Tensor
    index_N: Tensor

    @classmethod
    def of(cls, is_token_BT: Tensor) -> Padding:
        """Padding wherever `is_token_BT` is false; the host waits for an accelerator to count the tokens."""
        return cls(is_token_BT, is_token_BT.flatten().nonzero().squeeze(1))

    @classmethod
    def behind(cls, lengths: Sequence[int], device: torch.device) -> Padding:
        """Padding behind sequences of these lengths, up to the longest."""
        made = cls.of(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))
        return cls(made.is_token_BT.to(device), made.index_N.to(device))

    def pack(self, x_BT: Tensor) -> Tensor:
        """The tokens (N, ...) of (B, T, ...), end to end."""
        # As x[is_token], whose gradient takes ten times as long on CPU.
        return x_BT.flatten(0, 1).index_select(0, self.index_N)

    def pad(self, packed: Tensor) -> Tensor:
        """(B, T, ...) with the packed tokens (N, ...) in their places, and zeros elsewhere."""
        flat = packed.new_zeros(self.is_token_BT.numel(), *packed.shape[1:]).index_copy(0, self.index_N, packed)
        return flat.unflatten(0, self.is_token_BT.shape)


def starts_of(lengths: Iterable[int], device: torch.device | None = None) -> Tensor:
    """Where each packed sequence starts, and at last where all end, int32 (B + 1,)."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def position_ids_of(input_ids: Tensor, pad_token_id: int | None, pad_position: int) -> Tensor:
    """Positions (B, T), for tokens from `pad_position + 1` on, for padding `pad_position` (fairseq, XLM-R)."""
    if pad_token_id is None:
        steps = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        return steps.expand_as(input_ids) + pad_position
    is_token = input_ids.ne(pad_token_id).long()
    return is_token.cumsum(dim=1) * is_token + pad_position


@dataclass(frozen=True)
class PackedPairs:
    """Where the tokens of a batch of pairs stand when all are packed: its parts x, y and, if it has one, TLM in turn.

    What shapes and kernels follow from is in numbers of Python, so that nobody waits for an accelerator to tell them:
    for each part the `lengths` of its sequences, and how many of its tokens are predicted; and `num_places`, how many
    there are with padding. The tensors are int64:
    `places` (N,) of the tokens among the ids of all parts, padded, flattened and one after the other; their `positions`
    (N,), counted from 1; `predicted` (P,), which of the N tokens are predicted, and their `rows` (P,) in the batch. So
    that kernels find the sequences, int32: `starts` of all, and `pair_starts` of y and x, to which x and y attend.
    """

    lengths: tuple[tuple[int, ...], ...]
    num_predicted: tuple[int, ...]
    num_places: int
    places: Tensor
    positions: Tensor
    predicted: Tensor
    rows: Tensor
    starts: Tensor
    pair_starts: Tensor

    @classmethod
    def of(cls, parts: Sequence[tuple[Tensor, Tensor, Tensor]], pad_token_id: int | None) -> PackedPairs:
        """The tokens of each part's (ids, attention mask, labels), all (B, T_i)."""
        lengths, places, positions, predicted, rows = [], [], [], [], []
        num_places = num_tokens = 0
        for input_ids, attention_mask, labels in parts:
            padding = Padding.of(attention_mask.bool())
            of_part = padding.pack(labels).ne(IGNORED).nonzero().squeeze(1)
            lengths.append(tuple(padding.is_token_BT.sum(1).tolist()))
            places.append(num_places + padding.index_N)
            positions.append(padding.pack(position_ids_of(input_ids, pad_token_id, 0)))
            predicted.append(num_tokens + of_part)
            rows.append(padding.index_N.index_select(0, of_part) // max(1, input_ids.shape[1]))
            num_places += input_ids.numel()
            num_tokens += len(padding.index_N)
        device = places[0].device
        x, y = lengths[:2]
        return cls(
            lengths=tuple(lengths),
            num_predicted=tuple(map(len, predicted)),
            num_places=num_places,
            places=torch.cat(places),
            positions=torch.cat(positions),
            predicted=torch.cat(predicted),
            rows=torch.cat(rows),
            starts=starts_of((length for of_part in lengths for length in of_part), device),
            pair_starts=starts_of(y + x, device),
        )

    def check_fits(self, shapes: Sequence[torch.Size]) -> None:
        """Raise ValueError unless this may have been made from parts of these shapes (B, T_i)."""
        num_places = sum(shape.numel() for shape in shapes)
        found, expected = [len(of_part) for of_part in self.lengths], [shape[0] for shape in shapes]
        if found != expected or self.num_places != num_places:
            raise ValueError(
                f"packed was made from parts of {found} rows with {self.num_places} places in all, expected {expected} "
                f"with {num_places}; make it from the batch that it comes with"
            )

    def pick(self, padded: Sequence[Tensor]) -> Tensor:
        """The tokens (N,) of what each part has for its ids, (B, T_i)."""
        return torch.cat([part.flatten() for part in padded]).index_select(0, self.places)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedPairs:
        """The same with its tensors on a device, as `Tensor.to`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedPairs:
        """The same in memory from which a copy to an accelerator needs no waiting; DataLoader calls it."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> PackedPairs:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **changed)
