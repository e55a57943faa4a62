"""Text to piece ids, with the positions of the pieces in the text where a task needs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from finetune.encoded_text import SpecialIds, tokenizer_encoder

T = TypeVar("T")
EXAMPLES_PER_CALL = 2048  # of the tokenizer: enough to occupy its threads, few enough for memory


@dataclass(frozen=True)
class LocatedPieces:
    """The pieces of a text: `ids` (n,) int32 and the characters [starts, ends) that each covers, int32 (n,)."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class TextEncoder:
    """A transformers tokenizer with XLM-R's special tokens, into which no text is ever encoded.

    Raises ValueError for a tokenizer without the positions of pieces in a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} has no positions of pieces; expected a fast tokenizer")
        self.special = SpecialIds(bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
        self.unknown = int(tokenizer.unk_token_id)
        self.encode = tokenizer_encoder(tokenizer)
        self.tokenizer = tokenizer
        self._special_ids = np.asarray(sorted(tokenizer.all_special_ids))

    def locate(self, texts: Sequence[str]) -> list[LocatedPieces]:
        """The pieces of each text with their positions, which never decrease."""
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,  # do not warn of long texts, which are split into windows
        )
        return [
            self._located(ids, offsets)
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def _located(self, ids: list[int], offsets: list[tuple[int, int]]) -> LocatedPieces:
        array = np.asarray(ids, dtype=np.int32)
        array[np.isin(array, self._special_ids)] = self.unknown
        places = np.asarray(offsets, dtype=np.int32).reshape(-1, 2)
        # A piece that normalisation inserts covers no characters; it takes the position before it.
        starts, ends = np.maximum.accumulate(places, axis=0).T if len(places) else places.T
        return LocatedPieces(array, starts, ends)


def in_blocks(examples: Iterable[T]) -> Iterator[list[T]]:
    """The examples in blocks for one call of the tokenizer each."""
    iterator = iter(examples)
    while block := list(itertools.islice(iterator, EXAMPLES_PER_CALL)):
        yield block
