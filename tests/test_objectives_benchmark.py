"""benchmarks/objectives.py in a very small shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import run_script
from objectives import sums_with


def test_objectives_are_added_to_what_does_not_have_them() -> None:
    assert sums_with("contrast") == ["contrast", "ca_mlm+tlm+contrast"]
    assert sums_with("mlm") == ["mlm"]


@pytest.mark.slow
def test_a_row_for_each_objective(tmp_path: Path) -> None:
    output = tmp_path / "speeds.json"
    result = run_script("benchmarks/objectives.py", "--quick", "--only", "mlm", "mbart", "btmlm", "--json", str(output))
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())
    assert [row["objective"] for row in rows] == ["mlm", "mbart", "btmlm"]
    assert [row["kind"] for row in rows] == ["bilingual", "bilingual", "mono"]
    assert rows[0]["tokens"] == rows[1]["tokens"] > 0
    assert all(row["seconds"] > 0 and row["baseline_seconds"] > 0 for row in rows)
    assert result.stdout.count("| quick |") == 3
