"""Self-training of word alignment (AwesomeAlign; Dou and Neubig, EACL 2021), for encoders that are to align words.

With the states of a layer, m pieces of x and n of y without special tokens, P = softmax over y of their dot products
and Q = softmax over x. The model's own alignment is A = (P > c) and (Q > c), which has no gradient, and the loss of a
pair, the paper's L_SO with 1 added so that it is not negative, is

    1 - (1/2) sum_ij A_ij (P_ij / m + Q_ij / n)

`consistency` adds that of agreement, the paper's L_CO:  1 - sum_ij P_ij Q_ij / min(m, n).

The rest of AwesomeAlign's tuning are objectives of their own: `mlm + tlm + self_alignment + clpc`.

Shape suffixes: R pairs; M pieces of x, N of y, both with special tokens and padding; D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from veco.config import VecoConfig
from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.pooling import products
from veco.objectives.states import LAST, Batch, States
from veco.views import CLEAN_X, CLEAN_Y


@dataclass(frozen=True)
class SelfAlignment(Objective):
    """The pieces that the states after `layer` (-1: the last) link are to be linked with more certainty.

    8 of 12 layers and a `threshold` of 0.001 are the defaults of AwesomeAlign's code.
    """

    name = "self_alignment"
    kinds = (BILINGUAL,)
    views = (CLEAN_X, CLEAN_Y)
    routes = (Route(CLEAN_X), Route(CLEAN_Y))

    layer: int = 8
    threshold: float = 0.001
    consistency: bool = False

    def problems(self) -> list[str]:
        return [
            *([] if 0 <= self.threshold < 1 else [f"threshold {self.threshold} must be from 0 to below 1"]),
            *([] if self.layer >= LAST else [f"layer {self.layer} must be -1, the last, or a layer's number"]),
        ]

    @property
    def terms(self) -> tuple[Term, ...]:
        names = (self.name, *(("alignment_consistency",) if self.consistency else ()))
        return tuple(Term(name, (Count(CLEAN_X, of_rows=True),), is_of_tokens=False) for name in names)

    @property
    def deepest_layer(self) -> int | None:
        return None if self.layer == LAST else self.layer

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        """A pair counts as right where the loss is below a half."""
        x, y = (Pieces.of(states.batch, route.view, states.of(route, self.layer)) for route in self.routes)
        alignment = Alignment.of(x, y)
        found = [alignment.self_training(self.threshold), *([alignment.disagreement()] if self.consistency else ())]
        rows = torch.arange(len(x.states_RTD), device=x.states_RTD.device)
        return [
            ItemLosses(term.name, values, rows, values < 0.5, term.counts[0])
            for term, values in zip(self.terms, found, strict=True)
        ]


class Pieces(NamedTuple):
    """States (R, T, D) of a side's padded rows, and which of their tokens are pieces: neither padding nor special."""

    states_RTD: Tensor
    is_piece_RT: Tensor

    @classmethod
    def of(cls, batch: Batch, view: str, states_ND: Tensor) -> Pieces:
        padding = batch.padding_of(view)
        is_piece_RT = padding.is_token_BT.clone()
        is_piece_RT[:, 0] = False
        last_R1 = padding.is_token_BT.sum(1, keepdim=True) - 1
        return cls(padding.pad(states_ND), is_piece_RT.scatter(1, last_R1, False))


class Alignment(NamedTuple):
    """P and Q (R, M, N), zeros where there is no piece, and the numbers of pieces m and n (R,), at least 1."""

    to_y_RMN: Tensor
    to_x_RMN: Tensor
    num_x_R: Tensor
    num_y_R: Tensor

    @classmethod
    def of(cls, x: Pieces, y: Pieces) -> Alignment:
        """Probabilities in float32 at least."""
        is_pair_RMN = x.is_piece_RT.unsqueeze(2) & y.is_piece_RT.unsqueeze(1)
        precision = torch.promote_types(x.states_RTD.dtype, torch.float32)
        scores_RMN = products(x.states_RTD.to(precision), y.states_RTD.to(precision))
        # Not minus infinity: the softmax of a row of padding would not be a number.
        scores_RMN = scores_RMN.masked_fill(~is_pair_RMN, torch.finfo(precision).min)
        to_y_RMN, to_x_RMN = (scores_RMN.softmax(dim) * is_pair_RMN for dim in (2, 1))
        return cls(to_y_RMN, to_x_RMN, *(side.is_piece_RT.sum(1).clamp(min=1) for side in (x, y)))

    def self_training(self, threshold: float) -> Tensor:
        """The first formula (R,)."""
        is_linked_RMN = (self.to_y_RMN > threshold) & (self.to_x_RMN > threshold)
        of_x, of_y = ((of * is_linked_RMN).sum((1, 2)) for of in (self.to_y_RMN, self.to_x_RMN))
        return 1 - (of_x / self.num_x_R + of_y / self.num_y_R) / 2

    def disagreement(self) -> Tensor:
        """The second formula (R,)."""
        return 1 - (self.to_y_RMN * self.to_x_RMN).sum((1, 2)) / torch.minimum(self.num_x_R, self.num_y_R)
