"""Figures of analyses: curves, heat maps, bars and points, in one style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.figures import COLOURS, LINES, MARKERS, files_of, pyplot, save

HATCHES = ("", "//", "..", "xx", "\\\\", "++")  # of bars
MOST_NARROW = 4.0  # inches of a panel of bars that has others beside it
NUM_NAMED = 3  # points at each end that have their names beside them
CELL, LONGEST_SIDE = 0.26, 30  # inches of a cell of a heat map, and of a whole side at most
WRITTEN_CELL, MOST_WRITTEN = 0.45, 16  # inches of a cell with its number, and rows or columns of such a map at most
LABEL_POINTS = 8
SEQUENTIAL = "cividis"  # a colour map that is monotone in lightness


@dataclass(frozen=True)
class Curve:
    """A named series of points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class HeatMap:
    """A grid of numbers, NaN where there is none, with a name for each row and column, and for these.

    Colours go from `least` to `most`, by default the largest number, and have the name of their `unit` beside them.
    With `is_written`, numbers are in their cells, where there are no more than MOST_WRITTEN rows and columns.
    """

    numbers: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    y_label: str
    x_label: str
    title: str = ""
    unit: str = ""
    least: float = 0.0
    most: float | None = None
    is_written: bool = False

    @property
    def num_longest(self) -> int:
        """The number of rows or of columns, whichever is larger."""
        return max(len(self.rows), len(self.columns))

    @property
    def has_text(self) -> bool:
        """Whether numbers are in the cells."""
        return self.is_written and self.num_longest <= MOST_WRITTEN


