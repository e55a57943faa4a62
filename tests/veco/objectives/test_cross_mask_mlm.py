"""Across sentences: an explicit mask is the oracle of the loss, autograd that of what a hidden token can know."""

from __future__ import annotations

from collections.abc import Callable

import torch
from random_pairs import batch_of_views
from torch.nn.functional import cross_entropy

from veco import VecoForPreTraining
from veco.labels import IGNORED
from veco.objectives.states import Batch, States
from veco.views import MASK_ONLY, View


def mask_by_hand(ids: list[int], labels: list[int]) -> torch.Tensor:
    """Boolean (T, T) of a row: who attends to whom, from the words of the definition."""
    border = ids.index(2)
    of_x = [place <= border for place in range(len(ids))]
    hidden = [label != IGNORED for label in labels]
    allowed = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for query in range(len(ids)):
        for key in range(len(ids)):
            same_side = of_x[query] == of_x[key]
            sees = same_side == hidden[key] if hidden[query] else same_side and not hidden[key]
            allowed[query, key] = sees
    return allowed


def test_loss_is_that_of_an_explicit_mask(model_of: Callable[[str], VecoForPreTraining]) -> None:
    model, batch = model_of("cross_mask_mlm"), batch_of_views(MASK_ONLY)
    losses = []
    for ids, mask, labels in zip(*(batch[f"mask_only_{name}"] for name in View._fields), strict=True):
        ids, labels = ids[mask.bool()], labels[mask.bool()]
        embedded = model.veco.embeddings(ids[None], torch.arange(2, 2 + len(ids))[None])
        allowed = mask_by_hand(ids.tolist(), labels.tolist())[None, None]
        logits = model.lm_head(model.veco.sweep(embedded, allowed)[-1])[0]
        losses.append(cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")[labels != IGNORED])
    output = model(**batch)
    torch.testing.assert_close(output.loss, torch.cat(losses).mean(), rtol=0, atol=1e-6, check_dtype=False)
    found = output.row_totals["cross_mask_mlm"]
    torch.testing.assert_close(
        found[:, 0].double(), torch.stack([of_row.sum() for of_row in losses]), rtol=1e-5, atol=0
    )
    assert found[:, 1].tolist() == [len(of_row) for of_row in losses]


def test_hidden_token_knows_the_other_sentence_and_hidden_places_alone(
    model_of: Callable[[str], VecoForPreTraining],
) -> None:
    """Through all layers, no gradient comes from the shown tokens of its own sentence, nor from another row."""
    model, batch = model_of("cross_mask_mlm"), batch_of_views(MASK_ONLY)
    packed = batch["packed"]
    view = View(*(batch[f"mask_only_{name}"] for name in View._fields))
    (objective,) = model.objective
    states = States(Batch.of(model.veco, model.lm_head, packed, {MASK_ONLY: view}), [objective], {})
    (route,) = objective.all_routes
    direction = torch.randn(model.config.hidden_size, dtype=torch.float64)
    allowed = torch.block_diag(
        *(
            mask_by_hand(ids[mask.bool()].tolist(), labels[mask.bool()].tolist()).double()
            for ids, mask, labels in zip(*view, strict=True)
        )
    )
    # A shown key of the other side sees its own side's shown tokens, which are keys already: more layers add none.
    for place in packed.predicted.tolist():
        of_state = states.of(route)[place] @ direction
        (gradient,) = torch.autograd.grad(of_state, states.embedded, retain_graph=True)
        assert (gradient.abs().sum(1) > 0).tolist() == allowed[place].bool().tolist()
