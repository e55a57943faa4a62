"""Training rows by setting, pairs by row and by id, translations of tests, and what cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xtreme_files import german, write_lines

from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.head import Limits
from finetune.understanding.readers.languages import translated_languages
from finetune.understanding.readers.roots import Source
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.evaluation import evaluation_set
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.rows.training import TrainingText, training_set, training_text
from finetune.understanding.settings import Setting
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split

LIMITS = Limits(max_length=40, stride=8, max_question_length=8, max_answer_length=4, num_best=3)


def rows_for(
    task_name: str, root: Path, encoder: TextEncoder, languages: list[str], plug_in: bool
) -> tuple[PairedRows, str]:
    task = task_named(task_name)
    text = TrainingText(task, str(root), str(root), languages)
    found = training_set(text, build_head(task, LIMITS), encoder, plug_in)
    return found.rows, found.report


@pytest.fixture
def root(xtreme_data: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(xtreme_data, tmp_path / "data"))


def test_rows_of_each_setting_and_mode(xtreme_data: Path, encoder: TextEncoder) -> None:
    transfer, _ = rows_for("xnli", xtreme_data, encoder, [], plug_in=False)
    everything, report = rows_for("xnli", xtreme_data, encoder, ["de"], plug_in=False)
    pairs, _ = rows_for("xnli", xtreme_data, encoder, ["de"], plug_in=True)
    assert (len(transfer), len(everything), len(pairs)) == (60, 120, 60)
    assert report == "120 rows in en, de"
    assert pairs.y is not None
    lines = (xtreme_data / "xnli" / "train-en.tsv").read_text().splitlines()
    for number in (0, 17, 59):
        batch = pairs.batch(np.array([number]), 1)
        first, second, _ = lines[number].split("\t")
        for prefix, texts in (("", (first, second)), ("pair_", (german(first), german(second)))):
            a, b = encoder.encode(list(texts))
            assert batch[f"{prefix}input_ids"].tolist() == [[0, *a, 2, 2, *b, 2]]
        assert batch["labels"] == batch["pair_targets"]


@pytest.mark.parametrize(
    ("setting", "wanted", "languages"),
    [
        (Setting.TRANSFER, "", ["en"]),
        (Setting.TRANSLATE_TRAIN, "", ["de"]),
        (Setting.TRANSLATE_TRAIN_ALL, "", ["en", "de"]),
        (Setting.JOINT, "", ["en", "de"]),
        (Setting.JOINT, "de", ["de"]),
        (Setting.INDIVIDUAL, "de", ["de"]),
    ],
)
def test_the_text_of_each_setting(
    setting: Setting, wanted: str, languages: list[str], root: Path, encoder: TextEncoder
) -> None:
    """Here German has a train file and translations, which are not in the same order."""
    lines = {name: (root / f"xnli/train-{name}.tsv").read_text().splitlines() for name in ("en", "de")}
    translated = root / "translated"
    write_lines(translated / "xnli/train-de.tsv", reversed(lines["de"]))
    task = task_named("xnli")
    text = training_text(task, str(root), str(translated), setting, wanted)
    found = training_set(text, build_head(task, LIMITS), encoder, plug_in=False)
    assert found.report == f"{60 * len(languages)} rows in {', '.join(languages)}"
    rows = found.rows.x.rows
    decoded = [encoder.tokenizer.decode(rows.tokens[row], skip_special_tokens=True) for row in range(len(found.rows))]
    files = {"en": lines["en"], "de": lines["de"] if "translate" not in setting else lines["de"][::-1]}
    assert decoded == [" ".join(line.split("\t")[:2]) for name in languages for line in files[name]]


def test_translations_alone_need_no_original(root: Path, encoder: TextEncoder) -> None:
    """But for questions, of which some are dev by their original."""
    (root / "xnli/train-en.tsv").unlink()
    for task, num_rows in (("xnli", 60), ("tydiqa", None)):
        text = training_text(task_named(task), str(root), str(root), Setting.TRANSLATE_TRAIN, "")
        found = training_set(text, build_head(task_named(task), LIMITS), encoder, plug_in=False)
        num_dev = len(evaluated("tydiqa", root, encoder, "en", Split.DEV, None).examples)
        assert len(found.rows) == (num_rows or 60 - num_dev)
    with pytest.raises(ValueError, match="no train file of xnli for the language 'en'"):
        rows_for("xnli", root, encoder, ["de"], plug_in=False)


def test_a_source_language_is_the_tasks_own(root: Path, encoder: TextEncoder) -> None:
    """Trained on German: English is a translation, and a test in German is its own pair."""
    task = replace(task_named("xnli"), train_languages=("de",))
    text = training_text(task, str(root), str(root), Setting.TRANSLATE_TRAIN_ALL, "")
    found = training_set(text, build_head(task, LIMITS), encoder, plug_in=True)
    assert found.report == "60 rows in de, en"
    own, other = texts_of(found.rows, encoder)
    assert own == [german(text) for text in other]
    source = Source(Split.TEST, "de", str(root))
    assert evaluation_set(task, source, str(root / "english"), build_head(task, LIMITS), encoder).is_own_pair


@pytest.mark.parametrize(
    ("setting", "wanted", "message"),
    [
        (Setting.INDIVIDUAL, "", "a model is trained on one language; name one of en, de"),
        (Setting.JOINT, "de,fr", "has no train file of xnli in fr"),
        (Setting.TRANSLATE_TRAIN, "en", "xnli has no translations into en"),
    ],
)
def test_languages_that_a_setting_cannot_have(setting: Setting, wanted: str, message: str, xtreme_data: Path) -> None:
    with pytest.raises(ValueError, match=message):
        training_text(task_named("xnli"), str(xtreme_data), str(xtreme_data), setting, wanted)


def test_translations_of_a_held_out_dev_cannot_be_told(xtreme_data: Path) -> None:
    task = replace(task_named("xnli"), dev_from_train=True)
    with pytest.raises(ValueError, match="dev of xnli is a part of its train, and translations have no ids"):
        training_text(task, str(xtreme_data), str(xtreme_data), Setting.TRANSLATE_TRAIN_ALL, "")


def test_answers_of_translations_are_found_or_counted(root: Path, encoder: TextEncoder) -> None:
    file = root / "squad" / "translated" / "train-v1.1.de.json"
    content = json.loads(file.read_text())
    paragraphs = content["data"][0]["paragraphs"]
    paragraphs[0]["qas"][0]["answers"][0]["text"] = "nirgends"
    paragraphs[1]["qas"][0]["id"] = "unknown"
    paragraphs.reverse()  # pairs are found by ids, not by rows
    write_lines(file, [json.dumps(content)])
    pairs, report = rows_for("xquad", root, encoder, ["de"], plug_in=True)
    assert "1 not found; 1 questions dropped; 1 translated questions skipped" in report
    assert len(pairs) == 58
    english, translated = texts_of(pairs, encoder)
    assert [german(text) for text in english] == translated


def texts_of(pairs: PairedRows, encoder: TextEncoder) -> list[list[str]]:
    """Both sides of all pairs, without special tokens."""
    assert pairs.y is not None
    decode = encoder.tokenizer.decode
    return [
        [decode(side.rows.tokens[row], skip_special_tokens=True) for row in side.numbers] for side in (pairs.x, pairs.y)
    ]


def test_questions_held_out_for_dev_are_not_trained_on_in_translation(xtreme_data: Path, encoder: TextEncoder) -> None:
    pairs, report = rows_for("tydiqa", xtreme_data, encoder, ["fi"], plug_in=True)
    num_dev = len(evaluated("tydiqa", xtreme_data, encoder, "en", Split.DEV, None).examples)
    assert 0 < num_dev < 30
    assert len(pairs) == 60 - num_dev
    assert f"{num_dev} translated questions skipped" in report


def evaluated(
    task_name: str, root: Path, encoder: TextEncoder, language: str, split: Split, translated: str | None
) -> Any:
    task = task_named(task_name)
    return evaluation_set(task, Source(split, language, str(root)), translated, build_head(task, LIMITS), encoder)


def test_tests_are_paired_with_their_translations_or_with_themselves(xtreme_data: Path, encoder: TextEncoder) -> None:
    english = str(xtreme_data / "english")
    for task in ("xnli", "udpos", "xquad"):
        found = evaluated(task, xtreme_data, encoder, "de", Split.TEST, english)
        own, other = texts_of(found.rows, encoder)
        assert not found.is_own_pair
        assert [german(text) for text in other] == own
        assert "labels" not in found.rows.batch(np.arange(2), 1)
        for language, where in (("en", english), ("de", "")):
            found = evaluated(task, xtreme_data, encoder, language, Split.TEST, where)
            own, other = texts_of(found.rows, encoder)
            assert found.is_own_pair and own == other
    assert evaluated("xnli", xtreme_data, encoder, "de", Split.TEST, None).rows.y is None


def test_held_out_questions_find_their_translations(root: Path, encoder: TextEncoder) -> None:
    """TyDiQA's dev goes by the text of a question, which is another in its translation."""
    train = "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{}.train.json"
    english = root / "english" / train.format("fi")
    english.parent.mkdir(parents=True)
    shutil.copy(root / train.format("en"), english)
    shutil.copy(root / "tydiqa/translate-train/tydiqa.translate.train.en-fi.json", root / train.format("fi"))
    found = evaluated("tydiqa", root, encoder, "fi", Split.DEV, str(root / "english"))
    own, other = texts_of(found.rows, encoder)
    assert len(own) > 1 and [german(text) for text in other] == own
    # An id that repeats has the number of its occurrence: that tells which is which if it repeats on both sides.
    questions = json.loads(english.read_text())
    questions["data"][0]["paragraphs"].append(questions["data"][0]["paragraphs"][0])
    english.write_text(json.dumps(questions))
    with pytest.raises(ValueError, match="english: ids of tydiqa repeat, and not as often in fi as in fi in "):
        evaluated("tydiqa", root, encoder, "fi", Split.DEV, str(root / "english"))


