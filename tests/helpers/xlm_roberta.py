"""A random XLM-R of transformers as the oracle of a plugged-out VECO, with weights and gradients under VECO's names."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from veco import VecoConfig
from veco.convert import from_xlm_roberta


def random_xlm_roberta(model_class: type[PreTrainedModel], config: VecoConfig) -> PreTrainedModel:
    """A model of `config`'s shape; biases and norms, which transformers sets to zero and one, are random too."""
    ours = config.to_dict()
    shared = {name: ours[name] for name in XLMRobertaConfig().to_dict() if name in ours and name != "model_type"}
    model = model_class(XLMRobertaConfig(**shared, type_vocab_size=1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def encoder_weights(xlm_roberta: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of its encoder under VecoModel's names; VecoModel has cross-attention in addition."""
    masked_lm = XLMRobertaForMaskedLM(xlm_roberta.config)
    masked_lm.roberta = xlm_roberta.base_model
    masked_lm.tie_weights()
    weights = from_xlm_roberta(masked_lm).veco.state_dict()
    return {name: weight for name, weight in weights.items() if ".cross_attention" not in name}


def encoder_gradients(xlm_roberta: PreTrainedModel) -> dict[str, Tensor]:
    """The gradients of its encoder under VecoModel's names."""
    as_weights = copy.deepcopy(xlm_roberta)
    with torch.no_grad():
        for ours, theirs in zip(as_weights.parameters(), xlm_roberta.parameters(), strict=True):
            ours.copy_(theirs.grad)
        # Weights of the token type are added to those of the positions; gradients are not.
        as_weights.base_model.embeddings.token_type_embeddings.weight.zero_()
    return encoder_weights(as_weights)
