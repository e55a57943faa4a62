"""Masked language modelling (BERT, XLM-R), P(x|x^) and P(y|y^): the H losses of VECO's eq. 1 alone."""

from __future__ import annotations

from veco.objectives.objective import Count, Objective, Prediction, Route, Term
from veco.views import X, Y


class MaskedLanguageModelling(Objective):
    """Both sequences of a pair predict their own masked tokens, each alone, on path H."""

    name = "mlm"
    views = (X, Y)
    terms = (Term("mlm", (Count(X), Count(Y))),)
    predictions = (Prediction("mlm", Route(X)), Prediction("mlm", Route(Y)))
