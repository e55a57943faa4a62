"""Masked language modelling across: a hidden token is predicted from the other sentence (CAMLM of ERNIE-M, 2021).

ERNIE-M (Ouyang et al., 2021) calls it cross-attention masked language modelling, and so does VECO its own objective,
which has attention of that kind; here is self-attention with a mask. The hidden tokens of x see what y shows and the
other hidden places of x, of which they know the positions; the shown tokens see those of their own sentence alone. So
through any number of layers nothing that x shows reaches its hidden tokens. That the shown tokens do not see the other
sentence is our reading of the paper. The loss is one mean over the hidden tokens of both sentences, as TLM's; ERNIE-M's
is the sum of a mean for each, about twice as much: the weight 2 makes up for it.

BERT's rule of 80/10/10 would leak here: of the places that see each other a tenth would show the very tokens that are
to be predicted, and another tenth random ones. So all of them show `<mask>`, in a row of its own.
"""

from __future__ import annotations

from torch import Tensor

from veco.objectives.objective import BILINGUAL, Count, Objective, Prediction, Route, Term
from veco.objectives.shared.sides import ACROSS, shown_and_hidden
from veco.objectives.states import Batch
from veco.views import MASK_ONLY


class CrossMaskLanguageModelling(Objective):
    """The hidden tokens of x are predicted from y, and those of y from x; the mean is over both."""

    name = "cross_mask_mlm"
    kinds = (BILINGUAL,)
    views = (MASK_ONLY,)
    terms = (Term("cross_mask_mlm", (Count(MASK_ONLY),)),)
    predictions = (Prediction("cross_mask_mlm", Route(MASK_ONLY, ACROSS)),)

    def token_classes(self, route: Route, batch: Batch) -> Tensor:
        return shown_and_hidden(batch, route.view)
