"""Files of users in every form, read to the right examples, and what is wrong with them in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value

from finetune.understanding.readers.bitext import search_set
from finetune.understanding.readers.examples_of_task import read, with_labels
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.tasks.examples import Answer, Choices, LabelledText, Question, TaggedSentence
from finetune.understanding.tasks.task import Split, Task
from finetune.understanding.tasks.task_file import read_task

MakeTask = Any


@pytest.fixture
def task(tmp_path: Path) -> MakeTask:
    """A function that writes the task file of one file `train.x` in one language, with labels that are to be found."""

    def write(head: str = "sequence", path: Any = "train.x", **form: Any) -> Task:
        own = {
            key: form.pop(key)
            for key in ("phrases", "label_spellings", "dev_from_train", "untranslated")
            if key in form
        }
        if isinstance(form.get("labels"), list):  # a mapping is the file of the labels
            own["labels"] = form.pop("labels")
        files = {"train": [{"path": path, **form}], "test": [{"path": path, **form}]}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"head": head, "languages": ["de"], "files": files, **own}))
        return read_task(tmp_path / "mine.yaml")

    return write


def examples(task: Task, root: Path, content: str, split: Split = Split.TEST) -> list[Any]:
    (root / "train.x").write_text(content, encoding="utf-8", newline="")
    return list(read(task, split, "de", root))


FIRST, SECOND = '{"t": "ein Satz", "l": "A"}', '{"l": "B", "t": "\\"Noch\\" einer"}'
TABLES = [
    ({"kind": "tsv", "text_a": 1, "label": 0}, "A\tein Satz\nB\t\"Noch\" einer\n"),
    ({"kind": "tsv", "text_a": "text", "label": "class"}, "n\tclass\ttext\n1\tA\tein Satz\n2\tB\t\"Noch\" einer\n"),
    ({"kind": "csv", "text_a": "text", "label": "class"}, 'text,class\nein Satz,A\n"""Noch"" einer",B\n'),
    ({"kind": "csv", "delimiter": ";", "text_a": 0, "label": -1}, 'ein Satz;A\n"""Noch"" einer";B\n\n'),
    ({"kind": "jsonl", "text_a": "t", "label": "l"}, f"{FIRST}\n\n{SECOND}"),
    ({"kind": "json", "text_a": "t", "label": "l"}, f"[{FIRST}, {SECOND}]"),
    ({"kind": "json", "records": "data", "text_a": "t", "label": "l"}, f'{{"data": [{FIRST}, {SECOND}]}}'),
    (
        {"kind": "conll", "text_a": "text", "label": "intent"},
        '# text: ein Satz\n# intent = A\n1\tein\n2\tSatz\n\n# text: "Noch" einer\n# intent: B\n1\t"Noch"\n2\teiner\n',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content"), TABLES)
def test_the_same_examples_from_every_form(task: MakeTask, tmp_path: Path, form: Any, content: str) -> None:
    expected = [LabelledText(text, None, label, "de") for text, label in (("ein Satz", "A"), ('"Noch" einer', "B"))]
    mine = task(**form)
    assert examples(mine, tmp_path, content) == expected
    assert with_labels(mine, tmp_path).labels == ("A", "B")


def test_parquet_with_class_numbers(task: MakeTask, tmp_path: Path) -> None:
    features = Features({"t": Value("string"), "l": ClassLabel(names=["A", "B"])})
    rows = [{"t": "ein Satz", "l": 0}, {"t": "x", "l": 1}, {"t": "y", "l": -1}]
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "train.x"))
    found = list(read(task(kind="parquet", text_a="t", label="l"), Split.TEST, "de", tmp_path))
    assert [(one.text_a, one.label) for one in found] == [("ein Satz", "A"), ("x", "B"), ("y", None)]
    with pytest.raises(ValueError, match="train.x: has no column 'text'; it has t, l"):
        list(read(task(kind="parquet", text_a="text"), Split.TEST, "de", tmp_path))


def test_questions_in_objects(task: MakeTask, tmp_path: Path) -> None:
    form = {"kind": "jsonl", "id": "id", "question": "q", "context": "c", "answers": "a", "starts": "s"}
    asked = {"id": 3, "q": "wo", "c": "in Rom", "a": "Rom", "s": 3}
    both = [asked, {**asked, "id": 4, "a": ["Rom", "in Rom"], "s": [3, 0]}]
    found = examples(task("span", **form), tmp_path, "\n".join(map(json.dumps, both)))
    rome = Answer("Rom", 3)
    assert found == [
        Question("3", "wo", "in Rom", (rome,), "de"),
        Question("4", "wo", "in Rom", (rome, Answer("in Rom", 0)), "de"),
    ]


