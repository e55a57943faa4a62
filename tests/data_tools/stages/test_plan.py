import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.corpus.configuration import Corpus
from data_tools.corpus.inputs import Input
from data_tools.deduplicate.settings import Deduplication
from data_tools.stages.plan import PLAN_VERSION, Plan, joined, make_plan
from data_tools.text.filters import Filters

MEGABYTE = 1 << 20
COSTS = st.one_of(st.floats(0, 12), st.just(math.inf))


@given(costs=st.lists(COSTS, max_size=20))
def test_joined_items_are_all_items_in_order(costs: list[float]) -> None:
    runs = list(joined(costs, limit=10))
    assert [cost for run in runs for cost in costs[run]] == costs
    assert all(sum(costs[run]) <= 10 + 1e-9 or len(costs[run]) == 1 for run in runs)
    # As long as they can be.
    assert all(sum(costs[run]) + costs[following][0] > 10 - 1e-9 for run, following in pairwise(runs))


def _corpus(directory: Path, sizes: dict[str, int]) -> Corpus:
    """A corpus of German text files of these sizes, sparse files that need no disk space."""
    inputs = []
    for name, size in sizes.items():
        path = directory / name
        with open(path, "wb") as file:
            file.truncate(size)
        inputs.append(Input(("de",), "text", (str(path),)))
    return Corpus(directory / "corpus.yaml", directory, tuple(inputs), Filters(), Deduplication(), 0.0)


def _parts(plan: Plan) -> list[list[tuple[str, object]]]:
    return [[(Path(part.input.paths[0]).name, part.part) for part in task.parts] for task in plan.tasks]


def test_small_files_share_a_task_and_large_ones_are_cut(tmp_path: Path) -> None:
    sizes = {"a": 5, "b": 20 * MEGABYTE, "c": 11 * MEGABYTE, "d": 2 * MEGABYTE, "e": 40 * MEGABYTE, "f": 0, "g": 7}
    plan = make_plan(_corpus(tmp_path, sizes), tmp_path / "data", "tokenizer", 1000)
    assert _parts(plan) == [
        [("a", None), ("b", None), ("c", None)],
        [("d", None)],
        [("e", (0, 32 * MEGABYTE))],
        [("e", (32 * MEGABYTE, 40 * MEGABYTE)), ("f", None), ("g", None)],
    ]
    assert [task.num_bytes for task in plan.tasks] == [5 + 31 * MEGABYTE, 2 * MEGABYTE, 32 * MEGABYTE, 8 * MEGABYTE + 7]
    assert all(task.has_known_size for task in plan.tasks)


def test_only_text_of_one_language_shares_a_task(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path, {"a": 1, "b": 1, "c": 1})
    codes = ("de", "en", "de")
    inputs = [replace(item, languages=(code,)) for item, code in zip(corpus.inputs, codes, strict=True)]
    plan = make_plan(replace(corpus, inputs=tuple(inputs)), tmp_path / "data", "tokenizer", 1000)
    assert [(task.name, task.languages, len(task.parts)) for task in plan.tasks] == [
        ("mono/de", ("de",), 2),
        ("mono/en", ("en",), 1),
    ]


def test_opening_files_counts_too(tmp_path: Path) -> None:
    """A task has thousands of small files, but not all ten thousand."""
    plan = make_plan(_corpus(tmp_path, {f"{i:05d}": 100 for i in range(10_000)}), tmp_path / "data", "tokenizer", 1000)
    assert len(plan.tasks) == 5


def test_an_input_of_unknown_size_has_its_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = _corpus(tmp_path, {"a": 1, "b": 1, "c": 1})
    middle = replace(corpus.inputs[1], paths=("https://server/b",))
    monkeypatch.setattr("data_tools.stages.plan.size_of", lambda item: int(item is not middle))
    monkeypatch.setattr("data_tools.stages.plan.identity_of", lambda item: list(item.paths))
    monkeypatch.setattr("data_tools.stages.plan.parts_of", lambda item, part_bytes: [None])
    corpus = replace(corpus, inputs=(corpus.inputs[0], middle, corpus.inputs[2]))
    plan = make_plan(corpus, tmp_path / "data", "tokenizer", 1000)
    assert [task.has_known_size for task in plan.tasks] == [True, False, True]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    sizes = {"a": 5, "b": 40 * MEGABYTE}
    corpus = _corpus(tmp_path, sizes)
    columns = replace(corpus.inputs[0], columns=("x", "y"))
    plan = make_plan(replace(corpus, inputs=(columns, corpus.inputs[1])), tmp_path, "tokenizer", 1000)
    plan.save()
    assert Plan.load(tmp_path).tasks == plan.tasks
    assert Plan.load(tmp_path).key == plan.key


def test_the_plan_of_another_version_has_no_tasks(tmp_path: Path) -> None:
    content = {"settings": {"version": PLAN_VERSION - 1}, "tasks": [{"of another": "form"}]}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    assert Plan.load(tmp_path) == Plan(tmp_path, (), {"version": PLAN_VERSION - 1})


def test_files_that_are_not_plans_are_refused(tmp_path: Path) -> None:
    for text in ("[]", "{", '{"settings": {}}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(ValueError, match="not a plan of data_tools.prepare"):
            Plan.load(tmp_path)
