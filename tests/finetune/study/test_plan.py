"""The graph of a study: what is made once, what needs what, the commands, and what may change between two calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import StudyMaker
from word_tokenizers import write_words

from finetune.command_stages import Stage
from finetune.steps import check_unchanged
from finetune.study.__main__ import prepare_output
from finetune.study.cells import Kind, kind_of
from finetune.study.checking.flag_check import Parsed
from finetune.study.plan import StudyPlan, plan_of
from finetune.study.preparation import value_of_field
from training.recipe.parsing import convert

Content = dict[str, Any]
TASKS = ("pawsx", "pos")
pytestmark = pytest.mark.usefixtures("without_commands")


def test_steps_are_made_once_and_need_one_another(planned: StudyPlan) -> None:
    needs = {step.name: step.needs for step in planned.steps}
    cells = [f"{task}-{model}-seed{seed}" for seed in (1, 2) for model in ("en", "found", "control") for task in TASKS]
    assert list(needs) == ["tokenizer en", "data en", "model en", "model longer", *cells]
    assert needs["data en"] == ("tokenizer en",) and needs["model en"] == ("data en",)
    assert needs["model longer"] == ("model en", "data en")
    # The control has the shape and tokenizer of the model in the column's language.
    assert needs["pawsx-en-seed1"] == needs["pawsx-control-seed2"] == ("model en",)
    assert needs["pawsx-found-seed1"] == ()


def test_commands_are_those_of_a_user(planned: StudyPlan, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    commands = {step.name: [stage.command for stage in step.stages] for step in planned.steps}
    corpus = f"{out}/data/en/corpus.yaml"
    tokenizer = ("data_tools.train_tokenizer", "--corpus", corpus, "--vocab-size", "60")
    assert commands["tokenizer en"] == [(*tokenizer, "--output", f"{out}/tokenizers/en/tokenizer")]
    assert commands["data en"] == [("data_tools.prepare", corpus, "--output", f"{out}/data/en/data")]
    shared = ("pretrain.train", "--config", f"{out}/pretraining.yaml", "--data", f"{out}/data/en/data")
    own = ("--init_from", f"{out}/models/en/pretrain/last", "--steps", "8")
    assert commands["model longer"] == [(*shared, *own, "--output", f"{out}/models/longer/pretrain", "--resume")]
    assert yaml.safe_load(planned.files[Path(corpus)]) == {
        "tokenizer": f"{out}/tokenizers/en/tokenizer",
        "mono": {"en": f"{tmp_path}/en.txt"},
    }
    train, predict, evaluate = commands["pos-control-seed2"]
    flags = dict(zip(train[1::2], train[2::2], strict=True))
    expected = {"--init": "random", "--init_from": f"{out}/models/en/pretrain/last", "--epochs": "9", "--seed": "2"}
    expected |= {"--setting": "individual", "--languages": "en", "--patience": "2"}
    assert {name: flags[name] for name in expected} == expected
    assert predict[predict.index("--languages") + 1] == evaluate[evaluate.index("--languages") + 1] == "en,de"


def test_a_language_is_added_to_a_model(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    """The vocabulary is extended once; data are prepared with the tokenizer that the extended model carries."""
    text = str(tmp_path / "fi.txt")
    models = {
        **content["models"],
        "more": {"from": "en", "extend": {"from-tokenizer": "fi", "rows": "focus", "text": [text], "threads": 1}},
        "adapter": {"from": "more", "pretrain": {"data": "fi", "trains": "adapters", "adapter": "pfeiffer"}},
    }
    (tmp_path / "fi.txt").write_text("Koira.\n")
    fi = {"tokenizer": "more", "mono": {"fi": "fi.txt"}}
    of_fi = {"tokenizers": {**content["tokenizers"], "fi": {"text": "fi", "vocab_size": 40}}}
    plan = plan_of(study(models=models, data={**content["data"], "fi": fi}, **of_fi), tmp_path / "out")
    steps, out = {step.name: step for step in plan.steps}, tmp_path / "out"
    assert steps["model more"].needs == ("model en", "tokenizer fi") and steps["data fi"].needs == ("model more",)
    assert steps["model adapter"].needs == ("model more", "data fi")
    extended = ("veco.vocabulary", "extend", f"{out}/models/en/pretrain/last", f"{out}/models/more/extend")
    flags = ("--from-tokenizer", f"{out}/tokenizers/fi/tokenizer", "--rows", "focus", "--text", text)
    assert [stage.command for stage in steps["model more"].stages] == [(*extended, *flags, "--threads", "1")]
    assert yaml.safe_load(plan.files[out / "data/fi/corpus.yaml"])["tokenizer"] == f"{out}/models/more/extend"
    command = steps["model adapter"].stages[0].command
    assert command[command.index("--init_from") + 1] == f"{out}/models/more/extend"
    assert command[command.index("--trains") + 1] == "adapters"
    assert plan.study.languages_of("more") == ("en",) and plan.study.languages_of("adapter") == ("en", "fi")


def test_kinds_of_cells(planned: StudyPlan) -> None:
    column = planned.columns[0]
    kinds = [kind_of(model, column, planned.study) for model in planned.study.rows]
    assert kinds == [Kind.OWN, Kind.FOREIGN, Kind.CONTROL]


def test_what_a_model_began_from_may_know_other_languages(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    """A directory without `languages`, trained on in one language: of the others nothing is known."""
    (tmp_path / "fi.txt").write_text("Koira.\n")
    found = content["models"]["found"]["from"]
    models = {
        **content["models"],
        "grown": {"from": found, "pretrain": {"data": "fi"}},
        "given": {"from": "en", "pretrain": {"data": found}},
    }
    data = {**content["data"], "fi": {"tokenizer": "en", "mono": {"fi": "fi.txt"}}}
    plan = plan_of(study(models=models, data=data), tmp_path / "out")
    column = plan.columns[0]
    assert column.language == "en" and kind_of("grown", column, plan.study) is Kind.UNKNOWN
    assert kind_of("given", column, plan.study) is Kind.OWN
    assert kind_of("given", replace(column, language="fi"), plan.study) is Kind.UNKNOWN
    assert kind_of("grown", replace(column, language="fi"), plan.study) is Kind.OWN


def test_a_model_may_have_fields_of_its_own_on_a_task(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    models = {**content["models"], "en": {**content["models"]["en"], "fields": {"epochs": 5}}}
    models["en"]["task_fields"] = {"pos": {"epochs": 7}}
    tasks = {**content["tasks"], "pawsx": {**content["tasks"]["pawsx"], "fields": {"epochs": 6, "stride": 4}}}
    plan = plan_of(study(models=models, tasks=tasks), tmp_path / "out")
    recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs}
    found = {name: (recipe.epochs, recipe.stride) for name, recipe in recipes.items() if recipe and recipe.seed == 1}
    assert found["pawsx-en-seed1"] == (5, 4) and found["pos-en-seed1"] == (7, 8)
    assert found["pawsx-found-seed1"] == (6, 4) and found["pos-found-seed1"] == (2, 8)


def test_a_model_is_made_after_the_one_that_its_pretraining_learns_from(
    study: StudyMaker, content: Content, tmp_path: Path
) -> None:
    """The teacher is later in the file."""
    small = {"pretrain": {"data": "en", "teacher": "en", "objective": "mlm + distil"}}
    taught = {"from": "found", "pretrain": {"data": "en", "teacher": "found"}}
    plan = plan_of(study(models={"small": small, "taught": taught, **content["models"]}), tmp_path / "out")
    needs = {step.name: step.needs for step in plan.steps}
    assert list(needs)[:5] == ["tokenizer en", "data en", "model taught", "model en", "model small"]
    assert needs["model small"] == ("data en", "model en") and needs["model taught"] == ("data en",)
    commands = {step.name: step.stages[0].command for step in plan.steps}
    own = ("--teacher", f"{tmp_path}/out/models/en/pretrain/last", "--objective", "mlm + distil")
    assert commands["model small"][5:9] == own
    found = content["models"]["found"]["from"]
    assert commands["model taught"][5:9] == ("--init_from", found, "--teacher", found)
    assert f"--teacher {tmp_path}/out/models/en/pretrain/last" in plan.script()
    before, after = plan.settings(), plan_of(study(), tmp_path / "out").settings()
    assert "model en" in before["model small"]["steps before it"] and "model small" not in after


def test_the_control_has_the_lengths_of_the_model_whose_shape_it_has(
    study: StudyMaker, content: Content, tmp_path: Path
) -> None:
    """Its own fields go before these; what is done to the weights of that model is not done to its own."""
    en = {**content["models"]["en"], "fields": {"max_length": 24}, "task_fields": {"pawsx": {"max_length": 16}}}
    en["fields"] |= {"freeze_layers": 1}
    models = {**content["models"], "en": en}
    for own, expected in (({"epochs": 9}, [16, 24]), ({"max_length": 20}, [20, 20])):
        plan = plan_of(study(models=models, control={"from": ["en", "found"], "fields": own}), tmp_path / "out")
        recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs if run.recipe}
        assert [recipes[f"{task}-control-seed1"].max_length for task in TASKS] == expected
        assert [recipes[f"{task}-en-seed1"].max_length for task in TASKS] == [16, 24]
        assert [recipes[f"pos-{model}-seed1"].freeze_layers for model in ("en", "control")] == [1, 0]


def test_a_field_that_the_control_takes_over_is_told_where_it_stands(
    study: StudyMaker, content: Content, tmp_path: Path
) -> None:
    models = {**content["models"], "en": {**content["models"]["en"], "task_fields": {"pawsx": {"max_length": 3}}}}
    taken = study(models=models, table={"models": ["found"]}, control={"from": "en"})
    place = taken.place(("models", "en", "task_fields", "pawsx", "max_length"))
    with pytest.raises(ValueError, match=f"{place}: max_length 3 must be at least 8"):
        plan_of(taken, tmp_path / "out")


def test_a_run_is_made_after_the_one_that_it_learns_from(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    """`found` teaches all others on one of two tasks, with their seeds; on the other one `en` teaches the control."""
    tasks = {name: {**own, "fields": {"stride": 4}} for name, own in content["tasks"].items()}
    tasks["pawsx"]["fields"] |= {"teacher": "found", "teacher_states": 0.5, "distillation_weight": 0.9}
    tasks["pawsx"]["fields"] |= {"teacher_every_layer": True}
    control = {**content["control"], "fields": {"teacher": "en"}}
    models = {**content["models"], "en": {**content["models"]["en"], "fields": {"epochs": 5}}}
    plan = plan_of(study(models=models, tasks=tasks, control=control), tmp_path / "out")
    needs = {step.name: step.needs for step in plan.steps}
    assert needs["pawsx-en-seed2"] == ("model en", "pawsx-found-seed2") and needs["pawsx-found-seed2"] == ()
    assert needs["pawsx-control-seed1"] == ("model en", "pawsx-en-seed1")  # its own fields go before the task's
    assert needs["pos-control-seed1"] == ("model en", "pos-en-seed1") and needs["pos-en-seed1"] == ("model en",)
    names = list(needs)
    assert all(names.index(name) > names.index(one) for name, before in needs.items() for one in before)
    recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs if run.recipe}
    taught, teacher = recipes["pawsx-en-seed2"], recipes["pawsx-found-seed2"]
    assert (taught.teacher, taught.teacher_states) == (f"{tmp_path}/out/finetuning/pawsx-found-seed2", 0.5)
    assert (teacher.teacher, teacher.teacher_states) == ("", 0.0)
    script = plan.script()
    assert "# pawsx-en-seed2, after model en, pawsx-found-seed2\n" in script
    assert f"--teacher {tmp_path}/out/finetuning/pawsx-found-seed2" in script
    assert "pawsx-found-seed2" in plan.settings()["pawsx-en-seed2"]["steps before it"]


def test_a_teacher_may_be_a_directory(study: StudyMaker, content: Content, tmp_path: Path, tiny_model: Path) -> None:
    tasks = {**content["tasks"], "pawsx": {**content["tasks"]["pawsx"], "fields": {"teacher": str(tiny_model)}}}
    plan = plan_of(study(tasks=tasks), tmp_path / "out")
    recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs if run.recipe}
    assert {recipe.teacher for name, recipe in recipes.items() if "pawsx" in name} == {str(tiny_model)}
    assert {step.name: step.needs for step in plan.steps}["pawsx-found-seed1"] == ()


def test_a_teacher_may_be_larger_than_what_is_compared(
    study: StudyMaker, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two students of half its layers: one of random weights, one of every second layer."""

    def recipe(stage: Stage) -> Parsed:
        kept = {"keep_layers": [2, 4]} if "halved" in stage.title else {}
        return Parsed(values={"num_hidden_layers": 2 if "small" in stage.title else 4, "hidden_size": 32, **kept})

    def recipes(stages: Sequence[Stage], stand_ins: object) -> dict[str, Parsed]:
        return {stage.title: recipe(stage) for stage in stages}

    monkeypatch.setattr("finetune.study.checking.checks.parsed_stages", recipes)
    small = {"pretrain": {"data": "en", "num_hidden_layers": 2}}
    halved = {"from": "en", "pretrain": {"data": "en", "keep_layers": [2, 4]}}
    models = {"en": content["models"]["en"], "small": small, "halved": halved}
    shared = {"table": {"models": ["en", "small", "halved"]}, "control": {"from": "small"}}
    with pytest.raises(ValueError, match=r"models en and small are compared, but differ in size \(4 x 32 and 2 x 32"):
        plan_of(study(models=models, **shared), tmp_path / "out")
    taught = {**halved, "pretrain": {**halved["pretrain"], "teacher": "en"}}
    plan_of(study(models={**models, "halved": taught}, **shared), tmp_path / "out")
    finetuning = {**content["finetuning"], "teacher": "en"}
    plan_of(study(models=models, finetuning=finetuning, **shared), tmp_path / "out")
    not_halved = {**models, "halved": {"from": "en"}}
    with pytest.raises(ValueError, match=r"models small and halved are compared, but differ in size"):
        plan_of(study(models=not_halved, finetuning=finetuning, **shared), tmp_path / "out")


