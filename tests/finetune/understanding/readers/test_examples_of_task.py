"""XTREME's files as examples: forms, bad input, and that training never opens a test file."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.text import lines
from finetune.understanding.metrics.answers import read_answers, read_gold_answers
from finetune.understanding.metrics.scoring import gold_of
from finetune.understanding.readers.examples_of_task import (
    read,
    read_questions,
    read_retrieval,
    read_tagged,
    read_texts,
)
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.readers.squad import questions_of_file
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import Answer, LabelledText, Question, TaggedSentence
from finetune.understanding.tasks.task import FilePlace, Split

TASKS = catalogue_named(XTREME).tasks

CORPORA = os.environ.get("VECO_CORPORA")


def write(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")


def squad(*questions: tuple[str, str, str, str, int]) -> str:
    """A file of (id, question, context, answer, start)."""
    paragraphs = [
        {"context": context, "qas": [{"id": id, "question": question, "answers": [{"text": text, "answer_start": at}]}]}
        for id, question, context, text, at in questions
    ]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}, ensure_ascii=False)


def test_pairs_with_and_without_labels(tmp_path: Path) -> None:
    write(tmp_path, "xnli/dev-th.tsv", "เขามา\tเขาไป\tcontradiction\na\u2028b\tc\tneutral\n")
    write(tmp_path, "xnli/test-th.tsv", "เขามา\tเขาไป\n")
    pairs = list(read_texts(TASKS["xnli"], Split.DEV, "th", tmp_path))
    # A line separator within a sentence is no line end.
    assert pairs == [
        LabelledText("เขามา", "เขาไป", "contradiction", "th"),
        LabelledText("a\u2028b", "c", "neutral", "th"),
    ]
    assert list(read_texts(TASKS["xnli"], Split.TEST, "th", tmp_path)) == [LabelledText("เขามา", "เขาไป", None, "th")]


def test_quotes_as_the_csv_module_writes_them_and_as_they_are(tmp_path: Path) -> None:
    texts = ['"Yes," he said.', 'the "big" one', "plain", '"', "a\tb"]
    (tmp_path / "pawsx").mkdir()
    with (tmp_path / "pawsx" / "dev-en.tsv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([text, "b", "1"] for text in texts)
    assert [pair.text_a for pair in read_texts(TASKS["pawsx"], Split.DEV, "en", tmp_path)] == texts
    write(tmp_path, "pawsx/dev-de.tsv", '"Ja," sagte er.\tb\t0\n"offen\tb\t1\nder "große" Hund\tb\t1\n')
    raw = [pair.text_a for pair in read_texts(TASKS["pawsx"], Split.DEV, "de", tmp_path)]
    assert raw == ['"Ja," sagte er.', '"offen', 'der "große" Hund']


def test_translations_with_the_english_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "xnli/translate-train/en-de-translated.tsv", "a\tb\tA\tB\tcontradictory\n")
    (pair,) = read_texts(TASKS["xnli"], Split.TRANSLATE_TRAIN, "de", tmp_path)
    assert pair == LabelledText("A", "B", "contradiction", "de", original=("a", "b"))
    assert languages_with(TASKS["xnli"], Split.TRANSLATE_TRAIN, tmp_path) == ("de",)
    with pytest.raises(ValueError, match="no translate-train split in 'en'"):
        read_texts(TASKS["xnli"], Split.TRANSLATE_TRAIN, "en", tmp_path)


def test_quotes_around_two_columns_of_a_plain_line_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "pawsx/dev-en.tsv", '"A b\tc d"\t0\n"A b\tc d"\n')
    pairs = list(read_texts(TASKS["pawsx"], Split.DEV, "en", tmp_path))
    assert pairs == [LabelledText('"A b', 'c d"', label, "en") for label in ("0", None)]
    write(tmp_path, "pawsx/train-de.tsv", 'a b\tc d\t"A B\tC D"\t1\n"A\tB"\t"C"\tD\t1\n')
    pairs = list(read_texts(TASKS["pawsx"], Split.TRANSLATE_TRAIN, "de", tmp_path))
    assert pairs == [
        LabelledText('"A B', 'C D"', "1", "de", original=("a b", "c d")),
        LabelledText('"C"', "D", "1", "de", original=('"A', 'B"')),
    ]


def test_ids_that_xtremes_script_has_cut_are_made_unique(tmp_path: Path) -> None:
    """It leaves the last part of TyDiQA's training ids: they repeat, in dev, which is part of it, as well."""
    article = {
        "paragraphs": [
            {
                "context": f"Ann {number}",
                "qas": [{"id": "0", "question": "?", "answers": [{"text": "Ann", "answer_start": 0}]}],
            }
            for number in range(40)
        ]
    }
    write(tmp_path, "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json", json.dumps({"data": [article]}))
    splits = {split: list(read_questions(TASKS["tydiqa"], split, "en", tmp_path)) for split in (Split.TRAIN, Split.DEV)}
    by_id = {question.id: question.context for found in splits.values() for question in found}
    assert len(by_id) == 40 and all(splits.values())
    assert by_id["0"] == "Ann 0" and by_id["0 (40)"] == "Ann 39"
    assert len(gold_of(TASKS["tydiqa"], splits[Split.DEV])) == len(splits[Split.DEV])


