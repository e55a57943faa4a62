"""Tests translated into the source language: by a model as it translates itself; what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_translation import sentences, toy_model, write_toy_tokenizer
from xtreme_files import write_lines

from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator
from finetune.understanding import translate
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Choices, LabelledText
from finetune.understanding.tasks.task import Split

PAIRS = """
name: pairs
head: sequence
languages: [en, de]
files: {test: "{language}.tsv"}
format: {kind: tsv, text_a: 0, text_b: 1, label: 2}
labels: ["no", "yes"]
"""
CHOICES = """
name: causes
head: choice
languages: [en, de]
files: {test: "{language}.jsonl"}
format: {kind: jsonl, id: idx, text_a: premise, choices: [choice1, choice2], question: question, label: label}
phrases: {cause: "What was the cause?", effect: "What was the effect?"}
"""
RANKED = """
name: ranked
head: ranking
languages: [en, de]
files: {test: "{language}.jsonl"}
format: {kind: jsonl, text_a: query, text_b: text, group: group, label: grade}
"""


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two directions."""
    directory = tmp_path_factory.mktemp("translate") / "model"
    write_toy_tokenizer(directory)
    toy_model(directory).save_pretrained(directory)
    return directory


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["translate", *map(str, arguments)])
    translate.main()


def test_a_model_translates_each_text_as_it_does_alone(
    translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = sentences(6, seed=3)
    rows = [(texts[0], texts[1], "yes"), (texts[0], texts[2], "no"), (f" {texts[3]}  {texts[4]}", texts[5], "no")]
    write_lines(tmp_path / "data/de.tsv", ["\t".join(row) for row in rows])
    write_lines(tmp_path / "data/en.tsv", ["\t".join(row) for row in rows])
    task = tmp_path / "pairs.yaml"
    task.write_text(PAIRS)
    arguments = ("--task", task, "--data", tmp_path / "data", "--output", tmp_path / "english", "--beam", 2)
    run(monkeypatch, translator, *arguments)
    model = Translator.load(translator, SearchOptions(beam=2), target_language="en")
    expected = [[" ".join(text.split()) for text in row[:2]] for row in rows]
    found = [[model.translate([text])[0][0].text or text for text in row] for row in expected]
    assert found != expected
    examples = list(read(task_named(str(tmp_path / "english/pairs.yaml")), Split.TEST, "de", tmp_path / "english"))
    assert examples == [LabelledText(a, b, None, "de") for a, b in found]
    assert not (tmp_path / "english/test-en.jsonl").exists(), "the source language needs no translation"


@pytest.fixture
def upper(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Translates into capitals; the texts that were asked for."""
    asked: list[list[str]] = []

    def translations(texts: Mapping[str, None], model: Path, flags: Sequence[str]) -> dict[str, str]:
        asked.append(list(texts))
        return {text: text.upper() for text in texts}

    monkeypatch.setattr(translate, "translations", translations)
    monkeypatch.setattr(translate, "language_flags", lambda model, language: [])
    return asked


def records(path: Path, *content: dict[str, Any]) -> None:
    write_lines(path, [json.dumps(record) for record in content])


def test_choices_keep_their_question_and_their_id(
    translator: Path, upper: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "causes.yaml").write_text(CHOICES)
    record = {"premise": "es regnet", "choice1": "nass", "choice2": "trocken", "question": "effect", "label": 0}
    records(tmp_path / "data/de.jsonl", {**record, "idx": 7}, {**record, "question": "cause", "idx": 8})
    arguments = ("--data", tmp_path / "data", "--output", tmp_path / "english")
    run(monkeypatch, translator, "--task", tmp_path / "causes.yaml", *arguments)
    assert upper == [["es regnet", "nass", "trocken"]], "each text once"
    task = task_named(str(tmp_path / "english/causes.yaml"))
    assert list(read(task, Split.TEST, "de", tmp_path / "english")) == [
        Choices(f"ES REGNET What was the {what}?", ("NASS", "TROCKEN"), None, "de", str(number))
        for number, what in ((7, "effect"), (8, "cause"))
    ]


def test_splits_stay_apart(
    translator: Path, upper: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests and dev sets in one root, and languages one after another."""
    task = tmp_path / "topics.yaml"
    task.write_text(
        "head: sequence\nlanguages: [en, de, fr]\nlabels: [a, b]\nfiles: {dev: 'dev-{language}.tsv', "
        "test: '{language}.tsv'}\nformat: {kind: tsv, text_a: 0, label: 1}\n"
    )
    texts = {"de.tsv": "eins\ta", "fr.tsv": "un\ta", "dev-de.tsv": "zwei\tb", "dev-fr.tsv": "deux\tb"}
    for name, line in texts.items():
        write_lines(tmp_path / "data" / name, [line])
    arguments = ("--task", task, "--data", tmp_path / "data", "--output", tmp_path / "english")
    for own in (("--languages", "de,fr"), ("--languages", "fr", "--split", "dev"), ("--languages", "de")):
        run(monkeypatch, translator, *arguments, *own)
    made = task_named(str(tmp_path / "english/topics.yaml"))
    for split, language, text in (("test", "de", "EINS"), ("test", "fr", "UN"), ("dev", "fr", "DEUX")):
        expected = [LabelledText(text, None, None, language)]
        assert list(read(made, Split(split), language, tmp_path / "english")) == expected
    with pytest.raises(ValueError, match="no dev file of topics for the language 'de'"):
        list(read(made, Split.DEV, "de", tmp_path / "english"))


def test_candidates_stay_with_their_query(
    translator: Path, upper: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ranked.yaml").write_text(RANKED)
    record = {"query": "wo", "text": "hier", "grade": 1}
    records(tmp_path / "data/de.jsonl", {**record, "group": "a"}, {**record, "group": "b"})
    arguments = ("--data", tmp_path / "data", "--output", tmp_path / "english")
    run(monkeypatch, translator, "--task", tmp_path / "ranked.yaml", *arguments)
    task = task_named(str(tmp_path / "english/ranked.yaml"))
    found = [one for one in read(task, Split.TEST, "de", tmp_path / "english") if isinstance(one, LabelledText)]
    assert [(one.text_a, one.text_b, one.group) for one in found] == [("WO", "HIER", "a"), ("WO", "HIER", "b")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "panx"), "--task panx: the spans and tags of a translation are not those of the test"),
        (("--task", "xnli", "--languages", "en"), "xnli: its tests are in en alone, which needs no translation"),
    ],
)
def test_wrong_commands_are_refused(
    arguments: tuple[str, ...],
    message: str,
    translator: Path,
    xtreme_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, translator, "--data", xtreme_data, "--output", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is the directory that is read"):
        run(monkeypatch, translator, "--data", xtreme_data, "--output", xtreme_data, "--task", "xnli")


def test_a_model_into_other_languages_is_refused(
    translator: Path, tmp_path: Path, xtreme_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tmp_path / "pairs.yaml"
    task.write_text(PAIRS.replace("[en, de]", "[fr, de]"))
    data = Path(shutil.copytree(xtreme_data / "xnli", tmp_path / "data"))
    with pytest.raises(ValueError, match="no tag __fr__ in the tokenizer; target languages it has: de, en"):
        run(monkeypatch, translator, "--task", task, "--data", data, "--output", tmp_path / "out")
