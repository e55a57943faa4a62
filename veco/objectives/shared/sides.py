"""Rows of two sentences, `<s> x </s> </s> y </s>`, and what their tokens attend to by their side.

TLM, `cross_mask_mlm`, `btmlm` and `clwa` all read such rows: they differ in what attends to what, and in the labels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from veco.labels import IGNORED
from veco.objectives.objective import Sight
from veco.objectives.states import Batch

# Classes are twice the side, plus one for a token that is to be predicted.
#                        shown x, hidden x, shown y, hidden y
ACROSS = Sight(
    "across",
    attends_to=(
        (True, False, False, False),  # shown x: the shown tokens of its own sentence
        (False, True, True, False),  # hidden x: what y shows, and the other hidden places of x
        (False, False, True, False),
        (True, False, False, True),
    ),
)
# Classes are the sides.
OTHER_SIDE = Sight("other side", attends_to=((False, True), (True, False)))


def sides_of(batch: Batch, view: str) -> Tensor:
    """0 for each token of x, whose last one is its row's first `</s>`, and 1 for each of y; int64 (N,)."""
    is_end = batch.ids_of(view).eq(batch.encoder.config.eos_token_id).long()
    ends_before = pad(is_end.cumsum(0), (1, 0))
    of_row = ends_before.index_select(0, batch.packed.starts_of([view])[:-1])
    return (ends_before[:-1] - of_row.index_select(0, batch.rows_of(view))).clamp(max=1)


def shown_and_hidden(batch: Batch, view: str) -> Tensor:
    """Classes of ACROSS, int64 (N,), where the tokens with labels are hidden."""
    return 2 * sides_of(batch, view) + batch.labels_of(view).ne(IGNORED).long()
