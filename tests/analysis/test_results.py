"""Tables for people and for programs, and figures that show what they should."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from analysis.figures import Curve, draw_curves
from analysis.results import Column, Table, number_or_none, result_names, write_results

TABLE = Table(
    "Scores by layer",
    [Column("layer"), Column("aer", is_percent=True), Column("dspr", decimals=2), Column("note")],
    [[0, 0.12345, 0.5, "a|b"], [1, math.nan, None, "c, d"]],
)


def test_people_read_percent_and_programs_fractions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, "aligned", "Alignment", {"aer": number_or_none(0.12345), "none": None}, [TABLE], TABLE)
    assert (tmp_path / "aligned.md").read_text().splitlines() == [
        *("# Alignment", "", "## Scores by layer", ""),
        "| layer | aer, % | dspr | note |",
        "| --- | --- | --- | --- |",
        "| 0 | 12.3 | 0.50 | a\\|b |",
        "| 1 | – | – | c, d |",
    ]
    assert capsys.readouterr().out == (tmp_path / "aligned.md").read_text()
    with open(tmp_path / "aligned.csv", newline="") as file:
        assert list(csv.reader(file))[1:] == [["0", "0.12345", "0.5", "a|b"], ["1", "nan", "", "c, d"]]
    assert json.loads((tmp_path / "aligned.json").read_text()) == {"aer": 0.12345, "none": None}
    assert number_or_none(math.nan) is None


def test_the_json_is_last(tmp_path: Path) -> None:
    """It says that the rest is there."""
    for name in ("aligned.csv", "aligned.md"):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=name):
            write_results(tmp_path, "aligned", "Alignment", {}, [TABLE], TABLE)
        assert not (tmp_path / "aligned.json").exists()
        (tmp_path / name).rmdir()


def test_a_figure_has_all_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In SVG text is drawn; kept as text here, it can be read back."""
    monkeypatch.setattr("training.figures.TEXT_IN_SVG", "none")
    curves = [Curve("argmax", [0, 1], [3, 2]), Curve("itermax", [0, 1], [4, 1])]
    draw_curves(tmp_path, "aer", {"AER, %": curves, "F1, %": curves}, "layer", "en-fr")
    text = (tmp_path / "aer.svg").read_text()
    assert all(f">{label}<" in text for label in ("AER, %", "F1, %", "layer", "en-fr", "argmax", "itermax"))
    assert (tmp_path / "aer.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == set(result_names("x", ["aer"])[3:])


def test_missing_fonts_are_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unassigned = chr(0x0378) + chr(0x0379)
    draw_curves(tmp_path, "x", {"y": [Curve("a", [0], [1])]}, "layer", unassigned)
    assert capsys.readouterr().err.startswith("warning: x: no installed font has 2 of its characters")
