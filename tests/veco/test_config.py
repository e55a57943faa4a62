from pathlib import Path

import pytest
import torch
from transformers import AutoConfig
from transformers.activations import ACT2FN

from veco import VecoConfig, VecoForMaskedLM, VecoModel


def count_parameters(config: VecoConfig) -> int:
    with torch.device("meta"):
        model = VecoForMaskedLM(config)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def parameters_by_formula(layers: int, width: int, inner: int) -> int:
    """250,002 pieces, 514 positions, head included, embedding once."""
    pieces, positions, attention, norm = 250_002, 514, 4 * (width * width + width), 2 * width
    layer = 2 * (attention + norm) + 2 * width * inner + inner + width + norm
    head = width * width + width + norm + pieces
    return (pieces + positions) * width + norm + layers * layer + head


@pytest.mark.parametrize(
    ("config", "shape", "millions"),
    [(VecoConfig.large(), (24, 1024, 4096), 660.95), (VecoConfig.small(), (6, 768, 3072), 249.95)],
)
def test_parameter_counts_are_the_papers(config: VecoConfig, shape: tuple[int, int, int], millions: float) -> None:
    """The paper prints 662 and 247 million."""
    assert count_parameters(config) == parameters_by_formula(*shape)
    assert round(count_parameters(config) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 30, "num_attention_heads": 4}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ({"num_attention_heads": 0}, "num_attention_heads 0 must be a whole number and at least 1"),
        ({"hidden_size": "768"}, "hidden_size '768' must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers True must be a whole number"),
        ({"hidden_act": "gleu"}, "hidden_act 'gleu' is none of gelu, "),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob 1.5 must be a number from 0 to below 1"),
        ({"attention_probs_dropout_prob": None}, "attention_probs_dropout_prob None must be a number"),
        ({"classifier_dropout": -0.1}, "classifier_dropout -0.1 must be a number from 0 to below 1"),
        ({"max_position_embeddings": 2}, "max_position_embeddings 2 leaves no position above that of padding, 1"),
        ({"bos_token_id": 250_002}, "bos_token_id 250002 is not below vocab_size 250002"),
        ({"decoder_start_token_id": -1}, "decoder_start_token_id -1 must be a token id"),
        ({"decoder_layers": 13}, "decoder_layers 13 must be between 1 and num_hidden_layers 12"),
        ({"decoder_layers": 0}, "decoder_layers 0 must be a whole number and at least 1"),
        ({"decoder_layers_from": "middle"}, "decoder_layers_from 'middle' must be 'last' or 'first'"),
        ({"source_suffix_ids": 2}, "source_suffix_ids 2 must be a list of token ids, or None"),
        ({"source_prefix_ids": ["<s>"]}, r"source_prefix_ids \['<s>'\] must be a list of token ids"),
        ({"source_suffix_ids": [2, 250_002]}, r"source_suffix_ids \[2, 250002\] must be below vocab_size 250002"),
        ({"target_suffix_ids": []}, "target_suffix_ids is empty: its last token ends a translation"),
        ({"target_language": ["de"]}, r"target_language \['de'\] must be a language code such as de, or None"),
        ({"plug_in": "no"}, "plug_in 'no' must be true or false"),
        ({"num_labels": 0}, "num_labels 0 must be at least 1"),
        ({"num_labels": "3"}, "num_labels '3' must be a whole number"),
    ],
)
def test_bad_field_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^VecoConfig: {message}"):
        VecoConfig(**fields)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"num_hidden_layers 0 .*hidden_dropout_prob 2 .*hidden_act 'relu7'") as error:
        VecoConfig(hidden_act="relu7", num_hidden_layers=0, hidden_dropout_prob=2)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"hidden_size 30 .* num_attention_heads 4; decoder_layers 9 .*"):
        VecoConfig(hidden_size=30, num_attention_heads=4, num_hidden_layers=3, decoder_layers=9)


def test_model_checks_fields_set_later(tmp_path: Path) -> None:
    config = VecoConfig(vocab_size=60, hidden_size=32, num_attention_heads=4, num_hidden_layers=1)
    VecoModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="hidden_size 32 is not a multiple of num_attention_heads 5"):
        VecoModel.from_pretrained(tmp_path, num_attention_heads=5)


def test_labels_are_saved_as_in_other_models(tmp_path: Path) -> None:
    VecoConfig(num_labels=3).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_labels == 3
    assert AutoConfig.from_pretrained(tmp_path, num_labels=5).id2label[4] == "LABEL_4"
    assert VecoConfig(id2label={0: "no", 1: "maybe", 2: "yes"}).num_labels == 3


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_activations_of_transformers_are_known(activation: str) -> None:
    assert VecoConfig(hidden_act=activation).hidden_act in ACT2FN


def test_presets_take_overrides() -> None:
    config = VecoConfig.small(vocab_size=8000)
    assert (config.vocab_size, config.num_hidden_layers, config.max_tokens) == (8000, 6, 512)
