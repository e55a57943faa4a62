"""Runs that train embeddings, body or adapters: resumed, exported whole and apart, and what is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from run_curves import curve
from safetensors.torch import load_file
from torch import Tensor
from trained_weights import consolidated_weights

from data_tools.shards.manifest import Manifest
from pretrain.export import Form, export, main
from pretrain.exporting.adapter import export_adapter
from pretrain.models.initial_model import build_model
from pretrain.models.kept_layers import keep_layers
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training import run as training_run
from training.checkpoints.finding import checkpoints_of
from training.engine import plain_engine
from training.meters import read_metrics
from training.recipe.adapters import ADAPTER_KINDS
from training.recipe.parsing import build_recipe
from training.run import train_run
from veco import VecoConfig, VecoForMaskedLM, adapter_config
from veco.adapter_config import PFEIFFER, AdapterConfig
from veco.adapters import attach_adapter, detach_adapter, load_adapter
from veco.adapters.attach import active_adapters, adapter_of

peft = pytest.importorskip("peft")
TINY: dict[str, Any] = {
    **{"engine": "plain", "ds_config": "cpu.json", "attention": "eager"},
    **{"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48},
    **{"max_position_embeddings": 66, "dropout": 0.1, "attention_dropout": 0.0},
    **{"mono_max_length": 24, "bilingual_max_length": 12, "mono_batch_pairs": 8, "bilingual_batch_pairs": 12},
    **{"warmup_steps": 0, "learning_rate": 5e-3, "log_every": 1, "save_every": 1, "keep_checkpoints": 99},
    **{"loader_workers": 0, "validate_batches": 0},
}
ADAPTER: dict[str, Any] = {
    **{"adapter": "pfeiffer", "adapter_name": "sw", "adapter_reduction": 4, "adapter_invertible": True},
    "stages": (
        {"steps": 2, "trains": "embeddings"},
        {"steps": 1, "trains": "body"},
        {"steps": 2, "trains": "adapters"},
    ),
}
LORA: dict[str, Any] = {"lora_rank": 3, "lora_alpha": 6, "trains": "adapters", "steps": 3}
WORDS, BIAS = "veco.embeddings.word_embeddings.weight", "lm_head.decoder.bias"
TIED = "lm_head.decoder.weight"
IDS = torch.tensor([[0, 5, 40, 9, 2]])
WHOLE = Form(dtype="float32")


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_engine, "share_cores", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")


def run(data: Path, run_dir: Path, **fields: Any) -> list[dict[str, Any]]:
    """What of the lines of metrics does not depend on the time."""
    train_run(PretrainRecipe(output=str(run_dir), data=str(data), **{**TINY, **fields}), PretrainingTask.on(data))
    return curve(run_dir)


@pytest.fixture(scope="module")
def start(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that all runs start from."""
    model = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data))
    directory = tmp_path_factory.mktemp("start") / "veco"
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapted(random_data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains embeddings, then the body, then an adapter."""
    return trained(random_data, start, tmp_path_factory.mktemp("adapted") / "run", **ADAPTER)


@pytest.fixture(scope="module")
def low_rank(random_data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(random_data, start, tmp_path_factory.mktemp("low_rank") / "run", **LORA)


def trained(data: Path, start: Path, run_dir: Path, **fields: Any) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")
        run(data, run_dir, init_from=str(start), **fields)
    return run_dir


def cut(whole: Path, run_dir: Path, step: int) -> Path:
    """A copy of a run that was stopped after an update."""
    shutil.copytree(whole, run_dir)
    for later, checkpoint in checkpoints_of(run_dir).items():
        if later > step:
            shutil.rmtree(checkpoint)
    return run_dir


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, weight in before.items() if not torch.equal(weight, after[name])}


def test_each_stage_changes_its_part_alone(adapted: Path) -> None:
    weights = [consolidated_weights(checkpoint) for checkpoint in checkpoints_of(adapted).values()]
    everything = set(weights[0])
    in_adapter = {name for name in everything if adapter_of(name) == "sw"}
    assert changed(weights[0], weights[1]) == {WORDS, BIAS}
    of_body = changed(weights[1], weights[2])
    assert not of_body & {WORDS, BIAS} and any("cross_attention" in name for name in of_body)
    assert any("up_proj" in name for name in of_body & in_adapter), "what is in the model is part of its body"
    assert changed(weights[3], weights[4]) == in_adapter


def test_metrics_tell_how_many_parameters_learn_in_each_stage(adapted: Path, random_data: Path) -> None:
    """Of 2 layers of width 32: bottlenecks of 8, and a coupling of halves of 16, whose functions are 8 wide inside."""
    vocab_size = Manifest.load(random_data).vocab_size
    bottleneck, function = 32 * 8 + 8 + 8 * 32 + 32, 16 * 8 + 8 + 8 * 16 + 16
    first = {line["step"]: line for line in read_metrics(adapted) if "trained_parameters" in line}
    model = VecoForMaskedLM.from_pretrained(adapted / "last")
    total = sum(weight.numel() for weight in model.parameters())
    assert {line["parameters"] for line in first.values()} == {total}
    embeddings = vocab_size * (32 + 1)
    assert {step: line["trained_parameters"] for step, line in first.items()} == {
        1: embeddings,
        3: total - embeddings,
        4: 2 * bottleneck + 2 * function,
    }


@pytest.mark.parametrize("step", [3, 4])  # where the adapter begins to learn alone, and then
def test_resumed_with_an_adapter_it_is_the_same_run(
    step: int, adapted: Path, random_data: Path, tmp_path: Path
) -> None:
    """Bit for bit; the model that it started from is not read again."""
    run_dir = cut(adapted, tmp_path / "run", step)
    assert run(random_data, run_dir, init_from="moved", resume="auto", **ADAPTER) == curve(adapted)
    assert not changed(*(consolidated_weights(checkpoints_of(path)[5]) for path in (adapted, run_dir)))


def test_resumed_with_low_rank_matrices_it_is_the_same_run(low_rank: Path, random_data: Path, tmp_path: Path) -> None:
    run_dir = cut(low_rank, tmp_path / "run", 2)
    assert run(random_data, run_dir, init_from="moved", resume="auto", **LORA) == curve(low_rank)
    assert not changed(*(consolidated_weights(checkpoints_of(path)[3]) for path in (low_rank, run_dir)))


def test_the_adapter_apart_is_that_of_the_whole_model(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VecoForMaskedLM.from_pretrained(export(adapted, tmp_path / "model", form=WHOLE)).eval()
    assert active_adapters(whole) == ["sw"]
    expected = whole(IDS).logits
    detach_adapter(whole, "sw")
    without = whole(IDS).logits
    assert not torch.allclose(without, expected)
    monkeypatch.setattr(sys, "argv", ["export", str(adapted), "--adapter", "--output", str(tmp_path / "sw")])
    main()
    assert load_adapter(whole, tmp_path / "sw") == "sw"
    torch.testing.assert_close(whole(IDS).logits, expected, rtol=0, atol=0)
    last = checkpoints_of(adapted)[5] / "adapter"
    assert (last / "adapter.safetensors").read_bytes() == (tmp_path / "sw" / "adapter.safetensors").read_bytes()
    assert "adapters: sw" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(ValueError, match=r"adapters \(sw\), for which .* has no place"):
        export(adapted, tmp_path / "xlm-r", form=Form(model_format="xlm-roberta"))


def test_the_mean_of_an_adapter(adapted: Path, tmp_path: Path) -> None:
    mean = load_file(export_adapter(adapted, tmp_path / "mean", average="stage") / "adapter.safetensors")
    parts = [load_file(export_adapter(adapted, tmp_path / f"{step}", step) / "adapter.safetensors") for step in (4, 5)]
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (parts[0][name] + parts[1][name]) / 2)


def test_low_rank_matrices_are_merged_as_peft_merges_them(low_rank: Path, start: Path, tmp_path: Path) -> None:
    merged = VecoForMaskedLM.from_pretrained(export(low_rank, tmp_path / "model", form=WHOLE)).eval()
    begun = VecoForMaskedLM.from_pretrained(start).eval()
    adapter = export_adapter(low_rank, tmp_path / "lora")
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    ours = merged(IDS).logits
    assert not torch.allclose(begun(IDS).logits, ours, atol=1e-3)
    theirs = peft.PeftModel.from_pretrained(begun, adapter).eval()
    torch.testing.assert_close(theirs(IDS).logits, ours, rtol=0, atol=1e-5)
    reference = theirs.merge_and_unload().state_dict()
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(weight, reference[name], rtol=0, atol=1e-6, msg=name)
    with pytest.raises(ValueError, match="the mean of LoRA's matrices is not that of their products"):
        export_adapter(low_rank, tmp_path / "mean", average=2)


def test_a_run_without_adapters_has_none_to_export(random_data: Path, start: Path, tmp_path: Path) -> None:
    run(random_data, tmp_path / "run", init_from=str(start), steps=1, trains="embeddings")
    with pytest.raises(ValueError, match="was trained without adapters; export its model, without --adapter"):
        export_adapter(tmp_path / "run", tmp_path / "adapter")
    assert not (checkpoints_of(tmp_path / "run")[1] / "adapter").exists()


def test_an_adapter_goes_on_top_of_those_of_the_model(adapted: Path, random_data: Path, tmp_path: Path) -> None:
    """And learns alone; the one below works, and stays."""
    model = export(adapted, tmp_path / "model", form=WHOLE)
    fields = {"init_from": str(model), "adapter": "houlsby", "adapter_name": "domain", "trains": "adapters", "steps": 1}
    run(random_data, tmp_path / "run", **fields)
    found = VecoForMaskedLM.from_pretrained(export(tmp_path / "run", tmp_path / "both", form=WHOLE))
    assert active_adapters(found) == ["sw", "domain"]
    before, after = VecoForMaskedLM.from_pretrained(model).state_dict(), found.state_dict()
    assert not {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    for more, message in (
        ({"adapter_invertible": True}, "adapter houlsby: the model has an invertible one already, sw"),
        ({"adapter_name": "sw"}, "adapter houlsby: the model has an adapter sw already"),
        ({"adapter_name": "s.w"}, "adapter name 's.w': expected a letter"),
    ):
        with pytest.raises(ValueError, match=message):
            run(random_data, tmp_path / "refused", **{**fields, **more})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adapter": "prefix"}, "adapter 'prefix' must be pfeiffer or houlsby; empty = none"),
        ({"adapter_invertible": True}, "adapter_invertible needs adapter: pfeiffer or houlsby"),
        ({"adapter_name": "sw"}, "adapter_name needs adapter"),
        ({"adapter": "pfeiffer", "trains": "adapters", "adapter_name": "to"}, "adapter name 'to': taken, torch's"),
        ({"adapter": "pfeiffer"}, "adapter pfeiffer: no stage trains adapters alone; give trains: adapters"),
        ({"lora_rank": 4}, "lora_rank 4: no stage trains adapters alone"),
        ({"trains": "adapters"}, "trains adapters needs adapter: pfeiffer or houlsby, or lora_rank"),
        ({"trains": "adapters", "adapter": "pfeiffer", "lora_rank": 2}, "adapter and lora_rank exclude one another"),
        ({"trains": "embeddings", "init_from": None}, "trains embeddings needs init_from: the rest of the model"),
        ({"trains": "head"}, "trains 'head' must be one of everything, cross_attention, embeddings, body, adapters"),
        (
            {"trains": "adapters", "lora_rank": 2, "objective": "xlco", "ds_config": "cpu.json"},
            "xlco has a momentum copy of the encoder, for lora_rank it has no place; take adapter instead",
        ),
        ({"stages": "[{steps: 2, adapter: pfeiffer}]"}, "adapter is the same in the whole run"),
    ],
)
def test_recipes_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_recipe(PretrainRecipe, {"output": "run", "init_from": "model", **fields}, None)


def test_a_run_may_leave_the_last_layer_without_an_adapter(random_data: Path, start: Path, tmp_path: Path) -> None:
    """Of two layers; half as many parameters learn as with both. What is left of one in some layers is known after."""
    fields = {"adapter": "pfeiffer", "adapter_reduction": 4, "trains": "adapters", "steps": 1}
    lines = run(random_data, tmp_path / "run", init_from=str(start), adapter_skips_last=True, **fields)
    assert lines[0]["trained_parameters"] == 32 * 8 + 8 + 8 * 32 + 32
    model = str(tmp_path / "run" / "last")
    with pytest.raises(ValueError, match="keep_layers 2,1: the adapter language is in the first 1 layers; some of"):
        run(random_data, tmp_path / "other", init_from=model, keep_layers=(2, 1), steps=1)
    run(random_data, tmp_path / "kept", init_from=model, keep_layers=(1,), steps=1)
    fields["adapter_name"] = "second"
    run(random_data, tmp_path / "both", init_from=model, keep_layers=(1, 2), adapter_skips_last=True, **fields)
    for name, adapters in (("kept", {"language"}), ("both", {"language", "second"})):
        opened = VecoForMaskedLM.from_pretrained(tmp_path / name / "last")
        assert set(opened.veco.layers[0].feed_forward_adapters) == adapters
        assert all(not layer.feed_forward_adapters for layer in opened.veco.layers[1:])


def test_a_new_adapter_skips_the_last_of_the_kept_layers(tmp_path: Path) -> None:
    """The second of layers 3 and 1 of a model, also when it is saved and opened."""
    shape = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    model = VecoForMaskedLM(VecoConfig(vocab_size=50, **shape))
    keep_layers(model, (3, 1))
    attach_adapter(model, "sw", AdapterConfig(PFEIFFER, layers=1))
    model.save_pretrained(tmp_path)
    for one in (model, VecoForMaskedLM.from_pretrained(tmp_path)):
        assert ["sw" in layer.feed_forward_adapters for layer in one.veco.layers] == [True, False]


def test_stages_may_train_adapters_in_part_of_a_run() -> None:
    given = {"output": "run", "init_from": "model", "adapter": "pfeiffer"}
    for stages in (
        "[{steps: 2, trains: adapters}, {steps: 2}]",
        "[{steps: 2, trains: embeddings}, {steps: 2, trains: adapters}]",
    ):
        assert build_recipe(PretrainRecipe, {**given, "stages": stages}, None).stages
    assert build_recipe(PretrainRecipe, {**given, "trains": "adapters", "stages": "[{steps: 1}]"}, None).stages


def test_kinds_of_adapters_are_those_of_the_models() -> None:
    assert ADAPTER_KINDS == adapter_config.KINDS
