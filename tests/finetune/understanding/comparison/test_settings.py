"""A task of a user's own, compared in all settings of plug-out: trained, translated, predicted, tested, drawn."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest
import yaml
from xtreme_files import GERMAN, pairs, write_lines

from finetune import steps as shared
from finetune.command_stages import Stage
from finetune.understanding import translate
from finetune.understanding.compare import compare, steps_of
from finetune.understanding.comparison.configuration import (
    COMPARED_SETTINGS,
    Comparison,
    groups_of,
    read_comparison,
)
from finetune.understanding.comparison.plan import plan
from finetune.understanding.comparison.runs import RECIPES, runs_of
from finetune.understanding.metrics.prediction_files import read_predictions
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe, parse_recipe, read_yaml
from training.run import train_run

MINE = """
name: answers
title: Answers
head: sequence
languages: [en, de]
files: {train: "train-{language}.tsv", dev: "dev-{language}.tsv", test: "test-{language}.tsv"}
format: {kind: tsv, text_a: 0, text_b: 1, label: 2}
labels: [contradiction, entailment, neutral]
"""
ENGLISH = {foreign: own for own, foreign in GERMAN.items()}
SETTINGS = ["transfer", "translate-test", "joint", "individual"]


def run_here(
    stage: Stage, processes: int, environment: Mapping[str, str] | None = None, log: TextIO | None = None
) -> None:
    """A stage in this process, since starting one takes seconds; the training is that of the command."""
    if stage.result.exists():
        return
    module, *arguments = stage.command
    if module == "finetune.understanding.train":
        train_run(parse_recipe(UnderstandingRecipe, arguments), UnderstandingTask.of_run)
        stage.result.write_bytes(b"")
    else:
        sys.argv = [module, *arguments]
        importlib.import_module(module).main()
    assert stage.result.exists()


def one_by_one(runs: Sequence[Any], work: Callable[[Any, dict[str, str]], None], *args: Any, **options: Any) -> None:
    """All runs in the main thread, the only one that a training can begin in."""
    for run in runs:
        work(run, {})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "run_stage", run_here)
    monkeypatch.setattr(shared, "run_side_by_side", one_by_one)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "nothing: drawing takes a second")


@pytest.fixture
def dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translates word by word, in place of a model."""

    def translations(texts: Mapping[str, None], model: Path, flags: Sequence[str]) -> dict[str, str]:
        return {text: " ".join(ENGLISH[word] for word in text.split()) for text in texts}

    monkeypatch.setattr(translate, "translations", translations)
    monkeypatch.setattr(translate, "language_flags", lambda model, language: [])


