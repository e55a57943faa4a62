"""Back-translation masked language modelling (BTMLM; ERNIE-M, Ouyang et al., 2021), on monolingual batches.

First the model writes what stands for a translation: behind a segment are as many placeholders `<mask>` as it has words
(the paper does not say how many). They see the segment, unmasked, and each other, as the hidden tokens of
`cross_mask_mlm`, and the most probable piece of each is taken, without gradient. Then the masked segment is read
together with these pseudo-tokens, as TLM reads a pair, and its masked tokens are predicted. Pseudo-tokens are never
labels.

ERNIE-M tells the placeholders their language. Our models have no language embeddings; what stands for one is the row
itself: `cross_mask_mlm` has taught that hidden tokens which see nothing but another sentence are its translation. So
this objective belongs with that one, or behind it, and into which language it translates is learnt from the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from veco.attention import PackedEnds, PackedMask, TokenClasses
from veco.labels import IGNORED
from veco.objectives.objective import (
    ITSELF,
    MONO,
    Count,
    Objective,
    PassWithoutGradient,
    Prediction,
    Route,
    Term,
)
from veco.objectives.shared.sides import ACROSS, sides_of
from veco.objectives.states import Batch, lengths_of
from veco.packing import Sizes
from veco.views import PSEUDO_X, PSEUDO_Y


class BackTranslationMaskedLanguageModelling(Objective):
    """The masked tokens of both segments are predicted, each from its segment and the pseudo-tokens made of it."""

    name = "btmlm"
    kinds = (MONO,)
    views = (PSEUDO_X, PSEUDO_Y)
    terms = (Term("btmlm", (Count(PSEUDO_X), Count(PSEUDO_Y))),)
    predictions = (Prediction("btmlm", Route(PSEUDO_X)), Prediction("btmlm", Route(PSEUDO_Y)))

    def passes_without_gradient(self, sizes: Sizes) -> tuple[PassWithoutGradient, ...]:
        """The one that writes the pseudo-tokens."""
        behind = sum(num_behind(sizes.lengths[view]) for view in self.views)
        return (PassWithoutGradient(ITSELF, tuple(Route(view, ACROSS) for view in self.views), num_projected=behind),)

    def embedded(self, batch: Batch, module: nn.Module | None) -> Mapping[str, Tensor]:
        """The rows with pseudo-tokens at their placeholders."""
        ids = pseudo_translated(batch, self.views)
        positions = torch.cat([batch.positions_of(view) for view in self.views])
        embedded = batch.encoder.embeddings(ids, positions)
        sizes = [batch.packed.sizes.num_tokens(view) for view in self.views]
        return dict(zip(self.views, embedded.split(sizes), strict=True))


@torch.no_grad()
def pseudo_translated(batch: Batch, views: tuple[str, ...]) -> Tensor:
    """Ids (N,) of the tokens of all views, whose placeholders are what the model makes of the unmasked segments.

    One pass through the layers and one through the head, whatever the batch has. Dropout is as in the pass that learns.
    """
    encoder, packed = batch.encoder, batch.packed
    starts, lengths = packed.starts_of(views), lengths_of(packed, views)
    ids, labels, sides, positions = (
        torch.cat([of(view) for view in views])
        for of in (batch.ids_of, batch.labels_of, lambda view: sides_of(batch, view), batch.positions_of)
    )
    is_placeholder = sides * ids.ne(encoder.config.eos_token_id)
    clean = torch.where(labels.eq(IGNORED), ids, labels)
    assert ACROSS.attends_to is not None
    classes = TokenClasses(2 * sides + is_placeholder, ACROSS.attends_to)
    mask = PackedMask(lengths, lengths, ends=PackedEnds(starts, starts), classes=classes)
    states_ND = encoder.sweep(encoder.embeddings(clean, positions), mask)[-1]
    behind = second_halves(starts, lengths)
    best = batch.lm_head(states_ND.index_select(0, behind), only_best=True)
    return torch.where(is_placeholder.bool(), ids.index_copy(0, behind, best), ids)


def num_behind(lengths: Sequence[int]) -> int:
    """The places in the second halves of packed rows."""
    return sum(length // 2 for length in lengths)


def second_halves(starts: Tensor, lengths: Sequence[int]) -> Tensor:
    """The places of the second half of each packed row, the smaller one where it has an odd number of tokens.

    All placeholders are there, however many separators follow the segment, which has as many words and its `<s>`.
    """
    half_starts = pad((starts.diff() // 2).cumsum(0), (1, 0))
    places = torch.arange(num_behind(lengths), device=starts.device)
    rows = torch.bucketize(places, half_starts[1:], right=True)
    return places + (starts - half_starts)[1:].index_select(0, rows)