def test_models_that_learn_from_one_another_are_refused(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    models = {
        **content["models"],
        "en": {**content["models"]["en"], "fields": {"teacher": "found"}},
        "found": {**content["models"]["found"], "fields": {"teacher": "en"}},
    }
    with pytest.raises(ValueError, match="task pawsx: teacher: models learn from one another: en from found from en"):
        plan_of(study(models=models), tmp_path / "out")


def test_the_script_that_is_listed_runs(planned: StudyPlan, tmp_path: Path) -> None:
    """As a shell reads it: with `python` replaced by one that notes its arguments."""
    script = planned.script()
    assert "# data en, after tokenizer en\n" in script
    noted = tmp_path / "noted"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\necho "$@" >> {noted}\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["sh", "-eu", "-c", script], check=True, env={**os.environ, "PATH": path})
    stages = [stage for step in planned.steps for stage in step.stages]
    assert noted.read_text().splitlines() == [" ".join(["-m", *stage.command]) for stage in stages]
    assert {file: file.read_text() for file in planned.files} == planned.files


def test_a_setting_that_an_earlier_version_did_not_have_was_its_default(tmp_path: Path) -> None:
    check_unchanged({"run": {"steps": 3}}, tmp_path)
    check_unchanged({"run": {"steps": 3, "patience": 0}}, tmp_path, defaults={"patience": 0, "steps": 1})
    (tmp_path / "runs.json").write_text('{"run": {"steps": 3}}')
    with pytest.raises(ValueError, match="run run was begun with other patience;"):
        check_unchanged({"run": {"steps": 3, "patience": 5}}, tmp_path, defaults={"patience": 0})