def test_words_in_parquet(task: MakeTask, tmp_path: Path) -> None:
    features = Features({"w": List(Value("string")), "t": List(ClassLabel(names=["O", "B-LOC"]))})
    Dataset.from_list([{"w": ["in", "Rom"], "t": [0, 1]}], features=features).to_parquet(str(tmp_path / "train.x"))
    found = list(read(task("token", kind="parquet", word="w", tag="t"), Split.TEST, "de", tmp_path))
    assert found == [TaggedSentence(("in", "Rom"), ("O", "B-LOC"), "de")]


WORDS = [
    ("in\tO\nRom\tB\n\nja\tO\n", {}),
    ("in O\nRom B\n\nja O\n", {}),
    ("-DOCSTART- O\n\nin O\nRom B\n\nja O\n", {}),
    ("# in = x\nin\tO\nRom\tB\n\n# id: 2\nja\tO\n", {"comments": True}),
    ("1\tin\tAPPR\tO\n2\tRom\tNE\tB\n\n1\tja\tPTK\tO\n", {"word": 1, "tag": 3}),
]


@pytest.mark.parametrize(("content", "form"), WORDS)
def test_words_and_tags(task: MakeTask, tmp_path: Path, content: str, form: Any) -> None:
    mine = task("token", **{"kind": "conll", "word": 0, "tag": 1, **form})
    assert examples(mine, tmp_path, content) == [
        TaggedSentence(("in", "Rom"), ("O", "B"), "de"), TaggedSentence(("ja",), ("O",), "de")
    ]  # fmt: skip


def test_words_alone_may_hold_any_space(task: MakeTask, tmp_path: Path) -> None:
    """A space or a no-break space in a word ends neither the word nor the sentence."""
    mine = task("token", kind="conll", word=0, tag=1)
    content = "10\u00a0000\n\u00a0\nNew York\nja\n\n#\nb\n"
    assert [one.words for one in examples(mine, tmp_path, content)] == [
        ("10\u00a0000", "\u00a0", "New York", "ja"),
        ("#", "b"),
    ]


def test_columns_may_be_one_text(task: MakeTask, tmp_path: Path) -> None:
    mine = task(kind="tsv", text_a=0, text_b=[1, 2], label=3)
    (found,) = examples(mine, tmp_path, "frage\ttitel\ttext\tA\n")
    assert found == LabelledText("frage", "titel text", "A", "de")


def test_files_may_follow_each_other(task: MakeTask, tmp_path: Path) -> None:
    mine = task(path=["train.x", "more.x"], kind="tsv", text_a=0, label=1)
    (tmp_path / "more.x").write_text("b\tB\n")
    assert [one.text_a for one in examples(mine, tmp_path, "a\tA\n")] == ["a", "b"]
    (tmp_path / "more.x").unlink()
    with pytest.raises(ValueError, match="has train.x, but not more.x, which belongs to it"):
        examples(mine, tmp_path, "a\tA\n")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ('[{"i": 1, "g": "T"}, {"i": 0, "g": "F"}]', ""),
        ('[{"i": 1, "g": "T"}]', "object 1: has no label in .*gold.json under the id '0'"),
        ('[{"i": 1, "g": "T"}, {"i": 0, "g": "F"}, {"i": 2, "g": "F"}]', "gold.json: 1 labels are of no example"),
    ],
)
def test_labels_in_a_file_of_their_own(task: MakeTask, tmp_path: Path, labels: str, message: str) -> None:
    (tmp_path / "gold.json").write_text(labels)
    gold = {"path": "gold.json", "kind": "json", "id": "i", "label": "g"}
    mine = task(kind="json", id="i", text_a="t", labels=gold)
    content = '[{"i": 0, "t": "a"}, {"i": 1, "t": "b"}]'
    if message:
        with pytest.raises(ValueError, match=message):
            examples(mine, tmp_path, content)
    else:
        assert [one.label for one in examples(mine, tmp_path, content)] == ["F", "T"]
    (tmp_path / "gold.json").unlink()
    assert [one.label for one in examples(mine, tmp_path, content)] == [None, None]


def test_labels_row_by_row(task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "gold.txt").write_text("T\nF\n")
    mine = task(kind="tsv", text_a=0, labels={"path": "gold.txt", "kind": "tsv", "label": 0})
    assert [one.label for one in examples(mine, tmp_path, "a\nb\n")] == ["T", "F"]
    with pytest.raises(ValueError, match="line 3: has no label in .*gold.txt, which has only 2 rows"):
        examples(mine, tmp_path, "a\nb\nc\n")


WORD_FORMS = [
    ({"start_a": "s", "end_a": "e", "start_b": "s2", "end_b": "e2"}, {"s": "4", "e": 8, "s2": 0, "e2": "4"}),
    ({"range_a": "r", "range_b": "r2"}, {"r": "4-8", "r2": "0-2,2-4"}),
    ({"words": "n"}, {"n": "1-0"}),
]


