"""Conversion of transformers' XLM-R to VECO and back: `veco.convert.encoders` for the encoder that VECO extends."""

from __future__ import annotations

from pathlib import Path

from transformers import XLMRobertaForMaskedLM

from veco.convert.encoders import from_encoder, to_encoder
from veco.convert.families import FAMILIES
from veco.masked_lm import VecoForMaskedLM
from veco.pretraining import VecoForPreTraining

XLM_ROBERTA = FAMILIES["xlm-roberta"]


def from_xlm_roberta(model_or_dir: XLMRobertaForMaskedLM | str | Path) -> VecoForMaskedLM:
    """VECO that equals the given XLM-R plugged out, see `from_encoder`; its cross-attention is initialised at random.

    `model_or_dir` is a transformers `XLMRobertaForMaskedLM`, a directory with one, or its name on the Hub. Raises
    ValueError for other models, including XLM-R XL and XXL (see `family_of`), an untied head, and weights missing or
    left over.
    """
    return from_encoder(model_or_dir, XLM_ROBERTA.model_type)


def to_xlm_roberta(veco_model: VecoForMaskedLM | VecoForPreTraining | str | Path) -> XLMRobertaForMaskedLM:
    """XLM-R that equals the given VECO plugged out, see `to_encoder`: the same states, logits and gradients."""
    model = to_encoder(veco_model, XLM_ROBERTA.model_type)
    assert isinstance(model, XLMRobertaForMaskedLM), "its family says so"
    return model


def xlm_roberta_names(num_layers: int) -> dict[str, str]:
    """VECO's parameter name -> XLM-R's, for all but XLM-R's token type, which VECO does not have."""
    return XLM_ROBERTA.weight_names(num_layers)
