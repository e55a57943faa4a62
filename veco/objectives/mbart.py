"""Denoising through the decoder (mBART, Liu et al., 2020): a segment is written from its noised form, token by token.

Path H reads the noised segment, path S writes: causal in itself, with all of path H in sight. These are the encoder and
the decoder of `VecoForConditionalGeneration`, here with the same weights; the decoder starts with `<s>`, so that such a
model writes with `decoder_start_token_id` 0. For noised x~ the loss is the mean over tokens of

    -log P(x_t | x_1 ... x_(t-1), x~)

and the same for y. There is no token for a language: the noised segment tells it, or the tag that fine-tuning adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from veco.objectives.objective import CAUSAL, Count, Objective, Prediction, Route, Term
from veco.views import NEXT_X, NEXT_Y, NOISED_X, NOISED_Y, TARGET_X, TARGET_Y


@dataclass(frozen=True)
class Denoising(Objective):
    """x from noised x and y from noised y.

    `translate`: in a pair of translations y from noised x and x from noised y instead, as in VECO's comparison with
    mBART (ACL 2021, section 6.2).
    """

    name = "mbart"

    translate: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        return (NOISED_X, NOISED_Y, *self._written)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term(self.name, tuple(Count(view) for view in self._written)),)

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return tuple(
            Prediction(self.name, Route(view, CAUSAL, keys=noised, keys_learn=True))
            for view, noised in zip(self._written, (NOISED_X, NOISED_Y), strict=True)
        )

    @property
    def _written(self) -> tuple[str, str]:
        return (TARGET_X, TARGET_Y) if self.translate else (NEXT_X, NEXT_Y)
