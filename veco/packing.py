"""Batches without their padding: where each token stands, told once, on the CPU if it can be.

Shape suffixes: B sequences, T tokens of the longest one; N tokens of all sequences together, packed end to end; P those
of them that are predicted; R rows of a view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from veco.labels import IGNORED
from veco.views import View

# For products in 16 bits on CPU, oneDNN compiles a kernel for each shape that it has not seen before, which can take
# longer than a product of some hundred rows. No two batches have equally many tokens: theirs are rounded up, to
# multiples of so many rows, or to eight sizes between one power of two and the next where that is less.
WHOLE_ROWS = 64
SIZES_PER_OCTAVE = 8


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
    def behind(cls, starts: Tensor, longest: int, num_tokens: int) -> Padding:
        """Padding behind packed sequences, up to the longest, where `starts` are as of `starts_of`; nobody waits."""
        places = torch.arange(num_tokens, device=starts.device)
        rows = torch.bucketize(places, starts[1:], right=True)
        is_token_BT = torch.arange(longest, device=starts.device) < starts.diff().unsqueeze(1)
        return cls(is_token_BT, places + rows * longest - starts.index_select(0, rows))

    def pack(self, x_BT: Tensor) -> Tensor:
        """The tokens (N, ...) of (B, T, ...), end to end."""
        # As x[is_token], whose gradient takes ten times as long on CPU.
        return x_BT.flatten(0, 1).index_select(0, self.index_N)

    def pad(self, packed: Tensor) -> Tensor:
        """(B, T, ...) with the packed tokens (N, ...) in their places, and zeros elsewhere."""
        flat = packed.new_zeros(self.is_token_BT.numel(), *packed.shape[1:]).index_copy(0, self.index_N, packed)
        return flat.unflatten(0, self.is_token_BT.shape)


def in_whole_rows(packed: Tensor) -> Tensor:
    """Packed tokens (N, ...) with zeros behind them up to a number of rows that recurs, where each is compiled."""
    return filled(packed, rounded_up(len(packed), WHOLE_ROWS)) if compiles_each_shape(packed) else packed


def filled(packed: Tensor, num_rows: int) -> Tensor:
    """Packed tokens (N, ...) with zeros behind them, `num_rows` in all."""
    num_behind = num_rows - len(packed)
    return pad(packed, (0, 0) * (packed.dim() - 1) + (0, num_behind)) if num_behind else packed


def rounded_up(count: int, most: int) -> int:
    """A size that recurs: the next multiple of a power of two, of `most` or, so that it grows by an eighth, of less."""
    multiple = min(most, max(1, 2 ** (count.bit_length() - 1) // SIZES_PER_OCTAVE)) if count else 1
    return -(-count // multiple) * multiple


def compiles_each_shape(operand: Tensor) -> bool:
    """Whether a product with an operand takes the time of compiling a kernel where its shape is new."""
    return operand.device.type == "cpu" and computing_dtype(operand).itemsize == 2


def computing_dtype(operand: Tensor) -> torch.dtype:
    """The dtype of products with an operand: its own, or autocast's."""
    device = operand.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else operand.dtype


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
class Sizes:
    """Sizes of the views of a batch, by view in their order, in numbers of Python.

    `lengths` are those of each view's rows in tokens, `num_predicted` how many of its tokens are predicted.
    """

    lengths: Mapping[str, tuple[int, ...]]
    num_predicted: Mapping[str, int]

    def num_tokens(self, view: str) -> int:
        return sum(self.lengths[view])


