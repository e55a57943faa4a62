"""transformers' pipelines on a directory with a model and its tokenizer.

There is no pipeline for question answering in transformers 5, nor for multiple choice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launching import ROOT
from transformers import AutoTokenizer, PreTrainedModel, pipeline

from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.unigram_training import train_model
from veco import (
    VecoConfig,
    VecoForMaskedLM,
    VecoForSequenceClassification,
    VecoForTokenClassification,
)

SENTENCES = ["the copyright owner grants a license", "any work"]
MASKED = "the copyright <mask> grants a license"
NUM_PIECES = 300

SaveWithTokenizer = Callable[[PreTrainedModel], Path]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    lines = (ROOT / "LICENSE").read_text().splitlines()  # any text that never changes
    write_tokenizer(train_model(iter(lines), NUM_PIECES, character_coverage=1.0), directory, lines)
    return directory


@pytest.fixture
def config(config: VecoConfig) -> VecoConfig:
    config.vocab_size = NUM_PIECES
    return config


@pytest.fixture
def save_with_tokenizer(tmp_path: Path, tokenizer_dir: Path) -> SaveWithTokenizer:
    def save(model: PreTrainedModel) -> Path:
        shutil.copytree(tokenizer_dir, tmp_path / "model")
        model.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def test_fill_mask_pipeline_predicts_the_masked_piece(
    config: VecoConfig, save_with_tokenizer: SaveWithTokenizer
) -> None:
    torch.manual_seed(1)
    model = VecoForMaskedLM(config).eval()
    directory = save_with_tokenizer(model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) == config.vocab_size
    results = pipeline("fill-mask", model=str(directory))(MASKED, top_k=3)
    encoded = tokenizer(MASKED, return_tensors="pt")
    mask = encoded["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    best = model(**encoded).logits[0, mask].softmax(-1).topk(3)
    assert [result["token"] for result in results] == best.indices.tolist()
    assert [result["score"] for result in results] == pytest.approx(best.values.tolist(), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_text_classification(config: VecoConfig, save_with_tokenizer: SaveWithTokenizer, batch_size: int) -> None:
    torch.manual_seed(2)
    config.id2label = {0: "contradiction", 1: "entailment", 2: "neutral"}
    model = VecoForSequenceClassification(config).eval()
    directory = save_with_tokenizer(model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    results = pipeline("text-classification", model=str(directory), batch_size=batch_size)(SENTENCES)
    for sentence, result in zip(SENTENCES, results, strict=True):
        scores = model(**tokenizer(sentence, return_tensors="pt")).logits[0].softmax(-1)
        assert result["label"] == config.id2label[int(scores.argmax())]
        assert result["score"] == pytest.approx(scores.max().item(), abs=1e-5)


def test_regression_is_not_squashed(config: VecoConfig, save_with_tokenizer: SaveWithTokenizer) -> None:
    """The pipeline returns the number itself because the first labels set `problem_type`, which is saved."""
    torch.manual_seed(2)
    config.num_labels = 1
    model = VecoForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(7.0)
    model(torch.tensor([[0, 5, 2]]), labels=torch.tensor([0.5]))
    (result,) = pipeline("text-classification", model=str(save_with_tokenizer(model)))(SENTENCES[1])
    assert result["score"] > 1


def test_token_classification(config: VecoConfig, save_with_tokenizer: SaveWithTokenizer) -> None:
    torch.manual_seed(3)
    config.id2label = {0: "O", 1: "B-LOC", 2: "I-LOC"}
    model = VecoForTokenClassification(config).eval()
    directory = save_with_tokenizer(model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    results = pipeline("token-classification", model=str(directory), ignore_labels=[])(SENTENCES[0])
    encoded = tokenizer(SENTENCES[0], return_tensors="pt")
    expected = model(**encoded).logits[0, 1:-1].argmax(-1).tolist()
    assert [result["entity"] for result in results] == [config.id2label[label] for label in expected]
    assert [result["word"] for result in results] == tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])[1:-1]


def test_features_of_a_masked_lm(config: VecoConfig, save_with_tokenizer: SaveWithTokenizer) -> None:
    torch.manual_seed(4)
    model = VecoForMaskedLM(config).eval()
    directory = save_with_tokenizer(model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    features = pipeline("feature-extraction", model=str(directory), return_tensors=True)(SENTENCES[1])
    expected = model.veco(**tokenizer(SENTENCES[1], return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
