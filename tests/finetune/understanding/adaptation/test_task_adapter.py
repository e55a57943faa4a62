"""Task adapters: what learns, on top of a language's; exchanged at test; what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_adapters import write_adapters
from small_encoders import write_encoder
from xtreme_files import TINY

from data_tools.cli import run_main
from finetune.understanding.language_adapters import read_directories
from finetune.understanding.predict import main
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from training.checkpoints.finding import checkpoints_of
from training.recipe.parsing import build_recipe
from veco import VecoForMaskedLM, VecoForSequenceClassification
from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter, detach_adapter, load_adapter
from veco.adapters.attach import active_adapters, adapter_of, parameters_of

ADAPTER = {"adapter": "pfeiffer", "adapter_reduction": 4}
ROW = {"input_ids": torch.tensor([[0, 5, 9, 2, 2, 7, 2]]), "attention_mask": torch.ones(1, 7, dtype=torch.int64)}
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def languages(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of two languages that do something, made for `tiny_model`."""
    return write_adapters(tiny_model, tmp_path_factory.mktemp("languages"), ("en", "de"))


def built(model: Path, data: Path, task: str, **fields: Any) -> UnderstandingTask:
    own = {"task": task, "data": str(data), "init_from": str(model), "output": "run"}
    return UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None))


