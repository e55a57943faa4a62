"""Search in blocks of files finds what a look at all sentences finds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from xtreme_files import write_lines

from analysis.translations import neighbours
from analysis.translations.neighbours import COLUMNS, read_queries, search, write_neighbours
from finetune.understanding.retrieval.embeddings import Embedder


@pytest.fixture
def planted(translations: Path, tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """Queries, the second of which is also line 3 of the first file, after an empty one, and line 31 of the second."""
    lines = {name: (translations / f"{name}.txt").read_text().splitlines() for name in ("de", "mixed")}
    queries = ["dog house tree stone", "river river bird milk town"]
    lines["de"][1:3] = ["", queries[1]]
    lines["mixed"][30] = queries[1]
    for name, own in lines.items():
        write_lines(tmp_path / name, own)
    write_lines(tmp_path / "queries", [queries[0], "", queries[1]])
    return tmp_path / "queries", {name: tmp_path / name for name in lines}


def test_blocks_do_not_show_and_duplicates_are_nearest(
    planted: tuple[Path, dict[str, Path]], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, files = read_queries(planted[0]), planted[1]
    assert [query.number for query in queries] == [1, 3]
    embedder = Embedder.load(tiny_model, [0, 2], None, max_tokens=100)
    monkeypatch.setattr(neighbours, "BLOCK_SENTENCES", 9)
    found, num_searched = search(embedder, [query.sentence for query in queries], files, count=4)
    sentences = [
        (name, number, line)
        for name in files
        for number, line in enumerate(files[name].read_text().splitlines(), start=1)
        if line
    ]
    assert num_searched == len(sentences) == 78
    counts = write_neighbours(tmp_path, queries, files, dict(zip((0, 2), found, strict=True)), threshold=0.8)
    with open(tmp_path / "neighbours.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    vectors = embedder.embed([line for *_, line in sentences])
    for layer, x, y in zip((0, 2), embedder.embed([query.sentence for query in queries]), vectors, strict=True):
        x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
        for query, cosines in zip(queries, x @ y.T, strict=True):
            right = [i for i in np.argsort(-cosines, kind="stable")[:4] if cosines[i] >= 0.8]
            own = [row for row in rows if row["query"] == query.sentence and row["layer"] == str(layer)]
            # Two that are equal may come in any order.
            assert {(row["file"], int(row["line"]), row["sentence"]) for row in own} == {sentences[i] for i in right}
            assert [float(row["cosine"]) for row in own] == pytest.approx(cosines[right].tolist(), abs=1e-5)
            assert [row["rank"] for row in own] == [str(rank) for rank in range(1, len(right) + 1)]
            assert {row["query_line"] for row in own} <= {str(query.number)}
        places = [(row["file"], row["line"]) for row in rows if row["layer"] == str(layer) and row["query_line"] == "3"]
        assert set(places[:2]) == {("de", "3"), ("mixed", "31")}
        assert counts[layer] == len({row["query_line"] for row in rows if row["layer"] == str(layer)})


def test_a_high_threshold_leaves_the_duplicates(
    planted: tuple[Path, dict[str, Path]], tiny_model: Path, tmp_path: Path
) -> None:
    queries = read_queries(planted[0])
    embedder = Embedder.load(tiny_model, [1], None, max_tokens=100)
    found, _ = search(embedder, [query.sentence for query in queries], planted[1], count=100)
    assert found[0].indices.shape == (2, 78)  # all there are
    assert write_neighbours(tmp_path, queries, planted[1], {1: found[0]}, threshold=0.99999) == {1: 1}
    with open(tmp_path / "neighbours.csv", newline="") as file:
        assert [(row["file"], row["line"]) for row in csv.DictReader(file)] == [("de", "3"), ("mixed", "31")]


def test_files_without_sentences_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ValueError, match="empty: empty; expected a sentence a line"):
        read_queries(tmp_path / "empty")
    (tmp_path / "page").write_text("<html>\n")
    with pytest.raises(ValueError, match="page: HTML, expected plain text, one sentence a line"):
        read_queries(tmp_path / "page")
    embedder = Embedder.load(tiny_model, [1], None, max_tokens=100)
    with pytest.raises(ValueError, match="empty: empty; expected a sentence a line"):
        search(embedder, ["dog"], {"x": tmp_path / "empty"}, 1)