@pytest.fixture
def content(xtreme_data: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """A comparison of the task, whose file lies beside it."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.yaml").write_text(MINE)
    fields = {"engine": "plain", "ds_config": "zero3_fp32.json", "loader_workers": 0, "max_length": 24}
    return {
        "data": str(xtreme_data),
        "models": {
            "tiny": {"init_from": str(tiny_model)},
            "random": {"init_from": str(tiny_model), "init": "random"},
        },
        "tasks": ["tasks/mine.yaml"],
        "task_fields": {"tasks/mine.yaml": {"data": str(xtreme_data / "xnli")}},
        "settings": SETTINGS,
        "translation_model": str(tmp_path / "{language}-en"),
        "seeds": [1],
        "fields": {**fields, "batch_size": 8, "epochs": 1, "learning_rate": 5e-3},
        "significance": {"baseline": "random"},
    }


def read_content(directory: Path, content: dict[str, Any], **changes: Any) -> Comparison:
    (directory / "compare.yaml").write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return read_comparison(directory / "compare.yaml")


@pytest.fixture
def translator(tmp_path: Path) -> None:
    """What a translation model's directory looks like, from outside."""
    (tmp_path / "de-en").mkdir()
    (tmp_path / "de-en/config.json").write_text("{}")
    (tmp_path / "de-en/model.safetensors").write_bytes(b"")


@pytest.mark.usefixtures("here", "dictionary", "translator")
def test_a_task_of_a_user_in_all_settings(content: dict[str, Any], tmp_path: Path, xtreme_data: Path) -> None:
    output = tmp_path / "out"
    read_content(tmp_path, content)
    compare(tmp_path / "compare.yaml", output)
    runs = sorted(path.name for path in (output / "runs").iterdir())
    assert runs == sorted(
        f"answers-{way}-plug-out-{model}-seed1{language}"
        for model in ("tiny", "random")
        for way in SETTINGS
        for language in (("-de", "-en") if way == "individual" else ("",))
    )
    # The tests of translate-test were translated once, for both models, and are predicted by the model of transfer.
    task = task_named(str(output / "translated/answers/answers.yaml"))
    texts = [example.texts for example in read(task, Split.TEST, "de", output / "translated/answers")]
    assert texts == [one.texts for one in read(task_named("xnli"), Split.TEST, "en", xtreme_data)]
    assert not (output / "runs/answers-translate-test-plug-out-tiny-seed1/model").exists()
    predictions = output / "runs/answers-translate-test-plug-out-tiny-seed1/predictions"
    predicted = {language: read_predictions(task, language, predictions) for language in ("en", "de")}
    assert predicted["en"] == predicted["de"], "both are tested in English, on the same examples"
    rows = list(csv.DictReader((output / "table.csv").open(encoding="utf-8")))
    by_place = {(row["setting"], row["model"], row["language"]): float(row["mean"]) for row in rows}
    assert len(by_place) == len(SETTINGS) * 2 * 3
    assert by_place["translate-test", "tiny", "en"] == by_place["transfer", "tiny", "en"]
    for setting in SETTINGS:
        own = [by_place[setting, "tiny", language] for language in ("en", "de", "avg")]
        assert own[2] == pytest.approx((own[0] + own[1]) / 2)
    tested = list(csv.DictReader((output / "significance.csv").open(encoding="utf-8")))
    assert [(row["setting"], row["language"]) for row in tested] == [
        (setting, language) for setting in SETTINGS for language in ("en", "de", "avg")
    ]
    for row in tested:
        assert float(row["low_examples"]) <= float(row["difference"]) <= float(row["high_examples"])
        assert 0 < float(row["p_value_examples"]) <= 1 and row["p_value_seeds"] == ""
    table = (output / "table.md").read_text(encoding="utf-8")
    assert "Answers, individual, plug-out: a model for each of en, de; the average is over these alone." in table
    assert table.count("| tiny − random |  |") == len(SETTINGS)
    maps = {path.name: path.read_bytes() for path in output.glob("*.png")}
    assert set(maps) == {f"heat_map-answers-{setting}-plug-out.png" for setting in SETTINGS}
    assert all(image.startswith(b"\x89PNG") for image in maps.values())


def test_what_settings_train_on_and_test_on(content: dict[str, Any], tmp_path: Path, translator: None) -> None:
    planned = plan(read_content(tmp_path, content), tmp_path / "out")
    by_name = {run.name.removeprefix("answers-").replace("-plug-out", ""): run for run in planned.runs}
    recipes = {name: run.recipe for name, run in by_name.items() if "-tiny-" in name and run.recipe is not None}
    assert {name: (recipe.setting, recipe.languages) for name, recipe in recipes.items()} == {
        "transfer-tiny-seed1": ("transfer", ""),
        "translate-test-tiny-seed1": ("transfer", ""),
        "joint-tiny-seed1": ("joint", ""),
        "individual-tiny-seed1-en": ("individual", "en"),
        "individual-tiny-seed1-de": ("individual", "de"),
    }
    transfer, translated = by_name["transfer-tiny-seed1"], by_name["translate-test-tiny-seed1"]
    needs = {step.name: step.needs for step in steps_of(planned, tmp_path / "out")}
    assert needs[translated.name] == (transfer.name, "translated") and transfer.recipe == translated.recipe
    assert needs[transfer.name] == needs["translated"] == ()
    assert planned.stages(transfer)[0] == retitled(planned.stages(translated)[0], transfer.name)
    own, foreign = planned.stages(translated)[1:3]
    root = tmp_path / "out/translated/answers"
    for stage, languages, data in ((own, "en", f"{content['data']}/xnli"), (foreign, "de", str(root))):
        assert stage.command[stage.command.index("--languages") + 1] == languages
        assert stage.command[stage.command.index("--data") + 1] == data
    (translation,) = planned.translations()
    assert translation.command[:2] == ("finetune.understanding.translate", str(tmp_path / "de-en"))
    assert translation.result == root / "test-de.jsonl"
    alone = planned.stages(by_name["individual-tiny-seed1-de"])
    assert [stage.command[stage.command.index("--languages") + 1] for stage in alone[1:]] == ["de", "de"]


def retitled(stage: Stage, name: str) -> Stage:
    """The stage as another run calls it."""
    return Stage(f"{name}: train", stage.command, stage.result, stage.is_distributed)


@pytest.mark.usefixtures("here")
def test_dev_is_reported_where_tests_are_hidden(content: dict[str, Any], tmp_path: Path, xtreme_data: Path) -> None:
    root = Path(shutil.copytree(xtreme_data / "xnli", tmp_path / "data"))
    for path in root.glob("test-*"):
        path.unlink()
    changes: dict[str, Any] = {"settings": ["transfer"], "task_fields": {"tasks/mine.yaml": {"data": str(root)}}}
    changes["models"] = {"tiny": content["models"]["tiny"]}
    changes["significance"] = {}
    with pytest.raises(ValueError, match="nothing to compare on. Answers, transfer, plug-out: no test files"):
        plan(read_content(tmp_path, content, **changes), tmp_path / "out")
    read_content(tmp_path, content, **changes, report="dev")
    compare(tmp_path / "compare.yaml", tmp_path / "out")
    run = tmp_path / "out/runs/answers-transfer-plug-out-tiny-seed1"
    predicted = (run / "predictions/answers/dev-de.tsv").read_text(encoding="utf-8").splitlines()
    gold = [line.rpartition("\t")[2] for line in (root / "dev-de.tsv").read_text(encoding="utf-8").splitlines()]
    correct = sum(own == label for own, label in zip(predicted, gold, strict=True))
    scores = json.loads((run / "scores.json").read_text())["answers"]
    assert scores["de"]["accuracy"] == pytest.approx(100 * correct / len(gold))
    first = (tmp_path / "out/table.md").read_text(encoding="utf-8").splitlines()[0]
    assert first == "Scores on dev, which also chose the best epoch, in percent; mean ± sd over the seeds."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["xnli", "xtreme/xnli"]}, "tasks: two are named xnli; expected each name once"),
        ({"tasks": ["other.yaml"], "task_fields": {}}, "other.yaml: no such file; expected a task"),
        ({"report": "train"}, "report 'train' must be one of test, dev"),
        ({"tasks": ["tatoeba"], "task_fields": {}, "report": "dev"}, "report dev: tatoeba has no training"),
        ({"significance": {"baseline": "xlm"}}, "significance: baseline xlm is none of the models tiny, random"),
        ({"significance": {"draws": 10}}, "significance: draws 10 must be a number of at least 1000, or 0 for no test"),
        ({"significance": {"drawss": 1000}}, "significance: unknown drawss; it has baseline, draws"),
        ({"fields": {"data": "x"}}, "fields: data cannot be set here"),
        ({"translation_model": "{tmp}"}, "expected a model, a checkpoint or a run, found"),
        ({"fields": {"languages": "fr"}}, "has no train file of answers in fr"),
    ],
)
def test_wrong_settings_are_refused(
    changes: dict[str, Any], message: str, content: dict[str, Any], tmp_path: Path
) -> None:
    filled = {key: str(tmp_path) if value == "{tmp}" else value for key, value in changes.items()}
    if "fields" in changes:
        filled["fields"] = {**content["fields"], **changes["fields"]}
    with pytest.raises(ValueError, match=".") as raised:
        plan(read_content(tmp_path, content, **filled), tmp_path / "out")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_settings_that_a_task_cannot_have_are_left_out(
    content: dict[str, Any], tmp_path: Path, xtreme_data: Path
) -> None:
    """Spans and tags are not those of a translation; SQuAD is English alone; XNLI has its translated tests."""
    changes: dict[str, Any] = {"tasks": ["panx", "xquad", "xnli"], "settings": [*SETTINGS, "translate-train"]}
    given = {"translated_test": str(xtreme_data / "english")}
    changes |= {"translation_model": "", "task_fields": {"xnli": given, "xquad": {"max_question_length": 8}}}
    planned = plan(read_content(tmp_path, content, **changes), tmp_path / "out")
    spans = "the spans and tags of a translation are not those of the test"
    assert planned.left_out == {
        "NER, translate-test, plug-out": spans,
        "NER, joint, plug-out": "a train file in en alone",
        "NER, individual, plug-out": "a train file in en alone",
        "NER, translate-train, plug-out": "translated training text without tags, which finetune.understanding.label "
        "writes",
        "XQuAD, translate-test, plug-out": spans,
        "XQuAD, joint, plug-out": "a train file in en alone",
        "XQuAD, individual, plug-out": "a train file in en alone",
    }
    assert not planned.translations()
    run = next(run for run in planned.runs if run.group.setting == "translate-test")
    assert run.translated is not None and run.translated.root == str(xtreme_data / "english")
    fewer = tmp_path / "english"
    write_lines(fewer / "xnli/test-de.tsv", ["\t".join(row) for row in pairs({"yes": "neutral"}, 3, random.Random(1))])
    changes["task_fields"]["xnli"] = {"translated_test": str(fewer)}
    with pytest.raises(ValueError, match=f"{fewer}: 3 test examples of xnli in de, but 12 in {xtreme_data}"):
        plan(read_content(tmp_path, content, **changes), tmp_path / "out")