@pytest.mark.parametrize(("task", "plug_in"), [("pawsx", False), ("pawsx", True), ("udpos", False)])
def test_the_tasks_adapter_and_the_head_learn(
    task: str, plug_in: bool, tiny_model: Path, xtreme_data: Path, languages: dict[str, Path]
) -> None:
    fields = {"setting": "translate-train-all", "plug_in": True} if plug_in else {}
    trained = built(tiny_model, xtreme_data, task, **ADAPTER, language_adapter=str(languages["en"]), **fields)
    model = trained.model
    assert active_adapters(model) == ["en", "task"]
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    trained.head.loss(trained.head.labelled(model, trained.rows.batch(range(4), trained.encoder.pad))).backward()
    assert learns == {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert {name for name in learns if not name.startswith("classifier")} == set(parameters_of(model, "task"))
    assert any(name.startswith("classifier") for name in learns)


def test_a_run_leaves_a_whole_model_and_the_adapter_apart(
    train: Train, tiny_model: Path, languages: dict[str, Path]
) -> None:
    run = train("pawsx", epochs=2, **ADAPTER, language_adapter=str(languages["en"]))
    checkpoint = checkpoints_of(run)[max(checkpoints_of(run))]
    saved = VecoForSequenceClassification.from_pretrained(checkpoint / "model").eval()
    assert active_adapters(saved) == ["en", "task"]
    start = VecoForSequenceClassification.from_pretrained(tiny_model, config=saved.config).state_dict()
    changed = {name for name, weight in saved.state_dict().items() if not torch.equal(weight, start[name])}
    frozen = {name for name in changed if adapter_of(name) is None and not name.startswith("classifier")}
    assert not frozen and set(parameters_of(saved, "task")) < changed
    of_language = load_file_of(languages["en"])
    assert all(
        torch.equal(weight, of_language[name.removeprefix("veco.").replace(".en.", ".")])
        for name, weight in parameters_of(saved, "en").items()
    )
    expected = saved(**ROW).logits
    detach_adapter(saved, "task")
    assert load_adapter(saved, checkpoint / "adapter") == "task"
    torch.testing.assert_close(saved(**ROW).logits, expected, rtol=0, atol=0)
    sizes = [(checkpoint / name).stat().st_size for name in ("adapter/adapter.safetensors", "model/model.safetensors")]
    assert sizes[0] < sizes[1] / 5


def test_another_language_goes_below_a_task_that_was_trained_before(
    train: Train, xtreme_data: Path, languages: dict[str, Path]
) -> None:
    """In the place of the first language, not on top of the task."""
    run = train("udpos", **ADAPTER, language_adapter=str(languages["en"]), epochs=1)
    model_dir = next((run / "checkpoints").glob("*/model"))
    again = built(model_dir, xtreme_data, "udpos", **ADAPTER, language_adapter=str(languages["de"]))
    assert active_adapters(again.model) == ["de", "task"]


def load_file_of(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(directory / "adapter.safetensors")


def predictions(monkeypatch: pytest.MonkeyPatch, model: Path, data: Path, output: Path, *flags: str) -> dict[str, str]:
    command = ["predict", str(model), "--data", str(data), "--output", str(output), "--languages", "en,de", *flags]
    monkeypatch.setattr(sys, "argv", command)
    run_main(main)
    return {path.stem: path.read_text() for path in sorted(output.rglob("test-*.tsv"))}


def test_a_language_is_read_by_its_own_adapter(
    train: Train,
    xtreme_data: Path,
    languages: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """As by a model in which that adapter was put by hand."""
    run = train("udpos", **ADAPTER, language_adapter=str(languages["en"]), epochs=1)
    trained = predictions(monkeypatch, run, xtreme_data, tmp_path / "trained")
    flags = ("--language-adapters", f"de={languages['de']}")
    found = predictions(monkeypatch, run, xtreme_data, tmp_path / "swapped", *flags)
    assert "en: by the adapter en, as trained" in capsys.readouterr().err
    model_dir = next((run / "checkpoints").glob("*/model"))
    by_hand = tmp_path / "by_hand"
    model = type_of(model_dir).from_pretrained(model_dir)
    load_adapter(model, languages["de"])
    activate_adapters(model, ["de", "task"])
    by_hand.mkdir()
    for file in model_dir.iterdir():
        (by_hand / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(by_hand)
    expected = predictions(monkeypatch, by_hand, xtreme_data, tmp_path / "expected")
    assert found["test-de"] == expected["test-de"] != trained["test-de"]
    assert found["test-en"] == trained["test-en"] != expected["test-en"]


def type_of(model_dir: Path) -> Any:
    import veco

    return vars(veco)[json.loads((model_dir / "config.json").read_text())["architectures"][0]]


def test_what_is_refused(
    train: Train, tiny_model: Path, xtreme_data: Path, languages: dict[str, Path], tmp_path: Path
) -> None:
    for fields, message in (
        ({"adapter": "lora"}, "adapter 'lora' must be pfeiffer or houlsby; empty = none"),
        ({"language_adapter": "x"}, "language_adapter needs adapter: pfeiffer or houlsby"),
        ({"adapter_reduction": 8}, "adapter_reduction needs adapter"),
        ({**ADAPTER, "adapter_reduction": 0}, "adapter_reduction 0 must be at least 1"),
        ({**ADAPTER, "lora_rank": 4}, "lora_rank and adapter exclude one another"),
        ({**ADAPTER, "freeze": "encoder"}, "freeze and adapter exclude one another"),
        ({**ADAPTER, "language_adapter": str(tmp_path / "no")}, "expected the directory of an adapter, but no such"),
    ):
        with pytest.raises(ValueError, match=message):
            built(tiny_model, xtreme_data, "pawsx", **fields)
    write_encoder("bert", tmp_path / "bert")
    with pytest.raises(ValueError, match="a bert has no place for adapters; expected a VECO"):
        built(tmp_path / "bert", xtreme_data, "pawsx", **ADAPTER)
    model = VecoForMaskedLM.from_pretrained(tiny_model)
    attach_adapter(model, "task", AdapterConfig("houlsby"))
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has an adapter task already, of kind houlsby, reduction 16; give the same"):
        built(tmp_path, xtreme_data, "pawsx", **ADAPTER)


@pytest.mark.parametrize("given", [["de"], ["de="], ["=x"], ["de=x", "de=y"]])
def test_flags_of_language_adapters(given: list[str]) -> None:
    assert read_directories(["de=x/y", "fr=a=b"]) == {"de": Path("x/y"), "fr": Path("a=b")}
    with pytest.raises(ValueError, match="expected a language once and its directory, such as sw=runs/sw"):
        read_directories(given)


def test_a_model_without_a_language_adapter_has_nothing_to_exchange(
    train: Train,
    xtreme_data: Path,
    languages: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run = train("pawsx", **ADAPTER, epochs=1)
    flags = ("--language-adapters", f"de={languages['de']}")
    with pytest.raises(SystemExit):
        predictions(monkeypatch, run, xtreme_data, tmp_path / "predictions", *flags)
    assert "expected a model with a language adapter below its task's, found task" in capsys.readouterr().err
