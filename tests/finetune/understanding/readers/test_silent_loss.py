"""Input that was read as something else without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.understanding.readers.examples_of_task import read, with_labels
from finetune.understanding.tasks.task import Split, Task
from finetune.understanding.tasks.task_file import read_task


def task_of(root: Path, head: str, form: dict[str, Any], **keys: Any) -> Task:
    content = {"head": head, "languages": ["de"], "files": {"train": "x"}, "format": form, **keys}
    (root / "mine.yaml").write_text(yaml.safe_dump(content))
    return read_task(root / "mine.yaml")


def examples(root: Path, task: Task, content: str) -> list[Any]:
    (root / "x").write_text(content, encoding="utf-8", newline="")
    return list(read(task, Split.TRAIN, "de", root))


@pytest.mark.parametrize(
    ("head", "columns", "field"),
    [
        ("sequence", {"text_b": "uu"}, "text_b"),
        ("ranking", {"text_b": "u", "group": "gg"}, "group"),
        ("choice", {"choices": ["u", "cc2"]}, "choice_1"),
    ],
)
def test_a_misspelt_key_of_json(tmp_path: Path, head: str, columns: dict[str, Any], field: str) -> None:
    task = task_of(tmp_path, head, {"kind": "jsonl", "text_a": "t", "label": "l", **columns})
    line = json.dumps({"t": "a", "u": "b", "l": 0})
    with pytest.raises(ValueError, match=rf"x: line 1: {field}: has no key '\w+'; it has t, u, l"):
        examples(tmp_path, task, line)


@pytest.mark.parametrize("mark", ["\t", "\n"])
def test_a_label_that_no_line_can_hold(tmp_path: Path, mark: str) -> None:
    task = task_of(tmp_path, "sequence", {"kind": "csv", "text_a": "t", "label": "l"})
    with pytest.raises(ValueError, match="line 2: the label .* has a tab or a line end"):
        examples(tmp_path, task, f't,l\na,"A{mark}x"\n')
    with pytest.raises(ValueError, match="labels: .* has a tab or a line end"):
        task_of(tmp_path, "sequence", {"kind": "csv", "text_a": "t"}, labels=["a", f"A{mark}x"])


def test_labels_in_a_list_are_taken_as_they_are(tmp_path: Path) -> None:
    task = task_of(tmp_path, "multilabel", {"kind": "jsonl", "text_a": "t", "label": "l"})
    (found,) = examples(tmp_path, task, '{"t": "a", "l": ["rock; pop", 3]}')
    assert found.label == ("rock; pop", "3")
    with pytest.raises(ValueError, match="line 1: label: expected texts, found null among them"):
        examples(tmp_path, task, '{"t": "a", "l": ["jazz", null]}')


def test_an_example_without_its_label(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence", {"kind": "jsonl", "text_a": "t", "label": "l"})
    lines = ['{"t": "a", "l": "A"}', '{"t": "b"}']
    for first, second, has in ((0, 1, "no"), (1, 0, "a")):
        with pytest.raises(ValueError, match=rf"train of mine in 'de': example 2 has {has} label, unlike those before"):
            examples(tmp_path, task, f"{lines[first]}\n{lines[second]}")
    examples(tmp_path, task, lines[1])
    with pytest.raises(ValueError, match="train of mine in 'de': example 1 has no label"):
        with_labels(task, tmp_path)


def test_a_word_with_a_hash_is_no_comment(tmp_path: Path) -> None:
    task = task_of(tmp_path, "token", {"kind": "conll", "comments": True, "word": 0, "tag": 1})
    (found,) = examples(tmp_path, task, "# text: #veco runs\n#\n#veco\tB\nruns\tO\n")
    assert found.words == ("#veco", "runs")


def test_columns_aligned_by_spaces(tmp_path: Path) -> None:
    task = task_of(tmp_path, "token", {"kind": "conll", "word": 0, "tag": 1})
    (found,) = examples(tmp_path, task, "EU       B\nrejects  O \n")
    assert (found.words, found.tags) == (("EU", "rejects"), ("B", "O"))


def test_an_empty_table_with_a_header(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence", {"kind": "csv", "text_a": "t"})
    with pytest.raises(ValueError, match="x: empty; expected a first line with the names of the columns"):
        examples(tmp_path, task, "")


def test_columns_that_are_no_texts_are_not_joined(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence", {"kind": "jsonl", "text_a": ["t", "u"]})
    with pytest.raises(ValueError, match=r"line 1: text_a: expected a text, found \['a', \['q', 1\]\]"):
        examples(tmp_path, task, '{"t": "a", "u": ["q", 1]}')
