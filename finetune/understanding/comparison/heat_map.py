"""Heat maps: a grid of numbers with a row and a column for each name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from training.figures import pyplot, save


def draw_grid(
    grid: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    path: Path,
    title: str,
    is_difference: bool = False,
) -> None:
    """Draw a PNG of a grid in percent, NaN where there is no number; the first column is the average.

    Differences have colours on both sides of 0, as far as the largest; other numbers go from 0 to 100.
    """
    largest = max((abs(value) for row in grid for value in row if not math.isnan(value)), default=0.0) or 1.0
    low, high, colours = (-largest, largest, "RdBu") if is_difference else (0.0, 100.0, "viridis")
    width = max(2.2 + 0.42 * len(columns), 0.1 * len(title))
    figure, axis = pyplot().subplots(figsize=(width, 1.4 + 0.42 * len(rows)))
    image = axis.imshow(grid, vmin=low, vmax=high, cmap=colours, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    axis.set_yticks(range(len(rows)), rows)
    axis.axvline(0.5, color="white", linewidth=3)
    for row, values in enumerate(grid):
        for column, value in enumerate(values):
            if not math.isnan(value):
                is_bright = abs(value) < 0.6 * high if is_difference else value > 60
                text = f"{value:+.1f}" if is_difference else f"{value:.0f}"
                colour = "black" if is_bright else "white"
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axis.set_title(title)
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.02)
    figure.tight_layout()
    save(figure, [path], dpi=110)
