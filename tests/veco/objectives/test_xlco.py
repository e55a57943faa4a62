"""InfoXLM's contrast against a plain loop in float64, and what it reads and trains."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.shared.momentum import Momentum, MomentumModule
from veco.objectives.xlco import queued_contrast
from veco.packing import PackedViews
from veco.views import views_of

QUEUE = 5


def test_loss_is_the_formula() -> None:
    torch.manual_seed(1)
    queries, keys, queue = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 4, 6))
    expected, is_right = [], []
    for q, k in zip(queries.tolist(), keys.tolist(), strict=True):
        products = [sum(a * b for a, b in zip(q, other, strict=True)) / 0.25 for other in (k, *queue.tolist())]
        expected.append(-math.log(math.exp(products[0]) / sum(map(math.exp, products))))
        is_right.append(max(products) == products[0])
    values, right = queued_contrast(queries, keys, queue, 0.25)
    torch.testing.assert_close(values.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert right.tolist() == is_right
    assert torch.autograd.gradcheck(lambda *of: queued_contrast(*of, 0.25)[0], (queries, keys, queue))


def batch_of(rows: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    batch = {}
    for view, length in (("joined_x", 7), ("joined_y", 9)):
        ids = torch.randint(4, 59, (rows, length), generator=generator)
        ids[1::2, 5:] = 1
        batch |= {f"{view}_input_ids": ids, f"{view}_attention_mask": ids.ne(1).long()}
        batch[f"{view}_labels"] = torch.full_like(ids, -100)
    return batch


def begun(config: VecoConfig, objective: str) -> tuple[VecoForPreTraining, Momentum]:
    """A model whose momentum encoder is another model's, with a random queue."""
    torch.manual_seed(4)
    model = VecoForPreTraining(config, objective)
    module = model.objective_modules["xlco"]
    assert isinstance(module, MomentumModule)
    momentum = module.begin(model.veco)
    with torch.no_grad():
        for tensor in (*momentum.encoder.parameters(), momentum.projection_DD):
            if tensor is not None:
                tensor += 0.1 * torch.randn_like(tensor)
    momentum.queue_QD.normal_()
    return model, momentum


@pytest.mark.parametrize(("layer", "project", "normalises"), [(2, False, False), (-1, True, False), (1, True, True)])
def test_query_and_key_are_the_first_states_of_both_encoders(
    config: VecoConfig, layer: int, project: bool, normalises: bool
) -> None:
    objective = f"xlco(layer={layer}, project={project}, normalise={normalises}, queue={QUEUE})"
    model, momentum = begun(config, objective)
    slow = copy.deepcopy(model.veco)
    slow.load_state_dict(momentum.encoder.state_dict(), strict=False)
    batch = batch_of()
    vectors = []
    for encoder, view in ((model.veco, "joined_x"), (slow, "joined_y")):
        ids, mask = batch[f"{view}_input_ids"], batch[f"{view}_attention_mask"]
        vectors.append(encoder(ids, mask, output_hidden_states=True).hidden_states[layer][:, 0])
    if project:
        matrices = model.objective_modules["xlco"].projection.weight, momentum.projection_DD
        vectors = [vector @ matrix.t() for vector, matrix in zip(vectors, matrices, strict=True)]
    key = vectors[1].detach()
    vectors.append(momentum.queue_QD)
    if normalises:
        vectors = [normalize(of, dim=1) for of in vectors]
    expected = queued_contrast(*vectors, 0.05 if normalises else 0.25)[0]
    output = model(**batch)
    torch.testing.assert_close(output.loss, expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.row_totals["xlco"][:, 0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(momentum.keys[0], key)


def test_gradient_goes_to_the_query_alone(config: VecoConfig) -> None:
    model, momentum = begun(config, f"xlco(layer=2, project=true, queue={QUEUE})")
    model(**batch_of()).loss.backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert "objective_modules.xlco.projection.weight" in trained and "veco.layers.1.feed_forward_norm.weight" in trained
    assert not [name for name in trained if name.startswith("veco.layers.2.")], "behind the layer"
    assert not any(weight.requires_grad or weight.grad is not None for weight in momentum.encoder.parameters())
    assert not momentum.queue_QD.requires_grad and not momentum.keys[0].requires_grad
    only_in_keys = set(batch_of()["joined_y_input_ids"].flatten().tolist())
    only_in_keys -= set(batch_of()["joined_x_input_ids"].flatten().tolist())
    assert only_in_keys and not model.veco.embeddings.word_embeddings.weight.grad[sorted(only_in_keys)].any()


def test_validation_leaves_no_keys(config: VecoConfig) -> None:
    model, momentum = begun(config, f"xlco(layer=2, queue={QUEUE})")
    model.eval()(**batch_of())
    assert not momentum.keys


def test_rows_count_for_the_first_of_their_pairs(config: VecoConfig) -> None:
    model, _ = begun(config, f"xlco(layer=2, queue={QUEUE})")
    batch = batch_of(3)
    for num_pairs in (5, 6):
        packed = PackedViews.of(views_of(batch), 1, num_pairs=num_pairs)
        totals = model(**batch, packed=packed).row_totals["xlco"]
        assert totals[:, 1].tolist() == [1, 0, 1, 0, 1, 0][:num_pairs]


def test_it_lowers_its_own_loss(config: VecoConfig) -> None:
    torch.manual_seed(3)
    model = VecoForPreTraining(config, "xlco(layer=2, queue=16, momentum=0.9)")
    module, batch = model.objective_modules["xlco"], batch_of(8)
    momentum = module.begin(model.veco)
    momentum.queue_QD.normal_()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.after_update(model.veco)
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_model_without_a_momentum_encoder_says_so(config: VecoConfig) -> None:
    with pytest.raises(ValueError, match="no momentum encoder yet: call begin"):
        VecoForPreTraining(config, "xlco(layer=2)")(**batch_of())


def test_the_last_layer_is_that_of_the_model_as_it_begins(config: VecoConfig) -> None:
    """Which may have fewer than the one whose module this is."""
    model = VecoForPreTraining(config, "xlco(layer=-1)")
    fewer = VecoConfig(**{**config.to_dict(), "num_hidden_layers": config.num_hidden_layers - 1})
    momentum = model.objective_modules["xlco"].begin(VecoForPreTraining(fewer, "mlm").veco)
    assert momentum.encoder.config.num_hidden_layers == config.num_hidden_layers - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("queue=0", "queue 0 must be from 1 to 10,000,000"),
        ("momentum=1", "momentum 1.0 must be from 0 to below 1"),
        ("layer=0", "layer 0 must be -1, the last, or above 0"),
        ("temperature=0", "temperature 0.0 must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: VecoConfig, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VecoForPreTraining(config, f"xlco({options})")
