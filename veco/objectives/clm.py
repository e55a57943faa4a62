"""Causal language modelling: each sequence predicts its next token from those before it, on path H."""

from __future__ import annotations

from veco.objectives.objective import CAUSAL, Count, Objective, Prediction, Route, Term
from veco.views import NEXT_X, NEXT_Y


class CausalLanguageModelling(Objective):
    """P(token | tokens before it) of both sequences of a pair."""

    name = "clm"
    views = (NEXT_X, NEXT_Y)
    terms = (Term("clm", (Count(NEXT_X), Count(NEXT_Y))),)
    predictions = (Prediction("clm", Route(NEXT_X, CAUSAL)), Prediction("clm", Route(NEXT_Y, CAUSAL)))
