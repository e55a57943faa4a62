"""Vectors plugged in against the model on single pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.comparing.plugged import fill_plugged_vectors, plugged_vectors
from analysis.parallel import texts
from analysis.parallel.texts import ParallelText
from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoModel


def test_vectors_are_the_means_of_s(tiny_model: Path) -> None:
    """Each side attends to the last layer's H of the other; batches and padding do not show."""
    embedder = Embedder.load(tiny_model, [0, 1, 2], None, max_tokens=40, plug_in=True)
    sides = ["dog house tree", "stone", "red water"], ["hund haus baum", "stein nacht", "rot wasser hund"]
    found = plugged_vectors(embedder, *sides)
    model = VecoModel.from_pretrained(tiny_model).eval()
    for number in range(3):
        rows = [embedder.rows([side[number]]).tokens[0].tolist() for side in sides]
        ids = [torch.tensor([row]) for row in rows]
        with torch.no_grad():
            h = [model(own).last_hidden_state for own in ids]
            for side, own, other in ((0, ids[0], h[1]), (1, ids[1], h[0])):
                states = model(own, encoder_hidden_states=other, output_hidden_states=True).hidden_states
                right = np.stack([state[0].mean(dim=0).numpy() for state in states])
                assert found[side][:, number] == pytest.approx(right, abs=1e-5)
    plugged_out = embedder.embed(sides[0])
    assert found[0][0] == pytest.approx(plugged_out[0], abs=1e-6)
    assert np.abs(found[0][1:] - plugged_out[1:]).max() > 1e-2


def test_blocks_do_not_show(translations: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ParallelText.of_flag("text", [f"{name}={translations / name}.txt" for name in ("en", "de", "mixed")])
    embedder = Embedder.load(tiny_model, [1], None, max_tokens=100, plug_in=True)
    rows = [row for _, row in text]
    chosen = np.arange(len(rows)) % 3 != 0
    kept = [row for row, is_kept in zip(rows, chosen, strict=True) if is_kept]
    x, y = (np.zeros((1, len(kept), 32), dtype=np.float32) for _ in range(2))
    monkeypatch.setattr(texts, "BLOCK_ROWS", 7)
    fill_plugged_vectors(embedder, text, chosen, ("mixed", "en"), x, y)
    right = plugged_vectors(embedder, [row[2] for row in kept], [row[0] for row in kept])
    assert x == pytest.approx(right[0], abs=1e-5) and y == pytest.approx(right[1], abs=1e-5)
