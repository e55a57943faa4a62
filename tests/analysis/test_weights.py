"""Weights of batches against those of each row alone, and the words and sides of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from analysis.weights import (
    SOURCE,
    SPECIAL,
    TARGET,
    Weights,
    form_weights,
    plugged_in_weights,
    plugged_out_weights,
    tlm_weights,
)
from finetune.exported.encoder import ExportedEncoder
from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoModel
from veco.labels import IGNORED

SOURCES = [["dog", "house"], ["unbelievable", "house", "tree"], [], ["red", "stone", "night", "river", "town"]]
TARGETS = [["hund", "haus"], ["haus", "baum"], ["rot"], ["stein", "unglaublich", "nacht"]]
TOLERANCE = 1e-6
ENCODERS = ["veco", "bert", "roberta", "deberta", "modernbert"]


@pytest.fixture
def embedder_of(tiny_model: Path, encoder_directory: Callable[[str], Path]) -> Callable[[str], Embedder]:
    def load(name: str) -> Embedder:
        directory = tiny_model if name == "veco" else encoder_directory(name)
        embedder = Embedder.load(directory, [1, 2], None, max_tokens=60)
        form_weights(embedder)
        return embedder

    return load


def rows_of(batches: Iterator[Weights]) -> Iterator[tuple[int, int, Weights, list[torch.Tensor]]]:
    """(number of the sentence or pair, row, its batch, its weights (H, T, S) by layer)."""
    for batch in batches:
        layers = list(batch.by_layer)
        for row, number in enumerate(batch.numbers.tolist()):
            yield number, row, batch, [weights[row] for weights in layers]


def pieces_of(embedder: Embedder, words: list[str]) -> list[list[int]]:
    return [list(pieces) for pieces in embedder.encoder.encode_words(words)] if words else []


@pytest.mark.parametrize("name", ENCODERS)
def test_tlm_weights_are_those_of_each_row_alone(name: str, embedder_of: Callable[[str], Embedder]) -> None:
    embedder = embedder_of(name)
    seen = set()
    for number, row, batch, layers in rows_of(tlm_weights(embedder, SOURCES, TARGETS)):
        tokens = batch.queries
        is_token = tokens.sides[row] >= SPECIAL
        ids = tokens.ids[row][is_token]
        pieces = [pieces_of(embedder, words) for words in (SOURCES[number], TARGETS[number])]
        flat = [[piece for word in side for piece in word] for side in pieces]
        expected = embedder.encoder.pair.row(*flat)
        assert ids.tolist() == expected.ids.tolist()
        for side, own in ((SOURCE, pieces[0]), (TARGET, pieces[1])):
            is_own = tokens.sides[row] == side
            assert tokens.words[row][is_own].tolist() == [place for place, word in enumerate(own) for _ in word]
        specials = tokens.sides[row] == SPECIAL
        assert specials.sum() == embedder.encoder.pair.num_specials
        assert tokens.words[row][~is_token | specials].eq(IGNORED).all()
        types = {} if expected.types is None else {"token_type_ids": torch.tensor(expected.types)[None].long()}
        with torch.no_grad():
            alone = embedder.model(ids[None], output_attentions=True, **types).attentions
        for layer, weights in zip((1, 2), layers, strict=True):
            own = weights[:, is_token][:, :, is_token]
            torch.testing.assert_close(own, alone[layer - 1][0], rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(own.sum(dim=-1), torch.ones(own.shape[:2]), rtol=0, atol=TOLERANCE)
            assert weights[:, is_token][:, :, ~is_token].eq(0).all(), "no token attends to padding"
        seen.add(number)
    assert seen == {0, 1, 2, 3}


def test_plugged_out_and_plugged_in_weights_are_those_of_each(
    tiny_model: Path, embedder_of: Callable[[str], Embedder]
) -> None:
    model = VecoModel.from_pretrained(tiny_model).eval()
    wanted = {"output_attentions": True}

    def ids_of(words: list[str]) -> torch.Tensor:
        flat = [piece for word in pieces_of(embedder, words) for piece in word]
        return torch.tensor([[0, *flat, 2]])

    embedder = embedder_of("veco")
    for number, row, batch, layers in rows_of(plugged_out_weights(embedder, TARGETS, TARGET)):
        with torch.no_grad():
            alone = model(ids_of(TARGETS[number]), **wanted).attentions
        is_token = batch.queries.sides[row] >= SPECIAL
        assert set(batch.queries.sides[row][is_token].tolist()) == {SPECIAL, TARGET}
        for layer, weights in zip((1, 2), layers, strict=True):
            torch.testing.assert_close(
                weights[:, is_token][:, :, is_token], alone[layer - 1][0], rtol=0, atol=TOLERANCE
            )

    embedder = Embedder.load(tiny_model, [1, 2], None, max_tokens=60, plug_in=True)
    rows = []
    for number, row, batch, layers in rows_of(plugged_in_weights(embedder, SOURCES, TARGETS)):
        is_source = row < len(batch.numbers) // 2
        sentences, pair = (SOURCES, TARGETS) if is_source else (TARGETS, SOURCES)
        with torch.no_grad():
            h = model(ids_of(pair[number])).last_hidden_state
            alone = model(ids_of(sentences[number]), encoder_hidden_states=h, **wanted).cross_attentions
        is_query, is_key = batch.queries.sides[row] >= SPECIAL, batch.keys.sides[row] >= SPECIAL
        for layer, weights in zip((1, 2), layers, strict=True):
            found = weights[:, is_query][:, :, is_key]
            torch.testing.assert_close(found, alone[layer - 1][0], rtol=0, atol=TOLERANCE)
        if sentences[number] and pair[number]:
            sides = [set(tokens.sides[row].tolist()) - {-1, -2} for tokens in (batch.queries, batch.keys)]
            assert sides == ([{SOURCE}, {TARGET}] if is_source else [{TARGET}, {SOURCE}])
        rows.append((number, is_source))
    assert sorted(rows) == [(number, is_source) for number in range(4) for is_source in (False, True)]


def test_the_longer_sentence_of_a_pair_is_cut_and_counted(embedder_of: Callable[[str], Embedder]) -> None:
    embedder = embedder_of("veco")
    embedder.max_length = 16
    (batch,) = tlm_weights(embedder, [["dog"] * 30], [["hund"]])
    assert batch.queries.ids.shape == (1, 16) and embedder.num_truncated == 1
    assert batch.queries.sides.eq(TARGET).sum() == len(pieces_of(embedder, ["hund"])[0])


def test_an_encoder_without_such_weights_is_refused(embedder_of: Callable[[str], Embedder]) -> None:
    embedder = embedder_of("bert")
    embedder.model.forward = lambda ids, output_attentions: type("Output", (), {"attentions": None})()
    with pytest.raises(ValueError, match="a bert has no weight of each token on each token; use another encoder"):
        form_weights(embedder)


def test_an_exported_encoder_is_refused(embedder_of: Callable[[str], Embedder]) -> None:
    embedder = embedder_of("veco")
    embedder.model = ExportedEncoder.__new__(ExportedEncoder)
    with pytest.raises(ValueError, match="an exported encoder returns no weights of attention; use the model"):
        form_weights(embedder)
