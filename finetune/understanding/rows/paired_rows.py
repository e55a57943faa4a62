"""Rows of x and, plugged in, a row of y for each: what batches are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from finetune.understanding.rows.token_rows import READ, TokenRows
from veco.labels import IGNORED
from veco.pairs import pair_argument


@dataclass(frozen=True)
class SelectedRows:
    """A row for each pair: that of pair i is row `numbers[i]` of `rows`.

    `repeated[i]` says that pair i - 1 has the same row of the same example; its targets count once.
    """

    rows: TokenRows
    numbers: np.ndarray  # int64 (pairs,)
    repeated: np.ndarray  # bool (pairs,)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (pairs,), in tokens."""
        return self.rows.lengths[self.numbers]

    def expanded(self) -> TokenRows:
        """A row of its own for each pair; one that repeats another is not read again."""
        rows = self.rows.take(self.numbers)
        if READ in rows.marks:
            is_read = rows.marks[READ] & ~np.repeat(self.repeated, rows.lengths)
            rows = replace(rows, marks={**rows.marks, READ: is_read})
        return rows

    def batch(self, pairs: np.ndarray, pad: int) -> dict[str, Tensor]:
        """input_ids, attention_mask, token_type_ids if any (batch, width), and the targets of `pairs`.

        Where the states of the rows are known, they are there as inputs_embeds (batch, width, of a state), not the ids.
        """
        chosen, repeated = self.numbers[pairs], self.repeated[pairs]
        lengths, places = self.rows.lengths[chosen], self.rows.places(chosen)
        is_token = np.arange(int(lengths.max())) < lengths[:, None]
        batch = {"attention_mask": is_token.astype(np.int64)}
        if self.rows.states is None:
            batch["input_ids"] = np.full(is_token.shape, pad, dtype=np.int64)
            batch["input_ids"][is_token] = self.rows.tokens.tokens[places]
        else:
            batch["inputs_embeds"] = np.zeros((*is_token.shape, self.rows.states.shape[1]), dtype=np.float32)
            batch["inputs_embeds"][is_token] = self.rows.states[places]
        if self.rows.token_types is not None:
            batch["token_type_ids"] = np.zeros(is_token.shape, dtype=np.int64)
            batch["token_type_ids"][is_token] = self.rows.token_types[places]
        for name, values in self.rows.row_targets.items():
            batch[name] = values[chosen]
            batch[name][repeated] = self.rows.ignored
        for name, values in self.rows.token_targets.items():
            batch[name] = np.full(is_token.shape, IGNORED, dtype=np.int64)
            batch[name][is_token] = values[places]
            batch[name][repeated] = IGNORED
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        """The numbers of the rows of some units (n,), in order."""
        together = self.rows.rows_together
        return (units[:, None] * together + np.arange(together)).ravel()

    def batch_of_units(self, units: np.ndarray, pad: int) -> dict[str, Tensor]:
        """`batch` of the rows of some units; where C rows stay together, tensors (B, C, width), and targets (B, …)."""
        together = self.rows.rows_together
        if together == 1:
            return self.batch(units, pad)
        batch = self.batch(self.rows_of(units), pad)
        folded = {name: tensor.unflatten(0, (len(units), together)) for name, tensor in batch.items()}
        # The rows of an example have the same target.
        return {name: tensor[:, 0] if name in self.rows.row_targets else tensor for name, tensor in folded.items()}

    def fingerprint(self) -> bytes:
        """SHA-256 of the rows and their order."""
        return hashlib.sha256(self.rows.fingerprint() + self.numbers.tobytes() + self.repeated.tobytes()).digest()


@dataclass(frozen=True)
class PairedRows:
    """Rows of x and, plugged in, a row of y for each; plugged out, `y` is None.

    Batches are of units: of single pairs of rows or, where an example's rows stay together, of all those of an example.
    """

    x: SelectedRows
    y: SelectedRows | None = None

    @classmethod
    def alone(cls, x: TokenRows) -> Self:
        """All rows of x, each once."""
        return cls(SelectedRows(x, np.arange(len(x)), np.zeros(len(x), dtype=bool)))

    @classmethod
    def paired(cls, x: TokenRows, y: TokenRows, partners: np.ndarray) -> Self:
        """Each example i of y with example `partners[i]` of x, int64 (examples of y,).

        Where one has fewer windows than the other, each of its windows is paired with several neighbours, in order.
        Raises ValueError for unequal numbers of rows that stay together.
        """
        if x.rows_together != y.rows_together:
            raise ValueError(
                f"translations have {y.rows_together} choices but their originals {x.rows_together}; expected as many"
            )
        x_windows, y_windows = Windows.of(x).of_examples(partners), Windows.of(y)
        num_pairs = np.maximum(x_windows.counts, y_windows.counts)
        return cls(selected(x, x_windows, num_pairs), selected(y, y_windows, num_pairs))

    def __len__(self) -> int:
        return len(self.x.numbers)

    @property
    def sides(self) -> list[SelectedRows]:
        """The rows of x and, plugged in, those of y."""
        return [self.x] if self.y is None else [self.x, self.y]

    @property
    def num_units(self) -> int:
        return len(self) // self.x.rows.rows_together

    @property
    def sizes(self) -> np.ndarray:
        """The tokens (units,) that each needs in a batch, with padding to its longest row."""
        lengths = self.x.lengths if self.y is None else np.maximum(self.x.lengths, self.y.lengths)
        together = self.x.rows.rows_together
        return lengths.reshape(-1, together).max(axis=1) * together

    def batch(self, units: np.ndarray, pad: int) -> dict[str, Tensor]:
        """The model's arguments for some units; those of y are named by `pair_argument`."""
        batch = self.x.batch_of_units(units, pad)
        if self.y is not None:
            batch |= {pair_argument(name): tensor for name, tensor in self.y.batch_of_units(units, pad).items()}
        return batch

    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of all that a run learns from."""
        digest = self.x.fingerprint()
        if self.y is not None:
            digest += self.y.fingerprint()
        return hashlib.sha256(digest).hexdigest()


@dataclass(frozen=True)
class Windows:
    """The rows of each example: `counts` of them from row `firsts` on, int64 (examples,)."""

    counts: np.ndarray
    firsts: np.ndarray

    @classmethod
    def of(cls, rows: TokenRows) -> Self:
        counts = np.bincount(rows.examples, minlength=rows.num_examples)
        return cls(counts, np.cumsum(counts) - counts)

    def of_examples(self, examples: np.ndarray) -> Windows:
        """The windows of the given examples, which may repeat."""
        return Windows(self.counts[examples], self.firsts[examples])


def selected(rows: TokenRows, windows: Windows, num_pairs: np.ndarray) -> SelectedRows:
    """The windows of each example, spread evenly over its pairs: `num_pairs` (examples,), at least as many."""
    within = np.arange(int(num_pairs.sum())) - np.repeat(np.cumsum(num_pairs) - num_pairs, num_pairs)
    window = within * np.repeat(windows.counts, num_pairs) // np.repeat(num_pairs, num_pairs)
    is_first = (within == 0) | (np.diff(window, prepend=-1) != 0)
    return SelectedRows(rows, np.repeat(windows.firsts, num_pairs) + window, ~is_first)
