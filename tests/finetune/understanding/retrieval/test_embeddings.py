"""Means of states against those of single sentences; batches, layers and cutting do not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import ENCODERS, ODD_TEXTS
from transformers import AutoModel, AutoTokenizer, FunnelConfig, FunnelForMaskedLM, XLMRobertaForMaskedLM
from xlm_roberta import random_xlm_roberta

from finetune.understanding.retrieval.embeddings import Embedder
from veco import VecoConfig, VecoModel
from veco.tokenizer import save_tokenizer

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


def test_batches_that_nobody_has_chosen_are_those_of_the_device(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    states = Embedder.states

    def counted(self: Embedder, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        sizes.append(batch["input_ids"].numel())
        return states(self, batch)

    monkeypatch.setattr(Embedder, "states", counted)
    sentences = ["hund haus baum vogel"] * 400
    Embedder.load(tiny_model, 1, None).embed(sentences)
    assert len(sizes) > 1 and 900 < max(sizes) <= 1024
    sizes.clear()
    Embedder.load(tiny_model, 1, None, max_tokens=8192).embed(sentences)
    assert len(sizes) == 1


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


def states_by_hand(directory: Path, sentences: list[str]) -> list[list[np.ndarray]]:
    """By layer and sentence, the mean of transformers' states over the tokenizer's own encoding."""
    model, tokenizer = AutoModel.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    means = []
    for sentence in sentences:
        with torch.no_grad():
            states = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True).hidden_states
        means.append([layer[0].mean(dim=0).numpy() for layer in states])
    return [list(of_layer) for of_layer in zip(*means, strict=True)]


@pytest.mark.parametrize("name", ENCODERS)
def test_means_of_any_encoder_are_those_of_transformers(name: str, encoder_directory: Callable[[str], Path]) -> None:
    """All layers at once, and one alone: ModernBERT ends with a norm that its other layers do not have."""
    sentences = ["hund", "das haus und der baum", *(text[:14] for text in ODD_TEXTS)]
    expected = states_by_hand(encoder_directory(name), sentences)
    found = Embedder.load(encoder_directory(name), [0, 1, 2, 3], None, max_tokens=150).embed(sentences)
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    (alone,) = Embedder.load(encoder_directory(name), 2, None, max_tokens=150).embed(sentences)
    assert alone == pytest.approx(np.array(expected[2]), abs=1e-5)


def test_long_sentences_of_any_encoder_are_cut(encoder_directory: Callable[[str], Path]) -> None:
    embedder = Embedder.load(encoder_directory("bert"), 3, 6, max_tokens=150)
    (found,) = embedder.embed(["hund haus rot baum milch vogel"])
    assert embedder.num_truncated == 1
    tokenizer = AutoTokenizer.from_pretrained(encoder_directory("bert"))
    cut = tokenizer("hund haus rot baum milch vogel", truncation=True, max_length=6)["input_ids"]
    assert embedder.rows(["hund haus rot baum milch vogel"]).tokens[0].tolist() == cut
    assert found.shape == (1, 16)


def test_an_xlm_roberta_is_the_veco_to_which_it_is_converted(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = VecoConfig.from_pretrained(tiny_model)
    random_xlm_roberta(XLMRobertaForMaskedLM, config).save_pretrained(tmp_path)
    save_tokenizer(AutoTokenizer.from_pretrained(tiny_model), tiny_model, tmp_path, max_tokens=config.max_tokens)
    expected = states_by_hand(tmp_path, SENTENCES)
    found = Embedder.load(tmp_path, [0, 1, 2], None, max_tokens=100).embed(SENTENCES)
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    (alone,) = Embedder.load(tmp_path, 1, None, max_tokens=100).embed(SENTENCES)
    assert alone == pytest.approx(np.array(expected[1]), abs=1e-5)


def test_layers_without_a_state_for_each_token_are_refused(
    encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    config = FunnelConfig(vocab_size=180, block_sizes=[1, 1], d_model=8, n_head=1, d_head=8, d_inner=8)
    FunnelForMaskedLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(encoder_directory("bert")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the layers of a funnel have no state for each token; use another encoder"):
        Embedder.load(tmp_path, 1, None, 100)
