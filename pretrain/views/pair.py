"""A pair of a batch, from which its views are made: its ids, its masks, and the random numbers of each view."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import IGNORED, MaskedSequence, Masking, mask_pair
from pretrain.views.resources import Resources
from pretrain.words.lexicons import PairWords
from training.random_order import mix
from veco.objectives.objective import BILINGUAL, MONO


@dataclass(frozen=True)
class Sample:
    """A pair of ids without `<s>` and `</s>`: where it is from and what decides its masks."""

    group: int  # its language or pair, as an index into the batches' `groups`
    name: str  # that language or pair: "de", "de-en"
    number: int  # in the order of its kind of batch
    x: np.ndarray
    y: np.ndarray
    num_cut: int
    key: int  # of its random numbers
    x_borders: tuple[int, ...] = ()  # between sentences inside x, as the number of tokens before each
    y_borders: tuple[int, ...] = ()

    @property
    def is_translation(self) -> bool:
        """Whether x and y are translations of each other, not neighbours in a document."""
        return "-" in self.name

    @property
    def kind(self) -> str:
        """The kind of batch that it is for."""
        return BILINGUAL if self.is_translation else MONO


@dataclass(frozen=True)
class Pair:
    """A sample as views see it: with `<s>` and `</s>`, and masked, once for all views."""

    sample: Sample
    masking: Masking
    resources: Resources = field(default_factory=Resources)

    @property
    def special(self) -> SpecialIds:
        """The special ids of its tokenizer."""
        return self.masking.special

    def rng(self, view: str = "") -> np.random.Generator:
        """The random numbers of a view, the same on every machine; without a name those of the masks."""
        key = mix(self.sample.key, zlib.crc32(view.encode())) if view else self.sample.key
        return np.random.Generator(np.random.Philox(key=key))

    @cached_property
    def x(self) -> np.ndarray:
        """`<s> x </s>`, int64."""
        return framed(self.sample.x, self.special)

    @cached_property
    def y(self) -> np.ndarray:
        """`<s> y </s>`, int64."""
        return framed(self.sample.y, self.special)

    @cached_property
    def words(self) -> PairWords:
        """The words of `x` and `y`, and which of them a lexicon has."""
        assert self.resources.lexicons is not None, "a part of the objective that reads words needs a lexicon"
        return self.resources.lexicons.words(self.sample.name, self.x, self.y)

    @cached_property
    def masked(self) -> tuple[MaskedSequence, MaskedSequence]:
        """Both with masks, as `mask_pair` draws them."""
        return mask_pair(self.x, self.y, self.rng(), self.masking)


def framed(ids: np.ndarray, special: SpecialIds) -> np.ndarray:
    """`<s> ids </s>`, int64."""
    return np.concatenate(([special.bos], ids, [special.eos])).astype(np.int64)


def concatenated(x: MaskedSequence, y: MaskedSequence, special: SpecialIds) -> MaskedSequence:
    """(ids, labels) of `<s> x </s> </s> y </s>` from those of `<s> x </s>` and `<s> y </s>`.

    Between x and y there are as many `</s>` as the tokenizer itself puts there.
    """
    separators = np.full(special.num_separators - 1, special.eos)  # in the place of y's <s>; x has its </s> already
    unlabelled = np.full(len(separators), IGNORED)
    return np.concatenate((x[0], separators, y[0][1:])), np.concatenate((x[1], unlabelled, y[1][1:]))
