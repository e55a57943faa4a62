"""A whole run in this process: the plain engine, objectives, phases, what is seen of it, and its recorded curve."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_curve import GOLDEN, curve_of_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trained_weights import consolidated_weights
from transformers import AutoModelForMaskedLM, PreTrainedModel, XLMRobertaForMaskedLM
from xlm_roberta import random_xlm_roberta

from data_tools.shards.manifest import Manifest
from pretrain.models.initial_model import build_model, pretrained_model
from pretrain.pretraining import PretrainingTask, read_batches
from pretrain.recipe import PretrainRecipe
from pretrain.validation import validate
from training import run as training_run
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of, read_state
from training.engine import plain_engine
from training.engine.plain_engine import PlainEngine
from training.guards import Guards
from training.meters import Meters, read_metrics
from training.recipe.parsing import read_yaml
from training.run import train_run
from training.run_directory.ownership import Ownership
from veco import VecoConfig, VecoForConditionalGeneration, VecoForSequenceClassification
from veco.objectives.objective_sum import ObjectiveSum

TINY: dict[str, Any] = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "mono_max_length": 24,
    "bilingual_max_length": 12,
    "mono_batch_pairs": 8,
    "bilingual_batch_pairs": 12,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "warmup_steps": 2,
    "learning_rate": 5e-3,
    "log_every": 1,
    "save_every": 100,
    "loader_workers": 0,
}
TERMS = {
    "ca_mlm+tlm": {"mono": {"mlm", "ca_mlm"}, "bilingual": {"mlm", "ca_mlm", "tlm"}},
    "ca_mlm": {"mono": {"mlm", "ca_mlm"}, "bilingual": {"mlm", "ca_mlm"}},
    "mlm+tlm": {"mono": {"mlm"}, "bilingual": {"mlm", "tlm"}},
    "mlm": {"mono": {"mlm"}, "bilingual": {"mlm"}},
    "clm": {"mono": {"clm"}, "bilingual": {"clm"}},
}


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and no pictures: those have their own test and take longer than the runs."""
    monkeypatch.setattr(plain_engine, "share_cores", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")


def run(data: Path, run_dir: Path, **options: Any) -> list[dict[str, Any]]:
    """The lines of metrics of a run."""
    train_run(PretrainRecipe(output=str(run_dir), data=str(data), **{**TINY, **options}), PretrainingTask.on(data))
    return read_metrics(run_dir)


@pytest.fixture(scope="module")
def held_out_data(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random data, some of which is held out (and trained on as well: here it is about the way)."""
    manifest = Manifest.load(random_data)
    directory = tmp_path_factory.mktemp("with_valid")
    for name in ("mono", "parallel", "tokenizer"):
        (directory / name).symlink_to(random_data / name)
    valid = {"mono": {"en": manifest.mono["en"]}, "parallel": manifest.parallel}
    dataclasses.replace(manifest, valid=valid).save(directory)
    return directory


@pytest.mark.parametrize("objective", TERMS)
def test_objectives_train_their_terms(objective: str, random_data: Path, tmp_path: Path) -> None:
    lines = run(random_data, tmp_path, objective=objective, steps=4)
    for line, kind in zip(lines, ("mono", "bilingual") * 2, strict=True):
        own = (name.removeprefix(f"{kind}/") for name in line if name.startswith(f"{kind}/"))
        terms = {name for name in own if not name.endswith("_accuracy")}
        assert terms == {*TERMS[objective][kind], "loss"}
        assert line[f"{kind}/loss"] == pytest.approx(sum(line[f"{kind}/{term}"] for term in terms - {"loss"}))
    start = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data)).state_dict()
    trained = consolidated_weights(checkpoints_of(tmp_path)[4])
    for name, weight in trained.items():
        if ".cross_attention" in name and not objective.startswith("ca_mlm"):
            assert torch.equal(weight, start[name]), f"{name}: no loss depends on it, weight decay must not either"
        elif name.endswith("q_proj.weight"):
            assert not torch.equal(weight, start[name]), name


def test_monolingual_data_alone(random_data: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(random_data)
    for name in ("mono", "tokenizer"):
        (tmp_path / name).symlink_to(random_data / name)
    dataclasses.replace(manifest, parallel={}).save(tmp_path)
    for objective in ("mlm", "ca_mlm"):
        lines = run(tmp_path, tmp_path / "runs" / objective, objective=objective, steps=2)
        assert all("mono/loss" in line for line in lines)


def test_a_line_shows_languages_pairs_and_the_machine(random_data: Path, tmp_path: Path, capsys) -> None:
    first, second = run(random_data, tmp_path, steps=2, peak_tflops=1.0, bilingual_max_length=10)
    assert {"language/de/mlm", "language/de/ca_mlm", "language/en/mlm_accuracy", "train/mono_mlm_accuracy"} <= set(
        first
    )
    assert {"pair/de-en/mlm", "pair/de-en/tlm", "pair/de-en/tlm_accuracy", "cut_share/de-en"} <= set(second)
    assert not [name for name in first if name.startswith(("pair/", "cut_share/"))]
    # One pair alone, so it has the kind's own mean; the loss adds up two means, of x and of y.
    assert second["pair/de-en/tlm"] == pytest.approx(second["bilingual/tlm"], rel=1e-5)
    assert 2 * second["pair/de-en/mlm"] == pytest.approx(second["bilingual/mlm"], rel=0.1)
    for line in (first, second):
        assert 0 < line["data_wait"] < 1 and line["memory_gib"] > 0.1 and line["tokens_per_second"] > 0
        assert line["utilisation"] == line["tflops_per_second"] > 0
        assert len(line["samples"]) == 16
    told = capsys.readouterr().err
    assert "truncated to max_length: de-en " in told
    assert re.search(r"\| precision as in the ds_config \| attention (eager|sdpa) \(timed: ", told.splitlines()[0])
    assert read_yaml(checkpoints_of(tmp_path)[2] / RECIPE_FILE)["attention"] in ("eager", "sdpa")


def test_samples_have_one_digest_for_any_accumulation(random_data: Path, tmp_path: Path) -> None:
    digests = [
        [line["samples"] for line in run(random_data, tmp_path / str(steps), steps=3, accumulation_steps=steps)]
        for steps in (1, 2, 4)
    ]
    print(digests[0])
    assert digests[0] == digests[1] == digests[2] and len(set(digests[0])) == 3


def test_no_validation_is_none(held_out_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a line that says nothing, nor one in the metrics."""
    lines = run(held_out_data, tmp_path, steps=2, validate_batches=0)
    assert [line["step"] for line in lines] == [1, 2]
    assert ": valid" not in capsys.readouterr().err


def test_validation_by_language_and_pair_on_the_same_masks(held_out_data: Path, tmp_path: Path) -> None:
    lines = run(held_out_data, tmp_path, steps=4, validate_every=2, learning_rate=1e-9)
    noted = [line for line in lines if any(name.startswith("valid/") for name in line)]
    assert [line["step"] for line in noted] == [2, 4]
    names = {f"{group}/{term}" for group in ("en", "de-en") for term in ("mlm", "ca_mlm")} | {"de-en/tlm"}
    names |= {"mono_mlm", "mono_ca_mlm", "bilingual_mlm", "bilingual_ca_mlm", "bilingual_tlm"}
    by_kind = {f"{name}_perplexity" for name in names if "/" not in name}
    by_kind |= {f"{kind}_{total}" for kind in ("mono", "bilingual") for total in ("loss", "perplexity")}
    of_validation = {f"{name}{end}" for name in names for end in ("", "_accuracy")} | by_kind
    assert {name.removeprefix("valid/") for name in noted[0]} == {"step", *of_validation}
    of_training = {name.removeprefix("train/") for line in lines for name in line if name.startswith("train/")}
    assert of_training == {name for name in of_validation if "/" not in name}, "alike, by the same names"
    for name, value in noted[0].items():
        assert noted[1][name] == pytest.approx(value, abs=1e-5) or name == "step"


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_is_the_same_on_any_number_of_ranks(world_size: int, held_out_data: Path, monkeypatch) -> None:
    """Ranks one after the other; every one makes as many passes, and their sums are those of one process."""
    recipe = PretrainRecipe(output="x", **TINY)
    manifest = Manifest.load(held_out_data)
    model = build_model(recipe, held_out_data, manifest)
    _, valid = read_batches(recipe, held_out_data, manifest)
    plain = PlainEngine(model, recipe, lambda step: 1.0, {})
    alone = validate(plain, valid, ObjectiveSum.of("ca_mlm+tlm"))
    passes: list[int] = []
    sums: list[torch.Tensor] = []
    model.register_forward_hook(lambda *_: passes.append(plain.rank))
    plain.world_size = world_size
    monkeypatch.setattr(plain, "sum_over_ranks", lambda values: sums.append(values.clone()) or values)
    for plain.rank in range(world_size):
        validate(plain, valid, ObjectiveSum.of("ca_mlm+tlm"))
    assert len({passes.count(rank) for rank in range(world_size)}) == 1
    # The first of two reductions of each rank has all sums; what a rank repeated is in none of them.
    together = torch.stack(sums[::2]).sum(0)
    plain.rank, plain.world_size = 0, 1
    monkeypatch.setattr(plain, "sum_over_ranks", lambda values: together if values.dim() else values)
    assert validate(plain, valid, ObjectiveSum.of("ca_mlm+tlm")) == pytest.approx(alone, rel=1e-6)
    assert model.training


def test_from_xlm_roberta_the_first_h_loss_is_transformers_own(random_data: Path, tmp_path: Path) -> None:
    """Update 0 of both phases: MLM of x and of y on the masks that the batch has."""
    shape = VecoConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=66,
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(5)
    xlm_roberta = random_xlm_roberta(XLMRobertaForMaskedLM, shape).eval()
    xlm_roberta.save_pretrained(tmp_path / "xlmr")
    options = {**TINY, "init_from": str(tmp_path / "xlmr"), "cross_attention_steps": 2, "steps": 2}
    recipe = PretrainRecipe(output=str(tmp_path / "run"), **options)
    batches, _ = read_batches(recipe, random_data, Manifest.load(random_data))
    lines = run(random_data, tmp_path / "run", **options)
    for step, kind in enumerate(("mono", "bilingual")):
        batch = batches[step]
        with torch.no_grad():
            losses = [
                xlm_roberta(
                    input_ids=batch[f"{prefix}input_ids"],
                    attention_mask=batch[f"{prefix}attention_mask"],
                    labels=batch[f"{prefix}labels"],
                ).loss
                for prefix in ("", "pair_", *(["tlm_"] if kind == "bilingual" else []))
            ]
        # The first phase does not change the H path, so its second update still has XLM-R's loss.
        assert lines[step][f"{kind}/mlm"] == pytest.approx(float(losses[0] + losses[1]), rel=1e-5)
        if kind == "bilingual":
            assert lines[step]["bilingual/tlm"] == pytest.approx(float(losses[2]), rel=1e-5)
    assert lines[2]["lr"] == lines[0]["lr"], "each phase has its own warm-up"


def test_phases_start_from_veco_too_and_cross_attention_needs_its_objective(random_data: Path, tmp_path: Path) -> None:
    model = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data))
    model.save_pretrained(tmp_path / "veco")
    again = build_model(
        PretrainRecipe(output="x", **{**TINY, "init_from": str(tmp_path / "veco")}),
        random_data,
        Manifest.load(random_data),
    )
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kind", [VecoForSequenceClassification, VecoForConditionalGeneration])
def test_start_that_lacks_weights_is_refused(kind: type[PreTrainedModel], tmp_path: Path) -> None:
    """A classifier that was trained plugged out has no cross-attention and no head, a translation model no whole S."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    kind(VecoConfig(vocab_size=300, **shape)).save_pretrained(tmp_path / "start")
    for field in ("init_from", "teacher"):
        with pytest.raises(ValueError, match=f"{field} .*start: lacks weights of VecoForPreTraining: "):
            pretrained_model(tmp_path / "start", {}, ObjectiveSum.of("mlm"), field)


def test_the_end_of_the_first_of_two_phases_is_kept(random_data: Path, tmp_path: Path) -> None:
    """As that of any stage."""
    model = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data))
    model.save_pretrained(tmp_path / "start")
    fields = {"init_from": str(tmp_path / "start"), "cross_attention_steps": 2, "steps": 4, "save_every": 1}
    run(random_data, tmp_path / "run", **fields, keep_checkpoints=1)
    assert list(checkpoints_of(tmp_path / "run")) == [2, 6]


def test_model_that_some_stage_does_not_fit_is_refused(random_data: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(random_data)
    build_model(PretrainRecipe(output="x", **TINY), random_data, manifest).save_pretrained(tmp_path / "veco")
    stages = ({"steps": 1, "objective": "contrast(layer=1)"}, {"steps": 1, "objective": "contrast(layer=9)"})
    with pytest.raises(ValueError, match="objective contrast: layer 9 must be -1, the last, or from 0"):
        build_model(PretrainRecipe(output="x", **TINY, stages=stages), random_data, manifest)
    options = {**TINY, "mono_max_length": 40, "objective": "btmlm", "init_from": str(tmp_path / "veco")}
    with pytest.raises(ValueError, match="batches may have 80 tokens a row, the model only takes 64"):
        build_model(PretrainRecipe(output="x", **options), random_data, manifest)


def test_objective_that_no_update_trains_is_refused(random_data: Path) -> None:
    recipe = PretrainRecipe(output="x", **TINY, objective="mlm + tlm", languages=("en",))
    with pytest.raises(ValueError, match="objective tlm: in no update do the languages and pairs to train have text"):
        read_batches(recipe, random_data, Manifest.load(random_data))
    stages = ({"steps": 1}, {"steps": 1, "languages": ["de", "en"], "pairs": ["de-en"]})
    read_batches(dataclasses.replace(recipe, stages=stages), random_data, Manifest.load(random_data))


def test_moved_start_does_not_stop_a_resume(random_data: Path, tmp_path: Path, capsys) -> None:
    """In either phase: the checkpoint has all weights, also those that the first phase leaves alone."""
    model = build_model(PretrainRecipe(output="x", **TINY), random_data, Manifest.load(random_data))
    model.save_pretrained(tmp_path / "veco")
    options = {"init_from": str(tmp_path / "veco"), "cross_attention_steps": 2, "keep_checkpoints": 9, "save_every": 1}
    expected = run(random_data, tmp_path / "whole", **options, steps=2)
    for stop in (1, 2, 3):
        shutil.copytree(tmp_path / "whole", tmp_path / f"run{stop}")
        for step, checkpoint in checkpoints_of(tmp_path / f"run{stop}").items():
            if step > stop:
                shutil.rmtree(checkpoint)
    shutil.rmtree(tmp_path / "veco")
    options["init_from"] = "elsewhere"
    for stop in (1, 2, 3):
        lines = run(random_data, tmp_path / f"run{stop}", **options, steps=2, resume="auto")
        assert curve(lines) == curve(expected)
        assert "init_from elsewhere is not read: the run resumes from" in capsys.readouterr().err


def test_rate_after_a_resume_is_that_of_the_step_and_the_recipe_as_it_is_now(random_data: Path, tmp_path: Path) -> None:
    """With more steps, and with a schedule that starts anew there."""
    run(random_data, tmp_path / "run", steps=3)
    lines = run(random_data, tmp_path / "run", steps=8, resume="auto")
    whole = run(random_data, tmp_path / "whole", steps=8)
    assert rates(lines)[3:] == rates(whole)[3:]
    lines = run(random_data, tmp_path / "run", steps=12, resume="auto", reset_schedule=True)
    peak = TINY["learning_rate"]
    assert rates(lines)[8:] == [peak * factor for factor in (1 / 2, 1, 2 / 2, 1 / 2)]
    lines = run(random_data, tmp_path / "run", steps=14, resume="auto")
    assert rates(lines)[12:] == [peak * factor for factor in (2 / 4, 1 / 4)], "it began at update 8"


def test_batches_and_mixture_change_where_they_are_named(random_data: Path, tmp_path: Path) -> None:
    fields = {"mono_batch_pairs": 16, "alpha": 1.0, "learning_rate": 1e-3}
    run(random_data, tmp_path / "run", steps=2)
    with pytest.raises(ValueError, match="if that is meant, give --change learning_rate,alpha,mono_batch_pairs$"):
        run(random_data, tmp_path / "run", steps=4, resume="auto", **fields)
    lines = run(random_data, tmp_path / "run", steps=4, resume="auto", change=",".join(fields), **fields)
    assert rates(lines)[2:] == [1e-3 * 2 / 2, 1e-3 * 1 / 2]
    history = read_state(checkpoints_of(tmp_path / "run")[4])["history"]
    assert [(entry["step"], sorted(entry["changed"])) for entry in history] == [(2, sorted(fields))]


def curve(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of the lines of metrics does not depend on the time."""
    timed = ("seconds", "tokens_per_second", "data_wait", "memory_gib", "tflops")
    return [{name: value for name, value in line.items() if not name.startswith(timed)} for line in lines]


