"""The special tokens around one text or two, as a tokenizer itself puts them: `[CLS] a [SEP] b [SEP]`, `<s> a </s>`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from finetune.encoded_text import Pieces

TEXT = -1  # the place of a text among the ids of a frame
PROBE = "a"


@dataclass(frozen=True)
class Row:
    """The tokens of a row: ids (n,) int32 and, for a model that has token types, their types (n,) int8."""

    ids: np.ndarray
    types: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Frame:
    """The ids of a row, with TEXT where a text stands; `types` are those of the same tokens, if the model has types."""

    ids: tuple[int, ...]
    types: tuple[int, ...] | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, num_texts: int, has_token_types: bool) -> Frame:
        """The frame of one text or two. Raises ValueError for a tokenizer that does not begin or separate them."""
        encoded = tokenizer(*[PROBE] * num_texts)
        sources = [TEXT if source is None else source for source in encoded.sequence_ids(0)]
        is_kept = [source == TEXT or source not in sources[:place] for place, source in enumerate(sources)]
        ids = [id if source == TEXT else TEXT for id, source in zip(encoded["input_ids"], sources, strict=True)]
        types = encoded["token_type_ids"] if has_token_types and "token_type_ids" in encoded else None
        frame = cls(
            tuple(id for id, kept in zip(ids, is_kept, strict=True) if kept),
            None if types is None else tuple(type for type, kept in zip(types, is_kept, strict=True) if kept),
        )
        if len(frame.places) != num_texts:
            raise ValueError(f"its tokenizer has no piece for {PROBE!r}; expected one that has pieces for every text")
        if frame.places[0] == 0 or 1 in np.diff(frame.places):
            raise ValueError(
                "its tokenizer puts no special token before a text or between two; expected `[CLS] a [SEP] b`"
            )
        return frame

    @cached_property
    def places(self) -> list[int]:
        """The indices of the texts among the frame's ids."""
        return [place for place, id in enumerate(self.ids) if id == TEXT]

    @cached_property
    def num_specials(self) -> int:
        """The number of special tokens."""
        return len(self.ids) - len(self.places)

    def start_of_last(self, *before: Pieces) -> int:
        """The position in a row of the last text, behind the other texts."""
        return self.places[-1] - len(before) + sum(len(text) for text in before)

    def row(self, *texts: Pieces) -> Row:
        """The row of as many texts as the frame has places."""
        parts: list[Pieces] = list(self._between)
        parts[1:-1:2] = texts
        ids = np.concatenate(parts, dtype=np.int32, casting="unsafe")
        if self.types is None:
            return Row(ids, None)
        lengths = np.ones(len(self.ids), dtype=np.int64)
        lengths[self.places] = [len(text) for text in texts]
        return Row(ids, np.repeat(np.asarray(self.types, dtype=np.int8), lengths))

    @cached_property
    def _between(self) -> list[list[int]]:
        """The special ids before, between and behind the texts, and a place for each text after those before it."""
        bounds = [-1, *self.places, len(self.ids)]
        specials = [list(self.ids[start + 1 : stop]) for start, stop in itertools.pairwise(bounds)]
        return [*itertools.chain.from_iterable((own, []) for own in specials[:-1]), specials[-1]]

    def fitting(self, texts: Sequence[Pieces], max_length: int) -> Sequence[Pieces]:
        """The texts of a row of at most `max_length` tokens; of too long ones, the longer is cut at its end."""
        budget = max_length - self.num_specials
        if sum(len(text) for text in texts) <= budget:
            return texts
        if len(texts) == 1:
            return [texts[0][:budget]]
        first, second = texts
        num_first = min(len(first), max(budget - len(second), (budget + 1) // 2))
        return [first[:num_first], second[: budget - num_first]]
