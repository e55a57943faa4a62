"""Whole runs in stages: resumed at and beside every border, what is refused, the mean of a stage's checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from run_curves import curve
from trained_weights import consolidated_weights

from data_tools.shards.manifest import Manifest
from pretrain.exporting.checkpoints import chosen_checkpoints
from pretrain.models.initial_model import build_model
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training import run as training_run
from training.checkpoints.finding import checkpoints_of
from training.engine import plain_engine
from training.run import train_run

TINY: dict[str, Any] = {
    **{"engine": "plain", "ds_config": "zero3_fp32.json", "attention": "eager"},
    **{"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48},
    **{"max_position_embeddings": 66, "dropout": 0.0, "attention_dropout": 0.0},
    **{"mono_max_length": 24, "bilingual_max_length": 12, "mono_batch_pairs": 8, "bilingual_batch_pairs": 12},
    **{"warmup_steps": 2, "learning_rate": 5e-3, "log_every": 1, "save_every": 1, "keep_checkpoints": 99},
    "loader_workers": 0,
}
STAGES: tuple[dict[str, Any], ...] = (
    {"steps": 2, "trains": "cross_attention"},
    {"steps": 3, "schedule": "constant", "alpha": {"from": 0.9, "to": 0.5}, "bilingual_mask_rate": 0.4},
    {"steps": 2, "mono_batch_pairs": {"from": 4, "to": 16, "over": 2}, "objective": "ca_mlm", "mono_max_length": 16},
    {"steps": 2, "schedule": "decay", "languages": ["en"]},
)
TOTAL = 9


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_engine, "share_cores", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")


def run(data: Path, run_dir: Path, **fields: Any) -> list[dict[str, Any]]:
    """What of the lines of metrics does not depend on the time."""
    train_run(PretrainRecipe(output=str(run_dir), data=str(data), **{**TINY, **fields}), PretrainingTask.on(data))
    return curve(run_dir)


@pytest.fixture(scope="module")
def start(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    model = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data))
    directory = tmp_path_factory.mktemp("start") / "veco"
    model.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="module")
def whole(random_data: Path, start: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("staged") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")
        run(random_data, run_dir, init_from=start, stages=STAGES)
    return run_dir


def cut(whole: Path, run_dir: Path, step: int) -> Path:
    """A copy of a run that was stopped after an update."""
    shutil.copytree(whole, run_dir)
    for later, checkpoint in checkpoints_of(run_dir).items():
        if later > step:
            shutil.rmtree(checkpoint)
    return run_dir


@pytest.mark.parametrize("step", range(1, TOTAL))
def test_resumed_at_and_between_borders_it_is_the_same_run(
    step: int, whole: Path, random_data: Path, start: str, tmp_path: Path
) -> None:
    run_dir = cut(whole, tmp_path / "run", step)
    assert run(random_data, run_dir, init_from=start, stages=STAGES, resume="auto") == curve(whole)
    expected, found = (consolidated_weights(checkpoints_of(path)[TOTAL]) for path in (whole, run_dir))
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


def test_each_stage_has_its_own_terms_rate_and_parameters(whole: Path) -> None:
    lines = curve(whole)
    peak = TINY["learning_rate"]
    assert [line["lr"] / peak for line in lines] == pytest.approx([0.5, 1, 0.5, 1, 1, 1, 1, 1, 1 - 0.5**0.5])
    terms = [next(name.split("/")[0] for name in line if name.endswith("/loss")) for line in lines]
    assert terms == ["mono", "bilingual"] * 3 + ["mono"] * 3
    assert "bilingual/tlm" in lines[3] and "bilingual/tlm" not in lines[5], "its third stage has another objective"
    weights = [consolidated_weights(checkpoint) for checkpoint in checkpoints_of(whole).values()]
    word = "embeddings.word_embeddings.weight"
    (name,) = (name for name in weights[0] if name.endswith(word))
    assert torch.equal(weights[0][name], weights[1][name]) and not torch.equal(weights[1][name], weights[2][name])


OF_LAYER, OF_ALL = "contrast(layer=1)", "mlm + tlm"
BORDERS = {"more is trained": (OF_LAYER, OF_ALL), "less is trained": (OF_ALL, OF_LAYER)}


@pytest.mark.parametrize("objectives", BORDERS.values(), ids=BORDERS)
def test_stages_train_what_their_own_losses_reach(
    objectives: tuple[str, str], random_data: Path, tmp_path: Path
) -> None:
    """Head and upper layers, which another loss reads; resumed at the border and behind it, it is the same run."""
    stages = tuple({"steps": 4, "objective": objective} for objective in objectives)
    fields = {"stages": stages, "contrast_pairs": 6, "weight_decay": 0.5}
    lines = run(random_data, tmp_path / "run", **fields)
    weights = {step: consolidated_weights(found) for step, found in checkpoints_of(tmp_path / "run").items()}
    reached = ("lm_head.dense.weight", "veco.layers.1.feed_forward.up_proj.weight")
    for (begin, end), objective in zip(((1, 4), (4, 8)), objectives, strict=True):
        stayed = [name for name, weight in weights[end].items() if torch.equal(weight, weights[begin][name])]
        assert set(stayed).isdisjoint(reached) if objective == OF_ALL else set(stayed) >= set(reached)
    rates = [line["lr"] for line in lines]
    assert rates[4] < rates[5], "another engine, with a warm-up of its own"
    for step in (4, 6):
        resumed = cut(tmp_path / "run", tmp_path / f"from-{step}", step)
        assert run(random_data, resumed, resume="auto", **fields) == lines
        found = consolidated_weights(checkpoints_of(resumed)[8])
        assert all(torch.equal(weight, found[name]) for name, weight in weights[8].items())


def test_a_stage_has_its_own_level_of_losses(
    random_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By which spikes are told: its first updates are not skipped. Also of a run that is resumed at the border."""
    stages = ({"steps": 12, "objective": "contrast"}, {"steps": 4, "objective": "tlm"})
    fields = {"stages": stages, "skip_sigma": 3.0, "skip_window": 4, "contrast_pairs": 6}
    lines = run(random_data, tmp_path / "run", **fields)
    assert lines[12]["bilingual/tlm"] > 2 * lines[11]["bilingual/contrast"]
    assert "skipped" not in capsys.readouterr().err
    resumed = cut(tmp_path / "run", tmp_path / "resumed", 12)
    assert run(random_data, resumed, resume="auto", **fields) == lines


