"""Task files: their meaning, and one line with file, line and column for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.understanding.tasks.catalogues import catalogue_named, catalogue_names, task_named
from finetune.understanding.tasks.task import FileKind, Format, Head, Split
from finetune.understanding.tasks.task_file import content_of, read_task, task_of

TOPICS = """\
head: sequence
languages: [en, de, "no"]
files: {train: "train-{language}.tsv", dev: "dev-{language}.tsv", test: "test-{language}.tsv"}
format: {kind: tsv, text_a: text, label: category}
metrics: [accuracy, macro_f1]
"""


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(TOPICS)
    task = read_task(path)
    assert (task.name, task.title, task.head) == ("topics", "topics", Head.SEQUENCE)
    assert task.train_languages == ("en",) and task.labels == ()
    assert (task.metrics, task.main_metrics) == (("accuracy", "macro_f1"), ("accuracy",))
    (place,) = task.files[Split.TRAIN]
    assert place.path == "train-{language}.tsv"
    assert place.format == Format(kind=FileKind.TSV, header=True, columns={"text_a": ("text",), "label": ("category",)})
    assert task_named(str(path)) == task


def test_a_file_may_have_a_form_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    own = '[{path: ["a.csv", "b.csv"], kind: csv, delimiter: ";", text_a: [1, 2], label: -1}, "train.tsv"]'
    path.write_text(TOPICS.replace('"train-{language}.tsv"', own))
    first, second = read_task(path).files[Split.TRAIN]
    assert (first.path, first.further) == ("a.csv", ("b.csv",))
    assert first.format == Format(
        kind=FileKind.CSV, delimiter=";", columns={"text_a": (1, 2), "label": (-1,)}, header=False
    )
    assert second.format.kind is FileKind.TSV


MISTAKES = [
    ("head: sequence", "head: sentence", "1:7: head 'sentence': expected one of sequence, multilabel"),
    ("head: sequence\n", "", ":1:1: head is missing"),
    ('"no"]', "no]", "2:12: languages: expected texts, found false (in YAML yes, no, on and off"),
    ("languages: [en, de,", "languages: [en, en,", "2:12: languages: 'en' is given twice"),
    ("metrics: [accuracy, macro_f1]", "metrics: [bleu]", "5:10: metrics: bleu is none of accuracy, f1, macro_f1"),
    ("metrics:", "metric:", "5:9: unknown key 'metric'; did you mean 'metrics'?"),
    ("kind: tsv", "kind: xls", "4:16: kind 'xls': expected one of tsv, csv"),
    ("metrics: [accuracy, macro_f1]", "metrics: [f1]", "5:10: metrics: f1 is that of one label; name it by"),
    ("text_a: text", "text: text", "4:27: unknown key 'text'; did you mean 'text_"),
    ("text_a: text, ", "", "4:9: text_a has no column; the head sequence needs text_a"),
    ("label: category", "label: {a: b}", "4:42: label: expected the name or the number of a column, found a mapping"),
    ("kind: tsv", "kind: jsonl, id: 3", "4:27: id: expected a name; the kind jsonl has no numbered columns"),
    ("files: {train", "files: {trains", "3:17: unknown key 'trains'; did you mean 'train'?"),
    ("metrics:", "name: ../x\nmetrics:", "5:7: name '../x': expected letters, digits"),
    ("train-{language}", "train-{lang}", "3:16: path 'train-{lang}.tsv': expected no other placeholders than"),
    ("train-{language}", "train-{", "3:16: path 'train-{.tsv': expected no other placeholders than"),
    (
        "train-{language}",
        "train-{side}",
        "3:16: path 'train-{side}.tsv': expected no other placeholders than {language",
    ),
    (
        '"train-{language}.tsv"',
        "{path: a.tsv, labels: {path: 'a.{lang}'}}",
        "3:45: path 'a.{lang}': expected no other placeholders than",
    ),
    ("metrics:", "hub: {test: {config: '{side}-en'}}\nmetrics:", "5:22: config '{side}-en': expected no other"),
    ("metrics:", "phrases: {a: b}\nmetrics:", "5:10: phrases is for the head choice, not for sequence"),
    ("kind: tsv", "kind: tsv, comments: true", "4:31: comments is for the kind conll, not for tsv"),
    ("head: sequence", "untranslated: [NS]\nhead: choice", "1:15: untranslated is for the head sequence or "),
    ("metrics:", "labels: [a]\nmetrics:", "5:9: labels: expected two or more, found only 'a'"),
    ("metrics:", "labels: [a, b]\npositive_label: c\nmetrics:", "6:17: positive_label 'c' is none of the labels"),
]


@pytest.mark.parametrize("head", ["search", "mining"])
@pytest.mark.parametrize("more", ["", "train_languages: [de]\n"])
def test_a_language_is_not_paired_with_itself(tmp_path: Path, head: str, more: str) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(
        f"head: {head}\nlanguages: [de, fr]\n{more}files: {{test: 'test.{{side}}'}}\nformat: {{kind: lines}}\n"
    )
    with pytest.raises(ValueError, match="2:12: languages: de is what the others are paired with; name another one"):
        read_task(path)
    path.write_text(path.read_text().replace("train_languages: [de]\n", "") + "train_languages: [en]\n")
    assert read_task(path).source_language == "en"


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_each_mistake_has_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    assert old in TOPICS
    path.write_text(TOPICS.replace(old, new, 1))
    with pytest.raises(ValueError) as raised:
        read_task(path)
    assert f"mine.yaml{message if message.startswith(':') else f':{message}'}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_labels_are_as_they_are_written(tmp_path: Path) -> None:
    """010 is no number, and yes and no are no truth values."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"{TOPICS}labels: [010, yes, no]\npositive_label: no\n")
    task = read_task(path)
    assert (task.labels, task.positive_label) == (("010", "yes", "no"), "no")


def test_keys_are_as_they_are_written(tmp_path: Path) -> None:
    """Norwegian is no truth value, and neither are the labels of files."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"{TOPICS}labels: [a, b]\nlabel_spellings: {{yes: a, no: b, 010: a}}\ncodes: {{no: nb, sv: sv}}\n")
    task = read_task(path)
    assert task.label_spellings == {"yes": "a", "no": "b", "010": "a"}
    assert task.codes == {"no": "nb", "sv": "sv"}


def test_a_layer_is_chosen_by_one_score(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "head: mining\nlanguages: [de]\nmetrics: [f1, precision]\nscore: [f1, precision]\n"
        "files: {test: 'test-{language}.{side}'}\nformat: {kind: tsv, id: 0, text: 1}\n"
    )
    with pytest.raises(ValueError, match=r"mine\.yaml:4:8: score: expected one metric, by which the head mining"):
        read_task(path)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TOPICS.replace("kind: tsv", "kind: xls").replace("[accuracy, macro_f1]", "[bleu]"))
    with pytest.raises(ValueError, match=r"mine.yaml:5:10: .*; .*mine.yaml:4:16: "):
        read_task(path)


@pytest.mark.parametrize("benchmark", catalogue_names())
def test_a_task_survives_the_configuration_of_a_model(benchmark: str) -> None:
    for task in catalogue_named(benchmark).tasks.values():
        content = json.loads(json.dumps(content_of(task)))
        assert task_of(content, lambda _: "config.json") == task


def test_names_that_no_task_has() -> None:
    with pytest.raises(ValueError, match=r"unknown task 'xtreme/squad'; XTREME has xnli"):
        task_named("xtreme/squad")
    with pytest.raises(ValueError, match="no such file; expected a task"):
        task_named("missing.yaml")
