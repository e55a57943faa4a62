"""Embeddings exchanged between models, against models that are put together weight by weight."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaTokenizer

from data_tools.cli import run_main
from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForSequenceClassification,
    VecoModel,
)
from veco.adapter_config import AdapterConfig
from veco.adapters import attach_adapter
from veco.swap_embeddings import main, swap_embeddings

IDS = torch.tensor([[0, 5, 40, 9, 2]])
WORDS = "embeddings.word_embeddings.weight"


def shaped(config: VecoConfig, **fields: Any) -> VecoConfig:
    return VecoConfig(**{**config.to_dict(), **fields})


def test_the_body_keeps_all_but_embeddings_and_output_bias(config: VecoConfig) -> None:
    body, other = VecoForMaskedLM(config).eval(), VecoForMaskedLM(shaped(config, vocab_size=47)).eval()
    attach_adapter(body, "sw", AdapterConfig())
    with torch.no_grad():
        other.lm_head.decoder.bias.normal_()
    weights = {**body.state_dict(), f"veco.{WORDS}": other.state_dict()[f"veco.{WORDS}"]}
    weights |= {name: other.state_dict()[name] for name in ("lm_head.decoder.weight", "lm_head.decoder.bias")}
    expected = VecoForMaskedLM(shaped(body.config, vocab_size=47)).eval()
    expected.load_state_dict(weights)
    swapped = swap_embeddings(body, other)
    assert swapped is body and body.config.vocab_size == body.veco.config.vocab_size == 47
    assert body.lm_head.decoder.weight is body.get_input_embeddings().weight, "still tied"
    assert body.get_input_embeddings().weight is not other.get_input_embeddings().weight
    torch.testing.assert_close(body(IDS).logits, expected(IDS).logits, rtol=0, atol=0)
    assert body(IDS).logits.shape == (1, 5, 47)


def test_a_classifier_takes_embeddings_alone(config: VecoConfig) -> None:
    classifier = VecoForSequenceClassification(config).eval()
    for other in (VecoForMaskedLM(config), VecoModel(config)):
        swap_embeddings(classifier, other)
        base = other if isinstance(other, VecoModel) else other.veco
        assert torch.equal(classifier.state_dict()[f"veco.{WORDS}"], base.state_dict()[WORDS])


def test_models_that_do_not_fit_each_other(config: VecoConfig) -> None:
    model = VecoForMaskedLM(config)
    translator = VecoForConditionalGeneration(shaped(config, decoder_start_token_id=5))
    for body, other, message in (
        (model, VecoForMaskedLM(shaped(config, hidden_size=64)), "hidden_size is 32 in the body and 64 where"),
        (model, VecoForMaskedLM(shaped(config, tie_word_embeddings=False)), "tie_word_embeddings is True in the body"),
        (model, VecoForMaskedLM(shaped(config, eos_token_id=7)), "eos_token_id is 2 in the body and 7"),
        (model, VecoModel(config), "has no output weight; expected one with its language-model head"),
        (translator, model, "the body is a translation model"),
    ):
        before = {name: weight.clone() for name, weight in body.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            swap_embeddings(body, other)
        assert all(torch.equal(weight, before[name]) for name, weight in body.state_dict().items())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["veco.swap_embeddings", *map(str, arguments)])
    run_main(main)


def test_the_command_writes_the_embeddings_tokenizer(
    config: VecoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, other, destination = tmp_path / "task", tmp_path / "fi", tmp_path / "task-fi"
    VecoForSequenceClassification(config).save_pretrained(body)
    VecoForMaskedLM(shaped(config, vocab_size=30)).save_pretrained(other)
    with pytest.raises(SystemExit):
        run(monkeypatch, body, other, destination)
    assert f"error: {other}: has no tokenizer" in capsys.readouterr().err and not destination.exists()
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    XLMRobertaTokenizer(vocab=[*special, *((f"▁p{i}", -5.0) for i in range(25)), ("<mask>", 0.0)]).save_pretrained(
        other
    )
    run(monkeypatch, body, other, destination)
    assert "VecoForSequenceClassification of" in capsys.readouterr().out
    made = VecoForSequenceClassification.from_pretrained(destination)
    given = VecoForMaskedLM.from_pretrained(other)
    assert torch.equal(made.get_input_embeddings().weight, given.get_input_embeddings().weight)
    kept = VecoForSequenceClassification.from_pretrained(body).state_dict()
    assert all(torch.equal(weight, kept[name]) for name, weight in made.state_dict().items() if WORDS not in name)
    assert len(AutoTokenizer.from_pretrained(destination)) == made.config.vocab_size == 30
