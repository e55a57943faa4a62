"""A classifier tells planted languages until they are centred."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.comparing.identity import CENTRE, TEST, drawn_parts, told_languages


def test_centring_planted_offsets_leaves_chance() -> None:
    drawn = np.random.default_rng(0)
    content = drawn.normal(size=(900, 5))
    states = {
        name: (content + 0.5 * drawn.normal(size=(900, 5)) + 4 * np.eye(5)[number]).astype(np.float32)
        for number, name in enumerate(("en", "de", "fr"))
    }
    found = told_languages(states, drawn_parts(900, seed=1))
    assert found["before"] > 0.95
    # 900 tested sentences: chance has a standard deviation of about 0.016.
    assert found["centred"] == pytest.approx(1 / 3, abs=0.08)


def test_what_is_not_an_offset_is_still_told() -> None:
    """Means that differ only in the sentences that are not used for centring."""
    drawn = np.random.default_rng(0)
    parts = drawn_parts(600, seed=2)
    moved = np.where(parts == CENTRE, 0.0, 5.0)[:, None]
    states = {"en": drawn.normal(size=(600, 3)) + moved, "de": drawn.normal(size=(600, 3)) - moved}
    assert told_languages(states, parts)["centred"] > 0.95


def test_parts_are_thirds() -> None:
    parts = drawn_parts(11, seed=4)
    assert sorted(np.bincount(parts).tolist()) == [3, 4, 4] and (parts == TEST).sum() == 3
    assert parts.tolist() != drawn_parts(11, seed=5).tolist()
