"""Conversion of transformers' XLM-R to VECO and back. Plugged out, both compute the same."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from veco.adapters.attach import adapter_of, check_without_adapters
from veco.config import VecoConfig
from veco.convert.weights import fill, listed, open_strictly
from veco.masked_lm import VecoForMaskedLM
from veco.pretraining import VecoForPreTraining

SHARED_CONFIG_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)

# VECO's module -> XLM-R's; each stands for its weight and bias.
LAYER_MODULES = {
    "self_attention.q_proj": "attention.self.query",
    "self_attention.k_proj": "attention.self.key",
    "self_attention.v_proj": "attention.self.value",
    "self_attention.out_proj": "attention.output.dense",
    "self_attention_norm": "attention.output.LayerNorm",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
OUTER_MODULES = {
    "veco.embeddings.norm": "roberta.embeddings.LayerNorm",
    "lm_head.dense": "lm_head.dense",
    "lm_head.norm": "lm_head.layer_norm",
}
# theta_c, which XLM-R does not have.
PLUG_IN_MODULES = (
    "cross_attention.q_proj",
    "cross_attention.k_proj",
    "cross_attention.v_proj",
    "cross_attention.out_proj",
    "cross_attention_norm",
)
TOKEN_TYPE = "roberta.embeddings.token_type_embeddings.weight"
# Second names of weights. transformers ties them; VECO cannot express a model in which they differ.
XLM_ROBERTA_DUPLICATES = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
VECO_DUPLICATES = {"lm_head.decoder.weight": "veco.embeddings.word_embeddings.weight"}
# Masked language modelling does not train the pooler, and VECO has none. Its names in files with and without a head.
POOLER = ("roberta.pooler.dense.weight", "roberta.pooler.dense.bias", "pooler.dense.weight", "pooler.dense.bias")


def veco_config(config: XLMRobertaConfig) -> VecoConfig:
    """Configuration of the VECO that an XLM-R is converted to."""
    fields = config.to_dict()
    return VecoConfig(**{name: fields[name] for name in SHARED_CONFIG_FIELDS})


def xlm_roberta_config(config: VecoConfig) -> XLMRobertaConfig:
    """Configuration of the XLM-R that a VECO is converted to. Raises ValueError for what XLM-R cannot express."""
    if config.scale_embedding or not config.lm_head_transform:
        raise ValueError(
            f"XLM-R cannot express scale_embedding {config.scale_embedding} and lm_head_transform "
            f"{config.lm_head_transform}; expected false and true"
        )
    check_without_adapters(config, "XLM-R")
    fields = config.to_dict()
    shared = {name: fields[name] for name in SHARED_CONFIG_FIELDS}
    return XLMRobertaConfig(**shared, type_vocab_size=1)


def xlm_roberta_names(num_layers: int) -> dict[str, str]:
    """VECO's parameter name -> XLM-R's, for all but XLM-R's token type, which VECO does not have."""
    modules = dict(OUTER_MODULES)
    for i in range(num_layers):
        for ours, theirs in LAYER_MODULES.items():
            modules[f"veco.layers.{i}.{ours}"] = f"roberta.encoder.layer.{i}.{theirs}"
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in modules.items() for kind in ("weight", "bias")}
    names["veco.embeddings.word_embeddings.weight"] = "roberta.embeddings.word_embeddings.weight"
    names["veco.embeddings.position_embeddings.weight"] = "roberta.embeddings.position_embeddings.weight"
    names["lm_head.decoder.bias"] = "lm_head.bias"
    return names


def plug_in_names(num_layers: int) -> list[str]:
    """Names of VECO's parameters that only path S uses, in all layers."""
    return [
        f"veco.layers.{i}.{module}.{kind}"
        for i in range(num_layers)
        for module in PLUG_IN_MODULES
        for kind in ("weight", "bias")
    ]


