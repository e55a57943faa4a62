"""COMPARE.yaml: runs, commands, refusals; the table and the figure of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from finetune.comparison import mean_and_deviation
from finetune.mt import compare as compare_module
from finetune.mt.compare import compare, read_result, settings_of, updates_until, with_baseline, write_report
from finetune.mt.comparison_configuration import Run, read_comparison, runs_of, stages_of
from finetune.mt.recipe import TranslationRecipe
from finetune.steps import Step, check_unchanged
from training.recipe.parsing import parse_recipe

COMPARISONS = Path(__file__).resolve().parents[3] / "finetune" / "mt" / "comparisons"
RECIPE = {
    **{"output": "elsewhere", "init_from": "m", "directions": "en-de", "steps": 100, "save_every": 30, "keep_best": 2},
    **{"train_source": "a", "train_target": "b", "valid_source": "c", "valid_target": "d"},
}
CONTENT = {
    "recipe": "recipe.yaml",
    "fields": {"steps": 60},
    "models": {"veco": {"init_from": "v"}, "random": {"init_from": "v", "init": "random"}},
    "decoders": ["last-3", "first-2"],
    "seeds": [1, 2],
    "baseline": "random",
    "average": {"best": 2},
    "test": {"source": "t.en", "target": "t.de"},
    "generate": {"beam": 4},
}


def write(directory: Path, **changes: object) -> Path:
    (directory / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    path = directory / "compare.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
    return path


def test_all_runs_have_the_same_budget(tmp_path: Path) -> None:
    runs = runs_of(read_comparison(write(tmp_path)), tmp_path / "out")
    assert [run.name for run in runs[:4]] == [
        *("veco-last-3-seed1", "random-last-3-seed1", "veco-first-2-seed1", "random-first-2-seed1")
    ]
    assert len(runs) == 8 and runs[4].name == "veco-last-3-seed2"
    assert {run.recipe.steps for run in runs} == {60}
    random = runs[3].recipe
    assert (random.init, random.decoder_layers, random.decoder_layers_from, random.seed) == ("random", 2, "first", 1)
    different = {"init", "decoder_layers", "decoder_layers_from", "seed", "output"}
    first = dataclasses.asdict(runs[0].recipe)
    for run in runs:
        fields = dataclasses.asdict(run.recipe)
        assert {name for name in fields if fields[name] != first[name]} <= different


def test_the_commands_say_what_the_recipe_says(tmp_path: Path) -> None:
    comparison = read_comparison(write(tmp_path))
    run = runs_of(comparison, tmp_path / "out")[3]
    train, average, translate, score = stages_of(run, comparison)
    assert train.is_distributed and train.command[0] == "finetune/mt/train.py"
    assert parse_recipe(TranslationRecipe, train.command[1:]) == run.recipe
    assert average.command[2:4] == ("--best", "2")
    assert translate.command[-2:] == ("--beam", "4") and "t.en" in translate.command
    assert score.command[-1] == str(score.result) and "t.de" in score.command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"a": {"steps": 9}}, "baseline": None}, "model a changes steps: budgets would not be equal"),
        ({"baseline": "xlm"}, "baseline 'xlm' must be one of the models: veco, random"),
        ({"decoders": ["middle-3"]}, "decoder 'middle-3' must look like last-3 or first-3"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\] must be different"),
        ({"seed": 1}, "unknown key 'seed'"),
        ({"models": ["veco"]}, "models must be a dict"),
        ({"test": {"source": "${NO_SUCH_THING}/t"}}, "the environment variable NO_SUCH_THING is not set"),
        ({"generate": {"beams": 4}}, "generate has no 'beams' here"),
        ({"generate": {"beam": 0}}, "generate: --beam must be at least 1, found 0"),
        ({"average": {"best": 3}}, "average \\{best: 3\\}: the recipe's keep_best is 2; raise it"),
        (
            {"average": {"last": 3}, "fields": {"steps": 60, "save_every": 30, "keep_checkpoints": 9}},
            "average {last: 3}: 60 steps, saved every 30, have 2 checkpoints; average fewer",
        ),
        (
            {"average": {"best": 2}, "fields": {"steps": 60, "validate_every": 60}},
            "average {best: 2}: 60 steps, validated every 60, have 1 validations; average fewer",
        ),
        (
            {"average": {"last": 3}, "fields": {"epochs": 2, "keep_checkpoints": 9}},
            "average {last: 3}: 2 epochs have 2 checkpoints; average fewer",
        ),
        ({"average": {"last": 0}}, r"average {'last': 0} must be {last: N} or {best: N}, N a number from 1"),
        ({"average": {"last": "3"}}, r"average {'last': '3'} must be {last: N} or {best: N}, N a number from 1"),
        ({"generate": {"dtype": "fp32"}}, "generate: argument --dtype: invalid choice: 'fp32'"),
        ({"generate": {"workers": 0}}, "generate: --workers must be at least 1, found 0"),
        ({"generate": {"beam": 5.0}}, "generate: argument --beam: invalid int value: '5.0'"),
        ({"models": {1000: {"init_from": "v"}}, "baseline": None}, "model 1000: a name is text; write it in quotes"),
        (
            {"fields": {"seed": 3, "decoder_layers": 2}},
            "fields: decoder_layers, seed cannot be set here; the seeds and decoders say it",
        ),
        ({"fields": {"steps": 60, "epochs": 2}}, "steps 60 is not used, as epochs 2 decides"),
        ({"fields": {"dropout": 2, "stepps": 1}}, "unknown field 'stepps', did you mean 'steps'.*dropout 2.0 must"),
    ],
)
def test_mistakes_in_a_comparison(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        runs_of(read_comparison(path), tmp_path / "out")


def test_commands_omit_unused_fields(tmp_path: Path) -> None:
    """Of two fields that determine one quantity, a command has only one: here updates follow from epochs."""
    comparison = read_comparison(write(tmp_path, fields={"epochs": 2, "keep_best": 2}))
    run = runs_of(comparison, tmp_path / "out")[0]
    train = stages_of(run, comparison)[0]
    assert "--epochs" in train.command and "--steps" not in train.command
    assert parse_recipe(TranslationRecipe, train.command[1:]) == run.recipe


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "baseline: veco\n")
    with pytest.raises(ValueError, match="compare.yaml: line .*: key 'baseline' is given twice"):
        read_comparison(path)


def test_files_are_checked_before_the_first_run(tmp_path: Path) -> None:
    path = write(tmp_path, test={"source": str(tmp_path / "a"), "target": str(tmp_path / "b")})
    (tmp_path / "a").write_text("1\n2\n")
    (tmp_path / "b").write_text("1\n")
    with pytest.raises(ValueError, match="a has 2 lines but .*b has 1"):
        compare(path, tmp_path / "out")
    (tmp_path / "b").write_text("1\n2\n")
    with pytest.raises(ValueError, match="init_from v: expected a model directory"):
        compare(path, tmp_path / "out")
    assert not (tmp_path / "out" / "runs").exists()


def test_a_changed_comparison_is_not_mixed_with_earlier_runs(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def check(**changes: object) -> None:
        comparison = read_comparison(write(tmp_path, **changes))
        check_unchanged(settings_of(runs_of(comparison, output), comparison), output)

    check()
    check(seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="was begun with other steps; choose another --output"):
        check(fields={"steps": 61})
    with pytest.raises(ValueError, match="was begun with other generate; choose another --output"):
        check(generate={"beam": 7})
    with pytest.raises(ValueError, match="was begun with other micro-batches of an update; choose another --output"):
        check(processes=2)


def test_a_comparison_may_lie_elsewhere_and_be_mended_before_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed check of data leaves only a log; runs.json of another place is the same comparison."""
    monkeypatch.setattr(compare_module, "check_files", lambda runs, comparison: None)
    done: list[str] = []

    def run(steps: Sequence[Step], *ignored: object, **also_ignored: object) -> None:
        done.extend(step.name for step in steps)
        steps[0].log.parent.mkdir(parents=True, exist_ok=True)
        steps[0].log.touch()
        (tmp_path / "out" / "table.md").touch()

    monkeypatch.setattr(compare_module, "run_steps", run)
    compare(write(tmp_path), tmp_path / "out")
    compare(write(tmp_path, fields={"steps": 90}), tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "runs" / done[0] / "metrics.jsonl").touch()
    compare(write(tmp_path, fields={"steps": 90}), Path("out"))
    with pytest.raises(ValueError, match="run veco-last-3-seed1 was begun with other steps"):
        compare(write(tmp_path), Path("out"))


