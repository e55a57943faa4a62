"""InfoNCE against sentence-transformers' own loss, a plain loop in float64, and the promise that groups make."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers.losses import MultipleNegativesSymmetricRankingLoss

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.contrast import info_nce
from veco.objectives.shared.pooling import Everyones
from veco.packing import PackedViews
from veco.views import views_of


def test_loss_is_that_of_sentence_transformers() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(6, 5), torch.randn(6, 5)
    loss = MultipleNegativesSymmetricRankingLoss(model=None, scale=20.0)
    expected = loss.compute_loss_from_embeddings([x, y], None)
    values, is_right = info_nce(x, y, temperature=0.05, margin=0.0)
    torch.testing.assert_close(values.mean(), expected)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1)
    assert is_right.tolist() == [cosines[i].argmax() == i for i in range(6)]


def test_margin_is_taken_from_the_translation_alone() -> None:
    torch.manual_seed(2)
    x, y = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = []
    for i in range(4):
        found = 0.0
        for a, b in ((x, y), (y, x)):
            cosines = [torch.cosine_similarity(a[i], b[n], dim=0) for n in range(4)]
            positive = torch.exp((cosines[i] - 0.3) / 0.1)
            negatives = [torch.exp(cosines[n] / 0.1) for n in range(4) if n != i]
            found = found - torch.log(positive / (positive + torch.stack(negatives).sum())) / 2
        expected.append(found)
    torch.testing.assert_close(info_nce(x, y, 0.1, 0.3)[0], torch.stack(expected), rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.1, 0.3)[0], (x, y))


def clean_batch(rows: slice) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    batch = {}
    for view, length in (("clean_x", 7), ("clean_y", 9)):
        ids = torch.randint(4, 59, (8, length), generator=generator)
        ids[1::2, 5:] = 1
        batch |= {f"{view}_input_ids": ids[rows], f"{view}_attention_mask": ids.ne(1).long()[rows]}
        batch[f"{view}_labels"] = torch.full_like(ids, -100)[rows]
    return batch


@pytest.mark.parametrize("objective", ["contrast", "clsa"])
def test_groups_make_the_loss_the_same_for_any_split(config: VecoConfig, objective: str) -> None:
    """Parts of a batch as ranks and accumulation steps have them, whose shares and gradients add up."""
    torch.manual_seed(4)
    model = VecoForPreTraining(config, objective)
    losses, gradients = {}, {}
    for num_parts in (1, 2, 4):
        model.zero_grad()
        losses[num_parts] = 0.0
        for part in range(num_parts):
            batch = clean_batch(slice(8 // num_parts * part, 8 // num_parts * (part + 1)))
            packed = PackedViews.of(views_of(batch), 1, group_pairs=2)
            loss = model(**batch, packed=packed, num_items_in_batch=torch.tensor([8])).loss
            loss.backward()
            losses[num_parts] += float(loss.detach())
        gradients[num_parts] = {
            name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
        }
    assert losses[2] == pytest.approx(losses[1], rel=1e-5) and losses[4] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[1]
    for num_parts in (2, 4):
        torch.testing.assert_close(gradients[num_parts], gradients[1], rtol=1e-4, atol=1e-6)
    ungrouped = model(**clean_batch(slice(None))).loss
    assert ungrouped.item() > losses[1] + 0.1, "more negatives"


def test_pairs_of_all_ranks_are_negatives() -> None:
    """Each rank's losses are those of its pairs among all, so their sum over ranks is that of one batch."""
    torch.manual_seed(5)
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    whole, is_right = info_nce(x, y, 0.1, 0.2)
    for rank in range(3):
        own = slice(2 * rank, 2 * rank + 2)
        values, right = info_nce(x[own], y[own], 0.1, 0.2, Everyones(x, y, 2 * rank))
        torch.testing.assert_close(values, whole[own])
        assert right.tolist() == is_right[own].tolist()


def test_groups_are_given_up_across_ranks_in_training_alone(config: VecoConfig) -> None:
    torch.manual_seed(4)
    model = VecoForPreTraining(config, "contrast(across_ranks=true)")
    batch = clean_batch(slice(None))
    packed = PackedViews.of(views_of(batch), 1, group_pairs=2)
    in_groups = model.eval()(**batch, packed=packed).loss
    assert model.train()(**batch, packed=packed).loss > in_groups + 0.1


@pytest.mark.parametrize("layer", [-1, 0, 2])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_pooled_states_of_the_layer(config: VecoConfig, layer: int, pooling: str) -> None:
    model = VecoForPreTraining(config, f"contrast(layer={layer}, pooling={pooling})").eval()
    batch = clean_batch(slice(None))
    vectors = []
    for view in ("clean_x", "clean_y"):
        mask = batch[f"{view}_attention_mask"]
        hidden = model.veco(batch[f"{view}_input_ids"], mask, output_hidden_states=True).hidden_states[layer]
        weights = mask.unsqueeze(2).float()
        vectors.append(hidden[:, 0] if pooling == "cls" else (hidden * weights).sum(1) / weights.sum(1))
    expected = info_nce(*vectors, 0.05, 0.0)[0]
    output = model(**batch)
    torch.testing.assert_close(output.loss, expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.row_totals["contrast"][:, 0], expected, rtol=1e-5, atol=1e-5)


def test_layer_that_is_not_there_is_named(config: VecoConfig) -> None:
    with pytest.raises(ValueError, match="objective contrast: layer 9 must be -1, the last, or from 0"):
        VecoForPreTraining(config, "contrast(layer=9)")
