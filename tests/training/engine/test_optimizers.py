"""Muon beside AdamW in the plain engine. The oracles are torch's own optimizers in a plain loop, and float64."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pretrain.recipe import PretrainRecipe
from training.engine.optimizers import Muon, build_optimizers, layers_matrices
from training.engine.plain_engine import PlainEngine
from veco import VecoConfig, VecoForPreTraining

RECIPE = PretrainRecipe(
    output="run",
    engine="plain",
    optimizer="muon",
    learning_rate=1e-2,
    muon_learning_rate=3e-2,
    muon_momentum=0.9,
    weight_decay=0.1,
    clip_norm=0.5,
)
BF16 = {"bf16": {"enabled": True}}
FACTORS = (0.5, 1.0, 0.25, 0.125)


@pytest.fixture
def model() -> VecoForPreTraining:
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
    return VecoForPreTraining(VecoConfig(vocab_size=30, max_position_embeddings=12, **shape))


def engine_of(model: nn.Module, recipe: PretrainRecipe = RECIPE, start_step: int = 0) -> PlainEngine:
    return PlainEngine(model, recipe, lambda step: FACTORS[step], BF16, start_step)


def loss_of(model: nn.Module, step: int) -> Tensor:
    """A loss that depends on every parameter, another one at each step."""
    generator = torch.Generator().manual_seed(step)
    return torch.stack([(p * torch.randn(p.shape, generator=generator)).sin().sum() for p in model.parameters()]).sum()


def train(engine: PlainEngine, steps: range) -> None:
    for step in steps:
        engine.backward(loss_of(engine.model, step))
        engine.step()


def test_muon_has_the_layers_matrices_and_adamw_the_rest(model: VecoForPreTraining) -> None:
    model.veco.layers[1].cross_attention.requires_grad_(False)
    optimizers = build_optimizers(model, RECIPE, in_bf16=True)
    names = {parameter: name for name, parameter in model.named_parameters()}
    in_adamw, in_muon = (
        {names[row] for group in optimizers[name].param_groups for row in group["params"]}
        for name in ("optimizer", "muon")
    )
    frozen = {name for name in names.values() if name.startswith("veco.layers.1.cross_attention.")}
    attention = [
        f"{module}.{x}_proj" for module in ("self_attention", "cross_attention") for x in ("q", "k", "v", "out")
    ]
    modules = [*attention, "feed_forward.up_proj", "feed_forward.down_proj"]
    assert in_muon == {f"veco.layers.{layer}.{module}.weight" for layer in (0, 1) for module in modules} - frozen
    assert in_adamw == set(names.values()) - in_muon - frozen


def test_adamw_alone_has_everything(model: VecoForPreTraining) -> None:
    (adamw,) = build_optimizers(model, dataclasses.replace(RECIPE, optimizer="adamw"), in_bf16=True).values()
    assert adamw.param_groups[0]["params"] == list(model.parameters())


def test_updates_are_those_of_a_plain_loop(model: VecoForPreTraining) -> None:
    """In bfloat16, bit for bit: rates, decay, momentum and clipping over both optimizers together."""
    expected = copy.deepcopy(model)
    matrices = [row for name, row in expected.named_parameters() if ".layers." in name and row.ndim == 2]
    others = [row for row in expected.parameters() if not any(row is matrix for matrix in matrices)]
    muon = torch.optim.Muon(matrices, lr=3e-2, momentum=0.9, weight_decay=0.1)
    adamw = torch.optim.AdamW(others, lr=1e-2, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.1, fused=True)
    for step in range(3):
        muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"] = 3e-2 * FACTORS[step], 1e-2 * FACTORS[step]
        loss_of(expected, step).backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        muon.step()
        adamw.step()
        expected.zero_grad()
    train(engine_of(model), range(3))
    for (name, row), reference in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(row, reference), name


def test_products_of_float32_are_exact(model: VecoForPreTraining) -> None:
    """Newton and Schulz's five steps in float64, and far from them what bfloat16 leaves."""
    gradients = [torch.randn(row.shape) for row in layers_matrices(model)]
    errors = {}
    for in_bf16 in (False, True):
        rows = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for row, gradient in zip(rows, gradients, strict=True):
            row.grad = gradient.clone()
        Muon(rows, in_bf16=in_bf16, lr=1.0, momentum=0.0, weight_decay=0.0).step()
        told = [
            (row + orthogonal(gradient.double())).abs().max() for row, gradient in zip(rows, gradients, strict=True)
        ]
        errors[in_bf16] = max(told).item()
    assert errors[False] < 1e-5 < 1e-3 < errors[True]


def orthogonal(matrix: Tensor) -> Tensor:
    """The update of a matrix, by its singular values: each goes through the polynomial five times."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ s.diag() @ v * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5


def test_resumes_bit_for_bit(model: VecoForPreTraining, tmp_path: Path) -> None:
    engine = engine_of(model)
    train(engine, range(2))
    engine.save(tmp_path)
    other = engine_of(VecoForPreTraining(model.config), start_step=2)
    other.load(tmp_path)
    for each in (engine, other):
        train(each, range(2, 4))
    for name, weight in engine.full_state_dict().items():
        assert torch.equal(weight, other.full_state_dict()[name]), name


def test_changed_rate_wins_over_that_of_the_checkpoint(model: VecoForPreTraining, tmp_path: Path) -> None:
    train(engine := engine_of(model), range(2))
    engine.save(tmp_path)
    changed = dataclasses.replace(RECIPE, muon_learning_rate=0.5, muon_momentum=0.8, weight_decay=0.2)
    engine = engine_of(model, changed, start_step=2)
    engine.load(tmp_path)
    train(engine, range(2, 3))
    group = engine.optimizers["muon"].param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5 * FACTORS[2], 0.8, 0.2)
    assert group["eps"] == 1e-7, "Adam's epsilon is not Muon's"
    assert engine.learning_rate() == 1e-2 * FACTORS[2]


def test_model_without_layers_is_refused() -> None:
    with pytest.raises(
        ValueError, match="optimizer 'muon': no matrix of a VECO layer is trained; use optimizer 'adamw'"
    ):
        build_optimizers(nn.Linear(3, 2), RECIPE, in_bf16=True)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"optimizer": "lion"}, "optimizer 'lion' must be one of adamw, muon"),
        (
            {"engine": "deepspeed"},
            "optimizer 'muon': DeepSpeed clips Muon's update by its own norm, not the gradient's",
        ),
        ({"muon_learning_rate": 0.0}, "muon_learning_rate 0.0 must be above 0"),
        ({"muon_momentum": 1.0}, "muon_momentum 1.0 must be at least 0 and below 1"),
    ],
)
def test_wrong_values_are_told(fields: dict[str, object], told: str) -> None:
    (problem,) = dataclasses.replace(RECIPE, **fields).problems()  # type: ignore[arg-type]
    assert problem.startswith(told)


def test_what_the_tests_train_with_is_sound() -> None:
    assert not RECIPE.problems()
