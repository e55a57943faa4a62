"""COMPARE.yaml for XTREME: runs, commands, refusals, what the data lacks; the tables by hand."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from finetune import random_model
from finetune.steps import check_unchanged
from finetune.understanding import evaluate, layers, predict
from finetune.understanding.compare import Plan, compare, plan, write_report
from finetune.understanding.comparison.configuration import Comparison, Group, groups_of, read_comparison
from finetune.understanding.comparison.runs import runs_of
from finetune.understanding.recipe import UnderstandingRecipe
from pretrain import export
from training.checkpoints.finding import RECIPE_FILE
from training.recipe.parsing import parse_recipe
from veco import VecoConfig

COMPARISONS = Path(predict.__file__).parent / "comparisons"
XNLI = Path(predict.__file__).parent / "catalogues" / "xtreme" / "xnli.yaml"
TAB = "\t"
BOTH = {"settings": ["transfer", "translate-train-all"], "modes": ["plug-out", "plug-in"]}


@pytest.fixture(scope="module")
def data(xtreme_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a second language of Tatoeba, so that there is another to choose a layer on; of PAWS-X, fewer in German."""
    root = tmp_path_factory.mktemp("compare") / "data"
    shutil.copytree(xtreme_data, root)
    for side, new in (("en", "en"), ("de", "fi")):
        shutil.copyfile(root / f"tatoeba/tatoeba.de-en.{side}", root / f"tatoeba/tatoeba.fi-en.{new}")
    german = (root / "pawsx/train-de.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "pawsx/train-de.tsv").write_text("".join(german[:-2]), encoding="utf-8")
    return root


@pytest.fixture
def content(data: Path, tiny_model: Path) -> dict[str, object]:
    """A comparison of two models on a task with training and two of retrieval."""
    return {
        "data": str(data),
        "models": {
            "veco": {"init_from": str(tiny_model)},
            "random": {"init_from": str(tiny_model), "init": "random", "learning_rate": 1e-3},
        },
        "tasks": ["xnli", "bucc2018", "tatoeba"],
        "seeds": [1, 2],
        "fields": {"engine": "plain", "epochs": 2, "max_length": 24, "stride": 8},
        "task_fields": {"xnli": {"epochs": 4}, "bucc2018": {"similarity": "margin"}},
        "retrieval": {"similarity": "csls", "centre": True, "layers": [1, 2], "layer": 1, "max-length": 16},
    }


def read(directory: Path, content: dict[str, object], **changes: object) -> Comparison:
    path = directory / "compare.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return read_comparison(path)


def test_all_runs_have_the_same_budget(content: dict[str, object], tmp_path: Path) -> None:
    planned = plan(read(tmp_path, content), tmp_path / "out")
    names = [run.name for run in planned.runs]
    of_seed = "xnli-transfer-plug-out-veco-seed{0} xnli-transfer-plug-out-random-seed{0}"
    # Weights that come as they are have no seed in retrieval, and one run.
    assert names == [
        *of_seed.format(1).split(),
        *("bucc2018-veco", "bucc2018-random-seed1", "tatoeba-veco", "tatoeba-random-seed1"),
        *of_seed.format(2).split(),
        *("bucc2018-random-seed2", "tatoeba-random-seed2"),
    ]
    recipes = [run.recipe for run in planned.runs if run.recipe is not None]
    assert [(recipe.epochs, recipe.batch_size, recipe.resume) for recipe in recipes] == [(4, 32, "auto")] * 4
    assert [(recipe.init, recipe.learning_rate, recipe.seed) for recipe in recipes] == [
        *(("pretrained", 1e-5, 1), ("random", 1e-3, 1), ("pretrained", 1e-5, 2), ("random", 1e-3, 2)),
    ]
    first = dataclasses.asdict(recipes[0])
    for recipe in recipes:
        changed = {name for name, value in dataclasses.asdict(recipe).items() if value != first[name]}
        assert changed <= {"init", "learning_rate", "seed", "output"}


def test_what_the_data_lacks_is_left_out(content: dict[str, object], tmp_path: Path) -> None:
    """Translated text of POS has no tags, a table of PAWS-X has fewer rows, TyDiQA has no pairs in transfer."""
    tasks = {"tasks": ["pawsx", "udpos", "tydiqa"], "task_fields": {}}
    planned = plan(read(tmp_path, content, **tasks, **BOTH), tmp_path / "out")
    assert [str(group) for group in planned.groups] == [
        *("PAWS-X, transfer, plug-out", "PAWS-X, translate-train-all, plug-out", "POS, transfer, plug-out"),
        *(f"TyDiQA, {way}" for way in ("transfer, plug-out", *(f"translate-train-all, {m}" for m in BOTH["modes"]))),
    ]
    no_tags = "translated training text without tags, which finetune.understanding.label writes"
    assert planned.left_out == {
        "PAWS-X, translate-train-all, plug-in": "no pairs: 60 training rows in en, 58 in de",
        "POS, translate-train-all, plug-out": no_tags,
        "POS, translate-train-all, plug-in": no_tags,
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="nothing to compare on. NER, transfer, plug-out: no test files"):
        plan(read(tmp_path, content, tasks=["panx"], task_fields={}, data=str(empty)), tmp_path / "out")


def test_hidden_labels_are_left_out_and_bad_files_are_an_error(
    content: dict[str, object], data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    changes = {"data": str(root), "task_fields": {}, "tasks": ["xnli", "tatoeba"]}
    hidden = [line.rpartition("\t")[0] for line in (root / "xnli/test-de.tsv").read_text().splitlines()]
    (root / "xnli/test-de.tsv").write_text("".join(f"{line}\n" for line in hidden))
    for side in ("fi", "en"):
        (root / f"tatoeba/tatoeba.fi-en.{side}").rename(root / f"tatoeba/fi-en.{side}")
    planned = plan(read(tmp_path, content, **changes), tmp_path / "out")
    assert planned.languages == {"xnli": ["en"], "tatoeba": ["de"]} and not planned.left_out
    (scored,) = (stage for stage in planned.stages(planned.runs[0]) if "--labels" in stage.command)
    assert scored.command[scored.command.index("--languages") + 1] == "en"
    write_report([], planned, tmp_path)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "XNLI: no labels are known in de (" in table and "Tatoeba: no labels are known in fi (" in table
    shutil.copyfile(root / "xnli/test-de.tsv", root / "xnli/test-en.tsv")
    planned = plan(read(tmp_path, content, **changes), tmp_path / "out")
    assert planned.left_out["XNLI, transfer, plug-out"].startswith("tests without labels (")
    (root / "xnli/test-de.tsv").write_text("a\tb\tperhaps\n")
    with pytest.raises(ValueError, match="test-de.tsv: line 1: unknown label 'perhaps'"):
        plan(read(tmp_path, content, **changes), tmp_path / "out")


def test_translations_with_their_originals_need_not_be_as_many(
    content: dict[str, object], data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    english, translated = ((root / f"pawsx/train-{x}.tsv").read_text().splitlines() for x in ("en", "de"))
    rows = [f"{own.rpartition(TAB)[0]}\t{other}" for own, other in zip(english, translated, strict=False)]
    (root / "pawsx/train-de.tsv").write_text("".join(f"{row}\n" for row in rows))
    changes = {"data": str(root), "task_fields": {}, "tasks": ["pawsx"]}
    assert not plan(read(tmp_path, content, **changes, **BOTH), tmp_path / "out").left_out
    # One that brings none is paired by its row, and needs as many.
    (root / "pawsx/train-de.tsv").write_text("".join(f"{row}\n" for row in [*rows[:-1], translated[len(rows) - 1]]))
    left_out = plan(read(tmp_path, content, **changes, **BOTH), tmp_path / "out").left_out
    assert left_out == {"PAWS-X, translate-train-all, plug-in": "no pairs: 60 training rows in en, 58 in de"}


@pytest.mark.parametrize(
    ("objective", "note"),
    [
        ("mlm+tlm", "Plugged in, but pre-training did not train the cross-attention: veco (mlm+tlm)."),
        ("ca_mlm+tlm", ""),
    ],
)
def test_a_model_whose_cross_attention_is_not_trained_is_reported(
    objective: str,
    note: str,
    content: dict[str, object],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the README.md of an exported model says; of random weights nobody expects it."""
    recipe = {"cross_attention_steps": 0, "steps": 1, "init_from": None, "objective": objective}
    state = dict.fromkeys(("data_fingerprint", "layout", "versions"), "")
    monkeypatch.setattr(export, "read_state", lambda checkpoint: state)
    (tmp_path / RECIPE_FILE).write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(export, "read_metrics", lambda run: [])
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "README.md").write_text(export.model_card(tmp_path, {1: tmp_path}, VecoConfig(), "float32", []))
    models = {"veco": {"init_from": str(model)}, "random": {"init_from": str(model), "init": "random"}}
    changes = {"tasks": ["xnli"], "task_fields": {}, "models": models}
    for modes, expected in (({}, ""), (BOTH, note)):
        planned = plan(read(tmp_path, content, **{**changes, **modes}), tmp_path / "out")
        write_report([], planned, tmp_path)
        lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "cross-attention" in line] == ([expected] if expected else [])


def parsed(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> dict[str, object]:
    """What a module's own command line makes of a stage."""
    monkeypatch.setattr(sys, "argv", list(command))
    parse = {
        "finetune.understanding.predict": predict.parse_arguments,
        "finetune.understanding.layers": layers.parse_arguments,
        "finetune.understanding.evaluate": evaluate.parse_arguments,
    }[command[0]]
    return vars(parse())


def test_the_commands_of_a_trained_run(
    content: dict[str, object], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = str(data / "english")
    changes = {"task_fields": {"xnli": {"translated_test": english}}, "languages": {"xnli": ["de"]}}
    planned = plan(read(tmp_path, content, **{**BOTH, **changes}), tmp_path / "out")
    run = next(run for run in planned.runs if run.group == Group("xnli", "translate-train-all", "plug-in"))
    assert run.recipe is not None and run.recipe.plug_in
    train, guess, score = planned.stages(run)
    assert train.command[0] == "finetune.understanding.train" and not train.is_distributed
    assert parse_recipe(UnderstandingRecipe, train.command[1:]) == run.recipe
    options = parsed(monkeypatch, guess.command)
    assert (options["model"], options["translated_test"], options["languages"]) == (run.output, english, "de")
    assert guess.result == run.output / "predictions/xnli/test-de.tsv"
    alone = next(run for run in planned.runs if run.group == Group("xnli", "translate-train-all", "plug-out"))
    assert parsed(monkeypatch, planned.stages(alone)[1].command)["translated_test"] == ""
    options = parsed(monkeypatch, score.command)
    assert (options["labels"], options["json"], options["languages"]) == (str(data), score.result, "de")
    launched = read(tmp_path, content, fields={"max_length": 24, "stride": 8}, tasks=["xnli"], task_fields={})
    launched_run = plan(launched, tmp_path / "out")
    first = launched_run.stages(launched_run.runs[0])[0]
    assert first.is_distributed and first.command[0] == "finetune/understanding/train.py"


def test_the_commands_of_retrieval(
    content: dict[str, object], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(read(tmp_path, content), tmp_path / "out")
    by_name = {run.name: planned.stages(run) for run in planned.runs}
    (choose,) = by_name["tatoeba-veco"]
    options = parsed(monkeypatch, choose.command)
    assert (options["model"], options["layers"], options["similarity"]) == (tiny_model, "1,2", "csls")
    assert (options["centre"], options["whiten"], options["max_length"]) == (True, False, 16)
    assert options["languages"] == "de,fi" or options["languages"] == "fi,de"
    # BUCC has one language here: no other to choose on, so the layer that the file gives.
    draw, guess, score = by_name["bucc2018-random-seed2"]
    assert draw.command == (*("finetune.random_model", str(tiny_model), "--seed", "2", "--output"), str(draw.result))
    options = parsed(monkeypatch, guess.command)
    assert (options["model"], options["layer"], options["similarity"]) == (draw.result, 1, "margin")
    assert parsed(monkeypatch, score.command)["json"] == score.result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["xnli", "xnlli"]}, "unknown task 'xnlli'; XTREME has xnli, pawsx"),
        (
            {"settings": ["zero-shot"]},
            "settings zero-shot: expected some of transfer, translate-train-all, translate-train, joint",
        ),
        ({"modes": []}, "modes : expected some of plug-out, plug-in"),
        ({"models": {"a": {"init_from": "m", "epochs": 9}}}, "model a changes epochs: budgets would not be equal"),
        (
            {"models": {"a/b": {"init_from": "m", "init": "xlm"}, "c": {}}},
            "'a/b' names dir.*'xlm' must.*|c has no init",
        ),
        ({"models": {}}, "models names none"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\] must be different"),
        ({"seed": 1}, "unknown key 'seed'"),
        ({"data": "${NO_SUCH_THING}/xtreme"}, "the environment variable NO_SUCH_THING is not set"),
        ({"fields": {"seed": 3}}, "fields: seed cannot be set here"),
        ({"task_fields": {"mlqa": {}}}, "task_fields of mlqa, which tasks does not list"),
        ({"retrieval": {"similarity": "dot"}}, "retrieval: argument --similarity: invalid choice: 'dot'"),
        ({"retrieval": {"depth": 2}}, "retrieval: unknown flag --depth"),
        ({"retrieval": {"layers": "1,2"}}, "retrieval: layers must be a list of numbers"),
        ({"fields": {"dropout": 2, "stepps": 1}}, "unknown field 'stepps', did you mean 'steps'.*dropout 2.0 must"),
        ({"fields": {"engine": "plain"}}, "max_length 128 exceeds the 64 tokens the model takes"),
        ({"retrieval": {"layer": 3}}, "retrieval: layer 3: .* has layers 1 to 2, and 0"),
        ({"languages": {"xnli": ["de", "fr"]}}, "has no test file of xnli in fr"),
        ({"data": "/no/such/data"}, "data /no/such/data: no such directory"),
        ({"models": {"a": {"init_from": "/no/model"}}}, "init_from /no/model: expected a model directory"),
        (
            {"task_fields": {"xnli": {"translated_test": "/no/tests"}}},
            "translated_test /no/tests: no such directory",
        ),
    ],
)
def test_wrong_comparisons_are_refused(
    changes: dict[str, object], message: str, content: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        plan(read(tmp_path, content, **changes), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_other_tokenizers_matter_to_training_alone(
    content: dict[str, object], tiny_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tokenizer = (other / "tokenizer.json").read_text(encoding="utf-8")
    (other / "tokenizer.json").write_text(tokenizer.replace("▁hund", "▁katze"), encoding="utf-8")
    models = {name: {"init_from": str(path)} for name, path in (("a", tiny_model), ("b", other))}
    tasks = {"tasks": ["xnli", "udpos"], "task_fields": {"xnli": {"epochs": 0, "steps": 9}}, "models": models}
    write_report([], plan(read(tmp_path, content, **tasks), tmp_path / "out"), tmp_path)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert "Different tokenizers (a | b): the same examples, but not the same tokens." in lines
    # XNLI has a row for each pair, and POS a number of windows.
    (note,) = (line for line in lines if "long texts" in line)
    assert note.startswith("POS: long texts become several rows, and how many depends on the tokenizer")
    retrieval = plan(read(tmp_path, content, models=models, tasks=["tatoeba"], task_fields={}), tmp_path / "out")
    assert not retrieval.tokenizers


def test_a_changed_comparison_is_not_mixed_with_what_is_done(content: dict[str, object], tmp_path: Path) -> None:
    output = tmp_path / "out"

    def check(**changes: object) -> None:
        check_unchanged(plan(read(tmp_path, content, **changes), output).settings(), output)

    check()
    check(seeds=[1, 2, 3], tasks=["xnli", "bucc2018", "tatoeba", "udpos"])
    with pytest.raises(ValueError, match="run xnli-.* was begun with other epochs; choose another --output"):
        check(task_fields={"xnli": {"epochs": 5}, "bucc2018": {"similarity": "margin"}})
    with pytest.raises(ValueError, match="run tatoeba-.* was begun with other retrieval"):
        check(retrieval={"similarity": "cosine"}, tasks=["tatoeba"], task_fields={})
    with pytest.raises(ValueError, match="was begun with other test languages"):
        check(languages={"xnli": ["de"]})
    # The whole command looks, too, before it starts anything.
    with pytest.raises(ValueError, match="was begun with other batch_size"):
        read(tmp_path, content, fields={**content["fields"], "batch_size": 8})  # type: ignore[dict-item]
        compare(tmp_path / "compare.yaml", output)


def finish(planned: Plan, name: str, scores: dict[str, object]) -> None:
    """Leave behind what a finished run does."""
    run = next(run for run in planned.runs if run.name == name)
    path = planned.stages(run)[-1].result
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(scores), encoding="utf-8")


def accuracy(**percent: float) -> dict[str, object]:
    return {"xnli": {language: {"accuracy": value} for language, value in percent.items()}, "overall": None}


def test_tables_worked_by_hand(content: dict[str, object], tmp_path: Path) -> None:
    comparison = read(tmp_path, content, tasks=["xnli", "tatoeba", "xquad"], task_fields={})
    planned = plan(comparison, tmp_path / "out")
    finish(planned, "xnli-transfer-plug-out-veco-seed1", accuracy(en=60, de=50, avg=55))
    finish(planned, "xnli-transfer-plug-out-veco-seed2", accuracy(en=64, de=50, avg=57))
    finish(planned, "xnli-transfer-plug-out-random-seed1", accuracy(en=40, de=30, avg=35))
    chosen = {"de": {"layer": 2, "score": 12.5}, "fi": {"layer": 1, "score": 25}}
    finish(planned, "tatoeba-veco", {"layers": {}, "chosen": chosen, "avg": 18.75})
    answers = {language: {"exact_match": 10.0, "f1": 30.0} for language in ("en", "de", "avg")}
    finish(planned, "xquad-transfer-plug-out-veco-seed1", {"xquad": answers})
    write_report(planned.results(), planned, tmp_path)
    # Sample deviations: of 60 and 64 it is sqrt(8), of 55 and 57 sqrt(2).
    assert (tmp_path / "table.md").read_text(encoding="utf-8").splitlines() == [
        "Scores on the tests in percent; mean ± sd over the seeds.",
        "",
        "| average over the languages | score | veco | random |",
        "| --- | --- | --- | --- |",
        "| XNLI, transfer, plug-out | accuracy | 56.00 ± 1.41 | 35.00 |",
        "| Tatoeba | accuracy | 18.75 | – |",
        "| XQuAD, transfer, plug-out | mean of exact match and f1 | 20.00 | – |",
        "",
        "5 of 11 runs are done.",
        "",
        "## XNLI, transfer, plug-out: accuracy",
        "",
        "|  | seeds | de | en | avg |",
        "| --- | --- | --- | --- | --- |",
        "| veco | 1, 2 | 50.00 ± 0.00 | 62.00 ± 2.83 | 56.00 ± 1.41 |",
        "| random | 1 | 30.00 | 40.00 | 35.00 |",
        "",
        "## Tatoeba: accuracy",
        "",
        "|  | seeds | de | fi | avg |",
        "| --- | --- | --- | --- | --- |",
        "| veco | – | 12.50 | 25.00 | 18.75 |",
        "| veco: layer | – | 2 | 1 |  |",
        "",
        "## XQuAD, transfer, plug-out: mean of exact match and f1",
        "",
        "|  | seeds | en | de | avg |",
        "| --- | --- | --- | --- | --- |",
        "| veco | 1 | 20.00 | 20.00 | 20.00 |",
    ]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["results"]
    assert [one["main"]["avg"] for one in results] == [55, 35, 18.75, 20, 57]
    assert results[3]["scores"]["avg"] == {"exact_match": 10.0, "f1": 30.0}


def test_remarks_follow_the_tables(content: dict[str, object], tmp_path: Path) -> None:
    tasks = {"tasks": ["pawsx", "xnli", "bucc2018"], "task_fields": {}}
    planned = plan(read(tmp_path, content, **{**tasks, **BOTH}), tmp_path / "out")
    write_report([], planned, tmp_path)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines[2:] if line and not line.startswith("|")] == [
        "0 of 23 runs are done.",
        "Left out (no pairs: 60 training rows in en, 58 in de): PAWS-X, translate-train-all, plug-in.",
        "Without translations into English, tests are their own pairs: XNLI, translate-train-all, plug-in (de).",
        "BUCC: one language, and no other to choose a layer on; layer 1.",
    ]


@pytest.mark.parametrize(("fields", "is_said"), [({}, True), ({"keep_best": 0}, False)])
def test_an_epoch_that_is_chosen_on_the_test_is_remarked(
    fields: dict[str, object], is_said: bool, content: dict[str, object], data: Path, tmp_path: Path
) -> None:
    task = yaml.safe_load(XNLI.read_text())
    own = {"name": "mine", "files": {**task["files"], "test": task["files"]["dev"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**task, **own}))
    changes = {"tasks": ["mine.yaml", "xnli"], "task_fields": {}, "fields": {**content["fields"], **fields}}
    planned = plan(read(tmp_path, content, **changes), tmp_path / "out")
    write_report([], planned, tmp_path)
    remark = "`keep_checkpoints: 1` none is chosen): XNLI, transfer"
    assert (remark in (tmp_path / "table.md").read_text(encoding="utf-8")) == is_said
    assert list(planned.chosen_on_tests.values()) == [["de", "en"]] * is_said


def test_a_directory_of_translations_may_lack_some(content: dict[str, object], data: Path, tmp_path: Path) -> None:
    tasks = {"tasks": ["xnli", "xquad"], "task_fields": {}, "models": {"veco": content["models"]["veco"]}}
    for where, lacking in ((tmp_path, ["XNLI", "XQuAD"]), (data / "english", [])):
        fields = {**content["fields"], "translated_test": str(where), "max_question_length": 8}
        planned = plan(read(tmp_path, content, **{**tasks, **BOTH, "fields": fields}), tmp_path / "out")
        expected = {f"{task}, translate-train-all, plug-in": ["de"] for task in lacking}
        assert planned.own_pairs == expected


@pytest.mark.parametrize("path", sorted(COMPARISONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_comparison_is_sound(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", "/corpora")
    monkeypatch.setenv("VECO_RUNS", "/runs")
    comparison = read_comparison(path)
    groups = groups_of(comparison)
    assert {group.task for group in groups} == set(comparison.tasks)
    assert len(runs_of(groups, comparison, tmp_path)) == len(groups) * len(comparison.models) * len(comparison.seeds)


def test_random_weights_have_the_shape_and_the_tokenizer(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("one", "1"), ("again", "1"), ("two", "2")):
        monkeypatch.setattr(sys, "argv", ["", str(tiny_model), "--seed", seed, "--output", str(tmp_path / name)])
        random_model.main()
    files = {path: (path / "model.safetensors").read_bytes() for path in (tiny_model, *tmp_path.iterdir())}
    assert files[tmp_path / "one"] == files[tmp_path / "again"]
    assert len({files[tiny_model], files[tmp_path / "one"], files[tmp_path / "two"]}) == 3
    assert {len(content) for content in files.values()} == {len(files[tiny_model])}
    assert (tmp_path / "one/tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()
    max_tokens = VecoConfig.from_pretrained(tiny_model).max_tokens
    assert AutoTokenizer.from_pretrained(tmp_path / "one").model_max_length == max_tokens


def test_other_encoders_are_compared_plugged_out(
    content: dict[str, object], encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each with its own tokenizer, in training and retrieval; plugged in, they are refused before the first run."""
    models = {"veco": content["models"]["veco"], "bert": {"init_from": str(encoder_directory("bert"))}}
    planned = plan(read(tmp_path, content, models=models), tmp_path / "out")
    assert {run.model for run in planned.runs} == {"veco", "bert"}
    with pytest.raises(ValueError, match="a bert has no cross-attention to plug in; leave out plug_in"):
        plan(read(tmp_path, content, models=models, tasks=["xnli"], task_fields={}, **BOTH), tmp_path / "out")
    deeper = {**content["retrieval"], "layers": [3, 4]}
    with pytest.raises(ValueError, match="retrieval: layer 4: .*bert has layers 1 to 3, and 0"):
        plan(read(tmp_path, content, models={"bert": models["bert"]}, retrieval=deeper), tmp_path / "out")
