"""Pools of all languages: LAReQA's form, Mewsli-X's, and one's own; what is wrong with a file in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pool_files import LAREQA, MEWSLI, OWN, context_of, mention, write_jsonl, write_lareqa, write_mewsli

from finetune.understanding.metrics.gold import has_gold, read_gold
from finetune.understanding.readers.languages import languages_tested
from finetune.understanding.readers.pooled import marked_mention, read_pooled
from finetune.understanding.tasks.examples import HiddenLabelsError
from finetune.understanding.tasks.task import Split, Task
from finetune.understanding.tasks.task_file import content_of, read_task, task_of


def task_from(text: str, directory: Path) -> Task:
    path = directory / "task.yaml"
    path.write_text(text)
    return read_task(path)


def test_the_sentences_of_all_languages_are_candidates_and_those_with_the_answer_are_right(tmp_path: Path) -> None:
    task = task_from(LAREQA, tmp_path)
    write_lareqa(tmp_path)
    sets = read_pooled(task, Split.TEST, ["en", "de"], tmp_path)
    english = sets["en"]
    assert dict(zip(english.candidate_ids, english.candidates, strict=True)) == {
        "en_1_0": "A dog.",
        "en_1_1": "A cat.",
        "en_2_0": "Rain.",
        "de_1_0": "Katze.",
        "de_1_1": "Hund.",
        "de_2_0": "Oh!",
        "de_2_1": "Regen.",
    }
    assert english.candidate_languages == ["en"] * 3 + ["de"] * 4
    right = {"q1": ("en_1_1", "de_1_0"), "q2": ("en_1_0", "de_1_1"), "q3": ("en_2_0", "de_2_1")}
    assert english.gold == sets["de"].gold == right
    assert english.queries == ["q1?", "q2?", "q3?"]
    assert sets["de"].candidates is english.candidates, "encoded once"
    assert read_gold(task, "de", tmp_path) == right
    assert languages_tested(task, str(tmp_path), "") == ("en", "de")


def test_a_pool_lacks_no_language(tmp_path: Path) -> None:
    """Of fewer candidates the score would be another."""
    task = task_from(LAREQA, tmp_path)
    write_lareqa(tmp_path)
    (tmp_path / "xquad-r" / "de.json").unlink()
    with pytest.raises(ValueError, match="no test file of lareqa for the language 'de'"):
        read_pooled(task, Split.TEST, ["en"], tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.pop("sentence_breaks"), r"en\.json: not in the form of SQuAD with sentence_breaks \(KeyError"),
        (lambda own: own["sentence_breaks"].pop(), r"en\.json: question q1: its answer is in no sentence"),
        (lambda own: own["qas"].append(own["qas"][0]), r"en\.json: the question id q1 is repeated"),
        (
            lambda own: own["qas"].append("q"),
            r"en\.json: not in the form of SQuAD with sentence_breaks \(AttributeError",
        ),
        (
            lambda own: own["qas"][0].update(question=None),
            r"en\.json: question q1: question: expected a text, found null",
        ),
    ],
)
def test_another_form_than_lareqas_gets_a_line(change: Any, message: str, tmp_path: Path) -> None:
    task = task_from(LAREQA, tmp_path)
    write_lareqa(tmp_path)
    path = tmp_path / "xquad-r" / "en.json"
    content = json.loads(path.read_text())
    change(content["data"][0]["paragraphs"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_pooled(task, Split.TEST, ["en"], tmp_path)


def test_mentions_are_queries_and_descriptions_candidates(tmp_path: Path) -> None:
    task = task_from(MEWSLI, tmp_path)
    write_mewsli(tmp_path)
    sets = read_pooled(task, Split.TEST, ["de", "fa"], tmp_path)
    # The braces of the text become parentheses, line ends and double spaces single spaces.
    assert dict(zip(sets["de"].query_ids, sets["de"].queries, strict=True)) == {
        "m1": "Rom: Es (war) in { Rom } .",
        "m2": "Smith: Danach { Smith } .",
    }
    assert sets["fa"].queries == ["Rome: { Rome } ."]
    assert sets["de"].gold == {"m1": ("Q1",), "m2": ("Q2",)}
    assert sets["fa"].candidates == ["A city. Not a village.", "A man.", "A river."]
    assert sets["fa"].candidate_ids == ["Q1", "Q2", "Q3"]
    assert has_gold(task, "fa", tmp_path)


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        ("Q9", "1 right candidates of queries in 'de' are not in the pool: Q9"),
        (None, "1 queries in 'de' have no right"),
    ],
)
def test_targets_that_are_not_there_get_a_line(entity: str | None, message: str, tmp_path: Path) -> None:
    task = task_from(MEWSLI, tmp_path)
    write_mewsli(tmp_path, entity)
    with pytest.raises(ValueError, match=message):
        read_pooled(task, Split.TEST, ["de"], tmp_path)


def test_a_mention_in_no_sentence_names_its_line(tmp_path: Path) -> None:
    context = context_of("de", "In Rom.", "In")
    with pytest.raises(ValueError, match="the mention 'Rom' is in no sentence of its context"):
        marked_mention(context, mention(context, "m", "Rom", "Q1")["mention_span"])
    task = task_from(MEWSLI, tmp_path)
    write_mewsli(tmp_path)
    write_jsonl(
        tmp_path / "wikinews_mentions-test.jsonl", [{"context": context, "mention": mention(context, "m", "Rom", "Q")}]
    )
    with pytest.raises(ValueError, match=r"wikinews_mentions-test\.jsonl: line 1: the mention 'Rom' is in no sentence"):
        read_pooled(task, Split.TEST, ["de"], tmp_path)


def test_a_pool_of_ones_own(tmp_path: Path) -> None:
    task = task_from(OWN, tmp_path)
    write_jsonl(tmp_path / "questions-en.jsonl", [{"number": 1, "question": "why", "answers": ["a", "b"]}])
    write_jsonl(tmp_path / "questions-de.jsonl", [{"number": 1, "question": "warum"}])
    write_jsonl(tmp_path / "answers.jsonl", [{"number": id, "question": f"because {id}"} for id in "abc"])
    english = read_pooled(task, Split.TEST, ["en"], tmp_path)["en"]
    assert (english.query_ids, english.queries, english.gold) == (["1"], ["why"], {"1": ("a", "b")})
    assert english.candidates == ["because a", "because b", "because c"]
    with pytest.raises(HiddenLabelsError):
        read_gold(task, "de", tmp_path)
    write_jsonl(tmp_path / "answers.jsonl", [{"question": "because"}])
    with pytest.raises(ValueError, match=r"answers\.jsonl: line 1: id: has no key 'number'; it has question"):
        read_pooled(task, Split.TEST, ["en"], tmp_path)


def test_a_task_with_a_pool_is_made_from_its_content() -> None:
    for text in (LAREQA, MEWSLI, OWN):
        task = task_of(yaml.safe_load(text), lambda _: "here")
        assert task.pool and task_of(content_of(task), lambda _: "here") == task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("head: search", "head: mining"), "expected the head search, found mining"),
        (("pool: true", "pool: false"), "map_at_20, map is none of accuracy of the head search"),
        (
            ("[map_at_20, map]", "[accuracy]"),
            "accuracy is none of map_at_20, map, mrr_at_20 of the head search with pool",
        ),
        (
            ("metrics:", 'predictions: "all.json"\nmetrics:'),
            r"predictions 'all.json': expected the name of a file with",
        ),
        (
            ("metrics:", 'predictions: "{lang}.json"\nmetrics:'),
            r"predictions '{lang}.json': expected the name of a file",
        ),
        (
            ("metrics:", 'predictions: "../{language}"\nmetrics:'),
            r"predictions '../{language}': expected the name of a",
        ),
        (("squad", "lines"), "format: a pool is read from squad or jsonl, not from lines"),
        (("squad", "jsonl"), "candidates is missing: the file of the pool's candidates"),
    ],
)
def test_mistakes_in_a_task_with_a_pool(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        task_from(LAREQA.replace(*change), tmp_path)
