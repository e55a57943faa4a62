"""The candidates of one pool that are found for each query: mean average precision and reciprocal rank; JSON files.

A file is {query id: [candidate ids, best first]}, a label file {query id: [ids of the right candidates]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_tools.text.lines import read_text
from finetune.understanding.tasks.examples import HiddenLabelsError, PooledSet
from finetune.understanding.tasks.task import Task

Found = Mapping[str, Sequence[str]]
TOP = 20  # candidates that XTREME-R scores


def map_at_20(gold: Found, predicted: Found, task: Task, language: str) -> dict[str, float]:
    """{"map_at_20"} in percent: the mean of `average_precision` among the first 20 candidates, as for LAReQA."""
    return {"map_at_20": _mean([average_precision(own, predicted.get(id, ())[:TOP], TOP) for id, own in gold.items()])}


def full_map(gold: Found, predicted: Found, task: Task, language: str) -> dict[str, float]:
    """{"map"} in percent of the queries: mean average precision over all candidates that a file names.

    LAReQA's own measure, for files that name all candidates. A right candidate that a file does not name counts 0.
    """
    return {"map": _mean([average_precision(own, predicted.get(id, ())) for id, own in gold.items()])}


def mrr_at_20(gold: Found, predicted: Found, task: Task, language: str) -> dict[str, float]:
    """{"mrr_at_20"} in percent: the mean of 1 / rank of the first right one of 20 candidates, 0 without one.

    XTREME-R calls it mAP@20 for Mewsli-X, whose queries have a single right candidate.
    """
    return {"mrr_at_20": _mean([reciprocal_rank(own, predicted.get(id, ())[:TOP]) for id, own in gold.items()])}


def average_precision(targets: Sequence[str], ranked: Sequence[str], most: int | None = None) -> float:
    """The mean, over the targets, of the precision at the rank of each; 0 for one that is not ranked.

    `most`: the divisor is at most that, since no more targets can be ranked.
    """
    wanted = set(targets)
    is_target = np.array([id in wanted for id in ranked], dtype=bool)
    precisions = np.cumsum(is_target) / np.arange(1, len(is_target) + 1)
    return float(precisions[is_target].sum()) / min(len(wanted), most or len(wanted))


def reciprocal_rank(targets: Sequence[str], ranked: Sequence[str]) -> float:
    """1 / rank of the first target; 0 if none is ranked."""
    wanted = set(targets)
    return next((1 / rank for rank, id in enumerate(ranked, start=1) if id in wanted), 0.0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) * 100


def gold_targets(pooled: PooledSet) -> Found:
    """The right candidates of each query; raises HiddenLabelsError if they are hidden."""
    if pooled.gold is None:
        raise HiddenLabelsError(f"the right candidates of the queries in {pooled.language!r} are not known")
    return pooled.gold


def read_found(path: Path, task: Task) -> Found:
    """The candidates of a prediction file, which may lack queries. Raises ValueError for a file of another form."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected one JSON object of query id: [candidate ids]")
    for id, found in content.items():
        if not isinstance(found, list) or not all(isinstance(candidate, str) for candidate in found):
            raise ValueError(f"{path}: query {id}: expected a list of candidate ids, found {json.dumps(found)[:80]}")
        if len(set(found)) < len(found):
            raise ValueError(f"{path}: query {id}: a candidate is named twice")
    return content


def read_targets(path: Path, task: Task) -> Found:
    """The right candidates of a label file; raises ValueError for a query without one."""
    content = read_found(path, task)
    if lacking := [id for id, targets in content.items() if not targets]:
        raise ValueError(f"{path}: {len(lacking):,} queries have no right candidate, such as {lacking[0]}")
    return content


def write_found(path: Path, found: Found) -> None:
    """Write {query id: [candidate ids]}, a query a line."""
    rows = [
        f"{json.dumps(id, ensure_ascii=False)}: {json.dumps(list(own), ensure_ascii=False)}"
        for id, own in found.items()
    ]
    path.write_text("{" + ",\n ".join(rows) + "}\n", encoding="utf-8")
