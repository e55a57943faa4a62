"""Heat maps of one sentence or pair: units, labels, and weights summed by loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.attending.maps import MEAN, WeightMap, maps_of_text
from analysis.attending.reading import Reading, encoder_weights
from analysis.weights import form_weights
from finetune.understanding.retrieval.embeddings import Embedder

SOURCE, TARGET = ["unbelievable", "dog", "dog"], ["hund", "unglaublich"]
LAYERS = (1, 2)


def maps_by(
    directory: Path, reading: Reading, by_piece: bool, heads: tuple[str, ...] = (MEAN, "1")
) -> tuple[Embedder, list[WeightMap]]:
    embedder = Embedder.load(directory, LAYERS, None, max_tokens=60, plug_in=reading is Reading.PLUGGED_IN)
    form_weights(embedder)
    weights_of = partial(encoder_weights, embedder, reading)
    text, tokenizer = (SOURCE, TARGET), embedder.encoder.tokenizer
    return embedder, maps_of_text(weights_of, text, LAYERS, [2], heads, tokenizer, by_piece)


def pieces_by_word(embedder: Embedder) -> list[list[int]]:
    """The places of each unit in `<s> source </s> </s> target </s>`."""
    places, next_place = [[0]], 1
    for words in (SOURCE, TARGET):
        for pieces in embedder.encoder.encode_words(words):
            places.append(list(range(next_place, next_place + len(pieces))))
            next_place += len(pieces)
        specials = 2 if words is SOURCE else 1
        places += [[next_place + number] for number in range(specials)]
        next_place += specials
    return places


def test_a_map_of_tlm_has_words_and_special_tokens(tiny_model: Path) -> None:
    embedder, maps = maps_by(tiny_model, Reading.TLM, by_piece=False)
    places = pieces_by_word(embedder)
    source, target = (
        [piece for pieces in embedder.encoder.encode_words(words) for piece in pieces] for words in (SOURCE, TARGET)
    )
    row = torch.tensor([[0, *source, 2, 2, *target, 2]])
    with torch.no_grad():
        tokens = embedder.model(row, output_attentions=True).attentions[1][0]
    for one, weights in zip(maps, (tokens.mean(dim=0), tokens[1]), strict=True):
        assert one.layer == 2 and one.rows == one.columns == ["<s>", *SOURCE, "</s>", "</s>", *TARGET, "</s>"]
        expected = [
            [np.mean([sum(float(weights[i, j]) for j in keys) for i in queries]) for keys in places]
            for queries in places
        ]
        assert one.weights == pytest.approx(np.array(expected), abs=1e-5)
        assert one.weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert [one.head for one in maps] == [MEAN, "1"]


@pytest.mark.parametrize("reading", [Reading.PLUGGED_IN, Reading.PLUGGED_OUT])
def test_each_side_has_a_map(reading: Reading, tiny_model: Path) -> None:
    _, maps = maps_by(tiny_model, reading, by_piece=False, heads=(MEAN,))
    source, target = (["<s>", *words, "</s>"] for words in (SOURCE, TARGET))
    is_crossing = reading is Reading.PLUGGED_IN
    expected = [(source, target if is_crossing else source), (target, source if is_crossing else target)]
    assert [(one.rows, one.columns) for one in maps] == expected
    for one in maps:
        assert one.weights.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["veco", "bert", "roberta"])
def test_pieces_are_labelled_in_any_script(
    name: str, tiny_model: Path, encoder_directory: Callable[[str], Path]
) -> None:
    """Byte-level pieces as far as they are whole characters; what is only a space stays as it is."""
    directory = tiny_model if name == "veco" else encoder_directory(name)
    embedder = Embedder.load(directory, LAYERS, None, max_tokens=60)
    form_weights(embedder)
    weights_of = partial(encoder_weights, embedder, Reading.PLUGGED_OUT)
    text = (["unbelievable", "北京"], None)
    (one,) = maps_of_text(weights_of, text, LAYERS, [1], [MEAN], embedder.encoder.tokenizer, by_piece=True)
    pieces = [piece for word in embedder.encoder.encode_words(text[0]) for piece in word]
    assert len(one.rows) == len(pieces) + 2 and all(one.rows)
    letters = "".join(label.removeprefix("##") for label in one.rows[1:] if label not in ("▁", "Ġ"))
    assert letters.startswith("unbelievable")
    if name == "bert":
        assert one.rows[-3:-1] == ["北", "京"]


def test_a_head_that_is_not_there_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="--heads 2: the model has heads 0 to 1"):
        maps_by(tiny_model, Reading.TLM, by_piece=False, heads=("2",))
