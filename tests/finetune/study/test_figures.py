"""The figures of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune.study import figures


def test_panels_by_layer_stand_in_rows_where_a_model_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, *arguments, **settings: drawn.append(figure))
    of_both = {f"number {place}": {"veco": {0: 0.1, 1: 0.2}, "xlm": {0: 0.2, 1: 0.3}} for place in range(4)}
    assert figures.draw_layers({**of_both, "of one": {"xlm": {1: 0.5}}}, tmp_path / "by_layer")
    axes = drawn[0].axes
    assert [axis.get_title() for axis in axes] == [*of_both, "of one"]
    places = [axis.get_subplotspec() for axis in axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    looks = {(line.get_label(), line.get_color(), line.get_marker()) for axis in axes for line in axis.lines}
    assert sorted(label for label, _, _ in looks) == ["veco", "xlm"]
    assert len({colour for _, colour, _ in looks}) == len({marker for _, _, marker in looks}) == 2
