"""The hub's directories of Parquet files, made here as the hub has them, read through `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from finetune.understanding.metrics.gold import has_gold, read_gold
from finetune.understanding.readers.examples_of_task import (
    read,
    read_questions,
    read_retrieval,
    read_tagged,
    read_texts,
)
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.readers.roots import PREFIX, is_hub
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named, task_named
from finetune.understanding.tasks.examples import Answer, HiddenLabelsError, LabelledText, Question, TaggedSentence
from finetune.understanding.tasks.task import Split

TASKS = catalogue_named(XTREME).tasks

UPOS = ["NOUN", "X", "VERB"]  # the names come with the numbers; their order is the file's


def tags_feature(column: str, names: list[str]) -> Features:
    return Features({"tokens": List(Value("string")), column: List(ClassLabel(names=names))})


def save(root: Path, config: str, split: str, rows: list[dict[str, Any]], features: Features | None = None) -> None:
    directory = root / config
    directory.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(str(directory / f"{split}-00000-of-00001.parquet"))


def question(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "question": "?", "context": f"a {text}", "answers": {"text": [text], "answer_start": [2]}}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    nli = [
        {"language": name, "gold_label": "neutral", "sentence1": name, "sentence2": "b"} for name in ("de", "sw", "de")
    ]
    save(root, "XNLI", "validation", nli)
    save(root, "PAWS-X.de", "train", [{"sentence1": "a", "sentence2": "b", "label": "1"}])
    save(root, "PAWS-X.de", "test", [{"sentence1": "c", "sentence2": "d", "label": "7"}])
    save(
        root, "udpos.Finnish", "test", [{"tokens": ["talo", "on"], "pos_tags": [0, 2]}], tags_feature("pos_tags", UPOS)
    )
    save(
        root,
        "PAN-X.sw",
        "validation",
        [{"tokens": ["Nairobi"], "ner_tags": [1]}],
        tags_feature("ner_tags", ["O", "B-LOC"]),
    )
    save(root, "XQuAD.zh", "validation", [question("q1", "北京")])
    save(root, "SQuAD", "train", [question("s1", "Rome")])
    tydiqa = [question("finnish-1", "Oulu"), question("korean-2", "서울"), question("finnish-3", "Turku")]
    save(root, "tydiqa", "validation", tydiqa)
    pairs = [{"source_sentence": f"a{i}", "target_sentence": f"b{i}"} for i in range(3)]
    save(root, "tatoeba.pes", "validation", pairs)
    save(root, "bucc18.zh", "test", pairs)
    return root


def test_each_kind_is_read(hub: Path) -> None:
    assert is_hub(str(hub))
    assert list(read_texts(TASKS["xnli"], Split.DEV, "de", hub)) == [LabelledText("de", "b", "neutral", "de")] * 2
    assert list(read_texts(TASKS["pawsx"], Split.TRANSLATE_TRAIN, "de", hub)) == [LabelledText("a", "b", "1", "de")]
    (tagged,) = read_tagged(TASKS["udpos"], Split.TEST, "fi", hub)
    assert tagged == TaggedSentence(("talo", "on"), ("NOUN", "VERB"), "fi")
    (entity,) = read_tagged(TASKS["panx"], Split.DEV, "sw", hub)
    assert entity.tags == ("B-LOC",)
    (asked,) = read_questions(TASKS["xquad"], Split.TEST, "zh", hub)
    assert asked == Question("q1", "?", "a 北京", (Answer("北京", 2),), "zh")
    assert [item.id for item in read(TASKS["tydiqa"], Split.TEST, "fi", hub)] == ["finnish-1", "finnish-3"]
    assert [item.id for item in read(TASKS["mlqa"], Split.TRAIN, "en", hub)] == ["s1"]
    found = read_retrieval(TASKS["tatoeba"], Split.TEST, "fa", hub)
    assert found.source_sentences == ["a0", "a1", "a2"]
    assert found.gold == {("0", "0"), ("1", "1"), ("2", "2")}


def test_existing_splits_are_known_without_reading(hub: Path) -> None:
    assert languages_with(TASKS["udpos"], Split.TEST, hub) == ("fi",)
    assert languages_with(TASKS["xnli"], Split.DEV, hub) == TASKS["xnli"].languages
    assert languages_with(TASKS["xnli"], Split.TRAIN, hub) == ()
    assert languages_with(TASKS["panx"], Split.TEST, f"{PREFIX}google/xtreme") == TASKS["panx"].languages
    # Finnish has the directory, but no dev in it; on the hub Kazakh, Tagalog, Thai and Yoruba have none.
    assert languages_with(TASKS["udpos"], Split.DEV, hub) == ()
    on_hub = languages_with(TASKS["udpos"], Split.DEV, f"{PREFIX}google/xtreme")
    assert set(TASKS["udpos"].languages) - set(on_hub) == {"kk", "tl", "th", "yo"}


def test_the_hub_serves_as_labels(hub: Path) -> None:
    assert has_gold(TASKS["bucc2018"], "zh", hub)
    assert not has_gold(TASKS["bucc2018"], "de", hub)
    assert read_gold(TASKS["udpos"], "fi", hub) == [("NOUN", "VERB")]
    assert read_gold(TASKS["xquad"], "zh", hub) == {"q1": ["北京"]}
    assert read_gold(TASKS["tatoeba"], "fa", hub) == ["0", "1", "2"]


def test_rows_that_were_not_translated_come_in_training(tmp_path: Path) -> None:
    """In their places, as from files: what trains on them leaves them out."""
    rows = [{"sentence1": "a", "sentence2": text, "label": "1"} for text in ("NS", "", None, "b")]
    save(tmp_path, "PAWS-X.de", "train", rows)
    pairs = list(read_texts(TASKS["pawsx"], Split.TRANSLATE_TRAIN, "de", tmp_path))
    assert [pair.is_complete for pair in pairs] == [False, False, False, True]


def test_a_copy_may_have_what_the_hub_lacks(tmp_path: Path) -> None:
    save(tmp_path, "udpos.Thai", "validation", [{"tokens": ["a"], "pos_tags": [0]}], tags_feature("pos_tags", UPOS))
    assert languages_with(TASKS["udpos"], Split.DEV, tmp_path) == ("th",)
    assert languages_with(TASKS["udpos"], Split.TEST, tmp_path) == ()


def test_a_copy_without_configurations(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "head: sequence\nlanguages: [de]\nlabels: [a, b]\nhub: {test: {split: test, text_a: text, label: label}}\n"
    )
    task = task_named(str(tmp_path / "mine.yaml"))
    save(tmp_path / "copy", "data", "test", [{"text": "hund", "label": "b"}])
    assert languages_with(task, Split.TEST, tmp_path / "copy") == ("de",)
    assert list(read(task, Split.TEST, "de", tmp_path / "copy")) == [LabelledText("hund", None, "b", "de")]


def test_hidden_answers_are_not_read_as_answers(tmp_path: Path) -> None:
    hidden = {"id": "q", "question": "?", "context": "c", "answers": {"text": [""], "answer_start": [0]}}
    save(tmp_path, "XQuAD.de", "validation", [hidden])
    (asked,) = read_questions(TASKS["xquad"], Split.TEST, "de", tmp_path)
    assert asked.answers == ()
    with pytest.raises(HiddenLabelsError, match="none of 1 questions has an answer"):
        read_gold(TASKS["xquad"], "de", tmp_path)


def test_squad_exists_only_in_english(hub: Path) -> None:
    assert languages_with(TASKS["xquad"], Split.TRAIN, hub) == ("en",)
    with pytest.raises(ValueError, match="no train of xquad for the language 'zh'"):
        list(read_questions(TASKS["xquad"], Split.TRAIN, "zh", hub))


def test_bad_input_is_reported_in_one_line(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no test of panx for the language 'xx'"):
        list(read_tagged(TASKS["panx"], Split.TEST, "xx", hub))
    with pytest.raises(ValueError, match=r"row 1 of pawsx: unknown label '7'; pawsx has 0, 1"):
        list(read_texts(TASKS["pawsx"], Split.TEST, "de", hub))
    with pytest.raises(ValueError, match="dev of xnli in 'fr': empty"):
        list(read_texts(TASKS["xnli"], Split.DEV, "fr", hub))
    save(tmp_path, "PAWS-X.fr", "test", [{"sentence1": "c", "sentence2": " ", "label": "0"}])
    with pytest.raises(ValueError, match="row 1 of pawsx: an empty sentence"):
        list(read_texts(TASKS["pawsx"], Split.TEST, "fr", tmp_path))
    save(tmp_path, "PAN-X.de", "test", [{"tokens": ["a"], "ner_tags": [3]}])
    with pytest.raises(ValueError, match="tag: expected texts, found 3 among them; numbers need names"):
        list(read_tagged(TASKS["panx"], Split.TEST, "de", tmp_path))
    save(tmp_path, "PAWS-X.de", "test", [{"sentence1": "c", "label": "0"}])
    with pytest.raises(ValueError, match="PAWS-X.de, test: has no column 'sentence2'; it has"):
        list(read_texts(TASKS["pawsx"], Split.TEST, "de", tmp_path))
    (tmp_path / "PAWS-X.en").mkdir()
    (tmp_path / "PAWS-X.en" / "test-0.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be read with `datasets`"):
        list(read_texts(TASKS["pawsx"], Split.TEST, "en", tmp_path))


def test_training_opens_no_test_file(hub: Path) -> None:
    """A test file that is no Parquet at all is in nobody's way."""
    (hub / "SQuAD" / "test-00000-of-00001.parquet").write_bytes(b"no")
    (hub / "XQuAD.en").mkdir()
    (hub / "XQuAD.en" / "validation-00000-of-00001.parquet").write_bytes(b"no")
    assert [item.id for item in read(TASKS["xquad"], Split.TRAIN, "en", hub)] == ["s1"]