def test_truncated_examples_of_a_test_are_counted(root: Path, encoder: TextEncoder) -> None:
    long = " ".join(["dog"] * 60)
    for where, rows in (("pawsx", [f"{long}\tcat\t1", "dog\tcat\t0"]), ("english/pawsx", [f"{long}\t{long}\t1"] * 2)):
        write_lines(root / where / "test-de.tsv", rows)
    plugged_out = evaluated("pawsx", root, encoder, "de", Split.TEST, None)
    assert plugged_out.truncated == ["1 pairs cut to max_length"]
    plugged_in = evaluated("pawsx", root, encoder, "de", Split.TEST, str(root / "english"))
    assert plugged_in.truncated == ["3 pairs cut to max_length"]
    assert evaluated("pawsx", root, encoder, "de", Split.TEST, "").truncated == plugged_out.truncated  # its own pair
    assert evaluated("pawsx", root, encoder, "en", Split.TEST, None).truncated == []


def test_unequal_numbers_of_rows_are_refused_as_pairs(root: Path, encoder: TextEncoder) -> None:
    file = root / "xnli" / "train-de.tsv"
    write_lines(file, file.read_text().splitlines()[:-1])
    with pytest.raises(ValueError, match="59 training examples of xnli in de, but 60 in en; plugged in, each must"):
        rows_for("xnli", root, encoder, ["de"], plug_in=True)
    assert len(rows_for("xnli", root, encoder, ["de"], plug_in=False)[0]) == 119
    file = root / "english" / "xnli" / "test-de.tsv"
    write_lines(file, file.read_text().splitlines()[:-1])
    with pytest.raises(ValueError, match="11 test examples of xnli in de, but 12 in .*; each must translate"):
        evaluated("xnli", root, encoder, "de", Split.TEST, str(root / "english"))


