"""Conversion of other checkpoints into VECO's, by explicit key tables: nothing is left over on either side."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import XLMRobertaForMaskedLM

from veco.config import VecoConfig
from veco.heads import VecoForMaskedLM

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
# The output projection is tied to the embedding, and XLM-R's second name for its bias to the first; the pooler is
# not trained by masked language modelling and VECO has none.
IGNORED_XLM_ROBERTA_KEYS = (
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
    "roberta.pooler.dense.weight",
    "roberta.pooler.dense.bias",
)


def xlm_roberta_names(num_layers: int) -> dict[str, str]:
    """VECO parameter name -> XLM-R parameter name; XLM-R's token type, which VECO has not, stands apart."""
    modules = dict(OUTER_MODULES)
    for i in range(num_layers):
        for ours, theirs in LAYER_MODULES.items():
            modules[f"veco.layers.{i}.{ours}"] = f"roberta.encoder.layer.{i}.{theirs}"
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in modules.items() for kind in ("weight", "bias")}
    names["veco.embeddings.word_embeddings.weight"] = "roberta.embeddings.word_embeddings.weight"
    names["veco.embeddings.position_embeddings.weight"] = "roberta.embeddings.position_embeddings.weight"
    names["lm_head.decoder.bias"] = "lm_head.bias"
    return names


def from_xlm_roberta(model_or_dir: XLMRobertaForMaskedLM | str | Path) -> VecoForMaskedLM:
    """VECO that equals the given XLM-R when plugged out; its cross-attention is freshly drawn.

    `model_or_dir` is a transformers `XLMRobertaForMaskedLM` or a directory that holds one. XLM-R adds its only
    token-type embedding to every token; here it is folded into the position embeddings. Raises ValueError for other
    models, more than one token type, and keys left over on either side.
    """
    source = model_or_dir
    if not isinstance(source, XLMRobertaForMaskedLM):
        if not isinstance(source, str | Path):
            raise ValueError(f"expected an XLMRobertaForMaskedLM or its directory, found {type(source).__name__}")
        source = XLMRobertaForMaskedLM.from_pretrained(source)
    if source.config.type_vocab_size != 1:
        raise ValueError(f"expected XLM-R's single token type, found type_vocab_size {source.config.type_vocab_size}")

    config = VecoConfig(**{name: source.config.to_dict()[name] for name in SHARED_CONFIG_FIELDS})
    model = VecoForMaskedLM(config)
    theirs = dict(source.state_dict())
    for name in IGNORED_XLM_ROBERTA_KEYS:
        theirs.pop(name, None)
    renamed: dict[str, Tensor] = {}
    for our_name, their_name in xlm_roberta_names(config.num_hidden_layers).items():
        if their_name not in theirs:
            raise ValueError(f"XLM-R checkpoint lacks {their_name}")
        renamed[our_name] = theirs.pop(their_name).clone()
    token_type = theirs.pop("roberta.embeddings.token_type_embeddings.weight")
    renamed["veco.embeddings.position_embeddings.weight"] += token_type
    if theirs:
        raise ValueError(f"XLM-R checkpoint has weights that VECO has no place for: {', '.join(sorted(theirs))}")

    with torch.no_grad():
        missing, unexpected = model.load_state_dict(renamed, strict=False)
    left = [name for name in missing if ".cross_attention" not in name and name != "lm_head.decoder.weight"]
    if left or unexpected:
        raise ValueError(f"weights left over: missing {left}, unexpected {list(unexpected)}")
    model.tie_weights()
    return model
