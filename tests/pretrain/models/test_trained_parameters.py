"""What a stage trains, by name, by gradient and by Adam's state, in every engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import start_ranks
from random_pairs import VOCAB_SIZE, batch_of_views
from train_parts import PARTS, model_of
from train_with_ds_configs import batch

from pretrain.models.trained_parameters import is_trained, layer_of
from pretrain.recipe import PretrainRecipe
from training.checkpoints.resharding import MOMENTS, read_training
from training.checkpoints.zero_shards import checkpoint_weights
from veco import VecoConfig, VecoForPreTraining
from veco.adapters import activate_adapters
from veco.objectives.objective_sum import ObjectiveSum

pytest.importorskip("peft")
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}  # float32; Adam divides by roots of tiny squares
WORDS, BIAS = "veco.embeddings.word_embeddings.weight", "lm_head.decoder.bias"


def recipe_of(part: str, **fields: Any) -> PretrainRecipe:
    lora = {"trains": "adapters", "lora_rank": 2} if part == "lora" else {"trains": part}
    return PretrainRecipe(**{**lora, **fields})


def trained_names(part: str) -> set[str]:
    model = model_of(part, recipe_of(part))
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_names_of_the_parts() -> None:
    everything = {name for name, _ in model_of("embeddings", recipe_of("embeddings")).named_parameters()}
    assert trained_names("embeddings") == {WORDS, BIAS}
    assert trained_names("body") == everything - {WORDS, BIAS}
    adapters = {name for name in everything if "_adapters.language." in name}
    assert trained_names("adapters") == adapters and len(adapters) == 2 * 2 * 4 + 8
    lora = trained_names("lora")
    assert len(lora) == 2 * 2 * 10 and all("lora_" in name for name in lora)


def test_parameters_without_a_loss_are_not_trained() -> None:
    """Adapters that do not work, cross-attention and head where no objective reads them; objectives' own learn."""
    adapter = "veco.layers.0.feed_forward_adapters.language.up_proj.bias"
    assert is_trained(adapter, recipe_of("adapters"), ["language"])
    assert not is_trained(adapter, recipe_of("adapters"), [])
    assert not is_trained(adapter, recipe_of("everything"), [])
    assert not is_trained(adapter, recipe_of("adapters", adapter_name="sw"), ["language", "sw"])
    crossing = "veco.layers.0.cross_attention.q_proj.base_layer.weight"
    low_rank = "veco.layers.0.cross_attention.q_proj.lora_A.default.weight"
    assert is_trained(crossing, recipe_of("body"), []) and not is_trained(crossing, recipe_of("lora"), [])
    assert is_trained(low_rank, recipe_of("lora"), [])
    for part in ("body", "lora", "everything"):
        assert not is_trained(low_rank, recipe_of(part, objective="mlm"), [])
    for head in ("lm_head.dense.weight", "lm_head.decoder.bias"):
        assert is_trained(head, recipe_of("everything"), [])
        of_objectives = {
            **{"contrast": False, "clsa + veco2": False, "clpc": False, "distil": False},
            **{"contrast + clm": True, "distil(logits=1)": True, "btmlm": True, "mbart": True},
        }
        for objective, expected in of_objectives.items():
            assert is_trained(head, recipe_of("everything", objective=objective), []) == expected, objective
    own = "objective_modules.xlco.projection.weight"
    found = [part for part in (*PARTS, "everything", "cross_attention") if is_trained(own, recipe_of(part), [])]
    assert found == [*PARTS, "everything"]


def test_layers_above_those_that_losses_read_are_not_trained() -> None:
    above, low_rank = "veco.layers.2.feed_forward.up_proj.weight", "veco.layers.2.self_attention.q_proj.lora_A.x.weight"
    with_layer = ["contrast(layer=2)", "xlco(layer=2)", "self_alignment(layer=2)", "veco2(layer=2)"]
    of_objectives = {
        **dict.fromkeys([*with_layer, "contrast(layer=1) + xlco(layer=2)"], False),
        **dict.fromkeys(["contrast", "hictl(layer=2)", "contrast(layer=2) + tlm", "veco2(layer=3)"], True),
    }
    for objective, expected in of_objectives.items():
        recipe = recipe_of("everything", objective=objective)
        assert is_trained(above, recipe, []) == expected, objective
        assert is_trained(low_rank, recipe_of("lora", objective=objective), []) == expected, objective
        assert is_trained(above.replace("layers.2", "layers.1"), recipe, [])
        assert is_trained(WORDS, recipe, [])