def test_json_of_one_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQuAD's translations are one line of 90 MB; of text it would be too long."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(lines, "READ_BYTES", 10)
    answers = [{"text": "Ann", "answer_start": 0}]
    paragraph = {"context": "Ann " * 100, "qas": [{"id": "1", "question": "?", "answers": answers}]}
    write(tmp_path, "xquad/xquad.de.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    (question,) = read_questions(TASKS["xquad"], Split.TEST, "de", tmp_path)
    assert len(question.context) == 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"{}", mtime=0)[:-4], "damaged or cut short"),
        (b"no gzip", "by its suffix .gz gzip-compressed, found something else"),
        (gzip.compress(b'{"data": "\xff"}', mtime=0), "not UTF-8 at byte 10"),
        (gzip.compress(b'{"data": ', mtime=0), "not JSON"),
    ],
)
def test_bad_json_is_reported_alike(tmp_path: Path, content: bytes, message: str) -> None:
    """Of questions, of gold answers, of predictions."""
    path = tmp_path / "q.json.gz"
    path.write_bytes(content)
    readers: list[Callable[[], object]] = [
        lambda: list(questions_of_file(path, "en")),
        lambda: read_gold_answers(path, TASKS["xquad"]),
        lambda: read_answers(path, TASKS["xquad"]),
    ]
    for reader in readers:
        with pytest.raises(ValueError, match=f"q.json.gz: {message}") as raised:
            reader()
        assert "\n" not in str(raised.value)


def test_tagged_sentences_compressed_or_not(tmp_path: Path) -> None:
    text = "Wien\tB-LOC\nist\tO\n\n\nNew York\tB-LOC\r\n"
    write(tmp_path, "panx/dev-de.tsv", text)
    (tmp_path / "panx" / "dev-nl.tsv.gz").write_bytes(gzip.compress(text.encode()))
    expected = [(("Wien", "ist"), ("B-LOC", "O")), (("New York",), ("B-LOC",))]
    for language in ("de", "nl"):
        sentences = list(read_tagged(TASKS["panx"], Split.DEV, language, tmp_path))
        assert sentences == [TaggedSentence(words, tags, language) for words, tags in expected]
    write(tmp_path, "udpos/translate-train/fi.tsv", "talo\non\n\nsuuri\n")
    sentences = list(read_tagged(TASKS["udpos"], Split.TRANSLATE_TRAIN, "fi", tmp_path))
    assert sentences == [TaggedSentence(("talo", "on"), None, "fi"), TaggedSentence(("suuri",), None, "fi")]


def test_questions(tmp_path: Path) -> None:
    write(tmp_path, "xquad/xquad.zh.json", squad(("q1", "首都？", "北京是首都。", "北京", 0)))
    (question,) = read_questions(TASKS["xquad"], Split.TEST, "zh", tmp_path)
    assert question == Question("q1", "首都？", "北京是首都。", (Answer("北京", 0),), "zh")


