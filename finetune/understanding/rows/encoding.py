"""Text to piece ids for XTREME's tasks, with the places of the pieces in the text where a task needs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from finetune.encoded_text import SpecialIds, tokenizer_encoder

T = TypeVar("T")
EXAMPLES_PER_CALL = 2048  # given to the tokenizer at once: enough for its threads, little enough for memory


@dataclass(frozen=True)
class Located:
    """Pieces of a text: `ids` (n,) int32 and the characters [starts, ends) that each stands for, int32 (n,)."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class TextEncoder:
    """A transformers tokenizer of XLM-R's layout, `<s> … </s>`, as the tasks use it; no text becomes a special token.

    Raises ValueError for a tokenizer that cannot say where in a text its pieces are.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} does not tell the places of pieces; expected a fast tokenizer"
            )
        self.special = SpecialIds(bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
        self.unknown = int(tokenizer.unk_token_id)
        self.encode = tokenizer_encoder(tokenizer)
        self._tokenizer = tokenizer
        self._special_ids = np.asarray(sorted(tokenizer.all_special_ids))

    def locate(self, texts: Sequence[str]) -> list[Located]:
        """The pieces of each text with their places, which never go backwards."""
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,  # long texts are cut into windows
        )
        return [
            self._located(ids, offsets)
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def _located(self, ids: list[int], offsets: list[tuple[int, int]]) -> Located:
        array = np.asarray(ids, dtype=np.int32)
        array[np.isin(array, self._special_ids)] = self.unknown
        places = np.asarray(offsets, dtype=np.int32).reshape(-1, 2)
        # What normalisation inserts has no characters of its own; it takes the place before it.
        starts, ends = np.maximum.accumulate(places, axis=0).T if len(places) else places.T
        return Located(array, starts, ends)


def in_blocks(examples: Iterable[T]) -> Iterator[list[T]]:
    """The examples, so many together as one call of the tokenizer takes."""
    iterator = iter(examples)
    while block := list(itertools.islice(iterator, EXAMPLES_PER_CALL)):
        yield block
