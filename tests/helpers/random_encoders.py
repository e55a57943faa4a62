"""Random encoders of every family that VECO is converted from: small, biases and norms random, too, without dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from veco.convert.families import FAMILIES

VOCAB_SIZE, NUM_LAYERS, MAX_TOKENS = 60, 3, 12
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# Not transformers' own, so that a setting that is not carried over would show.
LAYER_NORM_EPS = 1e-3


def random_encoder(model_type: str, model_class: type[PreTrainedModel] | None = None, **fields: Any) -> PreTrainedModel:
    """A model of that family, by default with its head, for MAX_TOKENS tokens; `fields` replace those of its config."""
    family = FAMILIES[model_type]
    model_class = family.masked_lm if model_class is None else model_class
    pad = fields.get("pad_token_id", model_class.config_class().pad_token_id)
    shape = {family.field_name(name): value for name, value in SHAPE.items()}
    if family.layer_norm_eps is None:
        shape["layer_norm_eps"] = LAYER_NORM_EPS
    num_positions = MAX_TOKENS + (pad + 1 if family.positions_skip_padding else 0)
    usual = {**shape, "vocab_size": VOCAB_SIZE, "initializer_range": 0.1, "max_position_embeddings": num_positions}
    torch.manual_seed(0)
    return randomised(model_class(model_class.config_class(**{**usual, **fields}))).eval()


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """The model with random biases and norms, which transformers sets to zero and one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name.lower():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def padded_ids(pad: int) -> tuple[Tensor, Tensor]:
    """Ids (3, MAX_TOKENS) and mask; rows of all, 7 and 3 tokens, padded behind."""
    torch.manual_seed(3)
    ids = torch.randint(pad + 1, VOCAB_SIZE, (3, MAX_TOKENS))
    for row, length in enumerate((MAX_TOKENS, 7, 3)):
        ids[row, length:] = pad
    return ids, ids.ne(pad).long()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Gradients by all names of their parameters."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}