def test_the_tokenizer_of_a_change_comes_first(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    """In whatever order the file has the flags: what was begun with another order is the same command."""
    en = content["models"]["en"]
    for vocabulary in ({"tokenizer": "en", "by": "random"}, {"by": "random", "tokenizer": "en"}):
        models = {"en": en, "other": {"from": "en", "vocabulary": vocabulary}}
        planned = plan_of(
            study(models=models, table={"models": ["en", "other"]}, control={"from": "en"}), tmp_path / "out"
        )
        (stage,) = (stage for step in planned.steps if step.name == "model other" for stage in step.stages)
        assert stage.command[4:] == ("--tokenizer", f"{planned.places.tokenizer('en')}", "--by", "random")


def test_what_has_begun_cannot_change_and_the_rest_can(study: StudyMaker, content: Content, tmp_path: Path) -> None:
    output = tmp_path / "out"
    before = plan_of(study(), output).settings()
    check_unchanged(before, output, [])
    other = {**content["pretraining"], "steps": 5}
    changed = plan_of(study(pretraining=other), output).settings()
    begun = ["tokenizer en", "data en"]
    check_unchanged(changed, output, begun)
    with pytest.raises(ValueError, match="run model en was begun with other pretraining.yaml; choose another --output"):
        check_unchanged(before, output, [*begun, "model en"])
    # What a step needs is a part of its settings.
    check_unchanged(before, output, begun)
    larger = plan_of(study(tokenizers={"en": {"text": "en", "vocab_size": 70}}), output).settings()
    with pytest.raises(ValueError, match="run pawsx-en-seed1 was begun with other steps before it"):
        check_unchanged(larger, output, ["pawsx-en-seed1"])
    # Of several steps the one that changed is named, not those that need it.
    with pytest.raises(ValueError, match="run tokenizer en was begun with other commands"):
        check_unchanged(larger, output, sorted(larger, reverse=True))


def test_the_task_file_of_a_probe_is_part_of_its_settings(study: StudyMaker, tmp_path: Path) -> None:
    """It may be edited under its old name."""
    path = tmp_path / "captions.yaml"
    flags = {"flags": {"task": "captions.yaml"}}
    found = []
    for text in ("name: one", "name: other"):
        path.write_text(text)
        plan = plan_of(study(probes={"x": {**PROBE, **flags}}, table={"models": ["en"]}), tmp_path / "out")
        found.append(plan.settings()["probe x en"])
    assert [settings.pop(str(path)) for settings in found] == ["name: one", "name: other"] and found[0] == found[1]
    (step,) = (step for step in plan.steps if step.name == "probe x en")
    step.stages[-1].result.parent.mkdir(parents=True)
    step.stages[-1].result.touch()  # it is finished
    recorded = tmp_path / "out" / "runs.json"
    recorded.write_text(json.dumps({"probe x en": found[1]}))  # when such files were not recorded yet
    prepare_output(plan, tmp_path / "out")
    recorded.write_text(json.dumps(plan.settings()))
    path.write_text("name: third")
    with pytest.raises(ValueError, match="run probe x en was begun with other .*captions.yaml;"):
        prepare_output(plan, tmp_path / "out")


def test_settings_do_not_depend_on_the_place_of_the_study(study: StudyMaker, tmp_path: Path) -> None:
    one, other = (plan_of(study(), tmp_path / name).settings() for name in ("one", "other"))
    assert one == other and "OUTPUT" in json.dumps(one["model en"])


DATA: Content = {"tokenizer": "en", "mono": {"en": "en.txt"}}
ONE_MODEL: Content = {"table": {}, "control": {"from": "en"}}
RANK: Content = {"tokenizer": "en", "by": "rank", "text": ["/dev/null"]}
RANDOM: Content = {"tokenizer": "en", "by": "random"}
OF_FOUND: Content = {"table": {}, "control": {"from": "found"}}
PROBE: Content = {"command": "analysis.syntax", "flags": {}, "results": {"UUAS": "syntax.json:uuas"}}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "missing text": (
        {"data": {"en": {"tokenizer": "en", "mono": {"en": "no.txt"}}}},
        r"data en: mono/en: .*no such file",
    ),
    "corpus": (
        {"data": {"en": {"tokenizer": "en", "mono": {"en": "en.txt"}, "valid": 2}}},
        "data en: valid: expected a",
    ),
    "one directory of two cells": (
        {"tasks": {name: {"task": "pawsx", "languages": ["en"]} for name in ("pos", "pos-en")}}
        | {"models": {name: {"from": "MODEL"} for name in ("en", "en-en")}, "table": {}, "control": {"from": "en"}},
        r"^two steps would write finetuning/pos-en-en-seed1: their names, joined by -, are the same; rename a task",
    ),
    "one directory of two probes": (
        {"probes": {"syntax": PROBE, "syntax-en": {**PROBE, "results": {"other": "syntax.json:other"}}}}
        | {"models": {name: {"from": "MODEL"} for name in ("en", "en-en")}, "table": {}, "control": {"from": "en"}},
        "^two steps would write probes/syntax-en-en:",
    ),
    "no tokenizer": (
        {"tokenizers": {"en": "NO_MASK"}, "models": {"found": {"from": "MODEL", "vocabulary": RANDOM}}, **OF_FOUND},
        r"^data en: .*no_mask: its tokenizer has no mask_token",
    ),
    "no text of a vocabulary": (
        {"models": {"en": {"from": "MODEL", "vocabulary": {**RANK, "source_text": ["no.txt"]}}}, **ONE_MODEL},
        r"^model en: vocabulary: no.txt: no such file$",
    ),
    "no encoder": (
        {"models": {"en": {"from": "CLIP"}}, **ONE_MODEL},
        r"^model en: .*clip: a clip has no num_hidden_layers and hidden_size; expected an encoder of text",
    ),
    "no data": ({"finetuning": {"epochs": 1}}, "task pawsx: data is missing"),
    "no directory": ({"finetuning": {"data": "/no/where"}}, "task pawsx: data /no/where: no such directory"),
    "no train file": ({"tasks": {"x": {"task": "xnli", "languages": ["fr"]}}}, "has no train file of xnli in fr"),
    "value of a field": (
        {"control": {"from": "en", "fields": {"epochs": "x"}}},
        r"task pawsx: \S+mine.yaml:\d+:\d+: epochs: expected a whole number, found 'x'",
    ),
    "field out of its range": (
        {"control": {"from": "en", "fields": {"max_length": 3}}},
        r"task pawsx: \S+mine.yaml:\d+:\d+: max_length 3 must be at least 8",
    ),
    "columns of one name": (
        {"tasks": {"x-en": {"task": "pawsx", "languages": ["en"]}, "x": {"task": "pawsx", "languages": ["en", "de"]}}},
        "two columns are named x-en",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_before_anything_is_made(
    name: str, study: StudyMaker, tmp_path: Path, tiny_model: Path
) -> None:
    """MODEL stands for a model, NO_MASK for a tokenizer without a mask, CLIP for a model that is no encoder of text."""
    write_words(["<s>", "<pad>", "</s>", "<unk>", "Ġa"], tmp_path / "no_mask")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    places = {"MODEL": tiny_model, "NO_MASK": tmp_path / "no_mask", "CLIP": tmp_path / "clip"}
    changes, expected = MISTAKES[name]
    written = json.dumps(changes)
    for word, path in places.items():
        written = written.replace(json.dumps(word), json.dumps(str(path)))
    changes = json.loads(written)
    with pytest.raises(ValueError, match=expected) as told:
        plan_of(study(**changes), tmp_path / "out")
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


def test_lists_of_a_recipe_are_its_lists(study: StudyMaker, tmp_path: Path) -> None:
    """A list in STUDY.yaml is the same list in the recipe, by way of a flag; YAML reads Norwegian as false."""
    own = {"languages": ["en", False], "pairs": [], "steps": 8, "save_at": None}
    words = {name: value_of_field(value) for name, value in own.items()}
    assert words == {"languages": "en,no", "pairs": "", "steps": "8", "save_at": "null"}
    assert convert(tuple[str, ...], words["languages"]) == ("en", "no") and convert(tuple[str, ...], "") == ()
    stages = [{"steps": 2, "languages": ["en"]}]
    assert json.loads(value_of_field(stages)) == stages


def test_models_of_two_sizes_are_refused(study: StudyMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider = {"num_hidden_layers": 2, "hidden_size": 64}
    monkeypatch.setattr(
        "finetune.study.checking.checks.checked", lambda module, lines: [Parsed(values=wider)] * len(lines)
    )
    expected = r"models en and found are compared, but differ in size \(2 x 64 and 2 x 32, layers x width\)"
    with pytest.raises(ValueError, match=expected):
        plan_of(study(), tmp_path / "out")
    plan_of(study(table={"models": ["en"]}, control={"from": "en"}), tmp_path / "out")
