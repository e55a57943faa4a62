"""Back-translation: each row alone, by explicit masks and all logits, is the oracle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_pairs import MASKING, ONE_SEPARATOR, batch_of_views
from torch import Tensor
from torch.nn.functional import cross_entropy

from pretrain.masking import Masking
from veco import VecoForPreTraining
from veco.labels import IGNORED
from veco.objectives.btmlm import pseudo_translated
from veco.objectives.states import Batch
from veco.views import PSEUDO_X, PSEUDO_Y, View

VIEWS = (PSEUDO_X, PSEUDO_Y)


def rows_of(batch: dict[str, Tensor], view: str) -> list[tuple[Tensor, Tensor]]:
    """Ids and labels of each row, without padding."""
    view_tensors = (batch[f"{view}_{name}"] for name in View._fields)
    return [(ids[mask.bool()], labels[mask.bool()]) for ids, mask, labels in zip(*view_tensors, strict=True)]


def written(model: VecoForPreTraining, ids: Tensor, labels: Tensor) -> Tensor:
    """A row with pseudo-tokens in the place of its placeholders."""
    words = (len(ids) - 3) // 2  # behind <s> and one or two separators, in front of </s>
    is_source = torch.arange(len(ids)) < words + 2
    is_placeholder = ~is_source & (ids == model.config.vocab_size - 1)
    is_frame = ~is_source & ~is_placeholder
    clean = torch.where(labels == IGNORED, ids, labels)
    keys_of_source = is_source.expand(len(ids), -1)
    allowed = torch.where(
        is_placeholder[:, None],
        (is_source | is_placeholder)[None],
        torch.where(is_frame[:, None], is_frame[None], keys_of_source),
    )
    embedded = model.veco.embeddings(clean[None], torch.arange(2, 2 + len(ids))[None])
    logits = model.lm_head(model.veco.sweep(embedded, allowed[None, None])[-1])[0]
    return torch.where(is_placeholder, logits.argmax(1), ids)


@pytest.mark.parametrize("masking", [MASKING, ONE_SEPARATOR])
def test_pseudo_tokens_are_what_the_clean_segment_makes_probable(
    model_of: Callable[[str], VecoForPreTraining], masking: Masking
) -> None:
    model, batch = model_of("btmlm"), batch_of_views(*VIEWS, masking=masking)
    views = {view: View(*(batch[f"{view}_{name}"] for name in View._fields)) for view in VIEWS}
    found = pseudo_translated(Batch.of(model.veco, model.lm_head, batch["packed"], views), VIEWS)
    expected = [written(model, *row) for view in VIEWS for row in rows_of(batch, view)]
    assert found.tolist() == torch.cat(expected).tolist()
    changed = torch.cat(expected) != torch.cat([ids for view in VIEWS for ids, _ in rows_of(batch, view)])
    assert changed.sum() > 20  # placeholders were filled


def test_loss_and_gradient_take_pseudo_tokens_as_given(model_of: Callable[[str], VecoForPreTraining]) -> None:
    model, batch = model_of("btmlm"), batch_of_views(*VIEWS)
    expected = torch.zeros((), dtype=torch.float64)
    for view in VIEWS:
        losses = []
        for ids, labels in rows_of(batch, view):
            logits = model.lm_head(model.veco(written(model, ids, labels).detach()[None])[0])[0]
            losses.append(cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")[labels != IGNORED])
        expected = expected + torch.cat(losses).mean()
    loss = model(**batch).loss
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6, check_dtype=False)
    learning = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(of, learning, allow_unused=True) for of in (loss, expected))
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)
