"""Rows of tokens that a model reads, one or several windows for each example, in flat arrays."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from finetune.encoded_text import Sentences
from veco.labels import IGNORED

READ = "is_read"  # the mark of the tokens whose predictions are read, where it is not all of them


class NoExamplesError(ValueError):
    """No example to make rows of."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, `<s>` and `</s>` included, with their targets.

    A row is a whole example or a window of a long one; the rows of an example follow each other in order.
    """

    tokens: Sentences
    examples: np.ndarray  # int64 (rows,): the example of each row, ascending
    # Name of the model's argument -> its targets, int64: of each row (rows,), or of each token, flat like the tokens,
    # (total,). Empty where they are not known.
    row_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    # What the head needs to know of each token to decode predictions, (total,).
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    truncated: Counter[str] = field(default_factory=Counter)  # in words, such as "pairs cut to max_length"
    ignored: int = IGNORED  # the row target that the model ignores
    states: np.ndarray | None = None  # float32 (total, width): an encoder's, which a head takes in place of the tokens

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
    def concatenate(cls, parts: Sequence[TokenRows]) -> Self:
        """All rows, their examples renumbered, with the targets that all parts have.

        Raises NoExamplesError when there are no parts.
        """
        if not parts:
            raise NoExamplesError("found no example")
        firsts = np.cumsum([0] + [part.num_examples for part in parts[:-1]])
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
        places = self.places(rows)
        lengths = self.lengths[rows]
        return replace(
            self,
            tokens=Sentences(self.tokens.tokens[places], np.concatenate([[0], np.cumsum(lengths)])),
            examples=self.examples[rows],
            row_targets={name: values[rows] for name, values in self.row_targets.items()},
            token_targets={name: values[places] for name, values in self.token_targets.items()},
            marks={name: values[places] for name, values in self.marks.items()},
        )

    def predicted_tokens(self) -> np.ndarray:
        """Whether a token's logits matter, bool (total,): where it has a target or is read, or else everywhere."""
        if self.token_targets:
            return np.any([targets != IGNORED for targets in self.token_targets.values()], axis=0)
        return self.marks.get(READ, np.ones(len(self.tokens.tokens), dtype=bool)).copy()

    def with_states(self, kept: np.ndarray, states: np.ndarray) -> Self:
        """The same rows of the `kept` tokens alone, bool (total,), with the states (kept ones, width) of these."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self,
            tokens=Sentences(self.tokens.tokens[kept], before[self.tokens.offsets]),
            token_targets={name: values[kept] for name, values in self.token_targets.items()},
            marks={name: values[kept] for name, values in self.marks.items()},
            states=states,
        )

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Indices in the flat arrays of the tokens of `rows` (n,), row by row, int64 (their sum,)."""
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


def concatenated(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays under the names that all tables have, each concatenated over the tables."""
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.concatenate([table[name] for table in tables]) for name in shared}