@pytest.mark.parametrize(("columns", "values"), WORD_FORMS)
def test_words_in_context(task: MakeTask, tmp_path: Path, columns: Any, values: Any) -> None:
    mine = task("context_word", kind="jsonl", text_a="a", text_b="b", label="l", **columns)
    line = {"a": "die Bank hier", "b": "Bank und Geld", "l": True, **values}
    (found,) = examples(mine, tmp_path, json.dumps(line))
    assert (found.words, found.label) == (((4, 8), (0, 4)), "true")
    with pytest.raises(ValueError, match=r"line 1: the word at .* is not in its text, 'x'"):
        examples(mine, tmp_path, json.dumps({**line, "a": "x"}))


def test_choices_and_their_question(task: MakeTask, tmp_path: Path) -> None:
    form = {"kind": "jsonl", "text_a": "p", "question": "q", "choices": ["c1", "c2"], "label": "l"}
    mine = task("choice", phrases={"cause": "Why?"}, **form)
    line = {"p": "It fell.", "q": "cause", "c1": "wind", "c2": "rain", "l": 1}
    assert examples(mine, tmp_path, json.dumps(line)) == [Choices("It fell. Why?", ("wind", "rain"), 1, "de")]
    with pytest.raises(ValueError, match="line 1: the label 2 is not one of 2 choices"):
        examples(mine, tmp_path, json.dumps({**line, "l": 2}))
    with pytest.raises(ValueError, match="line 1: unknown question 'effect'; mine has cause"):
        examples(mine, tmp_path, json.dumps({**line, "q": "effect"}))


def test_several_labels_and_numbers(task: MakeTask, tmp_path: Path) -> None:
    several = task("multilabel", kind="tsv", text_a=0, label=1, labels=["joy", "fear"], label_spellings={"5": "joy"})
    found = examples(several, tmp_path, "a\tfear, 5\nb\t\nc\tjoy,joy\n")
    assert [one.label for one in found] == [("joy", "fear"), (), ("joy",)]
    number = task("regression", kind="tsv", text_a=0, text_b=1, label=2)
    assert [one.label for one in examples(number, tmp_path, "a\tb\t2.5\nc\td\t 5\n")] == [2.5, 5.0]
    for wrong in ("viel", "nan", "inf"):
        with pytest.raises(ValueError, match=f"line 1: expected a number, found '{wrong}'"):
            examples(number, tmp_path, f"a\tb\t{wrong}\n")


def test_a_part_of_train_is_dev(task: MakeTask, tmp_path: Path) -> None:
    mine = task(kind="tsv", text_a=0, label=1, dev_from_train=True)
    content = "".join(f"premise {number // 2}\tA\n" for number in range(400))
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("test:", "dev:"))
    mine = read_task(tmp_path / "mine.yaml")
    train, dev = (examples(mine, tmp_path, content, split) for split in (Split.TRAIN, Split.DEV))
    assert len(train) + len(dev) == 400 and 20 <= len(dev) <= 60
    assert not {one.text_a for one in train} & {one.text_a for one in dev}


def test_a_text_is_missing_where_the_task_says_so(task: MakeTask, tmp_path: Path) -> None:
    """In training files alone: a text is what it is in tests, and in other tasks."""
    content = "NS\tA\nein Satz\tB\n"
    form = {"kind": "tsv", "text_a": 0, "label": 1}
    for own, split, expected in (
        ({"untranslated": ["NS"]}, Split.TRAIN, ["", "ein Satz"]),
        ({"untranslated": ["NS"]}, Split.TEST, ["NS", "ein Satz"]),
        ({}, Split.TRAIN, ["NS", "ein Satz"]),
    ):
        found = examples(task(**form, **own), tmp_path, content, split)
        assert [one.text_a for one in found] == expected
        assert [one.is_complete for one in found] == [expected[0] != "", True]


