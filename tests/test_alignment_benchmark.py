"""The benchmark of alignment, with a stand-in for SimAlign that finds nothing in one pair."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alignment as benchmark
import pytest

from analysis.aligning.links import Method
from analysis.aligning.pairs import Pair


class StandIn:
    """SimAlign's interface: our own links, but none for the first pair of a round."""

    def __init__(self, model: str, token_type: str, matching_methods: str, layer: int) -> None:
        self.letters = matching_methods
        self.own = benchmark.own_aligner(Path(model), layer, list(benchmark.PEER_NAMES))
        self.first: tuple[str, ...] = ()

    def get_word_aligns(self, source: list[str], target: list[str]) -> dict[str, Any]:
        self.first = self.first or tuple(source)
        found = self.own([Pair(source, target, None)])
        named = {benchmark.PEER_NAMES[method]: links[0] for method, links in found.items()}
        links = {name: own for (name, letter), own in named.items() if letter in self.letters}
        return {name: [] for name in links} if tuple(source) == self.first else links


def test_it_compares_speeds_and_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "simalign", SimpleNamespace(SentenceAligner=StandIn))
    monkeypatch.setattr(sys, "argv", ["alignment.py", "--quick", "--json", str(tmp_path / "found.json")])
    benchmark.main()
    alone, together = json.loads((tmp_path / "found.json").read_text())
    assert set(alone["same"]) == {Method.ARGMAX} and set(together["same"]) == set(benchmark.PEER_NAMES)
    assert all(0 < share < 1 for row in (alone, together) for share in row["same"].values())
    assert alone["ratio"] == pytest.approx(alone["own"] / alone["simalign"])


def test_without_simalign_it_says_so_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simalign", None)
    monkeypatch.setattr(sys, "argv", ["alignment.py", "--quick"])
    monkeypatch.setattr(benchmark, "pairs_of", None)
    with pytest.raises(ValueError, match="expected SimAlign; pip install --no-deps simalign==0.4"):
        benchmark.main()
