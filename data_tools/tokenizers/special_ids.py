"""The special ids of a tokenizer: where they stand in its vocabulary, which differs from tokenizer to tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class SpecialIds:
    """The ids that raw text never becomes, but for `unk`; masking neither chooses nor draws one of them.

    `bos` and `eos` stand around a sentence: `<s>` and `</s>`, or BERT's `[CLS]` and `[SEP]`. `unk` stands for text
    without a piece; it is None in a tokenizer that has pieces for all text. `others` are all further ones, such as
    language tags, and ids without a piece. Between two sentences of one row stand `num_separators` times `eos`: 2 in
    rows of XLM-R and RoBERTa (`<s> x </s> </s> y </s>`), 1 in BERT's (`[CLS] x [SEP] y [SEP]`).

    Raises ValueError if `pad` or `mask` has another role too: a batch could not tell its padding from its text.
    """

    bos: int
    pad: int
    eos: int
    unk: int | None
    mask: int
    others: tuple[int, ...] = ()
    num_separators: int = 2

    def __post_init__(self) -> None:
        roles = {"bos": self.bos, "pad": self.pad, "eos": self.eos, "unk": self.unk, "mask": self.mask}
        for own in ("pad", "mask"):
            if shared := [name for name, id_ in roles.items() if name != own and id_ == roles[own]]:
                raise ValueError(
                    f"the tokenizer's {own} token has the id {roles[own]}, which is its {shared[0]} token's too; give "
                    "it an id of its own"
                )

    @classmethod
    def xlm_r(cls, vocab_size: int) -> Self:
        """XLM-R's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last."""
        return cls(bos=0, pad=1, eos=2, unk=3, mask=vocab_size - 1)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Those that `dataclasses.asdict` made JSON of; raises TypeError or KeyError for other content."""
        return cls(**{**content, "others": tuple(content["others"])})

    def unless_xlm_r(self, vocab_size: int) -> Self | None:
        """These, or None if they are XLM-R's in a vocabulary of that size."""
        return None if self == self.xlm_r(vocab_size) else self

    @cached_property
    def ids(self) -> np.ndarray:
        """All special ids, int64 (n,), ascending."""
        named = {self.bos, self.pad, self.eos, self.mask, *self.others, *(() if self.unk is None else (self.unk,))}
        return np.array(sorted(named), np.int64)

    def are_unknown(self, ids: np.ndarray) -> np.ndarray:
        """bool (n,): which of ids (n,) are `unk`."""
        return np.zeros(len(ids), bool) if self.unk is None else ids == self.unk

    def are_ordinary(self, ids: np.ndarray) -> np.ndarray:
        """bool (n,): which of ids (n,) are pieces of text and not special."""
        return self._are_ordinary[np.minimum(ids, len(self._are_ordinary) - 1)]

    def num_ordinary(self, vocab_size: int) -> int:
        """The number of ids below `vocab_size` that are not special."""
        return vocab_size - int(np.count_nonzero(self.ids < vocab_size))

    def ordinary(self, numbers: np.ndarray) -> np.ndarray:
        """The ids int64 (n,) that have these places, from 0, among the ordinary ids in ascending order."""
        return numbers + self._num_ordinary_below.searchsorted(numbers, side="right")

    @cached_property
    def _are_ordinary(self) -> np.ndarray:
        """bool: of each id up to the first behind all special ones, whether it is ordinary, as are all behind it.

        Sentences are short: a look-up takes a quarter of the time of `np.isin`.
        """
        are_ordinary = np.ones(self.ids[-1] + 2, bool)
        are_ordinary[self.ids] = False
        return are_ordinary

    @cached_property
    def _num_ordinary_below(self) -> np.ndarray:
        """The number of ordinary ids below each special one, int64 (n,)."""
        return self.ids - np.arange(len(self.ids))
