"""LoRA: what learns, the merged model against peft's own, and what resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_encoders import ENCODERS, write_encoder
from xtreme_files import TINY

from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from training.checkpoints.finding import checkpoints_of
from training.recipe.parsing import build_recipe
from veco import VecoForSequenceClassification

peft = pytest.importorskip("peft")

LORA = {"lora_rank": 4, "dropout": 0.0, "attention_dropout": 0.0, "log_every": 1}
PLUGGED_IN = {"setting": "translate-train-all", "plug_in": True}
ROW = {"input_ids": torch.tensor([[0, 5, 9, 2, 2, 7, 2]]), "attention_mask": torch.ones(1, 7, dtype=torch.int64)}


def built(model: Path, data: Path, task: str, **fields: Any) -> UnderstandingTask:
    own = {"task": task, "data": str(data), "init_from": str(model), "output": "run"}
    return UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **LORA, **own, **fields}, None))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("task", ["pawsx", "udpos"])
def test_adapters_of_all_linear_modules_learn_with_the_head(
    name: str, task: str, xtreme_data: Path, tmp_path: Path
) -> None:
    write_encoder(name, tmp_path / name)
    trained = built(tmp_path / name, xtreme_data, task)
    model = trained.model
    adapted = {name for name, module in model.named_modules() if isinstance(module, peft.tuners.lora.Linear)}
    plain = [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and "lora_" not in name and not name.endswith("base_layer")
    ]
    assert len(adapted) >= 3 * 4 and not any(".0." in name or ".layer" in name for name in plain)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    trained.head.loss(trained.head.labelled(model, trained.rows.batch(range(4), trained.encoder.pad))).backward()
    assert learns == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any("classifier" in name for name in learns)
    assert all("lora_" in name or "modules_to_save" in name for name in learns)


def test_cross_attention_gets_adapters_only_where_it_is_plugged_in(tiny_model: Path, xtreme_data: Path) -> None:
    def adapted(**fields: Any) -> set[str]:
        model = built(tiny_model, xtreme_data, "pawsx", **fields).model
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad and "lora_A" in name}

    out, into = adapted(), adapted(**PLUGGED_IN)
    assert len(out) == 2 * 6 and len(into) == 2 * 10
    assert out < into and all("cross_attention" in name for name in into - out)
    chosen = adapted(**PLUGGED_IN, lora_targets=r".*\.self_attention\.[qv]_proj")
    assert len(chosen) == 2 * 2 and chosen < out


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("q_proj", "lora_targets 'q_proj' matches no linear module of the layers, such as veco.layers.0"),
        (
            r".*layers\.0\..*",
            "lora_targets .* matches veco.layers.0.self_attention, of class MultiHeadAttention; expected linear",
        ),
        (r".*(q_proj|word_embeddings)", "lora_targets .* matches veco.embeddings.word_embeddings, of class Embedding"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(
    targets: str, message: str, tiny_model: Path, xtreme_data: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        built(tiny_model, xtreme_data, "pawsx", lora_targets=targets)
    assert "\n" not in str(error.value)


def test_without_peft_it_is_asked_for(tiny_model: Path, xtreme_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"lora_rank: peft is not installed; .* 'veco\[peft\]'"):
        built(tiny_model, xtreme_data, "pawsx")


def test_the_saved_model_is_pefts_merged_one(train: Callable[..., Path], tiny_model: Path) -> None:
    """The adapter beside it, opened by peft over the model that training started from, gives the same logits."""
    run = train("pawsx", epochs=2, **LORA)
    checkpoint = checkpoints_of(run)[max(checkpoints_of(run))]
    saved = VecoForSequenceClassification.from_pretrained(checkpoint / "model").eval()
    start = VecoForSequenceClassification.from_pretrained(tiny_model, config=saved.config).eval()
    before = saved.state_dict()["veco.layers.0.self_attention.q_proj.weight"]
    assert not torch.equal(before, start.state_dict()["veco.layers.0.self_attention.q_proj.weight"])
    adapted = peft.PeftModel.from_pretrained(start, checkpoint / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(saved(**ROW).logits, adapted(**ROW).logits, rtol=1e-5, atol=1e-6)
    sizes = [
        (checkpoint / name).stat().st_size for name in ("adapter/adapter_model.safetensors", "model/model.safetensors")
    ]
    assert sizes[0] < sizes[1] / 3


def lines(run_dir: Path) -> list[dict[str, float]]:
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{n: v for n, v in line.items() if "/" in n or n == "grad_norm"} for line in read]


@pytest.mark.parametrize(
    "way", [LORA, {"freeze": "encoder"}, {"freeze": "embeddings"}, {"freeze_layers": 1}, {"adapter": "pfeiffer"}]
)
def test_a_resumed_run_equals_the_undisturbed_one(
    train: Callable[..., Path], tmp_path: Path, way: dict[str, Any]
) -> None:
    fields = {**way, "epochs": 3, "log_every": 1, "keep_checkpoints": 3}
    undisturbed = train("pawsx", "undisturbed", **fields)
    run = tmp_path / "resumed"
    shutil.copytree(undisturbed, run)
    for step in list(checkpoints_of(run))[1:]:
        shutil.rmtree(checkpoints_of(run)[step])
    train("pawsx", "resumed", resume="auto", init_from="moved", **fields)
    assert lines(run) == lines(undisturbed)
