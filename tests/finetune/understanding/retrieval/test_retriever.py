"""The queries of retrieval, and the form of its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.understanding.metrics.labels import gold_rows, read_rows, write_rows
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import PooledSet, RetrievalSet
from finetune.understanding.tasks.task import Task

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


class CountingEmbedder(PlaneEmbedder):
    """Also counts the sentences that it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_embedded = 0

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        self.num_embedded += len(sentences)
        return super().embed(sentences, name)


def pool(metric: str) -> Task:
    return replace(TASKS["tatoeba"], name="pool", metrics=(metric,), main_metrics=(metric,), pool=True)


def pooled_sets(num_candidates: int) -> dict[str, PooledSet]:
    """Candidate i stands at i degrees; they share one list."""
    ids = [f"c{number}" for number in range(num_candidates)]
    degrees, languages = [str(number) for number in range(num_candidates)], ["en"] * num_candidates
    return {
        language: PooledSet(language, ["q", "r"], queries, ids, degrees, languages, {"q": ["c0"], "r": ["c9"]})
        for language, queries in (("en", ["0", "9"]), ("de", ["90", "4.4"]))
    }


def test_the_nearest_20_of_a_pool_are_found_which_is_encoded_once() -> None:
    embedder = CountingEmbedder()
    sets = pooled_sets(30)
    retriever = Retriever(pool("map_at_20"), embedder, Similarity.COSINE)
    found = {test.language: own for test, own in retriever.pooled_predictions(sets.values())}
    ((english,), (german,)) = found["en"], found["de"]
    assert english["q"] == [f"c{number}" for number in range(20)]
    assert english["r"][0] == "c9" and set(english["r"][:19]) == {f"c{number}" for number in range(19)}
    assert german["r"][:3] == ["c4", "c5", "c3"]
    assert embedder.num_embedded == 30 + 2 + 2


def test_all_of_a_pool_are_ranked_where_a_metric_needs_them() -> None:
    retriever = Retriever(pool("map"), PlaneEmbedder(), Similarity.COSINE)
    ((_, (found,)), _) = retriever.pooled_predictions(pooled_sets(30).values())
    assert found["q"] == [f"c{number}" for number in range(30)]


def test_candidates_are_centred_within_their_language() -> None:
    """What is common to a language says nothing of a sentence. All of Thai lie far from the queries."""
    ids, languages = ["e0", "e1", "t0", "t1"], ["en", "en", "th", "th"]
    test = PooledSet("en", ["q", "r"], ["-20", "20"], ids, ["-20", "20", "160", "200"], languages, None)
    plain, centred = (
        next(retriever.pooled_predictions([test]))[1][0]
        for retriever in (
            Retriever(pool("map_at_20"), PlaneEmbedder(), Similarity.COSINE, centre=centre) for centre in (False, True)
        )
    )
    assert plain["q"] == ["e0", "e1", "t1", "t0"]
    assert set(centred["q"][:2]) == {"e0", "t1"}, "both are the lower one of their language"
