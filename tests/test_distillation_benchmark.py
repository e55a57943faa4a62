"""benchmarks/distillation.py: its models are what they are called, and its table is of the numbers that it found."""

from __future__ import annotations

import argparse
import gzip
import itertools
from pathlib import Path
from unittest.mock import create_autospec

import distillation as benchmark
import pytest

from finetune.understanding.recipe import UnderstandingRecipe
from pretrain.models.teacher import distillations
from pretrain.recipe import PretrainRecipe
from training.recipe.parsing import parse_recipe


def options(output: Path, quick: bool = False) -> argparse.Namespace:
    return argparse.Namespace(
        **{"output": output, "quick": quick, "steps": 100, "longer": 1.5, "seeds": [1, 2], "languages": ["en", "de"]},
        **{"layers": 6, "batch_pairs": None, "teacher_steps": None, "epochs": 2},
        **{"tasks": ["pos", "ner"], "taught_states": 0.0, "students": benchmark.STUDENTS},
        **{"objective": benchmark.OBJECTIVE, "distil": benchmark.DISTIL, "corpora": output, "parallel": 1},
    )


@pytest.mark.parametrize("quick", [False, True])
def test_students_differ_in_start_and_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, str(tmp_path))
    models = benchmark.models_of(options(tmp_path, quick))
    found = {}
    for model in models:
        step = benchmark.pretraining(model, tmp_path)
        recipe = parse_recipe(PretrainRecipe, step.stages[0].command[1:])
        found[model.name] = recipe
        assert step.needs == (() if model.name == "teacher" else ("teacher",))
    assert found["teacher"].num_hidden_layers == 2 * found["alone"].num_hidden_layers == 6
    assert {name: recipe.keep_layers for name, recipe in found.items() if recipe.init_from} == dict.fromkeys(
        ("layers", "both"), (2, 4, 6)
    )
    taught = {name for name, recipe in found.items() if recipe.teacher and distillations(recipe)}
    assert taught == {"distilled", "both"}
    assert {name: recipe.steps for name, recipe in found.items()} == {
        **dict.fromkeys(("teacher", "distilled", "both"), 100),
        **dict.fromkeys(("alone", "layers"), 150),
    }


def test_a_teacher_may_be_trained_longer(tmp_path: Path) -> None:
    own = options(tmp_path)
    own.teacher_steps = 400
    steps = {model.name: model.flags["steps"] for model in benchmark.models_of(own)}
    assert steps == {"teacher": 400, "alone": 150, "layers": 150, "distilled": 100, "both": 100}


def test_some_students_are_compared(tmp_path: Path) -> None:
    own = options(tmp_path)
    own.students, own.tasks, own.seeds = ["alone", "both"], ["pos"], [1]
    models = benchmark.models_of(own)
    assert [model.name for model in models] == ["teacher", "alone", "both"]
    names = ["teacher", "alone", "both", "both, taught"]
    assert [cell.name for cell, _ in benchmark.cells_of(own, models)] == [name for name in names for _ in range(2)]
    own.students = ["alone"]
    assert {cell.name for cell, _ in benchmark.cells_of(own, benchmark.models_of(own))} == {"teacher", "alone"}


def recipes_of(models: list[benchmark.Model], directory: Path) -> dict[str, PretrainRecipe]:
    commands = {model.name: benchmark.pretraining(model, directory).stages[0].command for model in models}
    return {name: parse_recipe(PretrainRecipe, command[1:]) for name, command in commands.items()}


def test_a_smaller_teacher_has_smaller_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, str(tmp_path))
    own = options(tmp_path)
    own.layers, own.batch_pairs = 4, 16
    recipes = recipes_of(benchmark.models_of(own), tmp_path)
    depths = {name: recipe.keep_layers or recipe.num_hidden_layers for name, recipe in recipes.items()}
    assert depths == {"teacher": 4, "alone": 2, "layers": (2, 4), "distilled": 2, "both": (2, 4)}
    assert {(recipe.bilingual_batch_pairs, recipe.contrast_pairs) for recipe in recipes.values()} == {(16, 16)}
    own.batch_pairs = 64
    assert {recipe.contrast_pairs for recipe in recipes_of(benchmark.models_of(own), tmp_path).values()} == {32}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layers", "5"), "--layers 5: expected an even number, of which students have half"),
        (("--layers", "0"), "--layers 0: expected an even number"),
        (("--tasks", "panx", "--languages", "de"), "--tasks panx: expected a language of en"),
        (("--batch-pairs", "40"), "--batch-pairs 40: expected 2 to 32, or a multiple of 32"),
    ],
)
def test_sizes_that_cannot_be_are_told(
    flags: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["distillation.py", str(tmp_path), "--output", str(tmp_path / "out"), *flags])
    with pytest.raises(ValueError, match=message):
        benchmark.main()
    assert not (tmp_path / "out").exists()


