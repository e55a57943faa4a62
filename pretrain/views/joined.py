"""Views whose rows join two pairs, as InfoXLM's contrast has them: x of both in one row, y of both in another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import MaskedSequence
from pretrain.views.clean import unlabelled
from pretrain.views.pair import Pair

JOINED_PAIRS = 2  # in a row


def joined_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [joined(pairs[first : first + JOINED_PAIRS])[0] for first in range(0, len(pairs), JOINED_PAIRS)]


def joined_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [joined(pairs[first : first + JOINED_PAIRS])[1] for first in range(0, len(pairs), JOINED_PAIRS)]


def joined(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """`<s> x1 </s> x2 </s>` and `<s> y1 </s> y2 </s>` of two pairs, or of one that is left over, with their masks.

    The order is reversed or not on each side by itself, and the sides are exchanged or not, each with probability a
    half. As in InfoXLM's code (microsoft/unilm, infoxlm, xlco_dataset.py), whose second `<s>` is left out, too.
    """
    *is_reversed, is_exchanged = pairs[0].rng("joined").integers(2, size=3)
    rows = []
    for side in (0, 1):
        first, *others = [pair.masked[side][0] for pair in pairs][:: -1 if is_reversed[side] else 1]
        ids = np.concatenate([first, *(ids[1:] for ids in others)])
        rows.append((ids, unlabelled(ids)))
    return rows[::-1] if is_exchanged else rows
