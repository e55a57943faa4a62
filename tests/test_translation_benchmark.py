"""benchmarks/translation.py in tiny shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import run_script


@pytest.mark.slow
def test_every_engine_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "rows.json"
    result = run_script(
        "benchmarks/translation.py", "--quick", "--threads", "1", "--repeats", "1", "--json", str(output)
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())
    names = [f"search, torch {dtype}" for dtype in ("float32", "bfloat16")]
    names += [f"engines, {engine}" for engine in ("torch bfloat16", "ct2 float32", "ct2 int8")]
    assert [row["what"] for row in rows] == [f"{name}, sentences/s" for name in names]
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in rows)
