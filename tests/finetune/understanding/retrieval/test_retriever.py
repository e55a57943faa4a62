"""The queries of retrieval, and the form of its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.understanding.metrics.labels import gold_rows, read_rows, write_rows
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import RetrievalSet

TASKS = catalogue_named(XTREME).tasks


class PlaneEmbedder(Embedder):
    """A sentence is its own direction in the plane, in degrees."""

    def __init__(self) -> None:
        self.layers = [0]

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        angles = np.radians([float(sentence) for sentence in sentences])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)[None]


def test_english_sentences_are_the_queries_as_in_xtremes_script() -> None:
    # 26 is nearest to 37, and so is 90. From the other side 0 would find 26, and 37 too.
    test = RetrievalSet("de", ["0", "1"], ["0", "37"], ["0", "1"], ["26", "90"], frozenset({("1", "0"), ("0", "1")}))
    retriever = Retriever(TASKS["tatoeba"], PlaneEmbedder(), Similarity.COSINE)
    assert retriever.predictions(test, data="") == [["1", "1"]]
    assert gold_rows(test) == ["1", "0"], "of each English sentence"


def test_rows_are_written_as_xtremes_script_prints_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "test-de.tsv", ["12", "0"])
    assert (tmp_path / "test-de.tsv").read_text() == "[12]\n[0]\n"
    assert read_rows(tmp_path / "test-de.tsv", TASKS["tatoeba"]) == ["12", "0"]
    (tmp_path / "plain.tsv").write_text("12\n0\n")
    assert read_rows(tmp_path / "plain.tsv", TASKS["tatoeba"]) == ["12", "0"]