def test_a_changed_task_file_is_not_mixed_with_what_is_done(
    content: dict[str, Any], tmp_path: Path, translator: None
) -> None:
    before = plan(read_content(tmp_path, content), tmp_path / "out").settings()
    (tmp_path / "tasks/mine.yaml").write_text(MINE.replace("text_b: 1", "text_b: 0"))
    after = plan(read_content(tmp_path, content), tmp_path / "out").settings()
    name = "answers-transfer-plug-out-tiny-seed1"
    assert {key for key in before[name] if before[name][key] != after[name][key]} == {"task file"}
    json.dumps(before)  # as it is recorded


def test_the_example_of_the_documentation_is_sound(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, f"/{name.lower()}")
    page = (Path(__file__).parents[4] / "docs/xtreme_training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "compare.yaml").write_text(example)
    (tmp_path / "mine.yaml").write_text(MINE)
    comparison = read_comparison(tmp_path / "compare.yaml")
    groups = groups_of(comparison)
    assert {group.setting for group in groups} == set(comparison.settings) == set(COMPARED_SETTINGS)
    assert {group.definition.name for group in groups} == {"xnli", "panx", "answers"}
    runs = runs_of(groups, comparison, tmp_path)
    own = next(run for run in runs if run.group.definition.name == "answers" and run.recipe is not None)
    # Its place and its length are the comparison's, the rest that of the general recipe.
    assert own.recipe is not None and (own.recipe.data, own.recipe.max_length) == ("/veco_corpora/mine", 64)
    assert (own.recipe.learning_rate, own.recipe.batch_size) == (2e-5, 32)
    assert comparison.translation_model_of("de") == "/veco_runs/mt/de-en"
    assert comparison.pairs() == [("veco", "xlm"), ("random", "xlm")]
    assert dataclasses.replace(comparison, significance={}).pairs() == [
        *(("veco", "xlm"), ("veco", "random"), ("xlm", "random")),
    ]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("general*.yaml")), ids=lambda path: path.stem)
def test_general_recipes_lack_only_their_places(path: Path) -> None:
    given = {"task": "xnli", "data": "d", "init_from": "m", "output": "o"}
    assert not given.keys() & read_yaml(path).keys()
    build_recipe(UnderstandingRecipe, {**read_yaml(path), **given}, path)