def test_rows_whose_labels_disagree_are_refused_as_pairs(root: Path, encoder: TextEncoder) -> None:
    """Each side lacks another row, as tables do of which untranslated rows were dropped."""
    german_file, english_file = root / "xnli" / "train-de.tsv", root / "xnli" / "train-en.tsv"
    write_lines(german_file, german_file.read_text().splitlines()[:-1])
    write_lines(english_file, english_file.read_text().splitlines()[1:])
    with pytest.raises(ValueError, match=r"only \d\d% of the rows have the same label as those that they should tra"):
        rows_for("xnli", root, encoder, ["de"], plug_in=True)


def test_translations_are_paired_with_the_originals_beside_them(root: Path, encoder: TextEncoder) -> None:
    """XTREME's, of five columns: in another order than the English file, and not as many."""
    english, translated = (root / "xnli" / f"train-{language}.tsv" for language in ("en", "de"))
    rows = [
        "\t".join([*original.split("\t")[:2], translation])
        for original, translation in zip(
            english.read_text().splitlines(), translated.read_text().splitlines(), strict=True
        )
    ]
    translated.unlink()
    path = root / "xnli" / "translate-train" / "en-de-translated.tsv"
    path.parent.mkdir(exist_ok=True)
    write_lines(path, [*rows[::-1], *rows[:3]])
    pairs, report = rows_for("xnli", root, encoder, ["de"], plug_in=True)
    assert report == "63 rows in en, de"
    assert pairs.y is not None
    own, other = texts_of(pairs, encoder)
    assert [german(text) for text in own] == other
    batch = pairs.batch(np.arange(63), 1)
    assert batch["labels"].tolist() == batch["pair_targets"].tolist()
    assert len(rows_for("xnli", root, encoder, ["de"], plug_in=False)[0]) == 123


