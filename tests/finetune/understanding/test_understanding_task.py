"""All nine tasks from training to score, plug-out and plug-in; what is learned, repeated, resumed, and never read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xtreme_files import TINY, TRAINED, second_language, write_xtreme

from finetune.selection import best_checkpoints
from finetune.understanding import evaluate, label, predict
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.task import Split
from finetune.understanding.understanding_task import UnderstandingTask
from training.checkpoints.finding import checkpoints_of
from training.recipe.parsing import build_recipe

TASKS = catalogue_named(XTREME).tasks


def call(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> None:
    """A command's main function as the command line would call it."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


def validations(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "valid/average" in line]


def losses(run_dir: Path, task: str) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line[f"train/{task}"] for line in lines if f"train/{task}" in line]


def test_nine_tasks_plugged_out_and_in(
    train: Callable[..., Path],
    xtreme_data: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Train, predict, evaluate: cross-lingual transfer plugged out, translate-train-all plugged in with a teacher."""
    out, into = tmp_path / "out", tmp_path / "in"
    for task in TRAINED:
        run = train(task, f"{task}-out")
        call(monkeypatch, predict.main, run, "--data", xtreme_data, "--output", out, "--nbest")
        fields: dict[str, Any] = {"setting": "translate-train-all", "plug_in": True}
        fields |= {"translated_test": str(xtreme_data / "english")}
        if task in ("udpos", "panx"):
            call(monkeypatch, label.main, run, "--data", xtreme_data, "--output", tmp_path / "taught")
            fields["translated_train"] = str(tmp_path / "taught")
        run = train(task, f"{task}-in", **fields)
        translated = ("--translated-test", xtreme_data / "english")
        call(monkeypatch, predict.main, run, "--data", xtreme_data, "--output", into, *translated)
    for directory in (out, into):
        for task in ("tatoeba", "bucc2018"):
            arguments = ("--task", task, "--data", xtreme_data, "--output", directory, "--layer", 1)
            call(monkeypatch, predict.main, tiny_model, *arguments)
        scores = evaluate.evaluate(directory, xtreme_data, catalogue_named(XTREME)).as_json()
        assert set(scores) == {*TASKS, "overall"}
        assert scores["overall"] is None, "not all languages are there"
        for task in TASKS:
            languages = {second_language(task)} | ({"en"} if task in TRAINED else set())
            assert set(scores[task]) == {*languages, "avg"}
    best = json.loads((out / "xquad" / "nbest-de.json").read_text())
    answers = json.loads((out / "xquad" / "test-de.json").read_text())
    assert {id: found[0]["text"] for id, found in best.items()} == answers


def test_predictions_replace_no_file_of_others(
    xtreme_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the data, which lie under the same names, nor labels, nor the text for a teacher."""
    root = Path(shutil.copytree(xtreme_data, tmp_path / "root"))
    (root / "link").symlink_to(".")
    labels = tmp_path / "labels" / "tatoeba" / f"test-{second_language('tatoeba')}.tsv"
    labels.parent.mkdir(parents=True)
    labels.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    arguments = (tiny_model, "--task", "tatoeba", "--data", root, "--layer", 1, "--output")
    for output, message in (
        (root, "is the directory that is read"),
        (root / "link", "is the directory that is read"),
        (tmp_path / "labels", rf"holds {labels.name}, not written by finetune\.understanding\.predict"),
    ):
        with pytest.raises(ValueError, match=message):
            call(monkeypatch, predict.main, *arguments, output)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for _ in range(2):  # its own it may replace
        call(monkeypatch, predict.main, *arguments, tmp_path / "predictions")


def test_a_classification_task_is_learned(
    train: Callable[..., Path], xtreme_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("pawsx", epochs=12, dropout=0.0, attention_dropout=0.0)
    found = validations(run)
    assert len(found) == 12
    assert max(line["valid/en/accuracy"] for line in found) >= 90
    best = max(found, key=lambda line: line["valid/average"])
    assert best_checkpoints(run, 1)[0].name == f"step-{best['step']:08d}"
    assert best["valid/average"] == pytest.approx((best["valid/en/accuracy"] + best["valid/de/accuracy"]) / 2)
    arguments = (run, "--data", xtreme_data, "--output", tmp_path / "predictions", "--translated-test", xtreme_data)
    with pytest.raises(ValueError, match="was not trained plugged in and takes no --translated-test"):
        call(monkeypatch, predict.main, *arguments)


def test_a_control_without_pre_training_ends_when_it_stops_getting_better(train: Callable[..., Path]) -> None:
    """A rate at which nothing is learned: two validations in a row are no better than the first."""
    run = train("pawsx", init="random", epochs=30, patience=2, learning_rate=1e-12)
    assert len(validations(run)) == 3


def test_translations_are_learned_from_plugged_in(train: Callable[..., Path], xtreme_data: Path) -> None:
    """Trained on German as well, German is predicted; in transfer a random model cannot know it."""
    fields = {"setting": "translate-train-all", "plug_in": True, "translated_test": str(xtreme_data / "english")}
    run = train("pawsx", epochs=10, dropout=0.0, attention_dropout=0.0, **fields)
    assert max(line["valid/de/accuracy"] for line in validations(run)) >= 90


def test_a_seed_decides_everything(train: Callable[..., Path]) -> None:
    one, same, other = (losses(train("xnli", f"run{i}", seed=seed), "xnli") for i, seed in enumerate((3, 3, 4)))
    assert one == same
    assert one != other


def test_a_resumed_run_equals_the_undisturbed_one(train: Callable[..., Path], tmp_path: Path) -> None:
    """What it started from has moved: the checkpoint suffices."""
    fields = {"epochs": 3, "log_every": 1, "keep_checkpoints": 3}
    undisturbed = train("udpos", "undisturbed", **fields)
    run = tmp_path / "resumed"
    shutil.copytree(undisturbed, run)
    for step in list(checkpoints_of(run))[1:]:
        shutil.rmtree(checkpoints_of(run)[step])
    train("udpos", "resumed", resume="auto", init_from="moved", **fields)
    assert losses(run, "udpos") == losses(undisturbed, "udpos")
    assert validations(run) == validations(undisturbed)


def test_a_changed_task_file_is_not_resumed(train: Callable[..., Path], worlds: Path, tmp_path: Path) -> None:
    """Its validations are of another metric."""
    task = tmp_path / "sequence.yaml"
    content = (worlds / "sequence.yaml").read_text()
    task.write_text(content)
    train(str(task), data=str(worlds), train_examples=4)
    task.write_text(content + "score: [macro_f1]\n")
    with pytest.raises(ValueError, match=r"score of task_file was \['accuracy'\], is \['macro_f1'\]; if that is meant"):
        train(str(task), data=str(worlds), train_examples=4, resume="auto", epochs=2)


@pytest.mark.parametrize(
    ("test", "fields", "is_said"),
    [
        ("dev", {}, True),
        ("dev", {"keep_best": 0}, False),
        ("dev", {"keep_best": 0, "keep_checkpoints": 2}, True),
        ("test", {}, False),
    ],
)
def test_an_epoch_that_is_chosen_on_the_test_is_reported(
    test: str, fields: dict[str, Any], is_said: bool, worlds: Path, tiny_model: Path, tmp_path: Path
) -> None:
    task = tmp_path / "sequence.yaml"
    text = (worlds / "sequence.yaml").read_text()
    assert "sequence/test-" in text
    task.write_text(text.replace("sequence/test-", f"sequence/{test}-"))
    own = {"task": str(task), "data": str(worlds), "init_from": str(tiny_model), "output": "run", "train_examples": 4}
    facts = UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None)).facts()
    said = facts.get("dev is the test", "")
    assert said.startswith("in en, de: the best checkpoint is chosen on what is reported; with keep_best 0") == is_said


