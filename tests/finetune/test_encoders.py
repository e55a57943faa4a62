"""Which encoders are opened, how long their rows may be, and what is refused before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_encoders import ENCODERS, POSITIONS
from transformers import AutoModel, AutoTokenizer, FNetConfig, GPT2Config, PerceiverConfig, T5Config

from finetune.encoders import encoder_weights, open_encoder
from finetune.random_model import write_random_model
from veco.convert.__main__ import main as convert


@pytest.mark.parametrize("name", ENCODERS)
def test_the_longest_row_is_what_the_model_itself_takes(name: str, encoder_directory: Callable[[str], Path]) -> None:
    """RoBERTa's positions follow that of padding: of 68 there are 66 for tokens."""
    encoder = open_encoder(encoder_directory(name))
    assert encoder.max_tokens == POSITIONS
    assert encoder.has_token_types == (name in ("bert", "electra"))
    model = AutoModel.from_pretrained(encoder.directory)
    ids = torch.full((1, POSITIONS), len(encoder.tokenizer) - 1)
    assert model(ids).last_hidden_state.shape[1] == POSITIONS
    if name == "roberta":
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, POSITIONS + 1), len(encoder.tokenizer) - 1))


def test_a_tokenizer_may_take_less_than_the_model(encoder_directory: Callable[[str], Path], tmp_path: Path) -> None:
    directory = edited(encoder_directory("bert"), tmp_path / "model", "tokenizer_config.json", model_max_length=20)
    assert open_encoder(directory).max_tokens == 20


def test_weights_of_an_encoder_are_those_below_every_head(encoder_directory: Callable[[str], Path]) -> None:
    config = open_encoder(encoder_directory("bert")).config
    names = encoder_weights(config)
    assert "embeddings.word_embeddings.weight" in names
    assert "encoder.layer.2.output.dense.bias" in names and "encoder.layer.3.output.dense.bias" not in names
    assert not [name for name in names if "pooler" in name or name.startswith("cls.")]


def edited(source: Path, directory: Path, file: str, **values: object) -> Path:
    """A copy of a model directory with other values in one of its JSON files."""
    shutil.copytree(source, directory)
    content = json.loads((directory / file).read_text())
    (directory / file).write_text(json.dumps({**content, **values}))
    return directory


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(n_layer=1, n_embd=8, n_head=2), "expected an encoder such as .*, found a gpt2"),
        (T5Config(num_layers=1, d_model=8), "expected an encoder such as .*, found a t5"),
        (PerceiverConfig(), "a perceiver has no num_hidden_layers; expected an encoder of text"),
        (FNetConfig(hidden_size=8, num_hidden_layers=1), "a fnet takes no attention_mask: its states would depend on"),
    ],
)
def test_other_models_are_refused(
    config: object, message: str, encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(encoder_directory("bert"), tmp_path / "model")
    config.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=f"^init_from .*/model: {message}"):
        open_encoder(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "file", "values", "message"),
    [
        ("bert", "config.json", {"model_type": "mine"}, "a mine, a kind of model that transformers does not have"),
        ("bert", "config.json", {"hidden_act": "mine"}, "its shape cannot be opened by transformers: KeyError: 'mine'"),
        ("bert", "tokenizer.json", {"model": {}}, "its tokenizer cannot be opened by transformers"),
        ("bert", "config.json", {"vocab_size": 100}, "its tokenizer has 180 pieces, the model only 100"),
        (
            "roberta",
            "config.json",
            {"pad_token_id": 0},
            "finds positions by 0, the id of its padding, its tokenizer pads with 1; set pad_token of the tokenizer",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_tokenizer_is_refused(
    name: str, file: str, values: dict, message: str, encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = edited(encoder_directory(name), tmp_path / "model", file, **values)
    with pytest.raises(ValueError, match=message) as raised:
        open_encoder(directory)
    assert "\n" not in str(raised.value)


def test_a_directory_without_a_tokenizer_is_refused(encoder_directory: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_directory("roberta"), tmp_path / "model")
    for file in (tmp_path / "model").glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match="expected a model directory with config.json and a tokenizer, found a model"):
        open_encoder(tmp_path / "model")


def test_a_random_model_of_any_encoder(encoder_directory: Callable[[str], Path], tmp_path: Path) -> None:
    source = encoder_directory("roberta")
    write_random_model(source, 1, tmp_path / "one")
    write_random_model(source, 1, tmp_path / "same")
    states = [AutoModel.from_pretrained(path).state_dict() for path in (source, tmp_path / "one", tmp_path / "same")]
    name = "embeddings.word_embeddings.weight"
    assert states[1][name].shape == states[0][name].shape
    assert not torch.equal(states[0][name], states[1][name])
    assert torch.equal(states[1][name], states[2][name])
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (source, tmp_path / "one")]
    assert tokenizers[0]("ein hund").input_ids == tokenizers[1]("ein hund").input_ids


def test_a_veco_from_bert_frames_texts_as_bert_and_computes_the_same(
    encoder_directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, directory = encoder_directory("bert"), tmp_path / "veco"
    monkeypatch.setattr("sys.argv", ["veco.convert", "bert", str(source), str(directory)])
    convert()
    theirs, ours = open_encoder(source), open_encoder(directory)
    assert (ours.max_tokens, ours.has_token_types) == (theirs.max_tokens, False)
    batch = ours.tokenizer(["das Haus", "x"], ["ein Buch", "ein rotes Haus"], padding=True, return_tensors="pt")
    same = theirs.tokenizer(["das Haus", "x"], ["ein Buch", "ein rotes Haus"], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], same["input_ids"])
    models = [AutoModel.from_pretrained(one).eval() for one in (source, directory)]
    real = batch["attention_mask"].bool()
    expected, found = (model(**batch).last_hidden_state[real] for model in models)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
