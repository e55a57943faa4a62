"""Cross-lingual word alignment (CLWA; AMBER, Hu et al., 2021): attention from x to y agrees with that from y to x.

In a row of both sentences each token of x attends to the tokens of y only, and each of y to those of x. With the
weights A_xy (|x|, |y|) and A_yx (|y|, |x|) of the H heads of the last layer the loss of a pair is

    1 - (1/H) sum_h tr(A_yx^h A_xy^h) / min(|x|, |y|)

which is 0 where they are the same one-to-one alignment. It is our reading of the paper that the trace is of this
product, that the mask holds in all layers, in one pass for both directions (AMBER has two passes), and that `<s>` and
`</s>` count as tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from veco.attention import attention_weights
from veco.config import VecoConfig
from veco.layer import VecoLayer
from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.sides import OTHER_SIDE, sides_of
from veco.objectives.states import Batch, States
from veco.packing import Padding
from veco.views import CLEAN_PAIR, TLM


@dataclass(frozen=True)
class WordAlignment(Objective):
    """Agreement of the last layer's attention between the sentences of a pair, in both directions.

    `masked`: it reads the row of TLM rather than clean sentences.
    """

    name = "clwa"
    kinds = (BILINGUAL,)

    masked: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        return (TLM,) if self.masked else (CLEAN_PAIR,)

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Route(self.views[0], OTHER_SIDE),)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term(self.name, (Count(self.views[0], of_rows=True),), is_of_tokens=False),)

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return (config.num_hidden_layers - 1,)

    def token_classes(self, route: Route, batch: Batch) -> Tensor:
        return sides_of(batch, route.view)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        """A pair counts as right where the sentences agree more than they do not."""
        (route,) = self.routes
        batch = states.batch
        encoder = batch.encoder
        (layer,) = self.layers(encoder.config)
        attention = cast(VecoLayer, encoder.layers[layer]).self_attention
        before_ND, padding = states.of(route, layer), batch.padding_of(route.view)
        # The weights are formed here: in the layer itself kernels may not have them.
        query_BHTK, key_BHTK = (
            padding.pad(projection(before_ND).unflatten(1, (attention.num_heads, -1))).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj)
        )
        values = disagreement(query_BHTK, key_BHTK, padding, sides_of(batch, route.view))
        rows = torch.arange(len(values), device=values.device)
        return [ItemLosses(self.name, values, rows, values < 0.5, self.terms[0].counts[0])]


def disagreement(query_BHTK: Tensor, key_BHTK: Tensor, padding: Padding, sides_N: Tensor) -> Tensor:
    """The loss of each row (B,), in float32 at least: the formula above."""
    side_BT, is_token_BT = padding.pad(sides_N), padding.is_token_BT
    is_pair_BTT = is_token_BT.unsqueeze(2) & is_token_BT.unsqueeze(1)
    sees = (is_pair_BTT & (side_BT.unsqueeze(2) != side_BT.unsqueeze(1))).unsqueeze(1)
    query, key = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (query_BHTK, key_BHTK))
    weights = attention_weights(query, key, sees) * sees  # those of padding, which sees nothing, are no weights
    # Of the whole row A = [[0, A_xy], [A_yx, 0]], so tr(A A) counts tr(A_xy A_yx) twice.
    traces = (weights * weights.transpose(2, 3)).sum((2, 3)).mean(1) / 2
    of_y = (side_BT * is_token_BT).sum(1)
    shorter = torch.minimum(of_y, is_token_BT.sum(1) - of_y).clamp(min=1)
    return 1 - traces / shorter
