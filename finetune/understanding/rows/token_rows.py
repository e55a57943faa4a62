"""Rows of tokens that a model reads, one or several windows for each example, in flat arrays."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from finetune.encoded_text import Sentences
from finetune.understanding.rows.framing import Row
from veco.labels import IGNORED

READ = "is_read"  # the mark of the tokens whose predictions are read, where it is not all of them


class NoExamplesError(ValueError):
    """No example to make rows of."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, special ones included, with their targets.

    A row is a whole example or a window of a long one; the rows of an example follow each other in order.
    """

    tokens: Sentences
    examples: np.ndarray  # int64 (rows,): the example of each row, ascending
    # Name of the model's argument -> its targets: of each row, classes int64 (rows,), or float32 numbers (rows,) or
    # (rows, C), one for each class; of each token, int64, flat like the tokens, (total,). Empty where not known.
    row_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    # What the head needs to know of each token to decode predictions, (total,).
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    truncated: Counter[str] = field(default_factory=Counter)  # in words, such as "pairs cut to max_length"
    ignored: int = IGNORED  # the row target that the model ignores
    # Rows of an example that stay together in a batch, such as those of a question's C choices: tensors are (B, C, T).
    rows_together: int = 1
    token_types: np.ndarray | None = None  # int8 (total,), for a model that has them
    states: np.ndarray | None = None  # float32 (total, width): an encoder's, which a head takes in place of the tokens

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def num_examples(self) -> int:
        return int(self.examples[-1]) + 1 if len(self) else 0

    @property
    def first_rows(self) -> np.ndarray:
        """The first row of each example, int64 (examples,)."""
        return np.flatnonzero(np.diff(self.examples, prepend=-1))

    @property
    def lengths(self) -> np.ndarray:
        """int64 (rows,), in tokens."""
        return self.tokens.lengths

    @classmethod
    def of(cls, rows: Sequence[Row], examples: np.ndarray, **others: Any) -> Self:
        """Rows as frames make them, each with the number of its example; `others` are the fields that follow."""
        types = [row.types for row in rows if row.types is not None]
        token_types = np.concatenate(types) if types else None
        return cls(Sentences.of(row.ids for row in rows), examples, token_types=token_types, **others)

    @classmethod
    def concatenate(cls, parts: Sequence[TokenRows]) -> Self:
        """All rows, their examples renumbered, with the targets that all parts have.

        Raises NoExamplesError when there are no parts, ValueError for parts of unequal `rows_together`.
        """
        if not parts:
            raise NoExamplesError("found no example")
        if len(together := {part.rows_together for part in parts}) > 1:
            raise ValueError(
                f"examples have {' and '.join(map(str, sorted(together)))} choices; expected as many in all"
            )
        firsts = np.cumsum([0] + [part.num_examples for part in parts[:-1]])
        types = [part.token_types for part in parts if part.token_types is not None]
        truncated: Counter[str] = Counter()
        for part in parts:
            truncated.update(part.truncated)
        return cls(
            tokens=Sentences.concatenate([part.tokens for part in parts]),
            examples=np.concatenate([part.examples + first for part, first in zip(parts, firsts, strict=True)]),
            row_targets=concatenated([part.row_targets for part in parts]),
            token_targets=concatenated([part.token_targets for part in parts]),
            marks=concatenated([part.marks for part in parts]),
            truncated=truncated,
            ignored=parts[0].ignored,
            rows_together=parts[0].rows_together,
            token_types=np.concatenate(types) if len(types) == len(parts) else None,
        )

    @property
    def has_targets(self) -> bool:
        return bool(self.row_targets or self.token_targets)

    def without_targets(self) -> Self:
        """The same rows with nothing to predict."""
        return replace(self, row_targets={}, token_targets={})

    def without_marks(self) -> Self:
        """The same rows for training, which decodes nothing: marks take more memory than the tokens."""
        return replace(self, marks={})

    def take(self, rows: np.ndarray) -> Self:
        """The rows of those numbers (n,), in that order."""
        targets = {name: values[rows] for name, values in self.row_targets.items()}
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        return replace(
            self, examples=self.examples[rows], row_targets=targets, **self._of_tokens(self.places(rows), offsets)
        )

    def with_states(self, kept: np.ndarray, states: np.ndarray) -> Self:
        """The same rows of the `kept` tokens alone, bool (total,), with the states (kept ones, width) of these."""
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.tokens.offsets]
        return replace(self, **{**self._of_tokens(kept, offsets), "token_types": None}, states=states)

    def _of_tokens(self, chosen: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """The fields that have a value for each token, with those of the chosen tokens, in rows at `offsets`."""
        return {
            "tokens": Sentences(self.tokens.tokens[chosen], offsets),
            "token_targets": {name: values[chosen] for name, values in self.token_targets.items()},
            "marks": {name: values[chosen] for name, values in self.marks.items()},
            "token_types": None if self.token_types is None else self.token_types[chosen],
        }

    def predicted_tokens(self) -> np.ndarray:
        """Whether a token's logits matter, bool (total,): where it has a target or is read, or else everywhere."""
        if self.token_targets:
            return np.any([targets != IGNORED for targets in self.token_targets.values()], axis=0)
        return self.marks.get(READ, np.ones(len(self.tokens.tokens), dtype=bool)).copy()

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Indices in the flat arrays of the tokens of `rows` (n,), row by row, int64 (their sum,)."""
        lengths = self.lengths[rows]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(self.tokens.offsets[rows], lengths) + within

    def fingerprint(self) -> bytes:
        """SHA-256 of tokens, their types and targets."""
        digest = hashlib.sha256()
        arrays = [self.tokens.tokens, self.tokens.offsets, self.examples]
        arrays += [*self.row_targets.values(), *self.token_targets.values()]
        if self.token_types is not None:
            arrays.append(self.token_types)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()


def concatenated(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays under the names that all tables have, each concatenated over the tables."""
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.concatenate([table[name] for table in tables]) for name in shared}