def write_five_columns(root: Path, language: str, rows: list[tuple[str, str, str]]) -> None:
    """Translations into German, whatever they are called, of English rows that stand beside them."""
    path = root / "xnli" / "translate-train" / f"en-{language}-translated.tsv"
    write_lines(path, ["\t".join([a, b, german(a), german(b), label]) for a, b, label in rows])


def test_each_original_beside_translations_is_encoded_once(root: Path, encoder: TextEncoder) -> None:
    """Those of the English file, whatever its white space, and others that two languages have."""
    english = [tuple(line.split("\t")) for line in (root / "xnli" / "train-en.tsv").read_text().splitlines()]
    (root / "xnli" / "train-de.tsv").unlink()
    other = ("red house", "blue tree maybe", "neutral")
    spaced = (f" {english[3][0].replace(' ', '  ')} ", *english[3][1:])
    write_five_columns(root, "fr", [other, spaced, english[0]])
    write_five_columns(root, "es", [english[5], other, other])
    pairs, report = rows_for("xnli", root, encoder, ["fr", "es"], plug_in=True)
    assert report == "6 rows in en, fr, es"
    assert len(pairs.x.rows) == len(english) + 1
    assert pairs.x.numbers.tolist() == [60, 3, 0, 5, 60, 60]


def test_rows_beside_translations_are_no_excuse_for_others(root: Path, encoder: TextEncoder) -> None:
    """What brings no original is paired by its row, which needs equal numbers; an original may be missing, too."""
    english = [tuple(line.split("\t")) for line in (root / "xnli" / "train-en.tsv").read_text().splitlines()]
    (root / "xnli" / "train-de.tsv").unlink()
    write_five_columns(root, "fr", english[:3])
    file = root / "xnli" / "translate-train" / "en-fr-translated.tsv"
    lines = file.read_text().splitlines()
    write_lines(file, [lines[0], lines[1].split("\t", 2)[2], lines[2]])
    with pytest.raises(ValueError, match="3 training examples of xnli in fr, but 60 in en; plugged in, each must"):
        rows_for("xnli", root, encoder, ["fr"], plug_in=True)
    write_lines(file, ["\t" + lines[0].split("\t", 1)[1], *lines[1:]])
    pairs, report = rows_for("xnli", root, encoder, ["fr"], plug_in=True)
    assert report == "2 rows in en, fr; 1 translations skipped, their originals are not in train"
    assert pairs.x.numbers.tolist() == [1, 2]


def test_rows_that_were_not_translated_are_skipped_and_counted(root: Path, encoder: TextEncoder) -> None:
    """PAWS-X has some, empty or NS: they are left out and counted, plugged in with their partners."""
    (task,) = {"pawsx"}
    files = {language: root / task / f"train-{language}.tsv" for language in ("en", "de")}
    for language, number, text in (("de", 5, "NS"), ("de", 7, " "), ("en", 9, "")):
        lines = files[language].read_text().splitlines()
        first, _, label = lines[number].split("\t")
        lines[number] = "\t".join([first, text, label])
        write_lines(files[language], lines)
    pairs, report = rows_for(task, root, encoder, ["de"], plug_in=True)
    own, other = texts_of(pairs, encoder)
    assert len(pairs) == 57 and [german(text) for text in own] == other
    assert "3 rows skipped, which lack a sentence" in report
    assert "1 translations skipped, their originals are not in train" in report
    alone, _ = rows_for(task, root, encoder, ["de"], plug_in=False)
    assert len(alone) == 59 + 58


