"""Scores of draws of examples: those of the metric itself on the drawn examples, of every form."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetune.understanding.metrics import resampling
from finetune.understanding.metrics.resampling import Scored, chosen, keys_of
from finetune.understanding.metrics.scoring import gold_of, score, task_score
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Task

COUNT = 40
WORDS = ("ja", "nein", "vielleicht so", "so")


def labelled(name: str, draw: random.Random) -> tuple[Any, Any]:
    """Labels of COUNT examples and predictions, about half of them right."""
    task = task_named(name)
    if name in ("xnli", "glue/cola", "glue/mrpc"):
        gold = draw.choices(task.labels, k=COUNT)
        return gold, [draw.choice([own, draw.choice(task.labels)]) for own in gold]
    if name in ("panx", "udpos"):
        # seqeval reads a tag X at the beginning of all text as a chunk, and elsewhere behind a sentence not.
        gold = [[task.labels[0], *draw.choices(task.labels, k=draw.randint(1, 7))] for _ in range(COUNT)]
        return gold, [[tags[0], *(draw.choice([own, draw.choice(task.labels)]) for own in tags[1:])] for tags in gold]
    if name == "xquad":
        gold = {f"q{number}": draw.choices(WORDS, k=2) for number in range(COUNT)}
        return gold, {id: draw.choice(WORDS) for id in list(gold)[1:]}  # one question has no answer
    if name == "bucc2018":
        gold = {(f"de-{number}", f"en-{number}") for number in range(COUNT)}
        return gold, {(f"de-{number}", f"en-{number + draw.randint(0, 1)}") for number in range(3, COUNT + 5)}
    if name == "sts/stsb":
        gold = [draw.uniform(0, 5) for _ in range(COUNT)]
        return gold, [own + draw.uniform(-2, 2) for own in gold]
    if name == "xglue/wpr":
        gold = [(f"query {number // 3}", float(draw.randint(0, 4))) for number in range(COUNT)]
        return gold, [grade + draw.uniform(-2, 2) for _, grade in gold]
    if name == "xtreme-r/lareqa":
        gold = {f"q{number}": [f"a{number}", f"b{number}"] for number in range(COUNT)}
        return gold, {id: ["x", *draw.sample([*own, "y", "z"], 3)] for id, own in list(gold.items())[1:]}
    gold = [str(number) for number in range(COUNT)]
    return gold, [draw.choice([own, "0"]) for own in gold]


FROM_SUMS = (
    *("xnli", "panx", "udpos", "xquad", "bucc2018", "tatoeba", "xtreme-r/xcopa", "xtreme-r/lareqa", "xglue/wpr"),
    *("accuracy of udpos", "map of xglue/wpr", "ndcg,map of xglue/wpr"),
)
FROM_TABLES = ("glue/cola", "glue/mrpc", "macro_f1 of xnli", "f1,accuracy of glue/mrpc")
COMPUTED_ANEW = ("sts/stsb",)


def task_scored(name: str) -> Task:
    """A task by its name, or one scored by other metrics, as in "accuracy of udpos"."""
    metrics, _, place = name.rpartition(" of ")
    task = task_named(place)
    names = tuple(metrics.split(",")) if metrics else task.metrics
    return replace(task, metrics=names, main_metrics=names if metrics else task.main_metrics)


@pytest.mark.parametrize("name", [*FROM_SUMS, *FROM_TABLES, *COMPUTED_ANEW])
def test_draws_are_scored_as_by_the_metric(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    task = task_scored(name)
    gold, predicted = labelled(name.rpartition(" of ")[2], draw)
    keys = keys_of(task, gold, [predicted])
    draws = np.random.default_rng(1).integers(0, len(keys), (5, len(keys)))
    own = [[keys[number] for number in one] for one in draws]
    expected = [
        task_score(task, score(task, chosen(task, gold, one), chosen(task, predicted, one), "de")) for one in own
    ]
    assert len(set(expected)) > 1 and min(expected) > 0
    scored = Scored(task, "de", gold, predicted, keys)
    assert scored.scorer(draws) == pytest.approx(expected, abs=1e-9)
    calls: list[int] = []
    monkeypatch.setattr(Scored, "_on_draw", lambda self, one: calls.append(1) or 0.0)
    Scored(task, "de", gold, predicted, keys).scorer(draws)
    assert len(calls) == (len(draws) if name in COMPUTED_ANEW else 0)


def test_sums_that_do_not_give_the_metric_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_named("xnli")
    gold, predicted = labelled("xnli", random.Random(1))
    monkeypatch.setattr(resampling, "_shares", lambda scored: np.full((COUNT, 1, 2), 12.0))
    monkeypatch.setattr(resampling, "_scorer_by_tables", lambda scored: None)
    whole = np.arange(COUNT)[None]
    scored = Scored(task, "de", gold, predicted, keys_of(task, gold, []))
    assert scored.scorer(whole).tolist() == [scored.score()]


ROWS = [range(number, number + 1) for number in range(3)]


@pytest.mark.parametrize(
    ("name", "items", "keys", "expected"),
    [
        ("xnli", ["a", "b", "c"], [ROWS[2], ROWS[0], ROWS[2]], ["c", "a", "c"]),
        ("panx", [["B-PER"], ["O", "O"]], [ROWS[1], ROWS[1]], [["O", "O"], ["O", "O"]]),
        ("xquad", {"q1": "x", "q2": "y"}, ["q2", "q3", "q2"], {"0": "y", "2": "y"}),
        ("bucc2018", {("de-1", "en-1"), ("de-1", "en-2")}, ["de-1", "de-9"], {("0", "en-1"), ("0", "en-2")}),
    ],
)
def test_a_drawn_example_counts_as_often_as_it_is_drawn(
    name: str, items: Any, keys: Sequence[Any], expected: Any
) -> None:
    assert chosen(task_named(name), items, keys) == expected


def test_the_candidates_of_a_query_are_drawn_together() -> None:
    """And a query that is drawn twice is two queries, even side by side."""
    task = task_named("xglue/wpr")
    grades, scores = [("a", 1.0), ("a", 0.0), ("b", 2.0), ("b", 0.0), ("b", 1.0)], [0.1, 0.2, 0.3, 0.4, 0.5]
    keys = keys_of(task, grades, [scores])
    assert keys == [range(0, 2), range(2, 5)]
    drawn = [keys[1], keys[0], keys[0]]
    assert chosen(task, scores, drawn) == [0.3, 0.4, 0.5, 0.1, 0.2, 0.1, 0.2]
    assert [query for query, _ in chosen(task, grades, drawn)] == list("0001122")


def test_only_queries_that_count_are_drawn() -> None:
    """Else few draws would have a relevant candidate, which map needs."""
    grades = [(f"q{number // 2}", float(number == 7)) for number in range(120)] + [("alone", 1.0)]
    scores = [float(number) for number in range(121)]
    for metric, expected in (("map", [range(6, 8)]), ("ndcg", [range(n, n + 2) for n in range(0, 120, 2)])):
        task = task_scored(f"{metric} of xglue/wpr")
        keys = keys_of(task, grades, [scores])
        assert keys == expected
        draws = np.random.default_rng(1).integers(0, len(keys), (50, len(keys)))
        assert np.isfinite(Scored(task, "de", grades, scores, keys).scorer(draws)).all()


def test_sentences_without_a_pair_are_no_examples() -> None:
    gold, predictions = {("de-2", "en-1")}, [{("de-1", "en-1")}, set()]
    assert keys_of(task_named("bucc2018"), gold, predictions) == ["de-1", "de-2"]


def test_a_query_that_recurs_is_refused_everywhere() -> None:
    """Its score would depend on the order of the rows."""
    task = task_named("xglue/wpr")
    grades, scores = [("a", 1.0), ("a", 0.0), ("b", 2.0), ("a", 0.5)], [0.1, 0.2, 0.3, 0.4]
    examples = [LabelledText(query, "page", grade, "de", group=query) for query, grade in grades]
    readers = (
        lambda: score(task, grades, scores, "de"),
        lambda: keys_of(task, grades, [scores]),
        lambda: gold_of(task, examples),
    )
    for reader in readers:
        with pytest.raises(ValueError, match="the query 'a' has .* row 2 and, .* in row 4; .* must stand together$"):
            reader()
