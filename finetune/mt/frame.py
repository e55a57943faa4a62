"""What stands around the pieces of sentences: special tokens that a translation model reads and predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from veco import VecoConfig


@dataclass(frozen=True)
class Frame:
    """Ids around a source and behind a target: `<s> x </s>` and `y </s>`, unless the model was taught otherwise.

    Decoder inputs are the start token (the tag of the target language, say) and the target without its last id, which
    ends a translation.
    """

    source_prefix: tuple[int, ...]
    source_suffix: tuple[int, ...]
    target_suffix: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, config: VecoConfig, tokenizer: Any) -> Self:
        """That of a model; what its configuration leaves open comes from its tokenizer."""
        return cls.named(tokenizer, config.source_prefix_ids, config.source_suffix_ids, config.target_suffix_ids)

    @classmethod
    def named(
        cls,
        tokenizer: Any,
        source_prefix: Sequence[int] | None,
        source_suffix: Sequence[int] | None,
        target_suffix: Sequence[int] | None,
    ) -> Self:
        """That of these parts, of which `None` are the usual ones."""
        bos, eos = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
        return cls(
            tuple(bos if source_prefix is None else source_prefix),
            tuple(eos if source_suffix is None else source_suffix),
            tuple(eos if target_suffix is None else target_suffix),
            tokenizer.pad_token_id,
        )

    @property
    def num_source_ids(self) -> int:
        """How many ids stand around a source."""
        return len(self.source_prefix) + len(self.source_suffix)

    @property
    def num_target_ids(self) -> int:
        """How many ids stand behind a target; among the decoder's inputs one of them is the start token."""
        return len(self.target_suffix)

    @property
    def end(self) -> int:
        """What ends a translation."""
        return self.target_suffix[-1]

    def source(self, pieces: Sequence[int]) -> list[int]:
        """A source as the encoder reads it."""
        return [*self.source_prefix, *pieces, *self.source_suffix]

    def target(self, pieces: Sequence[int]) -> list[int]:
        """A target as the decoder predicts it."""
        return [*pieces, *self.target_suffix]

    def pieces(self, target: Sequence[int]) -> list[int]:
        """A target without what stands behind it, all of it or, where a search ended early, as much as there is."""
        size = len(target)
        for i in reversed(self.target_suffix):
            if size and target[size - 1] == i:
                size -= 1
        return list(target[:size])
