"""States of words against transformers on single sentences: batches, cutting and plugging in do not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from analysis.states import states_of_pairs, states_of_sentences
from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoModel

SENTENCES = [
    ["hund"],
    ["dog", "houses", "tree", "unbelievable", "bread"],
    [],
    ["rot", "\x01", "wasser"],
    ["stone"] * 9,
    ["anna", "paul", "haus"],
]


def means_by_hand(directory: Path, sentence: list[str]) -> np.ndarray:
    """(layers, words, width): the mean of transformers' states over the tokenizer's own pieces of each word."""
    model = AutoModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoded = tokenizer(sentence, is_split_into_words=True, return_tensors="pt")
    numbers = [-1 if number is None else number for number in encoded.word_ids(0)]
    with torch.no_grad():
        states = model(**encoded, output_hidden_states=True).hidden_states
    of_words = [[layer[0][np.equal(numbers, word)].mean(dim=0) for word in range(len(sentence))] for layer in states]
    return np.array([[state.numpy() for state in layer] for layer in of_words])


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_words_are_the_means_of_their_pieces(name: str, encoder_directory: Callable[[str], Path]) -> None:
    directory = encoder_directory(name)
    embedder = Embedder.load(directory, [0, 1, 2, 3], None, max_tokens=40)
    space = " " if name == "roberta" else ""  # RoBERTa's pieces within a sentence have their leading space
    seen = []
    for numbers, units in states_of_sentences(embedder, SENTENCES):
        seen += numbers.tolist()
        for number, states, words in zip(numbers, units.states.unbind(dim=1), units.words, strict=True):
            sentence = SENTENCES[number]
            assert words.tolist() == [*range(len(sentence)), *[-1] * (len(words) - len(sentence))]
            assert not states[:, len(sentence) :].any()
            if sentence and "\x01" not in sentence:
                found = states[:, : len(sentence)].numpy()
                assert found == pytest.approx(means_by_hand(directory, [space + word for word in sentence]), abs=1e-5)
    assert sorted(seen) == list(range(len(SENTENCES)))


def test_a_word_without_pieces_is_the_unknown_piece(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, [0], None, max_tokens=100)
    ((_, units),) = states_of_sentences(embedder, [["hund", "\x01", "haus"]])
    model = VecoModel.from_pretrained(tiny_model).eval()
    pieces = [*embedder.encoder.encode(["hund"])[0], embedder.encoder.unknown]
    with torch.no_grad():
        states = model(torch.tensor([[0, *pieces, 2]])).last_hidden_state
        embedded = model.embeddings(torch.tensor([[0, *pieces, 2]]), torch.arange(2, 4 + len(pieces))[None])
    assert states.shape[1] == len(pieces) + 2
    assert units.states[0, 0, 1].numpy() == pytest.approx(embedded[0, -2].detach().numpy(), abs=1e-6)


def test_sentences_may_all_be_empty(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, [0, 1], None, max_tokens=100)
    ((numbers, units),) = states_of_sentences(embedder, [[], []])
    assert sorted(numbers) == [0, 1] and units.states.shape[1:3] == (2, 0)
    ((_, x, y),) = states_of_pairs(embedder, [[]], [[]], by_piece=True, plug_in=False)
    assert not x.is_unit.any() and not y.is_unit.any()


def test_long_sentences_are_cut_and_their_last_words_have_no_state(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, [2], 8, max_tokens=100)
    ((_, units),) = states_of_sentences(embedder, [["stone"] * 20, ["stone"]])
    assert embedder.num_truncated == 1
    num_pieces = len(embedder.encoder.encode(["stone"])[0])
    assert units.is_unit.sum(dim=1).tolist() == [-(-6 // num_pieces), 1]


def by_hand_plugged_in(model: VecoModel, own: list[int], pair: list[int]) -> list[np.ndarray]:
    """S of one sentence over H of the other, by layer, without special tokens."""
    with torch.no_grad():
        h = model(torch.tensor([[0, *pair, 2]])).last_hidden_state
        found = model(torch.tensor([[0, *own, 2]]), encoder_hidden_states=h, output_hidden_states=True)
    return [states[0, 1:-1].numpy() for states in found.hidden_states]


@pytest.mark.parametrize("plug_in", [False, True])
def test_pieces_of_pairs_plugged_out_and_in(plug_in: bool, tiny_model: Path) -> None:
    sources, targets = SENTENCES[:2] + SENTENCES[4:], SENTENCES[4:] + SENTENCES[:2]
    embedder = Embedder.load(tiny_model, [0, 1, 2], None, max_tokens=80, plug_in=plug_in)
    model = VecoModel.from_pretrained(tiny_model).eval()
    num_seen = 0
    for numbers, x, y in states_of_pairs(embedder, sources, targets, by_piece=True, plug_in=plug_in):
        for row, number in enumerate(numbers):
            sides = [sources[number], targets[number]]
            pieces = [[piece for word in embedder.encoder.encode_words(side) for piece in word] for side in sides]
            for units, own, pair in zip((x, y), pieces, reversed(pieces), strict=True):
                if plug_in:
                    expected = by_hand_plugged_in(model, own, pair)
                else:
                    with torch.no_grad():
                        found = model(torch.tensor([[0, *own, 2]]), output_hidden_states=True).hidden_states
                    expected = [states[0, 1:-1].numpy() for states in found]
                is_unit = units.is_unit[row]
                assert is_unit.sum() == len(own)
                assert units.states[:, row, is_unit].numpy() == pytest.approx(np.array(expected), abs=1e-5)
                assert units.states[:, row, ~is_unit].abs().sum() == 0
            num_seen += 1
    assert num_seen == len(sources)


def test_words_of_pairs_are_those_of_sentences(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, [1], None, max_tokens=50)
    alone = {}
    for numbers, units in states_of_sentences(embedder, SENTENCES):
        alone |= {number: units.states[:, row][:, units.is_unit[row]] for row, number in enumerate(numbers)}
    for numbers, x, y in states_of_pairs(embedder, SENTENCES, SENTENCES[::-1], by_piece=False, plug_in=False):
        for row, number in enumerate(numbers):
            assert torch.allclose(x.states[:, row][:, x.is_unit[row]], alone[number], atol=1e-5)
            other = len(SENTENCES) - 1 - number
            assert torch.allclose(y.states[:, row][:, y.is_unit[row]], alone[other], atol=1e-5)


def test_only_a_veco_can_be_plugged_in(encoder_directory: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="a bert has no cross-attention to plug in; expected a VECO"):
        Embedder.load(encoder_directory("bert"), [1], None, max_tokens=40, plug_in=True)