def test_tydiqa_is_divided_by_context(tmp_path: Path) -> None:
    """Nothing is lost, nothing is in both, and questions about one text stay together."""
    name = "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json"
    contexts = [f"context {number // 2} holds text" for number in range(400)]
    write(tmp_path, name, squad(*((f"english-{n}", "?", text, "x", 2) for n, text in enumerate(contexts))))
    train, dev = (list(read_questions(TASKS["tydiqa"], split, "en", tmp_path)) for split in (Split.TRAIN, Split.DEV))
    assert sorted(q.id for q in train + dev) == sorted(f"english-{n}" for n in range(400))
    assert not {q.context for q in train} & {q.context for q in dev}
    assert 20 <= len(dev) <= 60  # a tenth


def test_mining_and_search_sets(tmp_path: Path) -> None:
    write(tmp_path, "bucc2018/de-en.dev.de", "de-1\tHund\nde-2\tKatze\n")
    write(tmp_path, "bucc2018/de-en.dev.en", "en-7\tcat\n")
    write(tmp_path, "bucc2018/de-en.dev.gold", "de-2\ten-7\n")
    found = read_retrieval(TASKS["bucc2018"], Split.DEV, "de", tmp_path)
    assert found.source_sentences == ["Hund", "Katze"]
    assert found.target_ids == ["en-7"]
    assert found.gold == {("de-2", "en-7")}
    write(tmp_path, "tatoeba/tatoeba.sw-en.sw", "moja\nmbili\n")
    write(tmp_path, "tatoeba/tatoeba.sw-en.en", "one\ntwo\n")
    assert read_retrieval(TASKS["tatoeba"], Split.TEST, "sw", tmp_path).gold == {("0", "0"), ("1", "1")}
    write(tmp_path, "tatoeba/af-en.af", "een\ntwee\n")
    write(tmp_path, "tatoeba/af-en.en", "two\none\n")
    assert read_retrieval(TASKS["tatoeba"], Split.TEST, "af", tmp_path).gold is None


BAD = [
    ("xnli", "dev", "xnli/dev-de.tsv", "a\tb\n\tb\tneutral\n", r"dev-de.tsv: line 2: an empty sentence"),
    ("xnli", "dev", "xnli/dev-de.tsv", "a\tb\tc\td\n", r"line 1: 4 columns; expected 3, of which text_a,"),
    ("xnli", "dev", "xnli/dev-de.tsv", "a\tb\tmaybe\n", r"line 1: unknown label 'maybe'; xnli has contradiction, ent"),
    ("xnli", "dev", "xnli/dev-de.tsv", "", r"dev of xnli in 'de': empty"),
    ("panx", "dev", "panx/dev-de.tsv", "a\tO\nb\n\n", r"line 3: the sentence that ends here has 2 words but 1 tags"),
    ("panx", "dev", "panx/dev-de.tsv", "a\tB-DATE\n", r"line 1: unknown label 'B-DATE'; panx has B-LOC"),
    ("panx", "dev", "panx/dev-de.tsv", "a\tO\tx\n", r"line 1: expected `word TAB tag`, found"),
    ("panx", "dev", "panx/dev-de.tsv", "\n\n", r"dev of panx in 'de': empty"),
    ("mlqa", "dev", "mlqa/MLQA_V1/dev/dev-context-de-question-de.json", "{", r"question-de.json: not JSON"),
    ("mlqa", "dev", "mlqa/MLQA_V1/dev/dev-context-de-question-de.json", "", r"question-de.json: not JSON"),
    ("mlqa", "dev", "mlqa/MLQA_V1/dev/dev-context-de-question-de.json", '{"data": [{}]}', r"not in the form of SQuAD"),
    ("mlqa", "dev", "mlqa/MLQA_V1/dev/dev-context-de-question-de.json", '{"data": []}', r"dev of mlqa in 'de': empty"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "split", "file", "content", "message"), BAD)
def test_bad_files_are_reported_in_one_line(
    tmp_path: Path, task: str, split: str, file: str, content: str, message: str
) -> None:
    write(tmp_path, file, content)
    with pytest.raises(ValueError, match=message) as caught:
        list(read(TASKS[task], Split(split), "de", tmp_path))
    assert "\n" not in str(caught.value)