def test_repeated_ids_of_questions_and_their_translations(root: Path, encoder: TextEncoder) -> None:
    """Matched by their occurrence, if they occur equally often; else nothing says which translates which."""
    files = [path for path in (root / "tydiqa").rglob("*train*") if path.is_file()]
    files = [path for path in files if "en" in path.name.replace("train", "") and "translate" not in str(path)] + [
        path for path in files if "translate" in str(path) and "fi" in path.name
    ]
    assert len(files) == 2
    for path in files:
        content = json.loads(path.read_text())
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    question["id"] = str(int(question["id"].split("-")[-1]) % 7)
        write_lines(path, [json.dumps(content)])
    pairs, _ = rows_for("tydiqa", root, encoder, ["fi"], plug_in=True)
    own, other = texts_of(pairs, encoder)
    assert len(own) > 30 and [german(text) for text in own] == other
    content["data"][0]["paragraphs"][0]["qas"] = []
    write_lines(files[1], [json.dumps(content)])
    refused = "ids of tydiqa repeat, and not as often in fi as in en in .*: questions cannot be matched"
    with pytest.raises(ValueError, match=refused):
        rows_for("tydiqa", root, encoder, ["fi"], plug_in=True)


def test_ids_that_repeat_only_in_english_are_refused(root: Path, encoder: TextEncoder) -> None:
    """A translation with the id 0 is that of the first 0, or of the tenth."""
    file = root / "tydiqa" / "tydiqa-goldp-v1.1-train" / "tydiqa.goldp.en.train.json"
    content = json.loads(file.read_text())
    first, second = content["data"][0]["paragraphs"][:2]
    second["qas"][0]["id"] = first["qas"][0]["id"]
    write_lines(file, [json.dumps(content)])
    for plug_in in (False, True):
        with pytest.raises(ValueError, match="ids of tydiqa repeat, and not as often in fi as in en"):
            rows_for("tydiqa", root, encoder, ["fi"], plug_in=plug_in)
    assert len(rows_for("tydiqa", root, encoder, [], plug_in=False)[0]) > 50


def test_questions_without_a_translation_are_refused(root: Path, encoder: TextEncoder) -> None:
    file = root / "english" / "xquad" / "xquad.de.json"
    file.write_text(file.read_text().replace('"q-3"', '"q-99"'))
    with pytest.raises(ValueError, match="no translation of 1 questions, such as q-3"):
        evaluated("xquad", root, encoder, "de", Split.TEST, str(root / "english"))


def test_text_without_tags_asks_for_a_teacher(xtreme_data: Path, encoder: TextEncoder) -> None:
    with pytest.raises(
        ValueError, match=r"udpos: training examples in de have no labels; finetune\.understanding\.label"
    ):
        rows_for("udpos", xtreme_data, encoder, ["de"], plug_in=False)


def test_missing_languages_are_named(xtreme_data: Path, encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="translate-train file of xnli for the language 'fr'"):
        rows_for("xnli", xtreme_data, encoder, ["fr"], plug_in=False)
    task = task_named("xnli")
    assert translated_languages(task, str(xtreme_data), "") == ["de"]
    assert translated_languages(task, str(xtreme_data), "fr, de,fr") == ["fr", "de"]
    assert translated_languages(task, str(xtreme_data), "fra_Latn,zho_Hans,DE,zh") == ["fr", "zh", "de"]
    with pytest.raises(ValueError, match="xnli has no translations into ja, only into ar, bg"):
        translated_languages(task, str(xtreme_data), "de,ja")
    with pytest.raises(ValueError, match="has no translated training text of xnli in any language"):
        translated_languages(task, str(xtreme_data / "mlqa"), "")


def test_two_languages_of_translations_share_their_originals(root: Path, encoder: TextEncoder) -> None:
    shutil.copy(root / "xnli" / "train-de.tsv", root / "xnli" / "train-fr.tsv")
    pairs, _ = rows_for("xnli", root, encoder, ["de", "fr"], plug_in=True)
    assert isinstance(pairs.x.rows, TokenRows)
    assert (len(pairs), len(pairs.x.rows)) == (120, 60)
    english, translated = texts_of(pairs, encoder)
    assert [german(text) for text in english] == translated
    assert not pairs.x.repeated.any()
