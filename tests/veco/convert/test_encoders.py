"""The oracle of the plugged-out model is transformers' encoder, both ways: hidden states, logits, loss, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_encoders import LAYER_NORM_EPS, MAX_TOKENS, NUM_LAYERS, gradients, padded_ids, random_encoder, randomised
from safetensors.torch import save_file
from transformers import (
    BertForPreTraining,
    BertForSequenceClassification,
    ModernBertConfig,
    PreTrainedModel,
    RobertaPreLayerNormConfig,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM, VecoForPreTraining, VecoModel
from veco.config import position_of_padding
from veco.convert import from_encoder, to_encoder
from veco.convert.encoders import convert_encoder
from veco.convert.families import FAMILIES, UNLIKE_VECO

TOLERANCE = 1e-6  # in float64; the token type was added to the positions in float32
SINGLE_TOLERANCE = 1e-5  # float32; the position embedding is added in another order than in transformers

# RoBERTa's head has GELU whatever its layers have, BERT's and DistilBERT's have that of the layers.
ENCODERS = [
    ("xlm-roberta", {"type_vocab_size": 1}),
    ("bert", {}),
    ("bert", {"hidden_act": "relu", "pad_token_id": 3}),
    ("bert", {"pad_token_id": 5, "type_vocab_size": 4, "hidden_act": "gelu_new"}),
    ("roberta", {"type_vocab_size": 1}),
    ("roberta", {"hidden_act": "relu", "pad_token_id": 0}),
    ("camembert", {"bos_token_id": 5, "eos_token_id": 6}),
    ("distilbert", {}),
    ("distilbert", {"activation": "relu", "sinusoidal_pos_embds": True}),
]


def veco_for(model_type: str, **fields: Any) -> VecoForMaskedLM:
    """A random VECO that the family can express."""
    shape = {"hidden_size": 32, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
    dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    num_rows = MAX_TOKENS + position_of_padding(fields.get("pad_token_id", 1)) + 1
    eps = FAMILIES[model_type].layer_norm_eps or LAYER_NORM_EPS
    usual = {"vocab_size": 60, "max_position_embeddings": num_rows, "initializer_range": 0.1}
    torch.manual_seed(1)
    return randomised(VecoForMaskedLM(VecoConfig(**{**shape, **dropouts, **usual, "layer_norm_eps": eps, **fields})))


def assert_equal(ours: VecoForMaskedLM, theirs: PreTrainedModel, tolerance: float) -> None:
    """Assert that states of all layers, logits, loss and gradients of shared weights are equal, in a padded batch."""
    family, pad = FAMILIES[theirs.config.model_type], ours.config.pad_token_id
    assert pad == theirs.config.pad_token_id
    ids, mask = padded_ids(pad)
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, -100).masked_fill(mask == 0, -100)
    our_output = ours(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    their_output = theirs(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    real = mask.bool()
    assert len(our_output.hidden_states) == len(their_output.hidden_states) == NUM_LAYERS + 1
    for our_states, their_states in zip(our_output.hidden_states, their_output.hidden_states, strict=True):
        torch.testing.assert_close(our_states[real], their_states[real], rtol=0, atol=tolerance)
    torch.testing.assert_close(our_output.logits[real], their_output.logits[real], rtol=0, atol=tolerance)
    # Ours is in float32, whatever the logits are.
    torch.testing.assert_close(our_output.loss, their_output.loss, rtol=0, atol=tolerance, check_dtype=False)

    our_output.loss.backward()
    their_output.loss.backward()
    our_gradients, their_gradients = gradients(ours), gradients(theirs)
    names = family.weight_names(NUM_LAYERS)
    for our_name, their_name in names.items():
        expected, found = their_gradients[their_name], our_gradients[our_name]
        torch.testing.assert_close(found[-len(expected) :], expected, rtol=0, atol=tolerance, msg=our_name)
    ours_alone = {name for name in our_gradients if ".cross_attention" not in name} - set(names)
    assert ours_alone == {"lm_head.decoder.weight"}, "everything else was compared; this one is tied to the embedding"
    token_types = {family.token_types} if family.num_token_types else set()
    assert set(their_gradients) - set(names.values()) == token_types | family.second_names.keys()


@pytest.mark.parametrize(("model_type", "fields"), ENCODERS)
def test_veco_from_an_encoder_equals_it(model_type: str, fields: dict[str, Any]) -> None:
    encoder = random_encoder(model_type, **fields)
    veco = from_encoder(encoder)
    assert veco.config.max_tokens == MAX_TOKENS
    assert_equal(veco.double(), encoder.double(), TOLERANCE)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_veco_from_an_encoder_equals_it_in_single_precision(model_type: str) -> None:
    encoder = random_encoder(model_type)
    assert_equal(from_encoder(encoder), encoder, SINGLE_TOLERANCE)


@pytest.mark.parametrize("fields", [{}, {"pad_token_id": 0}, {"pad_token_id": 4}])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_encoder_from_veco_equals_it(model_type: str, fields: dict[str, Any]) -> None:
    veco = veco_for(model_type, **fields)
    encoder = to_encoder(veco, model_type)
    if FAMILIES[model_type].num_token_types:
        assert encoder.get_parameter(FAMILIES[model_type].token_types).abs().sum() == 0
    assert_equal(veco.double(), encoder.double(), TOLERANCE)


def test_bert_has_the_activation_of_its_layers_in_its_head() -> None:
    veco = veco_for("bert", hidden_act="relu", lm_head_act="relu")
    assert_equal(veco.double(), to_encoder(veco, "bert").double(), TOLERANCE)
    assert_equal(from_encoder(to_encoder(veco, "bert")).double(), to_encoder(veco, "bert").double(), TOLERANCE)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_round_trip_changes_no_weight_that_is_used(model_type: str) -> None:
    veco = veco_for(model_type)
    with torch.no_grad():  # rows that no token has, which BERT does not have
        veco.veco.embeddings.position_embeddings.weight[: veco.config.pad_position + 1] = 0
    again = from_encoder(to_encoder(veco, model_type))
    assert again.config.to_dict() == {**veco.config.to_dict(), "architectures": again.config.architectures}
    expected = veco.state_dict()
    for name, weight in again.state_dict().items():
        assert ".cross_attention" in name or torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("model_type", FAMILIES)
def test_directories_convert_like_models(model_type: str, tmp_path: Path) -> None:
    encoder, veco = random_encoder(model_type), veco_for(model_type)
    encoder.save_pretrained(tmp_path / "encoder")
    veco.save_pretrained(tmp_path / "veco")
    ids, mask = padded_ids(encoder.config.pad_token_id)
    from_directory, from_model = from_encoder(tmp_path / "encoder"), from_encoder(encoder)
    torch.testing.assert_close(from_directory(ids, mask).logits, from_model(ids, mask).logits, rtol=0, atol=0)
    ids, mask = padded_ids(1)
    to_directory, to_model = to_encoder(tmp_path / "veco", model_type), to_encoder(veco, model_type)
    torch.testing.assert_close(to_directory(ids, mask).logits, to_model(ids, mask).logits, rtol=0, atol=0)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_encoder_alone_gets_a_random_head(model_type: str, tmp_path: Path) -> None:
    family = FAMILIES[model_type]
    encoder = random_encoder(model_type, family.encoder)
    encoder.save_pretrained(tmp_path)
    ids, mask = padded_ids(encoder.config.pad_token_id)
    expected = encoder(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    for source in (encoder, tmp_path):
        with pytest.raises(ValueError, match=rf"{family.masked_lm.__name__}"):
            from_encoder(source)
        conversions = []
        for seed in (7, 7, 8):
            torch.manual_seed(seed)
            conversions.append(convert_encoder(source, model_type, None, draw_head=True))
        veco, notes = conversions[0].model, conversions[0].notes
        states = veco(ids, mask, output_hidden_states=True).hidden_states[-1][mask.bool()]
        torch.testing.assert_close(states, expected, rtol=0, atol=SINGLE_TOLERANCE)
        assert "the checkpoint has no masked-LM head: it is initialised at random, too" in notes
        assert ("dropped: pooler" in notes) == bool(family.unused_modules)
        heads = [conversion.model.lm_head.dense.weight for conversion in conversions]
        assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
        assert veco.lm_head.dense.weight.std().item() == pytest.approx(0.1, rel=0.2), "VECO's initialisation"


def test_pooler_and_next_sentence_head_of_bert_are_dropped_and_told(tmp_path: Path) -> None:
    random_encoder("bert", BertForPreTraining).save_pretrained(tmp_path)
    conversion = convert_encoder(tmp_path, "bert", None, draw_head=True)
    assert conversion.notes[:3] == [
        "a bert has no cross-attention: it is initialised at random",
        "dropped: next-sentence head, pooler",
        "of 2 token types the first was added to the positions, the others were dropped: texts of a pair differ by the "
        "separator between them alone",
    ]
    trained = BertForPreTraining.from_pretrained(tmp_path)
    ids, mask = padded_ids(0)
    expected = trained(ids, attention_mask=mask).prediction_logits[mask.bool()]
    found = conversion.model(ids, mask).logits[mask.bool()]
    torch.testing.assert_close(found, expected, rtol=0, atol=SINGLE_TOLERANCE)


def test_files_of_old_releases_convert(tmp_path: Path) -> None:
    """LayerNorms had gamma and beta, positions were saved beside their embeddings, tied weights only once."""
    bert = random_encoder("bert")
    weights = {name: weight for name, weight in bert.state_dict().items() if "predictions.decoder" not in name}
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): weights[name] for name in weights
    }
    old["bert.embeddings.position_ids"] = torch.arange(MAX_TOKENS)[None]
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    bert.config.save_pretrained(tmp_path)
    assert_equal(from_encoder(tmp_path), bert, SINGLE_TOLERANCE)


def test_a_head_of_a_task_is_not_dropped(tmp_path: Path) -> None:
    random_encoder("bert", BertForSequenceClassification).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not have: classifier\.bias, classifier\.weight"):
        from_encoder(tmp_path, draw_head=True)


def test_pretraining_model_converts_as_its_masked_lm() -> None:
    veco = veco_for("bert")
    pretraining = VecoForPreTraining(veco.config)
    pretraining.load_state_dict(veco.state_dict())
    batch = padded_ids(1)
    expected = to_encoder(veco, "bert")(*batch).logits
    torch.testing.assert_close(to_encoder(pretraining, "bert")(*batch).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_token_type_is_added_in_float32(model_type: str) -> None:
    half = random_encoder(model_type).half()
    family, weights = FAMILIES[model_type], half.state_dict()
    expected = weights[family.positions].float() + weights[family.token_types][0].float()
    found = from_encoder(half).veco.embeddings.position_embeddings.weight
    assert torch.equal(found[-len(expected) :], expected)


def test_conversion_keeps_the_precision() -> None:
    for model_type in ("xlm-roberta", "bert"):
        encoder = to_encoder(veco_for(model_type).bfloat16(), model_type)
        assert {weight.dtype for weight in encoder.parameters()} == {torch.bfloat16}


def test_every_refused_kind_is_one_of_transformers() -> None:
    refused = [model_type for model_types in UNLIKE_VECO.values() for model_type in model_types]
    assert set(refused) <= set(CONFIG_MAPPING) - set(FAMILIES)
    assert len(refused) == len(set(refused))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RobertaPreLayerNormConfig(), "a roberta-prelayernorm is a pre-LayerNorm model, VECO is post-LayerNorm"),
        (CONFIG_MAPPING["xlm-roberta-xl"](), "XL and XXL are pre-LayerNorm models, VECO is post-LayerNorm"),
        (ModernBertConfig(), "a modernbert rotates queries and keys by their positions"),
        (CONFIG_MAPPING["electra"](), "an electra learns to tell replaced tokens"),
        (CONFIG_MAPPING["deberta-v2"](), "a deberta-v2 attends by relative positions"),
        (CONFIG_MAPPING["albert"](), "an albert shares one layer's weights among all layers"),
        (CONFIG_MAPPING["gpt2"](), "expected a bert, found a gpt2$"),
        (CONFIG_MAPPING["roberta"](), "expected a bert, found a roberta; convert it as roberta"),
        (CONFIG_MAPPING["bert"](is_decoder=True), "expected a bidirectional bert, found one with is_decoder set"),
        (
            CONFIG_MAPPING["bert"](position_embedding_type="relative_key"),
            "expected position_embedding_type absolute, found relative_key",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model_type,
)
def test_other_encoders_are_refused_before_their_weights_are_read(config: Any, message: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        from_encoder(tmp_path, "bert")


def test_other_models_are_refused() -> None:
    xlm_roberta, veco = random_encoder("xlm-roberta"), veco_for("xlm-roberta")
    with pytest.raises(ValueError, match="expected an XLMRobertaForMaskedLM or its directory, found XLMRobertaModel"):
        from_encoder(xlm_roberta.roberta)
    with pytest.raises(ValueError, match="expected an XLMRobertaForMaskedLM or its directory, found dict"):
        from_encoder({}, "xlm-roberta")
    with pytest.raises(ValueError, match="expected one of xlm-roberta, bert, .*, found a veco"):
        from_encoder(veco)
    with pytest.raises(ValueError, match="a VecoForPreTraining or a directory, found VecoModel"):
        to_encoder(VecoModel(veco.config), "bert")


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        (
            "bert",
            {"scale_embedding": True, "lm_head_transform": False},
            "scale_embedding True and lm_head_transform Fa",
        ),
        ("bert", {"hidden_act": "relu"}, "a bert cannot express lm_head_act gelu; expected relu"),
        (
            "roberta",
            {"hidden_act": "relu", "lm_head_act": "relu"},
            "a roberta cannot express lm_head_act relu; expected",
        ),
        ("distilbert", {"layer_norm_eps": 1e-5}, "a distilbert cannot express layer_norm_eps 1e-05; expected 1e-12"),
        ("roberta", {"pad_token_id": None}, "a roberta finds positions by pad_token_id, which is not set"),
    ],
)
def test_models_that_an_encoder_cannot_express_are_refused(model_type: str, fields: Any, message: str) -> None:
    veco = veco_for(model_type, **fields)
    with pytest.raises(ValueError, match=message):
        to_encoder(veco, model_type)


def test_key_left_over_is_named() -> None:
    encoder, veco = random_encoder("bert"), veco_for("bert")
    encoder.bert.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not have: bert\.extra\.bias, bert\.extra\.weight"):
        from_encoder(encoder)
    veco.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"a bert does not have: extra\.bias, extra\.weight"):
        to_encoder(veco, "bert")


def test_directories_with_missing_or_other_weights_are_refused(tmp_path: Path) -> None:
    bert = random_encoder("bert")
    weights = bert.state_dict()
    bert.save_pretrained(tmp_path / "more", state_dict={**weights, "bert.extra": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"more: has weights that .* does not have: bert\.extra"):
        from_encoder(tmp_path / "more")
    gone = "cls.predictions.transform.dense.bias"
    bert.save_pretrained(tmp_path / "less", state_dict={name: weights[name] for name in weights.keys() - {gone}})
    with pytest.raises(ValueError, match=rf"less: lacks weights of BertForMaskedLM: {gone}"):
        from_encoder(tmp_path / "less", draw_head=True)  # a part of a head is none
    bert.save_pretrained(tmp_path / "wide")
    bert.config.intermediate_size = 50
    bert.config.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"wide: has weights of other shapes than its config\.json says: bert\.enc"):
        from_encoder(tmp_path / "wide")
    VecoForConditionalGeneration(veco_for("bert").config).save_pretrained(tmp_path / "translation")
    with pytest.raises(ValueError, match=r"translation: lacks weights .*cross_attention"):
        to_encoder(tmp_path / "translation", "bert")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected a model directory with a config\.json"):
        from_encoder(tmp_path / "empty")


def test_untied_heads_are_refused(tmp_path: Path) -> None:
    bert, veco = random_encoder("bert", tie_word_embeddings=False), veco_for("bert")
    bert.save_pretrained(tmp_path)
    for source in (bert, tmp_path):
        with pytest.raises(ValueError, match=r"cls\.predictions\.decoder\.weight differs from bert\.embeddings"):
            from_encoder(source)
    veco.lm_head.decoder.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(ValueError, match=r"lm_head\.decoder\.weight differs from veco\.embeddings"):
        to_encoder(veco, "bert")


def test_an_output_bias_of_its_own_is_refused() -> None:
    bert = random_encoder("bert", tie_word_embeddings=False)
    bert.cls.predictions.decoder.weight = bert.bert.embeddings.word_embeddings.weight
    with pytest.raises(ValueError, match=r"cls\.predictions\.decoder\.bias differs from cls\.predictions\.bias"):
        from_encoder(bert)
