"""Attention between the units of pairs against the weights of single pairs, piece by piece and word by word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_translation import sentences, toy_model

from analysis.aligning.evidence import (
    AttentionEvidence,
    OneWayEvidence,
    Source,
    decoder_evidence,
    evidence_of_pairs,
)
from analysis.forced_decoding import ForcedDecoder, State
from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoModel

SOURCES = [["dog"], ["unbelievable", "house", "tree"], [], ["red", "stone", "night", "river", "town"]]
TARGETS = [["hund", "hund"], ["haus", "baum"], ["rot"], ["stein", "unglaublich", "nacht"]]


def weights_of(model: VecoModel, own: list[int], pair: list[int], layer: int) -> np.ndarray:
    """(own pieces, pair's pieces): the mean over heads of a layer's cross-attention."""
    with torch.no_grad():
        h = model(torch.tensor([[0, *pair, 2]])).last_hidden_state
        found = model(torch.tensor([[0, *own, 2]]), encoder_hidden_states=h, output_attentions=True)
    weights = found.cross_attentions[layer - 1][0].mean(dim=0)
    assert weights.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    return weights[1:-1, 1:-1].numpy()


def of_words(weights: np.ndarray, own: list[list[int]], pair: list[list[int]]) -> np.ndarray:
    """The mean over the pieces that attend, and the sum over those that are attended to."""
    rows = np.split(weights, np.cumsum([len(pieces) for pieces in own])[:-1])
    means = np.array([pieces.mean(axis=0) for pieces in rows])
    columns = np.split(means, np.cumsum([len(pieces) for pieces in pair])[:-1], axis=1)
    return np.array([pieces.sum(axis=1) for pieces in columns]).T


@pytest.mark.parametrize("by_piece", [True, False])
def test_attention_of_pairs_is_that_of_each(by_piece: bool, tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, [1, 2], None, max_tokens=60, plug_in=True)
    model = VecoModel.from_pretrained(tiny_model).eval()
    num_seen = 0
    batches = evidence_of_pairs(embedder, SOURCES, TARGETS, Source.CROSS_ATTENTION, by_piece, distortion=0.0)
    for numbers, by_layer in batches:
        for layer, found in zip((1, 2), by_layer, strict=True):
            assert isinstance(found, AttentionEvidence)
            for row, number in enumerate(numbers):
                if not SOURCES[number]:
                    assert not found.is_cell[row].any()
                    continue
                sides = SOURCES[number], TARGETS[number]
                words = [[list(pieces) for pieces in embedder.encoder.encode_words(side)] for side in sides]
                x, y = ([piece for word in side for piece in word] for side in words)
                expected = weights_of(model, x, y, layer), weights_of(model, y, x, layer)
                if not by_piece:
                    expected = of_words(expected[0], *words), of_words(expected[1], *reversed(words))
                forward, backward = (own[row][found.is_cell[row]] for own in found.probabilities())
                assert forward.numpy() == pytest.approx(expected[0].ravel(), abs=1e-5)
                assert backward.numpy() == pytest.approx(expected[1].T.ravel(), abs=1e-5)
                mean = found.similarities()[row][found.is_cell[row]]
                assert mean.numpy() == pytest.approx((expected[0] + expected[1].T).ravel() / 2, abs=1e-5)
                numbered = [[place for place, word in enumerate(side) for _ in word] for side in words]
                if not by_piece:
                    numbered = [list(range(len(side))) for side in words]
                for units, own in zip((found.x_words, found.y_words), numbered, strict=True):
                    assert units[row].tolist() == own + [-1] * (units.shape[1] - len(own))
                num_seen += 1
    assert num_seen == 2 * 3


@pytest.mark.parametrize("by_piece", [True, False])
@torch.no_grad()
def test_decoder_evidence_is_that_of_each_pair(by_piece: bool, tiny_translator: Path) -> None:
    """The weights of the states that read target words of several pieces, on such source words."""
    sources, targets = ([line.split() for line in sentences(3, seed)] for seed in (5, 6))
    decoder = ForcedDecoder.load(tiny_translator, [2], State.READS, None, max_tokens=100)
    model, num_seen = toy_model(tiny_translator), 0
    for numbers, by_layer in decoder_evidence(decoder, sources, targets, by_piece):
        (found,) = by_layer
        assert isinstance(found, OneWayEvidence)
        for row, number in enumerate(numbers):
            words = [[list(one) for one in decoder.encoder.encode_words(side[number])] for side in (sources, targets)]
            x, y = ([piece for word in side for piece in word] for side in words)
            inputs = torch.tensor([[0, *x, 2]]), torch.tensor([[model.config.decoder_start_token_id, *y]])
            output = model(inputs[0], decoder_input_ids=inputs[1], output_attentions=True)
            expected = output.cross_attentions[1][0].mean(dim=0)[1:, 1:-1].numpy()
            if not by_piece:
                expected = of_words(expected, words[1], words[0])
            similarities = found.similarities()[row][found.is_cell[row]]
            assert similarities.numpy() == pytest.approx(expected.T.ravel(), abs=1e-5)
            num_seen += 1
    assert num_seen == 3
