"""Text as piece ids: the function that encodes lines, and sentences in flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from transformers import PreTrainedTokenizerBase

Pieces = Sequence[int] | np.ndarray  # ids of the pieces of one text
# Lines -> piece ids without any special token: `tokenizer_encoder(...)` or `PieceEncoder.encode_lines`.
Encode = Callable[[list[str]], Sequence[Pieces]]


def tokenizer_encoder(tokenizer: PreTrainedTokenizerBase) -> Encode:
    """A function from lines to piece ids by a transformers tokenizer; the only special id in its output is `<unk>`.

    transformers would parse "</s>" or "<pad>" in a line as special tokens, which would end or mask a part of the
    sentence; here they become `<unk>`. A tokenizer without `<unk>` has pieces for every text, and they are text to it.
    """
    unknown = tokenizer.unk_token_id
    special_ids = set(tokenizer.all_special_ids) - {unknown}
    options = text_options(tokenizer)

    def encode(lines: list[str]) -> list[list[int]]:
        encoded = tokenizer(lines, **options)["input_ids"]
        return [
            ids if special_ids.isdisjoint(ids) else [unknown if piece in special_ids else piece for piece in ids]
            for ids in encoded
        ]

    return encode


def text_options(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool]:
    """The options of a call of a tokenizer that returns the pieces of texts alone."""
    return {
        "add_special_tokens": False,
        "split_special_tokens": tokenizer.unk_token_id is None,
        "return_attention_mask": False,
        "verbose": False,  # texts longer than the model's maximum are truncated and counted by us, so no warning
    }


@dataclass(frozen=True)
class Sentences:
    """Piece ids of many sentences: sentence i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray  # int32 (total,)
    offsets: np.ndarray  # int64 (sentences + 1,)

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int] | np.ndarray]) -> Self:
        parts = [np.asarray(sentence, dtype=np.int32) for sentence in sentences]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32), offsets)

    @classmethod
    def concatenate(cls, blocks: Sequence[Sentences]) -> Self:
        lengths = [block.lengths for block in blocks]
        offsets = np.zeros(sum(map(len, blocks)) + 1, dtype=np.int64)
        np.cumsum(np.concatenate(lengths) if lengths else [], out=offsets[1:])
        tokens = [block.tokens for block in blocks]
        return cls(np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32), offsets)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (sentences,), in pieces."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]
