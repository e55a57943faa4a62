"""The layer of an aligner, chosen on other pairs than those that are scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.aligning.links import Method
from analysis.aligning.scores import Counts

HALVES = (0, 1)  # the pairs of even numbers, counted from 0, and the others
HalfCounts = Sequence[Counts]  # of each half
# {method: {layer: the counts of each half of the pairs}}
Scores = dict[Method, dict[int, list[Counts]]]


@dataclass(frozen=True)
class Chosen:
    """The layer for each half of the pairs, and the scores of all pairs with these layers."""

    layers: tuple[int, int]
    counts: Counts


def chosen_elsewhere(counts: Mapping[int, HalfCounts], development: Mapping[int, HalfCounts] | None) -> Chosen | None:
    """The layer of lowest error on development pairs or, without any, for each half of the pairs on the other half.

    Both are {layer: the counts of each half}. Of equal layers it is the lowest; None where no layer has an error, since
    there are no pairs to choose on, or neither links nor gold ones in them.
    """
    best: list[int] = []
    for half in HALVES:
        errors = {
            layer: own[1 - half].aer if development is None else sum(development[layer], Counts()).aer
            for layer, own in counts.items()
        }
        if all(map(math.isnan, errors.values())):
            return None
        best.append(min(errors, key=lambda layer: (math.inf if math.isnan(errors[layer]) else errors[layer], layer)))
    scored = sum((counts[layer][half] for half, layer in zip(HALVES, best, strict=True)), Counts())
    return Chosen((best[0], best[1]), scored)
