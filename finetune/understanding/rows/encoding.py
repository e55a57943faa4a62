"""Text to piece ids, with the positions of the pieces in the text where a task needs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from finetune.encoded_text import Pieces, text_options, tokenizer_encoder
from finetune.encoders import Encoder
from finetune.understanding.rows.framing import Frame

T = TypeVar("T")
EXAMPLES_PER_CALL = 2048  # of the tokenizer: enough to occupy its threads, few enough for memory


@dataclass(frozen=True)
class LocatedPieces:
    """The pieces of a text: `ids` (n,) int32 and the characters [starts, ends) that each covers, int32 (n,)."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class TextEncoder:
    """A transformers tokenizer, into whose special tokens no text is ever encoded, and its frames of rows.

    `unknown` is the piece of a word that has none. Raises ValueError for a tokenizer without the positions of pieces in
    a text, or without the special tokens that rows need.
    """

    def __init__(self, tokenizer: Any, has_token_types: bool = False) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} has no positions of pieces; expected a fast tokenizer")
        named = (tokenizer.unk_token_id, tokenizer.mask_token_id)
        if (unknown := next((id for id in named if id is not None), None)) is None:
            raise ValueError("its tokenizer has neither an unknown token nor a mask; expected one of them")
        self.unknown = int(unknown)
        # Padding is masked: where the tokenizer has none, any id does.
        self.pad = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self.encode = tokenizer_encoder(tokenizer)
        self.tokenizer = tokenizer
        self.single, self.pair = (Frame.of(tokenizer, num_texts, has_token_types) for num_texts in (1, 2))
        self._special_ids = np.asarray(sorted(tokenizer.all_special_ids))
        # A byte-level tokenizer, say, has other pieces for a word behind a space than for the start of a text.
        self._word_prefix = "" if self.encode(["a"]) == self.encode([" a"]) else " "

    def frame(self, texts: Sequence[Any]) -> Frame:
        """The frame of one text or of two."""
        return self.single if len(texts) == 1 else self.pair

    def encode_words(self, words: Iterable[str]) -> Sequence[Pieces]:
        """The pieces of each word as within a sentence, behind a space if the tokenizer distinguishes that."""
        return self.encode([self._word_prefix + word for word in words])

    def locate(self, texts: Sequence[str]) -> list[LocatedPieces]:
        """The pieces of each text with their positions, which never decrease."""
        encoded = self.tokenizer(list(texts), return_offsets_mapping=True, **text_options(self.tokenizer))
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


def text_encoder(encoder: Encoder) -> TextEncoder:
    """The text encoder of a pre-trained encoder; raises ValueError, naming its directory, as TextEncoder does."""
    try:
        return TextEncoder(encoder.tokenizer, encoder.has_token_types)
    except ValueError as error:
        raise ValueError(f"{encoder.directory}: {error}") from None


def in_blocks(examples: Iterable[T]) -> Iterator[list[T]]:
    """The examples in blocks for one call of the tokenizer each."""
    iterator = iter(examples)
    while block := list(itertools.islice(iterator, EXAMPLES_PER_CALL)):
        yield block