def test_taught_cells_wait_for_their_teachers(tmp_path: Path) -> None:
    cells = benchmark.cells_of(options(tmp_path), benchmark.models_of(options(tmp_path)))
    assert len({cell.directory for cell, _ in cells}) == len(cells) == 6 * 2 * 2 * 2
    for cell, teacher in cells:
        step = cell.step(options(tmp_path), teacher)
        flags = dict(itertools.pairwise(step.stages[0].command))
        assert flags["--epochs"] == "2" and flags["--learning_rate"] == "0.0005"
        assert ("--teacher" in step.stages[0].command) == (cell.name == "both, taught") == (len(step.needs) == 2)
        if teacher is not None:
            assert teacher == f"teacher-{cell.task}-{cell.language}-{cell.seed}"


@pytest.mark.parametrize("states", [0.0, 0.5])
def test_states_are_taught_of_each_layer_and_xtreme_has_english_to_learn_from(states: float, tmp_path: Path) -> None:
    own = options(tmp_path)
    own.tasks, own.taught_states, own.seeds = ["panx"], states, [1]
    cells = benchmark.cells_of(own, benchmark.models_of(own))
    assert [(cell.task, cell.language) for cell, _ in cells] == [("panx", "en")] * 6
    recipes = {}
    for cell, teacher in cells:
        train = cell.step(own, teacher).stages[0].command
        recipes[cell.name] = parse_recipe(UnderstandingRecipe, [word for word in train[1:] if word != "--resume"])
    taught = recipes.pop("both, taught")
    assert (taught.teacher_states, taught.teacher_every_layer) == (states, states > 0) and taught.teacher
    assert {(recipe.teacher, recipe.teacher_states) for recipe in recipes.values()} == {("", 0.0)}


def test_study_runs_its_steps_in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the commands themselves."""
    text = tmp_path / "corpora" / "mt" / "multi30k"
    text.mkdir(parents=True)
    with gzip.open(text / "test_2016_flickr.en.gz", "wt") as file:
        file.write("A dog.\n")
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, str(tmp_path))
    run_steps = create_autospec(benchmark.run_steps)
    for name, made in (("prepare", None), ("tokens_of_update", 10.0), ("results_of", {}), ("table", "a table")):
        monkeypatch.setattr(benchmark, name, create_autospec(getattr(benchmark, name), return_value=made))
    monkeypatch.setattr(benchmark, "run_steps", run_steps)
    monkeypatch.setattr(benchmark, "sentences_per_second", lambda models, sentences, passes: [1.0] * len(models))
    own = options(tmp_path)
    own.corpora, own.output = tmp_path / "corpora", tmp_path / "out"
    benchmark.study(own)
    steps = run_steps.call_args.args[0]
    assert len(steps) == len(benchmark.models_of(own)) + 6 * 2 * 2 * 2
    assert (tmp_path / "out" / "table.md").read_text() == "a table"
    own.epochs = 3
    with pytest.raises(ValueError, match="run fine-tuning was begun with other epochs"):
        benchmark.study(own)


def test_table_has_shares_of_the_teachers_scores() -> None:
    found = {
        "teacher": {"captions": 50.0, "seconds": 9.0, "pos": {"en": [80.0, 90.0], "de": [70.0, 80.0]}},
        "both": {"captions": 45.0, "pos": {"en": [76.0], "de": [76.0]}},
    }
    lines = benchmark.table(found, ["pos", "ner"], {"teacher": 100.0, "both": 190.0}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[2] == [
        *("teacher", "en 85.00 ± 7.07, de 75.00 ± 7.07", "–", "50.00", "100.0%", "–", "100.0%", "100", "1.00", "9")
    ]
    assert cells[3] == ["both", "en 76.00, de 76.00", "–", "45.00", "95.0%", "–", "90.0%", "190", "1.90", "–"]
