"""The special tokens around the pieces of a source, and after those of a target, as a translation model knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from transformers import PreTrainedTokenizerBase

from veco import VecoConfig
from veco.tokenizer import ends_of


def known_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The ids of the beginning and the end of a sentence, see `ends_of`. Raises ValueError if one is missing."""
    bos, eos = ends_of(tokenizer)
    if bos is None or eos is None:
        raise ValueError(
            "the model's tokenizer has no tokens for the ends of a sentence: <s> and </s>, or [CLS] and [SEP]"
        )
    return bos, eos


@dataclass(frozen=True)
class Frame:
    """Ids around a source and after a target: `<s> x </s>` and `y </s>`, unless the model was trained otherwise.

    The decoder's input is the start token (such as the tag of the target language) and the target without its last id,
    which ends a translation.
    """

    source_prefix: tuple[int, ...]
    source_suffix: tuple[int, ...]
    target_suffix: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, config: VecoConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """The frame of a model's configuration; parts it leaves open come from its tokenizer."""
        return cls.with_defaults(
            tokenizer, config.source_prefix_ids, config.source_suffix_ids, config.target_suffix_ids
        )

    @classmethod
    def with_defaults(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        source_prefix: Sequence[int] | None,
        source_suffix: Sequence[int] | None,
        target_suffix: Sequence[int] | None,
    ) -> Self:
        """The frame of these parts; `None` means the usual `<s>` or `</s>`."""
        bos, eos = known_ends(tokenizer)
        return cls(
            tuple([bos] if source_prefix is None else source_prefix),
            tuple([eos] if source_suffix is None else source_suffix),
            tuple([eos] if target_suffix is None else target_suffix),
            tokenizer.pad_token_id,
        )

    @property
    def num_source_ids(self) -> int:
        """Number of special ids around a source."""
        return len(self.source_prefix) + len(self.source_suffix)

    @property
    def num_target_ids(self) -> int:
        """Number of special ids after a target; in the decoder's input the start token takes the place of the last."""
        return len(self.target_suffix)

    @property
    def end(self) -> int:
        """The id that ends a translation."""
        return self.target_suffix[-1]

    def source(self, pieces: Sequence[int]) -> list[int]:
        """A source as the encoder reads it."""
        return [*self.source_prefix, *pieces, *self.source_suffix]

    def target(self, pieces: Sequence[int]) -> list[int]:
        """A target as the decoder predicts it."""
        return [*pieces, *self.target_suffix]

    def pieces(self, target: Sequence[int]) -> list[int]:
        """A target without its suffix, or without the part of the suffix that it has, if a search ended early."""
        pieces = list(target)
        for i in reversed(self.target_suffix):
            if pieces and pieces[-1] == i:
                pieces.pop()
        return pieces