@pytest.mark.parametrize("objective", ["contrast(layer=1)", "self_alignment(layer=1) + contrast(layer=0)"])
def test_what_is_trained_below_a_layer_has_a_gradient_and_nothing_else(objective: str) -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    model = VecoForPreTraining(VecoConfig(vocab_size=VOCAB_SIZE, **shape), objective)
    recipe = recipe_of("everything", objective=objective)
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_trained(name, recipe, []))
    model(**batch_of_views(*ObjectiveSum.of(objective).views, group_pairs=2)).loss.backward()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert {layer_of(name) for name in trained} == {None, 1}


@pytest.mark.parametrize("part", PARTS)
def test_all_that_is_trained_has_a_gradient_and_nothing_else(part: str) -> None:
    model = model_of(part, recipe_of(part))
    with torch.no_grad():  # while up-projections are zero, nothing reaches what is below them
        for name, weight in model.named_parameters():
            if "_adapters." in name or "lora_B" in name:
                weight.normal_(std=0.1)
    given = {name: tensor.clone() for name, tensor in batch().items()}
    model(**given).loss.backward()
    expected = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == expected
    silent = {name for name in expected if not model.get_parameter(name).grad.abs().sum()}
    assert not {name for name in silent if "k_proj.bias" not in name}, "softmax does not see the bias of keys"


def test_an_adapter_that_does_not_work_gets_no_gradient() -> None:
    recipe = recipe_of("everything")
    model = model_of("adapters", recipe)
    activate_adapters(model, [])
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_trained(name, recipe, []))
    model(**batch()).loss.backward()
    assert all(weight.grad is None for name, weight in model.named_parameters() if "_adapters." in name)


def check(output: Path, engine: str, part: str) -> None:
    """Compare a run with the plain engine's: its weights, and for what Adam has moments."""
    found, expected = (
        torch.load(output / f"{one}-{part}" / "weights.pt", weights_only=True) for one in (engine, "plain")
    )
    start = model_of(part, recipe_of(part)).state_dict()
    trained = trained_names(part)
    names = [name for name, _ in model_of(part, recipe_of(part)).named_parameters() if name in trained]
    moments = read_training(output / f"{engine}-{part}" / "step-1", names).tensors
    assert all(moments[kind].keys() == trained for kind in MOMENTS), "none of what is frozen"
    stored = checkpoint_weights(output / f"{engine}-{part}" / "step-1")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, **ROUNDING, msg=f"{engine}-{part}: {name}")
        if name in trained and "k_proj" not in name:
            assert not torch.equal(weight, start[name]), name
        elif name not in {*trained, "lm_head.decoder.weight"}:
            assert torch.equal(found[name], start[name]), name
        if name in stored:
            torch.testing.assert_close(stored[name].read(), found[name], rtol=0, atol=0)


def trained_by(output: Path, ranks: int, *engines: str) -> Path:
    for engine in engines:
        settings: dict[str, Any] = {"stage": 0 if engine == "plain" else int(engine[-1]), "overlap_comm": False}
        if engine == "zero3":
            settings["stage3_gather_16bit_weights_on_model_save"] = True
        (output / f"{engine}.json").write_text(json.dumps({"zero_optimization": settings}))
    for result in start_ranks(ranks, "tests/helpers/train_parts.py", str(output), *engines):
        assert result.returncode == 0, result.stderr[-3000:]
    return output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_by(tmp_path_factory.mktemp("parts"), 1, "plain", "zero1")


@pytest.mark.parametrize("engine", ["plain", "zero1"])
@pytest.mark.parametrize("part", PARTS)
def test_engines_train_a_part_alone(engine: str, part: str, runs: Path) -> None:
    check(runs, engine, part)


@pytest.mark.slow
def test_two_ranks_train_a_part_alone(tmp_path: Path) -> None:
    trained_by(tmp_path, 1, "plain")
    trained_by(tmp_path, 2, "zero1", "zero2", "zero3")
    for engine in ("zero1", "zero2", "zero3"):
        for part in PARTS:
            check(tmp_path, engine, part)
