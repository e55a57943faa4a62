"""The tables of docs/tasks.md are those that the catalogues give."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from finetune.understanding.tasks.catalogues import XTREME, task_names

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "tasks.md").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(DOCS / "list_catalogues.py"))


def test_the_tables_are_up_to_date() -> None:
    """Otherwise: make tables."""
    assert SCRIPT["page_with_tables"](PAGE) == PAGE


def test_every_task_is_on_the_page() -> None:
    assert [name for name in task_names() if not name.startswith(f"{XTREME}/") and f"| `{name}` |" not in PAGE] == []


def test_a_catalogue_without_marks_is_told() -> None:
    with pytest.raises(ValueError, match="expected one <!-- glue --> … <!-- /glue -->, found 0"):
        SCRIPT["page_with_tables"](PAGE.replace("<!-- glue -->", ""))
