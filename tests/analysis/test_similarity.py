"""The command: cosines, a map and neighbours that agree with the model's vectors, and one line for bad input."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis import similarity
from finetune.understanding.retrieval.embeddings import Embedder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["similarity", *map(str, arguments)])
    similarity.main()


def named(root: Path, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}={root / name}.txt" for name in names)


def test_everything_of_three_languages(
    translations: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.figures.TEXT_IN_SVG", "none")
    output, text = tmp_path / "found", named(translations, "en", "de", "mixed")
    flags = ("--layers", "0,2", "--map", 10, "--projection", "pca", "--max-length", 10)
    queries = ("--queries", translations / "en.txt", "--search", *text[1:], "--count", 2)
    call(monkeypatch, tiny_model, "--text", *text, "--output", output, *flags, *queries)
    out, err = capsys.readouterr()
    assert "1 lines left out" in err and "sentences cut to 10 tokens" in err
    assert "## Cosines by language" in out and "| 2 | en | mixed | " in out and "## Nearest neighbours" in out
    found = json.loads((output / "similarity.json").read_text())
    assert found["sentences"] == 39 and found["layers"] == [0, 2] and found["languages"] == ["en", "de", "mixed"]
    assert found["neighbours"]["queries_with_neighbour"] == {"0": 40, "2": 40}

    rows = [number for number in range(40) if number != 6]
    lines = {name: (translations / f"{name}.txt").read_text().splitlines() for name in ("en", "mixed")}
    embedder = Embedder.load(tiny_model, [0, 2], 10, max_tokens=100)
    x, y = (embedder.embed([own[number] for number in rows])[1] for own in lines.values())
    cosines = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert found["pairs"]["2"]["en-mixed"]["mean"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert found["pairs"]["2"]["en-mixed"]["sd"] == pytest.approx(cosines.std(ddof=1), abs=1e-5)
    # Half of the words are the same: translations are more similar than sentences drawn at random.
    assert found["pairs"]["0"]["en-mixed"]["higher"] > 0.8
    assert found["pairs"]["0"]["en-mixed"]["mean"] > found["pairs"]["0"]["en-mixed"]["random_mean"] + 0.05
    assert set(found["by_language"]["0"]) == {"en", "de", "mixed"}
    assert found["means"]["mean"]["2"] == pytest.approx(np.mean([own["mean"] for own in found["pairs"]["2"].values()]))
    assert found["means"]["higher"]["0"] > 0.5
    with open(output / "similarity.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["layer"], row["first"], row["second"]) for row in table[:2]] == [
        ("0", "en", "de"),
        ("0", "en", "mixed"),
    ]
    assert float(table[1]["mean"]) == found["pairs"]["0"]["en-mixed"]["mean"]

    with open(output / "map.csv", newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == 2 * 3 * 10 and "7" not in {row["line"] for row in points}
    for row in points:
        assert (
            row["sentence"] == (translations / f"{row['language']}.txt").read_text().splitlines()[int(row["line"]) - 1]
        )
    with open(output / "neighbours.csv", newline="") as file:
        neighbours = list(csv.DictReader(file))
    assert len(neighbours) == 40 * 2 * 2 and {row["file"] for row in neighbours} == {"de", "mixed"}
    figure = (output / "similarity.svg").read_text()
    labels = ("cosine", "% of pairs", "translations", "random pairs", "en, layer 0", "mixed, layer 2")
    assert all(f">{label}<" in figure for label in labels)
    assert (output / "similarity.png").stat().st_size > 10_000


def test_second_call_leaves_nothing_of_the_first(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pair, centred, in the usual layer; then a search alone."""
    output, text = tmp_path / "found", named(translations, "en", "de")
    call(monkeypatch, tiny_model, "--text", *text, "--output", output, "--centre", "--projection", "pca")
    found = json.loads((output / "similarity.json").read_text())
    assert found["layers"] == [1] and found["centre"] and "By language" not in (output / "similarity.md").read_text()
    assert found["pairs"]["1"]["en-de"]["random_mean"] == pytest.approx(0, abs=0.1)
    assert "neighbours.csv" not in {path.name for path in output.iterdir()}
    (output / "mine.txt").write_text("kept")
    queries = ("--queries", translations / "en.txt", "--search", translations / "mixed.txt", "--threshold", 0.5)
    call(monkeypatch, tiny_model, *queries, "--output", output)
    results = {"similarity.json", "similarity.csv", "similarity.md", "neighbours.csv"}
    assert {path.name for path in output.iterdir()} == {*results, "mine.txt", ".made_by.tsv"}
    with open(output / "neighbours.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {"mixed.txt"} and all(float(row["cosine"]) >= 0.5 for row in rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected --text, translations to compare, or --queries and --search"),
        (("--queries", "x"), "--queries and --search: expected both"),
        (("--queries", "x", "--search", "y", "--centre"), "--centre: subtracts the means .*; expected --text"),
        (("--text", "en=x"), "--text: expected two languages or more, found only en"),
        (("--text", "en=x", "de=y", "--map", "1"), "--map 1: expected at least 2 sentences, or 0 for no map"),
        (("--queries", "x", "--search", "y", "--count", "0"), "--count 0: expected at least 1"),
        (("--queries", "x", "--search", "y", "--threshold", "2"), "--threshold 2.0: expected a cosine, from -1 to 1"),
        (("--queries", "x", "--search", "y=/dev/stdin"), "/dev/stdin: a pipe or device; name a file"),
        (("--text", "en=x", "de=y", "--count", "3"), "--count 3: is of --queries and --search; leave it out"),
        (("--queries", "x", "--search", "y", "--map", "9"), "--map 9: is of --text, of which a map is drawn"),
        (("--text", "en=x", "de=y", "--map", "0", "--projection", "tsne"), "--projection tsne: is of a map, which"),
        (("--queries", "x", "--search", "a/y", "b/y"), "--search: a/y and b/y are both called y; give NAME=FILE"),
    ],
)
def test_bad_flags_are_refused(
    flags: tuple[str, ...], message: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, "--output", tmp_path / "found", *flags)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_inputs_are_not_overwritten(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ("--text", *named(translations, "en", "de"))
    with pytest.raises(ValueError, match="is in it; choose another --output"):
        call(monkeypatch, tiny_model, *text, "--output", translations)
    (tmp_path / "map.csv").write_text("mine")
    with pytest.raises(ValueError, match="holds map.csv, not written by analysis.similarity"):
        call(monkeypatch, tiny_model, *text, "--output", tmp_path)
