"""Translation language modelling (TLM; XLM, Lample and Conneau, 2019): MLM of the concatenated pair, on path H."""

from __future__ import annotations

from veco.objectives.objective import BILINGUAL, Count, Objective, Prediction, Route, Term
from veco.views import TLM


class TranslationLanguageModelling(Objective):
    """Masked tokens of both sentences are predicted from both, in one row whose positions run on."""

    name = "tlm"
    kinds = (BILINGUAL,)
    views = (TLM,)
    terms = (Term("tlm", (Count(TLM),)),)
    predictions = (Prediction("tlm", Route(TLM)),)