@pytest.mark.parametrize(("name", "content"), [("table.md", "mine"), ("runs.json", "[]")])
def test_a_directory_of_other_files_is_not_touched(tmp_path: Path, name: str, content: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_text(content)
    with pytest.raises(ValueError, match=r"out: holds files, and no runs\.json of an earlier call"):
        check_unchanged({"run": {}}, output)
    assert [path.read_text() for path in output.iterdir()] == [content]


def finish(run: Run, bleu: float, nll: list[float]) -> None:
    """Write the files of a finished run."""
    directory = Path(run.recipe.output)
    directory.mkdir(parents=True)
    lines = [{"step": 10 * i, "valid/nll": value} for i, value in enumerate(nll, start=1)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = ("sacrebleu", "chrf", "tokenized_bleu_lc")
    scores = {name: {"value": bleu, "signature": f"sig-{name}", "detail": ""} for name in names}
    (directory / "score.json").write_text(json.dumps({"scores": scores}))


def test_report_of_finished_runs(tmp_path: Path) -> None:
    comparison = read_comparison(write(tmp_path, decoders=[]))
    runs = runs_of(comparison, tmp_path / "out")
    assert [run.name for run in runs] == ["veco-seed1", "random-seed1", "veco-seed2", "random-seed2"]
    finish(runs[0], 30.0, [3.0, 2.0, 1.5])
    finish(runs[1], 20.0, [4.0, 2.1, 2.2])
    finish(runs[2], 32.0, [3.0, 2.2, 1.4])
    results = with_baseline([r for r in map(read_result, runs) if r is not None], runs, "random")
    assert [result.best_nll for result in results] == [1.5, 2.1, 1.4]
    # The random run of seed 1 reached 2.1 at best: VECO is as good after 20 updates. Seed 2 has none yet.
    assert [result.updates_to_baseline for result in results] == [20, 20, None]
    write_report(results, comparison, len(runs), tmp_path)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    # Sample deviation of 30 and 32: sqrt(2).
    assert "| veco | 1, 2 | 31.00 ± 1.41 | 31.00 ± 1.41 | 31.00 ± 1.41 | 1.45 ± 0.07 | 20, never |" in table
    assert "| random | 1 | 20.00 |" in table and "3 of 4 runs are done." in table and "sig-chrf" in table
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 3
    assert (tmp_path / "learning_curves.png").stat().st_size > 1000


@pytest.mark.parametrize("path", sorted(COMPARISONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_comparison_is_sound(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", "/corpora")
    monkeypatch.setenv("VECO_RUNS", "/runs")
    comparison = read_comparison(path)
    assert all(len(stages_of(run, comparison)) == 4 for run in runs_of(comparison, tmp_path))


def test_mean_deviation_and_updates_by_hand() -> None:
    assert mean_and_deviation([2.0]) == "2.00"
    assert mean_and_deviation([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    points = [(10, 5.0), (20, 4.0), (30, 4.5)]
    assert updates_until(points, 4.0, "lowest") == 20
    assert updates_until(points, 3.0, "lowest") is None
    assert updates_until(points, 4.5, "highest") == 10