BAD_SETS = [
    ("bucc2018", {"de-en.test.de": "de-1 Hund\n", "de-en.test.en": "en-1\tdog\n"}, r"line 1: expected `id TAB sent"),
    ("bucc2018", {"de-en.test.de": "de-1\tHund\n", "de-en.test.en": ""}, r"test.en: empty; expected lines"),
    ("bucc2018", {"de-en.test.de": "d\ta\nd\tb\n", "de-en.test.en": "e\tf\n"}, r"1 ids are repeated"),
    (
        "bucc2018",
        {"de-en.test.de": "d\ta\n", "de-en.test.en": "e\tf\n", "de-en.test.gold": "d\tx\n"},
        r"test.gold: 1 ids are not in .*: x",
    ),
    ("tatoeba", {"tatoeba.de-en.de": "a\nb\n", "tatoeba.de-en.en": "a\n"}, r"has 2 rows but .*tatoeba.de-en.en has 1"),
    ("tatoeba", {"tatoeba.de-en.de": "", "tatoeba.de-en.en": "a\n"}, r"tatoeba.de-en.de: empty"),
]


@pytest.mark.parametrize(("task", "files", "message"), BAD_SETS)
def test_bad_sets_of_sentences_are_refused(tmp_path: Path, task: str, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        write(tmp_path, f"{task}/{name}", content)
    with pytest.raises(ValueError, match=message):
        read_retrieval(TASKS[task], Split.TEST, "de", tmp_path)


def test_a_missing_language_is_named(tmp_path: Path) -> None:
    write(tmp_path, "xnli/dev-de.tsv", "a\tb\tneutral\n")
    with pytest.raises(ValueError, match=r"no dev file of xnli for the language 'sw'; looked for xnli/dev-sw.tsv"):
        read_texts(TASKS["xnli"], Split.DEV, "sw", tmp_path)
    assert languages_with(TASKS["xnli"], Split.DEV, tmp_path) == ("de",)
    # SQuAD is English whatever language is asked for, and must not pass for another.
    write(tmp_path, "squad/train-v1.1.json", squad(("q", "?", "c", "c", 0)))
    with pytest.raises(ValueError, match="xquad has no train split in 'de'"):
        read_questions(TASKS["xquad"], Split.TRAIN, "de", tmp_path)
    assert languages_with(TASKS["xquad"], Split.TRAIN, tmp_path) == ("en",)


def test_retrieval_has_no_single_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tatoeba has two sets of sentences"):
        read(TASKS["tatoeba"], Split.TEST, "de", tmp_path)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.is_retrieval])
def test_training_opens_no_test_file(xtreme_data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All text comes through one function; what it opens for train, translate-train and dev is no test file."""
    task = TASKS[name]
    opened: list[str] = []
    open_binary = lines.open_binary

    def noted(path: str):
        opened.append(str(Path(path).relative_to(xtreme_data)))
        return open_binary(path)

    monkeypatch.setattr(lines, "open_binary", noted)
    tests = {path for language in task.languages for path in names_of(task.files[Split.TEST], language)}
    for split in (Split.TRAIN, Split.TRANSLATE_TRAIN, Split.DEV):
        languages = languages_with(task, split, xtreme_data)
        for language in languages:
            assert list(read(task, split, language, xtreme_data))
        assert languages, split
    assert opened
    assert not set(opened) & tests
    for language in languages_with(task, Split.TEST, xtreme_data):
        assert list(read(task, Split.TEST, language, xtreme_data))
    assert set(opened) & tests, "the names of test files are spelt as they are opened"


def names_of(places: tuple[FilePlace, ...], language: str) -> list[str]:
    return [place.path.format(language=language) for place in places]


@pytest.mark.skipif(not CORPORA, reason="VECO_CORPORA is not set")
def test_real_files_of_a_few_languages() -> None:
    """Counts as their descriptions give them."""
    root = Path(CORPORA or "") / "xtreme"
    assert sum(1 for _ in read(TASKS["xnli"], Split.TEST, "sw", root)) == 5010
    assert sum(1 for _ in read(TASKS["udpos"], Split.TEST, "th", root)) == 1000
    assert sum(1 for _ in read(TASKS["xquad"], Split.TEST, "zh", root)) == 424
    for language in ("ar", "zh"):
        questions = list(read_questions(TASKS["mlqa"], Split.DEV, language, root))
        assert all(
            question.context.startswith(answer.text, answer.start)
            for question in questions
            for answer in question.answers
        )
    bucc = read_retrieval(TASKS["bucc2018"], Split.DEV, "zh", root)
    assert (len(bucc.source_ids), len(bucc.target_ids), len(bucc.gold or ())) == (4308, 6785, 129)
