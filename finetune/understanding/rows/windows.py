"""What a model reads: rows of tokens, one or several windows for each example, in flat arrays."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from finetune.flat_ids import Sentences
from veco.labels import IGNORED
from veco.pairs import pair_argument


class NoExamplesError(ValueError):
    """There is nothing to make rows of."""


@dataclass(frozen=True)
class Rows:
    """Rows of tokens, `<s>` and `</s>` included, and what is to be predicted of them.

    A row is a whole example or a window of a long one; those of an example follow each other in order.
    """

    tokens: Sentences
    examples: np.ndarray  # int64 (rows,): the example that each row is of, ascending
    # Name of the model's argument -> what is to be predicted, int64: of each row (rows,), or of each token, flat as the
    # tokens are, (total,). Empty where it is not known.
    row_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    # What decoding must know of each token, (total,).
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    # What was cut, in words.
    counts: Counter[str] = field(default_factory=Counter)
    # The row target that the model passes over.
    ignored: int = IGNORED

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def num_examples(self) -> int:
        return int(self.examples[-1]) + 1 if len(self) else 0

    @property
    def lengths(self) -> np.ndarray:
        """int64 (rows,), in tokens."""
        return self.tokens.lengths

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Self:
        """All rows, the examples numbered on, with the targets that all parts know.

        Raises NoExamplesError when there are no parts.
        """
        if not parts:
            raise NoExamplesError("found no example")
        firsts = np.cumsum([0] + [part.num_examples for part in parts[:-1]])
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)

        def joined(name: str) -> dict[str, np.ndarray]:
            tables = [part.__dict__[name] for part in parts]
            known = [key for key in tables[0] if all(key in table for table in tables)]
            return {key: np.concatenate([table[key] for table in tables]) for key in known}

        return cls(
            Sentences.concatenate([part.tokens for part in parts]),
            np.concatenate([part.examples + first for part, first in zip(parts, firsts, strict=True)]),
            joined("row_targets"),
            joined("token_targets"),
            joined("marks"),
            counts,
            parts[0].ignored,
        )

    def without_targets(self) -> Self:
        """The same rows with nothing to predict."""
        return replace(self, row_targets={}, token_targets={})

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where the tokens of `rows` (n,) lie in the flat arrays, one row's after the other's, int64 (their sum,)."""
        lengths = self.lengths[rows]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(self.tokens.offsets[rows], lengths) + within

    def fingerprint(self) -> bytes:
        """SHA-256 of tokens and targets."""
        digest = hashlib.sha256()
        targets = (*self.row_targets.values(), *self.token_targets.values())
        for array in (self.tokens.tokens, self.tokens.offsets, self.examples, *targets):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()


@dataclass(frozen=True)
class PairSide:
    """One row for each pair: row `numbers[i]` of `rows` for pair i.

    `repeated[i]` says that the pair before it has the same row of the same example; its targets count once.
    """

    rows: Rows
    numbers: np.ndarray  # int64 (pairs,)
    repeated: np.ndarray  # bool (pairs,)

    def batch(self, pairs: np.ndarray, pad: int) -> dict[str, Tensor]:
        """input_ids, attention_mask (batch, width) and the targets of `pairs`, int64."""
        chosen, repeated = self.numbers[pairs], self.repeated[pairs]
        lengths, places = self.rows.lengths[chosen], self.rows.places(chosen)
        is_token = np.arange(int(lengths.max())) < lengths[:, None]
        input_ids = np.full(is_token.shape, pad, dtype=np.int64)
        input_ids[is_token] = self.rows.tokens.tokens[places]
        batch = {"input_ids": input_ids, "attention_mask": is_token.astype(np.int64)}
        for name, values in self.rows.row_targets.items():
            batch[name] = np.where(repeated, self.rows.ignored, values[chosen])
        for name, values in self.rows.token_targets.items():
            batch[name] = np.full(is_token.shape, IGNORED, dtype=np.int64)
            batch[name][is_token] = values[places]
            batch[name][repeated] = IGNORED
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def fingerprint(self) -> bytes:
        """SHA-256 of the rows and their order."""
        return hashlib.sha256(self.rows.fingerprint() + self.numbers.tobytes() + self.repeated.tobytes()).digest()


@dataclass(frozen=True)
class PairedRows:
    """What batches are made of: rows of x, and plugged in a row of y for each; plugged out, `y` is None."""

    x: PairSide
    y: PairSide | None = None

    @classmethod
    def alone(cls, x: Rows) -> Self:
        return cls(PairSide(x, np.arange(len(x)), np.zeros(len(x), dtype=bool)))

    @classmethod
    def paired(cls, x: Rows, y: Rows, partners: np.ndarray) -> Self:
        """Each example i of y with example `partners[i]` of x, int64 (examples of y,).

        Where one has fewer windows than the other, each of them is paired with several neighbours, in order.
        """
        counts = [np.bincount(side.examples, minlength=side.num_examples) for side in (x, y)]
        firsts = [np.cumsum(count) - count for count in counts]
        counts[0], firsts[0] = counts[0][partners], firsts[0][partners]
        windows = np.maximum(*counts)
        within = np.arange(int(windows.sum())) - np.repeat(np.cumsum(windows) - windows, windows)
        sides = []
        for rows, count, first in zip((x, y), counts, firsts, strict=True):
            window = within * np.repeat(count, windows) // np.repeat(windows, windows)
            is_first = (within == 0) | (np.diff(window, prepend=-1) != 0)
            sides.append(PairSide(rows, np.repeat(first, windows) + window, ~is_first))
        return cls(*sides)

    def __len__(self) -> int:
        return len(self.x.numbers)

    @property
    def sizes(self) -> np.ndarray:
        """Tokens (pairs,) that each takes of a batch's width: of the longer side."""
        sizes = self.x.rows.lengths[self.x.numbers]
        return sizes if self.y is None else np.maximum(sizes, self.y.rows.lengths[self.y.numbers])

    def batch(self, pairs: np.ndarray, pad: int) -> dict[str, Tensor]:
        """The arguments of the model for some pairs; those of y are called as `pair_argument` says."""
        batch = self.x.batch(pairs, pad)
        if self.y is not None:
            batch |= {pair_argument(name): tensor for name, tensor in self.y.batch(pairs, pad).items()}
        return batch

    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of everything that a run learns from."""
        sides = [side.fingerprint() for side in (self.x, self.y) if side is not None]
        return hashlib.sha256(b"".join(sides)).hexdigest()
