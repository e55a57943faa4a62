"""A pair of parallel texts to show: short enough for a heat map with a row for each of its pieces."""

from __future__ import annotations

from pathlib import Path

from data_tools.text.lines import open_text

MOST_CHARACTERS = 120


def first_short_pair(source: Path, target: Path) -> tuple[str, str] | None:
    """The first lines with text on both sides, of at most MOST_CHARACTERS each; None if there are none.

    What is behind them is not read.
    """
    with open_text(source) as sources, open_text(target) as targets:
        for pair in zip(sources, targets, strict=False):  # analysis.attention refuses files of different lengths
            sentence, translation = (line.strip() for line in pair)
            if sentence and translation and max(len(sentence), len(translation)) <= MOST_CHARACTERS:
                return sentence, translation
    return None