JSONL = {"kind": "jsonl", "text_a": "t", "label": "l"}
SPAN = {"kind": "jsonl", "question": "q", "context": "c", "id": "i"}
TSV = {"kind": "tsv", "text_a": 0, "label": 1}
WRONG = [
    ("sequence", JSONL, '{"t": "a\\ud800", "l": "A"}', "line 1: text_a: holds half a surrogate pair"),
    ("sequence", JSONL, '{"t": ["a"], "l": "A"}', r"line 1: text_a: expected a text, found \['a'\]"),
    ("sequence", JSONL, '{"t": null, "l": "A"}', "line 1: text_a: expected a text, found null"),
    ("sequence", JSONL, '{"l": "A"}', "line 1: text_a: has no key 't'; it has l"),
    ("sequence", JSONL, '["a"]', "line 1: expected a JSON object, found"),
    ("sequence", JSONL, "a\tb", r"line 1: expected a JSON object \("),
    ("sequence", {**JSONL, "kind": "json"}, '{"a": []}', "expected a list of objects, .* name it by `records`"),
    ("sequence", TSV, "a\tA\n\nb\tB\n", "line 2: an empty line between rows"),
    ("sequence", {**TSV, "text_b": 2}, "a,A,b\n", "line 1: 1 columns; .*; its columns seem to be separated by ','"),
    ("sequence", TSV, "a\tA\tx\n", "line 1: 3 columns; expected 2, .*; for rows with further columns add more_columns"),
    ("sequence", TSV, " \tA\n", "line 1: an empty sentence"),
    ("sequence", TSV, "a\t\n", "line 1: an empty label"),
    ("sequence", {"kind": "csv", "text_a": "t"}, 'text,l\n"a,A\n', "line 1: text_a: expected one column 't'"),
    ("sequence", {"kind": "csv", "text_a": "text"}, 'text,l\n"a,A\n', "line 2: broken CSV"),
    ("span", SPAN, '{"q": null, "c": "c", "i": 1}', "train.x: line 1: question: expected a text, found null"),
    ("span", SPAN, '{"q": "q", "c": ["c"], "i": 1}', "train.x: line 1: context: expected a text, found"),
    ("span", SPAN, '{"q": "q", "c": "c", "i": 1}\n' * 2, "the question id '1' is repeated"),
    ("token", {"kind": "conll", "word": 0, "tag": 1}, "a O\nb\n\nc O\n", "line 3: the sentence .* has 2 words but 1"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "form", "content", "message"), WRONG)
def test_wrong_files_are_one_line(
    task: MakeTask, tmp_path: Path, head: str, form: Any, content: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        examples(task(head, **form), tmp_path, content)
    assert "\n" not in str(raised.value)


def test_squad_names_the_question(task: MakeTask, tmp_path: Path) -> None:
    item = {"id": "q7", "question": None, "answers": []}
    content = json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [item]}]}]})
    with pytest.raises(ValueError, match="train.x: question q7: question: expected a text, found null"):
        examples(task("span", kind="squad"), tmp_path, content)


def test_side_alone_tells_the_languages_of_a_retrieval_task(tmp_path: Path) -> None:
    """Captions, say, of which all languages are beside the same English ones."""
    sentences = {"en": "one\ntwo\n", "de": "eins\nzwei\n", "fr": "un\ndeux\n"}
    for language, text in sentences.items():
        (tmp_path / f"test.{language}").write_text(text)
    content = {"head": "search", "languages": ["de", "fr"], "train_languages": ["en"], "metrics": ["accuracy"]}
    files = {"files": {"test": "test.{side}"}, "aligned_files": ["test.{side}"], "format": {"kind": "lines"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, **files}))
    task = read_task(tmp_path / "mine.yaml")
    assert languages_with(task, Split.TEST, tmp_path) == ("de", "fr")
    found = search_set(task, Split.TEST, "fr", tmp_path)
    assert (found.source_sentences, found.target_sentences) == (["un", "deux"], ["one", "two"])
    assert found.gold == {("0", "0"), ("1", "1")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"w": ["x"], "t": 3}', r"train\.x: line 1: tag: expected a list of tags, found 3$"),
        ('{"w": ["x"], "t": "N"}', r"train\.x: line 1: tag: expected a list of tags, found 'N'$"),
        ('{"w": ["x"], "t": [3]}', r"train\.x: line 1: tag: expected texts, found 3 among them; numbers need names"),
    ],
)
def test_tags_are_a_list_of_texts(task: MakeTask, tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        examples(task("token", kind="jsonl", word="w", tag="t"), tmp_path, content)


def test_what_is_no_class_is_not_among_the_labels_that_are_found(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text(
        "head: sequence\nlanguages: [de]\nother_labels: ['-']\nfiles: {train: train.x}\n"
        "format: {kind: tsv, text_a: 0, label: 1}\n"
    )
    (tmp_path / "train.x").write_text("a\tyes\nb\tno\nc\t-\n")
    assert with_labels(read_task(tmp_path / "texts.yaml"), tmp_path).labels == ("no", "yes")
    (tmp_path / "tags.yaml").write_text(
        "head: token\nlanguages: [de]\nother_labels: [Q]\nfiles: {train: train.x}\n"
        "format: {kind: conll, word: 0, tag: 1}\n"
    )
    (tmp_path / "train.x").write_text("a\tN\nb\t_\nc\tV\nd\tQ\n")
    assert with_labels(read_task(tmp_path / "tags.yaml"), tmp_path).labels == ("N", "V")
