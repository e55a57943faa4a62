"""The order of the candidates of queries: nDCG and mean average precision, from a score for each candidate.

As in XGLUE's script, queries of a single candidate do not count. The candidates of a query follow each other: the
script splits a query that recurs after another one, here it is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from data_tools.text.lines import open_text
from finetune.understanding.metrics.labels import check_rows
from finetune.understanding.metrics.numbers import Numbers, check_has_numbers, label_as_number
from finetune.understanding.readers.labels import number_of
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Task

Grades = Sequence[tuple[str, float]]  # (query, grade) of each candidate
MIN_CANDIDATES = 2


def ndcg(gold: Grades, predicted: Numbers, task: Task, language: str) -> dict[str, float]:
    """{"ndcg"}: the mean over the queries, in percent; the gain of a candidate is its grade (XGLUE's WPR).

    Raises ValueError for queries of a single candidate alone, and as `rows_of_queries` does.
    """
    return {"ndcg": _mean("ndcg", gold, predicted)}


def mean_average_precision(gold: Grades, predicted: Numbers, task: Task, language: str) -> dict[str, float]:
    """{"map"} in percent; a candidate of a grade above 0 is relevant, and a query without one does not count.

    Raises ValueError if no query counts, and as `rows_of_queries` does.
    """
    return {"map": _mean("map", gold, predicted)}


def _mean(metric: str, gold: Grades, predicted: Numbers) -> float:
    """The mean of a metric over the queries that count, in percent."""
    check_rows(gold, predicted)
    rows = rows_of_queries(gold)
    if not any(len(own) >= MIN_CANDIDATES for own in rows):
        raise ValueError("no query has two candidates or more")
    kept = counted_queries(gold, [metric])
    if not kept:
        raise ValueError(f"no query has a candidate of a grade above 0, which {metric} needs")
    found = [query_score(metric, [gold[row][1] for row in own], [predicted[row] for row in own]) for own in kept]
    return float(np.mean(found)) * 100


def query_score(metric: str, grades: Sequence[float], scores: Numbers) -> float:
    """A metric of one query that counts, in [0, 1]."""
    from sklearn.metrics import average_precision_score, ndcg_score  # takes a second to import

    if metric == "ndcg":
        return float(ndcg_score([grades], [scores]))
    return float(average_precision_score(np.array(grades) > 0, scores))


def counted_queries(gold: Grades, metrics: Collection[str]) -> list[range]:
    """The rows of each query that counts in one of the metrics, in the order of the queries."""
    return [rows for rows in rows_of_queries(gold) if any(is_counted(metric, gold, rows) for metric in metrics)]


def is_counted(metric: str, gold: Grades, rows: range) -> bool:
    """Whether a query counts: it needs two candidates and, for map, a relevant one."""
    return len(rows) >= MIN_CANDIDATES and (metric == "ndcg" or any(gold[row][1] > 0 for row in rows))


def rows_of_queries(gold: Grades) -> list[range]:
    """The rows of each query's candidates. Raises ValueError for a query that recurs after another one."""
    found: dict[str, range] = {}
    start = 0
    for query, run in itertools.groupby(query for query, _ in gold):
        end = start + sum(1 for _ in run)
        if query in found:
            raise ValueError(
                f"the query {query[:80]!r} has candidates in row {found[query].stop} and, behind another query's, in "
                f"row {start + 1}; the candidates of a query must stand together"
            )
        found[query] = range(start, end)
        start = end
    return list(found.values())


def gold_grades(examples: Iterable[LabelledText]) -> Grades:
    """The query and the grade of each candidate.

    Raises HiddenLabelsError if one has no grade, and ValueError as `rows_of_queries` does.
    """
    grades = [(query_of(example), label_as_number(example)) for example in examples]
    rows_of_queries(grades)
    return grades


def query_of(example: LabelledText) -> str:
    """What the candidates of a query share: their group or else their first text, which is the query itself."""
    return example.group or example.text_a


def read_gold_grades(path: Path, task: Task) -> Grades:
    """The first and the last column of each line: the query and the grade. Raises ValueError that names a bad line."""
    check_has_numbers(path)
    grades = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            query, tab, rest = line.partition("\t")
            if not tab:
                raise ValueError(f"{lines.place(number)}: expected the query TAB the grade, found {line[:80]!r}")
            grades.append((query, number_of(rest.rpartition("\t")[2], lines.place(number))))
    if not grades:
        raise ValueError(f"{path}: empty; expected lines of a query TAB a grade")
    return grades
