"""One pool of all languages from files to scores by the public commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pool_files import LAREQA, MEWSLI, write_lareqa, write_mewsli

from finetune.understanding import evaluate, layers, predict


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that calls a command's main function as the command line would."""

    def run(main: Callable[[], None], *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        main()

    return run


def test_answers_are_found_among_the_sentences_of_all_languages(
    call: Callable[..., None], tiny_model: Path, tmp_path: Path
) -> None:
    write_lareqa(tmp_path / "data")
    task = tmp_path / "lareqa.yaml"
    task.write_text(LAREQA + 'predictions: "LAREQA/{language}.json"\n')
    common = (tiny_model, "--task", task, "--data", tmp_path / "data")
    call(predict.main, *common, "--output", tmp_path / "out", "--layer", 1, "--similarity", "csls", "--centre")
    found = json.loads((tmp_path / "out" / "LAREQA" / "de.json").read_text())
    assert set(found) == {"q1", "q2", "q3"}
    sentences = {"en_1_0", "en_1_1", "en_2_0", "de_1_0", "de_1_1", "de_2_0", "de_2_1"}
    assert all(len(own) == 7 and set(own) == sentences for own in found.values())
    right = {"q1": {"en_1_1", "de_1_0"}, "q2": {"en_1_0", "de_1_1"}, "q3": {"en_2_0", "de_2_1"}}
    ranks = {id: [rank for rank, name in enumerate(found[id], start=1) if name in own] for id, own in right.items()}
    expected = 100 * sum((1 / first + 2 / second) / 2 for first, second in ranks.values()) / 3

    places = ("--predictions", tmp_path / "out", "--labels", tmp_path / "data", "--json", tmp_path / "scores.json")
    call(evaluate.main, "--task", task, *places)
    scores = json.loads((tmp_path / "scores.json").read_text())["lareqa"]
    assert scores["de"] == pytest.approx({"map_at_20": expected, "map": expected})
    assert set(scores) == {"en", "de", "avg"}

    call(layers.main, *common, "--output", tmp_path / "layers", "--similarity", "csls", "--centre")
    table = json.loads((tmp_path / "layers" / "lareqa.json").read_text())
    assert table["metric"] == "map_at_20"
    assert table["layers"]["1"]["de"] == pytest.approx(expected)


def test_entities_are_found_and_a_mention_without_prediction_counts_0(
    call: Callable[..., None], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mewsli(tmp_path / "data")
    task = tmp_path / "mewslix.yaml"
    task.write_text(MEWSLI)
    call(predict.main, tiny_model, "--task", task, "--data", tmp_path / "data", "--output", tmp_path / "out")
    path = tmp_path / "out" / "mewslix" / "test-de.json"
    found = json.loads(path.read_text())
    assert {id: sorted(own) for id, own in found.items()} == {"m1": ["Q1", "Q2", "Q3"], "m2": ["Q1", "Q2", "Q3"]}
    path.write_text(json.dumps({"m2": ["Q3", "Q2"]}))
    places = ("--predictions", tmp_path / "out", "--labels", tmp_path / "data", "--json", tmp_path / "scores.json")
    call(evaluate.main, "--task", task, *places)
    assert json.loads((tmp_path / "scores.json").read_text())["mewslix"]["de"] == {"mrr_at_20": 25.0}
    assert "1 of 2 questions have no prediction and count 0" in capsys.readouterr().err
