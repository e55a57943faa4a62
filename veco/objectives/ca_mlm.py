"""Cross-attention masked language modelling (CA-MLM): all four terms of VECO (ACL 2021), eq. 1."""

from __future__ import annotations

from veco.objectives.mlm import MaskedLanguageModelling
from veco.objectives.objective import Count, Objective, Prediction, Route, Term
from veco.views import X, Y


class CrossAttentionMaskedLanguageModelling(Objective):
    """P(x|x^) and P(y|y^) on path H (`mlm`), P(x|y^,x^) and P(y|x^,y^) on path S (`ca_mlm`), stop-gradient between."""

    name = "ca_mlm"
    views = (X, Y)
    terms = (*MaskedLanguageModelling.terms, Term("ca_mlm", (Count(X), Count(Y))))
    predictions = (
        *MaskedLanguageModelling.predictions,
        Prediction("ca_mlm", Route(X, keys=Y)),
        Prediction("ca_mlm", Route(Y, keys=X)),
    )