def test_accumulation_changes_nothing(train: Callable[..., Path]) -> None:
    """Two micro-batches of four rows are an update of eight; plugged in, with labels on both sides."""
    fields = {"setting": "translate-train-all", "plug_in": True, "dropout": 0.0, "attention_dropout": 0.0}
    whole = losses(train("xquad", "whole", log_every=1, **fields), "xquad")
    halves = losses(train("xquad", "halves", log_every=1, micro_batch_size=4, **fields), "xquad")
    assert halves == pytest.approx(whole, rel=1e-4)


def test_dev_without_labels_is_found_before_training(tmp_path: Path, tiny_model: Path) -> None:
    root = tmp_path / "data"
    write_xtreme(root, num_train=20, num_test=4)

    def build(task: str, **fields: Any) -> None:
        own = {"task": task, "data": str(root), "init_from": str(tiny_model), "output": "run"}
        UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None))

    plugged_in = {"setting": "translate-train-all", "plug_in": True, "translated_test": str(root / "englsih")}
    with pytest.raises(ValueError, match="translated_test .*englsih: no such directory"):
        build("xnli", **plugged_in)
    (root / "udpos" / "dev-de.tsv").write_text("Hund\n\n")
    with pytest.raises(ValueError, match="data: dev of udpos in de: a sentence in 'de' has no tags"):
        build("udpos")
    dev = root / "squad" / "dev-v1.1.json"
    content = json.loads(dev.read_text())
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = []
    dev.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="data: dev of xquad in en: 1 of 4 questions have no accepted answer"):
        build("xquad")


def test_truncation_is_reported(
    train: Callable[..., Path], xtreme_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    root = tmp_path / "data"
    shutil.copytree(xtreme_data, root)
    for split in ("dev", "test"):
        (root / "pawsx" / f"{split}-de.tsv").write_text(f"{'Hund ' * 40}\tKatze\t1\nHund\tKatze\t0\n")
    run = train("pawsx", data=str(root))
    assert "14 examples in de, en; de: 1 pairs cut to max_length" in capsys.readouterr().err
    command = (run, "--data", root, "--output", tmp_path / "predictions")
    call(monkeypatch, predict.main, *command)
    assert "de: 1 pairs cut to max_length" in capsys.readouterr().err


@pytest.mark.parametrize("task", TRAINED)
def test_no_test_file_is_read_in_training(task: str, tmp_path: Path, tiny_model: Path) -> None:
    """The task is built from a directory whose test files are traps; TyDiQA's test is XTREME's dev."""
    root = tmp_path / "data"
    write_xtreme(root, num_train=20, num_test=4)
    traps = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and ("test" in path.name or "xquad" in path.name or ("goldp" in path.name and "dev" in path.name))
    ]
    assert len(traps) > 10
    for trap in traps:
        trap.write_text("not\tto\tbe\tread\n")  # in no form that a reader takes
    for language in ("en", second_language(task)):
        with pytest.raises(ValueError):
            list(read(TASKS[task], Split.TEST, language, root))
    own = {"task": task, "data": str(root), "init_from": str(tiny_model), "output": "run"}
    settings = {"setting": "translate-train-all", "plug_in": True, "translated_test": str(root / "english")}
    if task in ("udpos", "panx"):
        settings = {}  # their translations have no tags yet
    UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **settings}, None))
