"""Tests that are the dev sets themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.understanding.readers.tested_on_dev import languages_tested_on_dev
from finetune.understanding.tasks.catalogues import catalogue_named, task_named
from finetune.understanding.tasks.task import Task


@pytest.mark.parametrize("task", catalogue_named("glue").tasks.values(), ids=lambda task: task.name)
def test_of_glue_they_are(task: Task) -> None:
    assert languages_tested_on_dev(task, "hub:nyu-mll/glue") == ["en"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("RTE/dev.tsv",), ["en"]),
        (("rte/dev.tsv.gz",), ["en"]),
        (("rte/val.tsv", "rte/dev.tsv"), []),  # rows of train are held out
        (("RTE/train.tsv",), []),
    ],
)
def test_the_files_that_are_there_decide(names: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert languages_tested_on_dev(task_named("glue/rte"), tmp_path) == expected


@pytest.mark.parametrize("name", ["xnli", "xquad", "tydiqa", "panx"])
def test_of_xtreme_they_are_not(name: str, xtreme_data: Path) -> None:
    assert languages_tested_on_dev(task_named(name), xtreme_data) == []
    assert languages_tested_on_dev(task_named(name), "hub:google/xtreme") == []
