"""The directory that fine-tuning starts from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from training.runs.kinds import is_model, no_model
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert import from_xlm_roberta
from veco.convert.xlm_roberta import veco_config

VECO, XLM_ROBERTA = VecoConfig.model_type, "xlm-roberta"


def open_pretrained(
    directory: Path, field: str = "init_from", kinds: Collection[str] = (VECO,), takes_translation: bool = False
) -> tuple[Any, VecoConfig]:
    """(tokenizer, configuration) of a model of one of `kinds`; `field` says in messages who asks.

    An XLM-R's configuration is that of the VECO it makes, see `pretrained_masked_lm`. With `takes_translation` it may
    be a model that translates, of whose two sides others would lose one. Raises ValueError when the directory is no
    such model with its tokenizer, or the two do not fit.
    """
    if not is_model(directory) or not (directory / "tokenizer_config.json").is_file():
        found = "a model alone" if is_model(directory) else no_model(directory)
        raise ValueError(
            f"{field} {directory}: expected a model directory with config.json and a tokenizer, found {found}"
        )
    config = AutoConfig.from_pretrained(directory)
    if config.model_type not in kinds:
        raise ValueError(f"{field} {directory}: expected a {' or '.join(kinds)}, found a {config.model_type}")
    if is_translation_model(config) and not takes_translation:
        raise ValueError(f"{field} {directory}: a translation model; expected a model that was pre-trained")
    if config.model_type == XLM_ROBERTA:
        config = veco_config(config)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"{field} {directory}: its tokenizer has {len(tokenizer):,} pieces, the model only {config.vocab_size:,}"
        )
    return tokenizer, config


def is_translation_model(config: PretrainedConfig) -> bool:
    """Whether a configuration is that of an encoder-decoder of ours."""
    return VecoForConditionalGeneration.__name__ in (config.architectures or [])


def pretrained_masked_lm(directory: Path) -> VecoForMaskedLM:
    """The VECO in a directory, or the one that its XLM-R makes, cross-attention freshly drawn; in float32."""
    if AutoConfig.from_pretrained(directory).model_type == XLM_ROBERTA:
        return from_xlm_roberta(directory).float()
    return VecoForMaskedLM.from_pretrained(directory, dtype=torch.float32)