@dataclass(frozen=True)
class PackedViews:
    """Where the tokens of a batch's views stand when all are packed, one view after the other.

    What shapes and kernels follow from is in numbers of Python, so that nobody waits for an accelerator to tell them:
    `sizes`, how many places there are with padding, `num_places`, how many pairs, `num_pairs`, and how many consecutive
    ones form a group, `group_pairs`: what contrasts pairs with each other does so inside groups. `kind` is that of the
    batch, MONO or BILINGUAL of `veco.objectives.objective`, where it is known. The tensors are int64: `places` (N,) of
    the tokens among the ids of all views, padded, flattened and one after the other; their `positions` (N,), counted
    from 1; `predicted` (P,), which of the N tokens are predicted, and their `rows` (P,) in their view. So that kernels
    find the rows, int32: `starts` of all.
    """

    sizes: Sizes
    num_places: int
    num_pairs: int
    group_pairs: int
    places: Tensor
    positions: Tensor
    predicted: Tensor
    rows: Tensor
    starts: Tensor
    kind: str | None = None

    @classmethod
    def of(
        cls,
        views: Mapping[str, View],
        pad_token_id: int | None,
        group_pairs: int | None = None,
        num_pairs: int | None = None,
        kind: str | None = None,
    ) -> PackedViews:
        """The tokens of each view; without `group_pairs` all pairs are one group.

        Without `num_pairs` there are as many as the view with most rows has.
        """
        lengths, num_predicted, places, positions, predicted, rows = {}, {}, [], [], [], []
        num_places = num_tokens = 0
        for name, (input_ids, attention_mask, labels) in views.items():
            padding = Padding.of(attention_mask.bool())
            of_view = padding.pack(labels).ne(IGNORED).nonzero().squeeze(1)
            lengths[name] = tuple(padding.is_token_BT.sum(1).tolist())
            num_predicted[name] = len(of_view)
            places.append(num_places + padding.index_N)
            positions.append(padding.pack(position_ids_of(input_ids, pad_token_id, 0)))
            predicted.append(num_tokens + of_view)
            rows.append(padding.index_N.index_select(0, of_view) // max(1, input_ids.shape[1]))
            num_places += input_ids.numel()
            num_tokens += len(padding.index_N)
        num_pairs = num_pairs or max(map(len, lengths.values()))
        return cls(
            sizes=Sizes(lengths, num_predicted),
            num_places=num_places,
            num_pairs=num_pairs,
            group_pairs=group_pairs or num_pairs,
            places=torch.cat(places),
            positions=torch.cat(positions),
            predicted=torch.cat(predicted),
            rows=torch.cat(rows),
            starts=starts_of((length for of_view in lengths.values() for length in of_view), places[0].device),
            kind=kind,
        )

    def check_fits(self, views: Mapping[str, View]) -> None:
        """Raise ValueError unless this may have been made from these views."""
        num_places = sum(view.input_ids.numel() for view in views.values())
        found = {name: len(of_view) for name, of_view in self.sizes.lengths.items()}
        expected = {name: len(view.input_ids) for name, view in views.items()}
        if found != expected or self.num_places != num_places:
            raise ValueError(
                f"packed was made from views of {found} rows with {self.num_places} places in all, expected {expected} "
                f"with {num_places}; make it from the batch that it comes with"
            )

    def pick(self, padded: Iterable[Tensor]) -> Tensor:
        """The tokens (N,) of what each view has for its ids, (R, T)."""
        return torch.cat([of_view.flatten() for of_view in padded]).index_select(0, self.places)

    def tokens(self, view: str) -> slice:
        """The places of a view's tokens among all N."""
        return _part(self.sizes.num_tokens, self.sizes.lengths, view)

    def predictions(self, view: str) -> slice:
        """The places of a view's predicted tokens among all P."""
        return _part(self.sizes.num_predicted.__getitem__, self.sizes.lengths, view)

    def starts_of(self, views: Sequence[str]) -> Tensor:
        """Where the rows of these views start when only they are packed, in that order, and at last where they end."""
        found: list[Tensor] = []
        end = 0
        for view in views:
            rows = _part(lambda name: len(self.sizes.lengths[name]), self.sizes.lengths, view)
            starts = self.starts[rows.start : rows.stop + 1]
            shift = end - self.tokens(view).start
            starts = starts + shift if shift else starts
            found.append(starts[1:] if found else starts)
            end += self.sizes.num_tokens(view)
        return found[0] if len(found) == 1 else torch.cat(found)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedViews:
        """The same with its tensors on a device, as `Tensor.to`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedViews:
        """The same in memory from which a copy to an accelerator needs no waiting; DataLoader calls it."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> PackedViews:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **changed)


def _part(size: Callable[[str], int], names: Iterable[str], wanted: str) -> slice:
    """The part of `wanted` in a row of parts of these names, each of a `size`."""
    start = 0
    for name in names:
        if name == wanted:
            break
        start += size(name)
    return slice(start, start + size(wanted))
