"""Open the pre-trained model directory that fine-tuning starts from (`init_from`)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from training.run_directory.kinds import is_model, no_model
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert import from_xlm_roberta
from veco.convert.encoders import veco_config
from veco.convert.families import how_to_convert
from veco.convert.weights import open_complete
from veco.opening import open_config
from veco.tokenizer import open_tokenizer

VECO, XLM_ROBERTA = VecoConfig.model_type, "xlm-roberta"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.txt")  # one of them is enough for transformers


def open_pretrained(
    directory: Path, field: str = "init_from", kinds: Collection[str] = (VECO,), takes_translation: bool = False
) -> tuple[PreTrainedTokenizerBase, VecoConfig]:
    """(tokenizer, configuration) of a model of one of `kinds`; `field` names the directory in error messages.

    For an XLM-R the configuration is that of the VECO it is converted to, see `pretrained_masked_lm`. A translation
    model is accepted only with `takes_translation`: other tasks would lose its encoder or its decoder. Raises
    ValueError when the directory is not such a model with its tokenizer, or the two do not match.
    """
    check_model_directory(directory, field)
    config = open_config(directory, field)
    if config.model_type not in kinds:
        found = f"{config.model_type}{how_to_convert(config.model_type)}"
        raise ValueError(f"{field} {directory}: expected a {' or '.join(kinds)}, found a {found}")
    if is_translation_model(config) and not takes_translation:
        raise ValueError(f"{field} {directory}: a translation model; expected a model that was pre-trained")
    if config.model_type == XLM_ROBERTA:
        config = veco_config(config)
    tokenizer = open_tokenizer(directory, field)
    try:
        check_vocabulary(tokenizer, config)
    except ValueError as error:
        raise ValueError(f"{field} {directory}: {error}") from None
    return tokenizer, config


def check_model_directory(directory: Path, field: str) -> None:
    """Raise ValueError for a directory without a model or without a tokenizer."""
    if not is_model(directory) or not any((directory / name).is_file() for name in TOKENIZER_FILES):
        found = "a model alone" if is_model(directory) else no_model(directory)
        raise ValueError(
            f"{field} {directory}: expected a model directory with config.json and a tokenizer, found {found}"
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Raise ValueError for a tokenizer with pieces for which a model has no embedding."""
    if len(tokenizer) > config.vocab_size:
        raise ValueError(f"its tokenizer has {len(tokenizer):,} pieces, the model only {config.vocab_size:,}")


def is_translation_model(config: PretrainedConfig) -> bool:
    """Whether a configuration is that of a `VecoForConditionalGeneration`."""
    return VecoForConditionalGeneration.__name__ in (config.architectures or [])


def pretrained_masked_lm(directory: Path, needs_cross_attention: bool = True) -> VecoForMaskedLM:
    """The VECO in a directory, or its XLM-R converted to one with random cross-attention; in float32.

    Raises ValueError for a VECO that lacks weights, as a plugged-out classifier does. Cross-attention that is not
    needed may be missing, and is random then.
    """
    if open_config(directory).model_type == XLM_ROBERTA:
        return from_xlm_roberta(directory).float()
    may_lack = "" if needs_cross_attention else ".cross_attention"
    return open_complete(VecoForMaskedLM, directory, may_lack, dtype=torch.float32)