@contextmanager
def figure_of(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """(figure, array of axes (rows, columns)) of so many inches, in the style of all figures; closed at the end."""
    drawing = pyplot()
    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
    with drawing.rc_context(style):
        figure, axes = drawing.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
        try:
            yield figure, axes
        finally:
            drawing.close(figure)


def draw_curves(
    output: Path, name: str, panels: Mapping[str, Sequence[Curve]], x_label: str, title: str, whole_x: bool = True
) -> None:
    """Draw a panel of curves for each y label, told apart by colour, marker and line; `whole_x` ticks whole numbers.

    A curve without points is left out; those after it look as if it were there, and so the same in all panels.
    """
    with figure_of(4.6 * len(panels), 3.6, 1, len(panels)) as (figure, axes):
        for axis, (y_label, curves) in zip(axes.flat, panels.items(), strict=True):
            for number, curve in enumerate(curves):
                if all(map(math.isnan, curve.y)):
                    continue
                look = {
                    "color": COLOURS[number % len(COLOURS)],
                    "marker": MARKERS[number % len(MARKERS)],
                    "linestyle": LINES[number // len(COLOURS) % len(LINES)],
                }
                axis.plot(curve.x, curve.y, label=curve.name, markersize=4, linewidth=1.4, **look)
            axis.set_xlabel(x_label)
            axis.set_ylabel(y_label)
            axis.xaxis.get_major_locator().set_params(integer=whole_x)
            if len(axis.lines) > 1:
                axis.legend(fontsize=8, frameon=False)
        figure.suptitle(title)
        save(figure, files_of(output / name))


def draw_heat_maps(output: Path, name: str, maps: Sequence[HeatMap], title: str) -> None:
    """Draw grids of numbers side by side, lighter where they are larger, each with a scale of its own."""
    largest_cell = WRITTEN_CELL if any(one.has_text for one in maps) else CELL
    cell, margin, bar = min(largest_cell, LONGEST_SIDE / max(one.num_longest for one in maps)), 1.6, 0.9
    font = {"fontsize": LABEL_POINTS * min(1, cell / CELL), "parse_math": False}  # a $ in a word begins no formula
    width = sum(cell * len(one.columns) + margin + bar for one in maps)
    height = cell * max(len(one.rows) for one in maps) + margin + 0.4
    with figure_of(max(width, 0.09 * len(title)), height, 1, len(maps)) as (figure, axes):
        for axis, one in zip(axes.flat, maps, strict=True):
            image = axis.imshow(one.numbers, cmap=SEQUENTIAL, vmin=one.least, vmax=one.most, aspect="auto")
            axis.grid(False)
            rotation = 90 if max(map(len, one.columns)) > 2 else 0
            axis.set_xticks(range(len(one.columns)), one.columns, rotation=rotation, **font)
            axis.set_yticks(range(len(one.rows)), one.rows, **font)
            axis.set_xlabel(one.x_label)
            axis.set_ylabel(one.y_label)
            axis.set_title(one.title, fontsize=10)
            if one.has_text:
                write_numbers(axis, image, one)
            figure.colorbar(image, ax=axis, label=one.unit)
        figure.suptitle(title)
        save(figure, files_of(output / name))


def write_numbers(axis: Any, image: Any, one: HeatMap) -> None:
    """Write the numbers of a heat map into its cells, dark on light colours."""
    for row, numbers in enumerate(one.numbers):
        for column, number in enumerate(numbers):
            colour = "black" if image.norm(number) > 0.5 else "white"
            axis.text(column, row, f"{number:.2f}", ha="center", va="center", fontsize=7, color=colour)


@dataclass(frozen=True)
class Bars:
    """A named series of values, each of a group; NaN is no bar."""

    name: str
    groups: Sequence[str]
    values: Sequence[float]


def draw_bars(output: Path, name: str, panels: Mapping[str, Sequence[Bars]], title: str) -> None:
    """Draw a panel of bars for each y label, beside each other where they are narrow.

    All series of a panel have the same groups, and differ in colour and hatching.
    """
    groups = next(iter(panels.values()))[0].groups
    num_series = max(len(own) for own in panels.values())
    label = 0.1 * max(len(group) for group in groups)  # inches
    width = max(3.0, 0.8 + len(groups) * max(0.24 * (num_series + 1), label + 0.2))
    rows, columns = (1, len(panels)) if width <= MOST_NARROW else (len(panels), 1)
    with figure_of(width * columns, 3.0 * rows, rows, columns) as (figure, axes):
        for axis, (y_label, own) in zip(axes.flat, panels.items(), strict=True):
            for number, series in enumerate(own):
                offset = (number - (len(own) - 1) / 2) * 0.8 / len(own)
                axis.bar(
                    [place + offset for place in range(len(groups))],
                    series.values,
                    0.8 / len(own),
                    label=series.name,
                    color=COLOURS[number % len(COLOURS)],
                    hatch=HATCHES[number % len(HATCHES)],
                    edgecolor="white",
                )
            axis.set_xticks(range(len(groups)), groups)
            axis.set_title(y_label, fontsize=10)
            axis.grid(False, axis="x")
        if num_series > 1:
            figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        figure.suptitle(title)
        save(figure, files_of(output / name))


@dataclass(frozen=True)
class Point:
    """A named place."""

    name: str
    x: float
    y: float


def draw_points(output: Path, name: str, points: Sequence[Point], labels: tuple[str, str], title: str) -> None:
    """Draw points by two quantities, whose labels are of x and y; the outermost of y have their names beside them."""
    with figure_of(6.4, 4.4) as (figure, axes):
        axis = axes[0, 0]
        axis.axhline(0, color=COLOURS[-1], linewidth=0.8)
        axis.scatter([point.x for point in points], [point.y for point in points], s=18, color=COLOURS[0])
        by_y = sorted(points, key=lambda point: point.y)
        for point in dict.fromkeys([*by_y[:NUM_NAMED], *by_y[-NUM_NAMED:]]):
            axis.annotate(point.name, (point.x, point.y), xytext=(4, 3), textcoords="offset points", fontsize=8)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        figure.suptitle(title)
        save(figure, files_of(output / name))
