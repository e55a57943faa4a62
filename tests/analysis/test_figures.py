"""Bars and points: every series is drawn, and the same figure is the same file."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis import figures
from analysis.figures import Bars, HeatMap, Point, draw_bars, draw_heat_maps, draw_points

BARS = {
    "loss": [Bars("before", ["en", "de"], [1.0, 2.0]), Bars("after", ["en", "de"], [3.0, math.nan])],
    "accuracy, %": [Bars("before", ["en", "de"], [10.0, 20.0]), Bars("after", ["en", "de"], [30.0, 40.0])],
}
POINTS = [Point(f"name {number}", number, number**2) for number in range(9)]


def bars(output: Path) -> None:
    draw_bars(output, "figure", BARS, "title")


def points(output: Path) -> None:
    draw_points(output, "figure", POINTS, ("x", "y"), "title")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    found: list[Figure] = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda figure, *place: found.append(figure) or save(figure, *place))
    return found


def test_all_bars_are_drawn_beside_each_other(drawn: list[Figure], tmp_path: Path) -> None:
    bars(tmp_path)
    loss, accuracy = drawn[0].axes
    assert [bar.get_height() for bar in accuracy.patches] == [10, 20, 30, 40]
    assert [bar.get_height() for bar in loss.patches][:3] == [1, 2, 3] and math.isnan(loss.patches[3].get_height())
    middles = [bar.get_x() + bar.get_width() / 2 for bar in accuracy.patches]
    assert middles == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    assert [text.get_text() for text in accuracy.get_xticklabels()] == ["en", "de"]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["before", "after"]
    assert loss.get_subplotspec().rowspan == accuracy.get_subplotspec().rowspan


def test_the_outermost_points_are_named(drawn: list[Figure], tmp_path: Path) -> None:
    points(tmp_path)
    (axis,) = drawn[0].axes
    assert [text.get_text() for text in axis.texts] == [f"name {number}" for number in (0, 1, 2, 6, 7, 8)]
    assert axis.collections[0].get_offsets().tolist() == [[point.x, point.y] for point in POINTS]


def test_numbers_are_in_the_cells_of_small_heat_maps(drawn: list[Figure], tmp_path: Path) -> None:
    for size in (2, 17):
        names = [str(number) for number in range(size)]
        grid = [[-0.5 if row < column else 1.0 for column in range(size)] for row in range(size)]
        one = HeatMap(grid, names, names, "of", "to", unit="similarity", least=-0.5, most=2, is_written=True)
        draw_heat_maps(tmp_path, "figure", [one], "title")
    small, large = (figure.axes[0] for figure in drawn)
    assert [text.get_text() for text in small.texts] == ["1.00", "-0.50", "1.00", "1.00"] and not large.texts
    assert [text.get_color() for text in small.texts] == ["black", "white", "black", "black"]
    assert small.images[0].get_clim() == (-0.5, 2) and drawn[0].axes[1].get_ylabel() == "similarity"


@pytest.mark.parametrize("draw", [bars, points])
def test_the_same_figure_is_the_same_file(draw: Callable[[Path], None], tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        draw(tmp_path)
        contents.append([(tmp_path / f"figure.{end}").read_bytes() for end in ("svg", "png")])
    assert contents[0] == contents[1]
    assert ElementTree.fromstring(contents[0][0]).tag.endswith("}svg") and contents[0][1].startswith(b"\x89PNG")
