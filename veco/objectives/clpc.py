"""Cross-lingual paraphrase classification (CLPC; Unicoder, Huang et al., 2019): is y a translation of x?

Pairs (x, y) are told from pairs (x, z), where z is a hard negative, by the last state of `<s>` in
`<s> x </s> </s> y </s>` and a linear classifier, whose logit is c. The loss is the binary cross-entropy of both,

    mean of -log sigmoid(c(x, y)) + mean of -log(1 - sigmoid(c(x, z)))

Unicoder finds z by a light paraphrase model that it trained first. Ours is lighter: of the group's other sentences z is
the one that has most pieces in common with y (`pretrain/views/unlike.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from veco.config import VecoConfig
from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.pooling import pooled
from veco.objectives.states import States
from veco.views import CLEAN_PAIR, UNLIKE


class ParaphraseClassification(Objective):
    """Translations are told from sentences that are like them."""

    name = "clpc"
    kinds = (BILINGUAL,)
    contrasts_pairs = True  # z is from the group of x and y
    views = (CLEAN_PAIR, UNLIKE)
    routes = (Route(CLEAN_PAIR), Route(UNLIKE))
    terms = (Term("clpc", (Count(CLEAN_PAIR, of_rows=True), Count(UNLIKE, of_rows=True)), is_of_tokens=False),)

    def module(self, config: VecoConfig) -> nn.Module:
        return nn.Linear(config.hidden_size, 1)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        assert module is not None
        vectors = [pooled(states.of(route), states.batch.packed, route.view, "cls") for route in self.routes]
        both = torch.cat(vectors)
        logits = module(both.to(states.embedded.dtype)).squeeze(1).to(both.dtype).chunk(2)
        rows = torch.arange(len(vectors[0]), device=both.device)
        found = []
        for of_view, count, is_translation in zip(logits, self.terms[0].counts, (True, False), strict=True):
            values, is_right = told_apart(of_view, is_translation)
            found.append(ItemLosses(self.name, values, rows, is_right, count))
        return found


def told_apart(logits_R: Tensor, is_translation: bool) -> tuple[Tensor, Tensor]:
    """The loss of each pair (R,), and whether it is on its side of even odds."""
    targets = torch.full_like(logits_R, float(is_translation))
    losses = binary_cross_entropy_with_logits(logits_R, targets, reduction="none")
    return losses, (logits_R > 0) == is_translation