def from_xlm_roberta(model_or_dir: XLMRobertaForMaskedLM | str | Path) -> VecoForMaskedLM:
    """VECO that equals the given XLM-R plugged out; its cross-attention is initialised at random.

    `model_or_dir` is a transformers `XLMRobertaForMaskedLM`, a directory with one, or its name on the Hub. XLM-R adds
    its only token-type embedding to every token; here it is added to the position embeddings.
    Raises ValueError for other models, including XLM-R XL and XXL (see `check_kind`), for more than one token type, an
    untied head, and weights missing or left over.
    """
    source = open_xlm_roberta(model_or_dir) if isinstance(model_or_dir, str | Path) else model_or_dir
    if isinstance(source, PreTrainedModel):
        check_kind(source.config.model_type)
    if not isinstance(source, XLMRobertaForMaskedLM):
        raise ValueError(f"expected an XLMRobertaForMaskedLM or its directory, found {type(source).__name__}")
    fields = source.config.to_dict()
    if fields["type_vocab_size"] != 1:
        raise ValueError(f"expected XLM-R's single token type, found type_vocab_size {fields['type_vocab_size']}")
    if fields["is_decoder"]:
        raise ValueError("expected a bidirectional XLM-R, found one with is_decoder set")

    theirs = without_duplicates(source.state_dict(), XLM_ROBERTA_DUPLICATES)
    weights: dict[str, Tensor] = {}
    for our_name, their_name in xlm_roberta_names(fields["num_hidden_layers"]).items():
        if their_name not in theirs:
            raise ValueError(f"XLM-R checkpoint lacks {their_name}")
        weights[our_name] = theirs.pop(their_name)
    positions = weights["veco.embeddings.position_embeddings.weight"]
    # In float32: their sum would be rounded in a model of half precision.
    weights["veco.embeddings.position_embeddings.weight"] = positions.float() + theirs.pop(TOKEN_TYPE).float()
    if theirs:
        raise ValueError(f"XLM-R checkpoint has weights that VECO does not have: {listed(theirs)}")

    model = VecoForMaskedLM(veco_config(source.config))
    fill(model, weights, fresh=".cross_attention")
    return model


def to_xlm_roberta(veco_model: VecoForMaskedLM | VecoForPreTraining | str | Path) -> XLMRobertaForMaskedLM:
    """XLM-R that equals the given VECO plugged out: the same states, logits and gradients.

    `veco_model` is a VECO with the masked-LM head, or a directory with one. The weights of `plug_in_names` are dropped;
    XLM-R's token-type embedding, which VECO does not have, is zero. Raises ValueError for other models, for those from
    fairseq that XLM-R cannot express (see `VecoConfig`), an untied head, and weights missing or left over.
    """
    source = open_strictly(VecoForMaskedLM, veco_model) if isinstance(veco_model, str | Path) else veco_model
    if not isinstance(source, VecoForMaskedLM | VecoForPreTraining):
        expected = "a VecoForMaskedLM, a VecoForPreTraining or a directory"
        raise ValueError(f"expected {expected}, found {type(source).__name__}")
    config = source.config
    model = XLMRobertaForMaskedLM(xlm_roberta_config(config)).to(source.dtype)
    ours = without_duplicates(source.state_dict(), VECO_DUPLICATES)
    for name in (*plug_in_names(config.num_hidden_layers), *(name for name in [*ours] if adapter_of(name))):
        del ours[name]  # what adapters there are is not active
    names = xlm_roberta_names(config.num_hidden_layers)
    weights = {their_name: ours.pop(our_name) for our_name, their_name in names.items()}
    if ours:
        raise ValueError(f"VECO has weights that XLM-R does not have: {listed(ours)}")

    weights[TOKEN_TYPE] = torch.zeros(1, config.hidden_size, dtype=source.dtype)
    weights["lm_head.decoder.bias"] = weights["lm_head.bias"]
    fill(model, weights)
    return model


def open_xlm_roberta(directory: str | Path) -> XLMRobertaForMaskedLM:
    """The XLM-R in a directory or on the Hub; ValueError for other or incomplete models."""
    if Path(directory).is_dir() and not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    check_kind(AutoConfig.from_pretrained(directory).model_type)
    return open_strictly(XLMRobertaForMaskedLM, directory, superfluous=POOLER)


def check_kind(model_type: str) -> None:
    """Raise ValueError unless `model_type` is XLM-R's.

    XLM-R XL and XXL, a model type of their own in transformers, normalise before each module and at the end, but not
    the embeddings. No weights of a post-LayerNorm model, like VECO and XLM-R base and large, compute that.
    """
    if model_type == "xlm-roberta-xl":
        raise ValueError(
            "XLM-R XL and XXL are pre-LayerNorm models, VECO is post-LayerNorm: their weights cannot be converted; "
            "start from XLM-R base or large"
        )
    if model_type != "xlm-roberta":
        raise ValueError(f"expected an xlm-roberta, found a {model_type}")


def without_duplicates(weights: dict[str, Tensor], duplicates: dict[str, str]) -> dict[str, Tensor]:
    """The weights without second names; ValueError if one differs from the first."""
    for second, first in duplicates.items():
        if second in weights and first in weights and not torch.equal(weights[second], weights[first]):
            raise ValueError(f"{second} differs from {first}: VECO ties the two")
    return {name: weight for name, weight in weights.items() if name not in duplicates}
