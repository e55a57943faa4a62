"""Means of states against those of single sentences; batches, layers and cutting do not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoModel

SENTENCES = ["hund", "haus baum vogel", "milch nacht", "rot " * 30, "stein"]


def test_means_are_those_of_single_sentences(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, layers=[2, 0], max_length=20, max_tokens=25)
    found = embedder.embed(SENTENCES)
    assert found.shape == (2, 5, 32) and found.dtype == np.float32
    assert embedder.num_truncated == 1
    model = VecoModel.from_pretrained(tiny_model).eval()
    for number, pieces in enumerate(embedder.encoder.encode(SENTENCES)):
        ids = torch.tensor([[0, *pieces[:18], 2]])
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        for place, layer in enumerate((2, 0)):
            assert found[place, number] == pytest.approx(states[layer][0].mean(dim=0).numpy(), abs=1e-5)


def test_layers_above_the_last_requested_one_are_not_computed(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, layers=1, max_length=20, max_tokens=100)
    assert len(embedder.model.layers) == 1
    both = Embedder.load(tiny_model, layers=[1, 2], max_length=20, max_tokens=100)
    assert embedder.embed(SENTENCES)[0] == pytest.approx(both.embed(SENTENCES)[0], abs=1e-6)


def test_what_the_model_does_not_have(tiny_model: Path) -> None:
    assert Embedder.load(tiny_model, None, None, 100).max_length == 64
    with pytest.raises(ValueError, match="layer 3: .* has layers 1 to 2, and 0"):
        Embedder.load(tiny_model, 3, 20, 100)
    with pytest.raises(ValueError, match="max-length 65: expected 3 to 64 tokens"):
        Embedder.load(tiny_model, 1, 65, 100)
