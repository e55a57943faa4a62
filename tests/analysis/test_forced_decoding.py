"""Weights of a translation model made by hand, where they are known, and of a random one against single pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from copying_translator import weights_of, write_copying_translator
from toy_translation import sentences, toy_model

from analysis.forced_decoding import ForcedDecoder, State, num_decoder_layers
from analysis.weights import PADDING, SOURCE, SPECIAL, TARGET
from finetune.mt.decoding.translator import check_model


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("by-hand") / "model"
    write_copying_translator(directory)
    return directory


def load(directory: Path, state: State = State.READS, **settings: int) -> ForcedDecoder:
    layers = range(1, num_decoder_layers(directory) + 1)
    return ForcedDecoder.load(directory, layers, state, settings.get("max_length"), settings.get("max_tokens", 100))


@pytest.mark.parametrize("state", list(State))
def test_weights_are_those_of_the_state_that_reads_or_predicts(state: State, by_hand: Path) -> None:
    sources, targets = [["w1", "w2", "w3"], ["w4", "w5"]], [["v3", "v1", "v2", "v1"], ["v5"]]
    (batch,) = load(by_hand, state).weights(sources, targets)
    (weights,) = batch.by_layer
    for row, number in enumerate(batch.numbers.tolist()):
        source, target = sources[number], targets[number]
        read = ["__en__", *target]  # the decoder's input, of which the last predicts </s>
        expected = weights_of(read, ["<s>", *source, "</s>"])
        found = weights[row, 0, : len(read), : len(source) + 2]
        torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=0, atol=1e-6)
        sides, words = batch.queries.sides[row].tolist(), batch.queries.words[row].tolist()
        first = 1 if state is State.READS else 0
        for place in range(len(sides)):
            word = place - first
            is_word = 0 <= word < len(target)
            assert sides[place] == (TARGET if is_word else SPECIAL if place <= len(target) else PADDING)
            assert words[place] == (word if is_word else -100)
        tokenizer = check_model(by_hand, None)[0]
        shown = tokenizer.convert_ids_to_tokens(batch.queries.ids[row, : len(read)].tolist())
        assert shown == (read if state is State.READS else [*target, "</s>"])
        assert batch.keys.sides[row, : len(source) + 2].tolist() == [SPECIAL, *[SOURCE] * len(source), SPECIAL]


@torch.no_grad()
def test_batches_are_pairs_one_by_one(tiny_translator: Path) -> None:
    sources = [line.split() for line in sentences(7, 5)] + [[]]
    targets = [line.split() for line in sentences(7, 6)] + [["haus"]]
    decoder = load(tiny_translator, max_tokens=60)
    model = toy_model(tiny_translator)
    start, seen = model.config.decoder_start_token_id, set()

    def pieces_of(words: Sequence[str]) -> list[int]:
        found = decoder.encoder.encode_words(words) if words else []
        return [piece for pieces in found for piece in pieces]

    for batch in decoder.weights(sources, targets):
        for layer, weights in enumerate(batch.by_layer):
            for row, number in enumerate(batch.numbers.tolist()):
                source = torch.tensor([[0, *pieces_of(sources[number]), 2]])
                target = torch.tensor([[start, *pieces_of(targets[number])]])
                expected = model(source, decoder_input_ids=target, output_attentions=True).cross_attentions[layer][0]
                found = weights[row, :, : target.shape[1], : source.shape[1]]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
                seen.add(number)
    assert seen == set(range(8))


def test_long_sentences_are_cut_and_counted(tiny_translator: Path) -> None:
    decoder = load(tiny_translator, max_length=5)
    (batch,) = decoder.weights([["haus"] * 9, ["haus"]], [["rot"], ["rot"] * 9])
    assert batch.keys.ids.shape[1] == 5 and batch.queries.ids.shape[1] == 5 and decoder.num_truncated == 2
    with pytest.raises(ValueError, match="max-length 2: expected 3 to 38 tokens"):
        load(tiny_translator, max_length=2)


def test_the_own_translation_is_that_of_the_search(tiny_translator: Path) -> None:
    decoder = load(tiny_translator)
    found = decoder.translations([["haus", "rot"], []])
    (expected,) = decoder.translator.translate(["haus rot"])
    assert " ".join(found[0]) == " ".join(expected[0].text.split()) and found[1] == []
