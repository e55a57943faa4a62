"""The table and pictures of docs/objectives.md are those that the objectives give."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from veco.objectives.table import OBJECTIVES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "objectives.md").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(DOCS / "list_objectives.py"))


def test_the_page_is_up_to_date() -> None:
    """Otherwise: make tables."""
    assert SCRIPT["page_with_objectives"](PAGE) == PAGE


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_without_its_part_is_told(name: str) -> None:
    assert f"\n### {name}\n" in PAGE
    with pytest.raises(ValueError, match=f"expected one <!-- {name} --> … <!-- /{name} -->, found 0"):
        SCRIPT["page_with"](PAGE.replace(f"<!-- {name} -->", ""), name, "", "objectives.md")


def test_two_sweeps_serve_ca_mlm_and_tlm() -> None:
    cost = SCRIPT["Cost"].of("ca_mlm+tlm", "bilingual")
    assert cost.sweeps == 2 and cost.tokens == pytest.approx(3.0)
    assert SCRIPT["Cost"].of("ca_mlm+tlm+contrast(masked=true)", "bilingual") == cost
    assert SCRIPT["Cost"].of("ca_mlm+tlm", "mono") == (2, pytest.approx(2.0))


def test_what_is_written_sees_what_was() -> None:
    lines = SCRIPT["picture"]("mbart").split("path S")[1].splitlines()
    rows = [line for line in lines if "■" in line]
    assert [row.split("   ")[0].count("■") for row in rows] == list(range(1, len(rows) + 1))
    assert all("·" not in row.split("   ")[1] for row in rows)
    assert [row.split("→ ")[1] for row in rows[:-1]] == [*"abcd", ">"]
