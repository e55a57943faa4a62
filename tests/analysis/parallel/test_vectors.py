"""The vectors of parallel sentences are those of their embedder, whatever the blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.parallel import texts
from analysis.parallel.texts import ParallelText
from analysis.parallel.vectors import ParallelVectors
from finetune.understanding.retrieval.embeddings import Embedder


def test_blocks_do_not_show(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ParallelText.of_flag("text", [f"{name}={translations / name}.txt" for name in ("en", "de")])
    embedder = Embedder.load(tiny_model, [0, 2], None, max_tokens=100)
    rows = [row for _, row in text]
    monkeypatch.setattr(texts, "BLOCK_ROWS", 11)
    chosen = np.arange(len(rows)) != 8
    vectors = ParallelVectors.of(embedder, text, chosen, tmp_path)
    rows.pop(8)
    assert vectors.num_sentences == 38 and vectors.languages == ["en", "de"] and not list(tmp_path.iterdir())
    for number, language in enumerate(vectors.languages):
        right = embedder.embed([row[number] for row in rows])
        for layer, own in zip((0, 2), right, strict=True):
            assert vectors.of_layer(language, layer) == pytest.approx(own, abs=1e-5)
            assert vectors.centre_of(language, layer) == pytest.approx(own.mean(axis=0), abs=1e-5)
    assert not np.allclose(vectors.of_layer("de", 0), vectors.of_layer("de", 2))