def rates(lines: list[dict[str, Any]]) -> list[float]:
    return [line["lr"] for line in lines if "lr" in line]


def test_metrics_are_closed_after_an_error_too(random_data: Path, tmp_path: Path, monkeypatch) -> None:
    closed: list[Meters] = []
    monkeypatch.setattr(Meters, "close", lambda meters: closed.append(meters))
    monkeypatch.setattr(training_run, "build_engine", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(random_data, tmp_path / "run", steps=1)
    assert len(closed) == 1


def test_recorded_curve_repeats(tmp_path: Path) -> None:
    """Fifty updates of every loss, as the file says it was made; it also says why the tolerance is what it is."""
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    curve = curve_of_run(tmp_path)
    assert len(curve) == len(recorded["curve"]) == 50
    for line, expected in zip(curve, recorded["curve"], strict=True):
        assert line.pop("samples") == expected.pop("samples"), "other samples, or other masks"
        assert line == pytest.approx(expected, rel=recorded["relative_tolerance"]), f"update {line['step']}"
    first, last = (sum(line.get("bilingual/ca_mlm", 0.0) for line in part) for part in (curve[:10], curve[-10:]))
    assert last < 0.9 * first, "it learns"


@pytest.fixture
def finished(random_data: Path, tmp_path: Path) -> Path:
    """A run of four updates with two checkpoints."""
    run(random_data, tmp_path / "run", steps=4, save_every=2)
    return tmp_path / "run"


def state_of(run_dir: Path) -> dict[str, object]:
    """What going back must not lose."""
    return {
        "checkpoints": list(checkpoints_of(run_dir)),
        "metrics": (run_dir / "metrics.jsonl").read_text(),
        "last": (run_dir / "last").resolve(),
        "events": sorted(path.name for path in (run_dir / "tensorboard").iterdir()),
    }


def test_run_that_ends_where_it_began_loses_nothing(finished: Path, random_data: Path, capsys) -> None:
    before = state_of(finished)
    for resume, steps in (("2", 2), ("2", 1), ("auto", 4)):
        fields = {**TINY, "steps": steps, "resume": resume}
        recipe = PretrainRecipe(output=str(finished), data=str(random_data), **fields)
        assert train_run(recipe, PretrainingTask.on(random_data))
        assert state_of(finished) == before
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nothing to train")]
    assert told == [
        "nothing to train: the checkpoint is that of update 2, and the recipe has 2 updates; checkpoint 4 stays",
        "nothing to train: the checkpoint is that of update 2, and the recipe has 1 updates; checkpoint 4 stays",
        "nothing to train: the checkpoint is that of update 4, and the recipe has 4 updates",
    ]


def test_going_back_loses_nothing_before_its_first_checkpoint(
    finished: Path, random_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(finished)
    for name in ("build_engine", "save_checkpoint"):
        with monkeypatch.context() as patch:
            patch.setattr(training_run, name, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run(random_data, finished, steps=3, resume="2")
        assert state_of(finished) == before
    assert [json.loads(line)["step"] for line in (finished / "metrics.new.jsonl").read_text().splitlines()] == [3]
    lines = run(random_data, finished, steps=3, resume="2")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert list(checkpoints_of(finished)) == [2, 3]
    assert (finished / "last").resolve() == finished / "checkpoints" / "step-00000003" / "model"
    assert not (finished / "metrics.new.jsonl").exists()
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("lr")] == [1, 2, 3]


def test_last_is_the_model_of_a_run_that_is_over(finished: Path, random_data: Path, monkeypatch, capsys) -> None:
    model = AutoModelForMaskedLM.from_pretrained(finished / "last")
    trained = consolidated_weights(checkpoints_of(finished)[4])
    weights = model.state_dict()
    assert all(torch.equal(weight.bfloat16(), weights[name]) for name, weight in trained.items())

    def stop(guards: Guards) -> bool:
        guards.reason = "SIGUSR1"
        return True

    monkeypatch.setattr(Guards, "wants_to_stop", stop)
    recipe = PretrainRecipe(
        output=str(finished), data=str(random_data), **{**TINY, "steps": 9, "save_every": 2, "resume": "auto"}
    )
    assert not train_run(recipe, PretrainingTask.on(random_data))
    assert "ended early: received SIGUSR1 (exit code 75)" in capsys.readouterr().err
    assert list(checkpoints_of(finished)) == [4, 5]
    assert not (finished / "last").is_symlink(), "what it led to is not the last one any more"


def test_second_start_in_a_directory_is_refused_before_it_reads_anything(finished: Path, random_data: Path) -> None:
    before = state_of(finished)
    with Ownership(finished), pytest.raises(ValueError, match="run is in use by another run"):
        recipe = PretrainRecipe(output=str(finished), data="nowhere", **TINY)
        train_run(recipe, PretrainingTask.on(Path("nowhere")))
    assert state_of(finished) == before


def test_run_that_lost_its_directory_saves_no_more(random_data: Path, tmp_path: Path, monkeypatch) -> None:
    def lose(ownership: Ownership) -> None:
        raise OSError("run was taken over by another run: process 1")

    monkeypatch.setattr(Ownership, "check", lose)
    with pytest.raises(OSError, match="the checkpoint could not be written: run was taken over by another run"):
        run(random_data, tmp_path / "run", steps=1)
    assert not checkpoints_of(tmp_path / "run")


def test_micro_batch_tokens_change_no_loss(random_data: Path, tmp_path: Path) -> None:
    """4 monolingual pairs of 2 x 24 tokens fit 200, so an update takes 2 steps, and the losses stay."""
    whole = run(random_data, tmp_path / "whole", steps=4)
    parts = run(random_data, tmp_path / "parts", steps=4, micro_batch_tokens=200)
    saved = read_yaml(checkpoints_of(tmp_path / "parts")[4] / RECIPE_FILE)
    assert (saved["accumulation_steps"], saved["micro_batch_tokens"]) == (2, 200)
    for one, other in zip(parts, whole, strict=True):
        losses = {name: value for name, value in other.items() if "/" in name}
        assert {name: one[name] for name in losses} == pytest.approx(losses, rel=1e-5)


def test_run_goes_on_with_other_micro_batches(random_data: Path, tmp_path: Path) -> None:
    run(random_data, tmp_path / "run", steps=2, micro_batch_tokens=200)
    resumed = run(random_data, tmp_path / "run", steps=4, micro_batch_tokens=100, resume="auto")
    whole = run(random_data, tmp_path / "whole", steps=4)
    assert read_yaml(checkpoints_of(tmp_path / "run")[4] / RECIPE_FILE)["accumulation_steps"] == 4
    for one, other in zip(resumed, whole, strict=True):
        losses = {name: value for name, value in other.items() if name.startswith(("mono/", "bilingual/"))}
        assert {name: one[name] for name in losses} == pytest.approx(losses, rel=1e-5)


def test_deterministic_run_has_kernels_for_all_that_it_does(random_data: Path, tmp_path: Path) -> None:
    plain, fixed = (run(random_data, tmp_path / str(on), steps=2, deterministic=on) for on in (False, True))
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    assert losses_of(fixed) == losses_of(plain)


@pytest.mark.slow
@pytest.mark.parametrize("recomputes", [False, True])
def test_compiled_layers_have_the_same_losses(random_data: Path, tmp_path: Path, recomputes: bool) -> None:
    """And the same names of weights: the run is exported, and another goes on without compiling."""
    options = {"steps": 4, "activation_checkpointing": recomputes}
    plain = run(random_data, tmp_path / "plain", **options)
    compiled = run(random_data, tmp_path / "compiled", compile=True, **{**options, "steps": 2})
    compiled = run(random_data, tmp_path / "compiled", resume="auto", **options)
    for one, other in zip(losses_of(compiled), losses_of(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def losses_of(lines: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name.startswith(("mono/", "bilingual/"))} for line in lines]
