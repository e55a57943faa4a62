"""A task file of a user, in every form of files: train, predict, score, without a line of Python."""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from xtreme_files import COLOURS, NOUNS, german, questions, sentence

from finetune.understanding import evaluate, predict
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe
from training.run import train_run

ROOT = Path(__file__).resolve().parents[3]
Rows = Sequence[tuple[str, str]]  # (text, label)
FEW = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "max_length": 16,
    "stride": 8,
    "max_question_length": 4,
    "max_answer_length": 4,
    "batch_size": 16,
    "epochs": 4,
    "learning_rate": 1e-2,
    "loader_workers": 0,
}
ROWS = {"train": 160, "dev": 16, "test": 40}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "none")


def requests(count: int, language: str, seed: int) -> Rows:
    """Requests whose intent is told by their first word."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        colour = draw.choice(list(COLOURS))
        text = f"{colour} {sentence(draw, 1, 3)}"
        rows.append((text if language == "en" else german(text), "paint" if colour in ("red", "blue") else "wash"))
    return rows


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("utterance", "intent"), *rows])


def write_tsv(path: Path, rows: Rows) -> None:
    path.write_text("".join(f"{number}\t{label}\t{text}\n" for number, (text, label) in enumerate(rows)))


def write_json_lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps({"utterance": text, "intent": label}) + "\n" for text, label in rows))


def write_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps({"data": [{"utterance": text, "intent": label} for text, label in rows]}))


def write_parquet(path: Path, rows: Rows) -> None:
    Dataset.from_list([{"utterance": text, "intent": label} for text, label in rows]).to_parquet(str(path))


def write_conll(path: Path, rows: Rows) -> None:
    words = ("".join(f"{word} O\n" for word in text.split()) for text, _ in rows)
    blocks = (f"# text: {text}\n# intent: {label}\n{own}" for (text, label), own in zip(rows, words, strict=True))
    path.write_text("\n".join(blocks))


FORMS: dict[str, tuple[Callable[[Path, Rows], None], dict[str, Any]]] = {
    "csv": (write_csv, {"text_a": "utterance", "label": "intent"}),
    "tsv": (write_tsv, {"text_a": 2, "label": 1}),
    "jsonl": (write_json_lines, {"text_a": "utterance", "label": "intent"}),
    "json": (write_json, {"records": "data", "text_a": "utterance", "label": "intent"}),
    "parquet": (write_parquet, {"text_a": "utterance", "label": "intent"}),
    "conll": (write_conll, {"text_a": "text", "label": "intent"}),
}


def train(task: Path, data: Path, model: Path, output: Path, **fields: Any) -> Path:
    own = {"task": str(task), "data": str(data), "init_from": str(model), "output": str(output)}
    train_run(build_recipe(UnderstandingRecipe, {**FEW, **own, **fields}, None), UnderstandingTask.of_run)
    return output


def scores_of(task: Path, data: Path, run: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The scores of the commands `predict` and `evaluate`, which write a table and a heat map as well."""
    predictions = output / "predictions"
    monkeypatch.setattr(sys, "argv", ["predict", str(run), "--data", str(data), "--output", str(predictions)])
    predict.main()
    files = ("--json", f"{output}/scores.json", "--markdown", f"{output}/scores.md", "--plot", f"{output}/scores.png")
    command = ("--task", str(task), "--predictions", str(predictions), "--labels", str(data), *files)
    monkeypatch.setattr(sys, "argv", ["evaluate", *command])
    evaluate.main()
    assert (output / "scores.md").read_text() and (output / "scores.png").stat().st_size > 1000
    return json.loads((output / "scores.json").read_text())


@pytest.mark.parametrize("kind", FORMS)
def test_intents_from_every_form(kind: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, columns = FORMS[kind]
    for seed, (split, count) in enumerate(ROWS.items()):
        for language in ("en", "de"):
            write(tmp_path / f"{split}-{language}.x", requests(count, language, seed))
    task = tmp_path / "intents.yaml"
    splits = {split: f"{split}-{{language}}.x" for split in ROWS}
    content = {"head": "sequence", "languages": ["en", "de"], "files": splits, "format": {"kind": kind, **columns}}
    task.write_text(yaml.safe_dump({**content, "metrics": ["accuracy", "macro_f1"]}))
    run = train(task, tmp_path, tiny_model, tmp_path / "run")
    scores = scores_of(task, tmp_path, run, tmp_path, monkeypatch)["intents"]
    assert list(scores) == ["en", "de", "avg"] and list(scores["en"]) == ["accuracy", "macro_f1"]
    assert scores["en"]["accuracy"] >= 90


def test_tags_of_words_separated_by_spaces(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    for split, count in ROWS.items():
        sentences = [draw.choices([*NOUNS, *COLOURS], k=draw.randint(2, 5)) for _ in range(count)]
        tagged = ("".join(f"{word} {'C' if word in COLOURS else 'N'}\n" for word in words) for words in sentences)
        (tmp_path / f"{split}.conll").write_text("\n".join(tagged))
    task = tmp_path / "words.yaml"
    splits = {split: f"{split}.conll" for split in ROWS}
    form = {"kind": "conll", "word": 0, "tag": 1}
    content = {"head": "token", "languages": ["de"], "files": splits, "format": form, "metrics": ["accuracy", "f1"]}
    task.write_text(yaml.safe_dump(content))
    run = train(task, tmp_path, tiny_model, tmp_path / "run", epochs=2)
    assert scores_of(task, tmp_path, run, tmp_path, monkeypatch)["words"]["de"]["accuracy"] >= 90


def test_questions_of_another_language_than_english(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1)
    for split, count in ROWS.items():
        data = {"data": [{"title": split, "paragraphs": questions(split, count, draw)}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(data))
    task = tmp_path / "asked.yaml"
    splits = {split: f"{split}.json" for split in ROWS}
    content = {"head": "span", "languages": ["pt"], "files": splits, "format": {"kind": "squad"}}
    task.write_text(yaml.safe_dump(content))
    run = train(task, tmp_path, tiny_model, tmp_path / "run", epochs=1)
    found = scores_of(task, tmp_path, run, tmp_path, monkeypatch)["asked"]["pt"]
    assert list(found) == ["exact_match"] and 0 <= found["exact_match"] <= 100


def test_the_page_of_the_documentation(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task file, on files as it describes them."""
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```yaml\n(.*?)```", text, re.S)
    task, data = tmp_path / "intents.yaml", tmp_path / "data"
    task.write_text(first)
    data.mkdir()
    for seed, (split, count) in enumerate(ROWS.items()):
        for language in ("en", "de", "tr")[: 2 if split == "dev" else 3]:
            write_csv(data / f"{split}-{language}.csv", requests(count, "en" if language == "en" else "de", seed))
    run = train(task, data, tiny_model, tmp_path / "run", epochs=1)
    scores = scores_of(task, data, run, tmp_path, monkeypatch)
    assert list(scores["intents"]) == ["en", "de", "tr", "avg"]
    assert all(isinstance(yaml.safe_load(block), dict) for block in others)