def test_moments_go_on_where_the_same_parameters_are_trained(random_data: Path, tmp_path: Path) -> None:
    """So stages that change nothing are one run, to the digit."""
    one = run(random_data, tmp_path / "one", steps=6)
    parts = run(random_data, tmp_path / "parts", stages=({"steps": 2}, {"steps": 3}, {"steps": 1}))
    assert parts == one


def test_a_line_of_metrics_ends_with_its_stage(random_data: Path, tmp_path: Path) -> None:
    stages = ({"steps": 5}, {"steps": 5, "alpha": 0.1})
    lines = run(random_data, tmp_path / "run", stages=stages, log_every=4, save_every=100)
    assert [line["step"] for line in lines] == [1, 2, 4, 5, 8, 10]
    assert sorted(checkpoints_of(tmp_path / "run")) == [5, 10], "and each with a checkpoint"


def test_a_past_stage_stays_and_later_ones_change_by_name(random_data: Path, tmp_path: Path) -> None:
    stages = ({"steps": 2, "schedule": "constant"}, {"steps": 2})
    run(random_data, tmp_path / "run", stages=tuple(stages[:1]))
    with pytest.raises(ValueError, match="cannot be resumed: stages was .* if that is meant, give --change stages$"):
        run(random_data, tmp_path / "run", stages=stages, resume="auto")
    other = ({"steps": 2, "alpha": 0.1}, {"steps": 2})
    with pytest.raises(ValueError, match="cannot be resumed: stage 1 was .* it began before update 2, so that only"):
        run(random_data, tmp_path / "run", stages=other, resume="auto", change="stages")
    lines = run(random_data, tmp_path / "run", stages=stages, resume="auto", change="stages")
    assert lines == run(random_data, tmp_path / "whole", stages=stages)


def test_a_later_stage_has_no_parameters_that_the_checkpoint_lacks(random_data: Path, tmp_path: Path) -> None:
    stages = [{"steps": 1, "objective": "mlm"}, {"steps": 1, "objective": "mlm"}]
    run(random_data, tmp_path / "run", stages=tuple(stages[:1]))
    stages[1]["objective"] = "mlm + clwr"
    with pytest.raises(ValueError, match="objectives with parameters of their own were none, are clwr"):
        run(random_data, tmp_path / "run", stages=tuple(stages), resume="auto", change="stages")


def test_a_run_without_stages_goes_on_with_some(random_data: Path, tmp_path: Path) -> None:
    run(random_data, tmp_path / "run", steps=2, schedule="constant")
    stages = ({"steps": 2}, {"steps": 2, "schedule": "decay"})
    fields = {"stages": stages, "schedule": "constant"}
    lines = run(random_data, tmp_path / "run", **fields, resume="auto", change="stages")
    assert lines == run(random_data, tmp_path / "whole", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mono_max_length": 100}, "batches may have 100 tokens a row, the model only takes 64"),
        # Pseudo-tokens stand behind each segment.
        ({"mono_max_length": 40, "objective": "btmlm"}, "batches may have 80 tokens a row, the model only takes 64"),
        ({"objective": "mlm + contrast(layer=3)"}, "objective contrast: layer 3 must be -1, the last, or from 0"),
    ],
)
def test_a_model_to_start_from_suffices_for_each_stage(
    random_data: Path, start: str, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    stages = ({"steps": 1, "objective": "mlm + contrast"}, {"steps": 1, **fields})
    with pytest.raises(ValueError, match=f"^stage 2: {message}"):
        run(random_data, tmp_path / "run", stages=stages, init_from=start, contrast_pairs=4)


def test_languages_are_those_of_the_data(random_data: Path, tmp_path: Path) -> None:
    stages = ({"steps": 1}, {"steps": 1, "add_languages": ["yo"]})
    with pytest.raises(ValueError, match="^stage 2: add_languages: the data have no yo; there are: de, en$"):
        run(random_data, tmp_path / "run", stages=stages)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("step", "average", "chosen"), [(None, "stage", [8, 9]), (5, "stage", [3, 4, 5]), (6, "stage", [6]), (6, 2, [5, 6])]
)
def test_the_mean_of_a_stage(whole: Path, step: int | None, average: int | str, chosen: list[int]) -> None:
    assert sorted(chosen_checkpoints(whole, step, average)) == chosen
