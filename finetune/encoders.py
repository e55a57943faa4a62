"""Open the encoder that fine-tuning or retrieval starts from: a VECO, an XLM-R, or any other that transformers opens.

An encoder is what transformers has a masked language model for, without a decoder: BERT, RoBERTa, DeBERTa, ModernBERT …
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from data_tools.transformers_errors import errors_of_transformers
from finetune.pretrained import VECO, XLM_ROBERTA, check_model_directory, check_vocabulary, open_pretrained
from veco.opening import open_config
from veco.tokenizer import open_tokenizer

FIELDS = ("vocab_size", "num_hidden_layers")  # that the configuration of an encoder of text has
POSITIONS = "position_embeddings"  # the end of the name of a table of positions in transformers' encoders


@dataclass(frozen=True)
class Encoder:
    """The directory of an encoder, its tokenizer and configuration, and what of them decides the form of rows.

    The configuration of an XLM-R is that of the VECO to which it is converted. `max_tokens` is the longest row.
    """

    directory: Path
    tokenizer: PreTrainedTokenizerBase
    config: PreTrainedConfig
    max_tokens: int
    has_token_types: bool


def open_encoder(directory: Path, field: str = "init_from") -> Encoder:
    """The encoder in a directory; `field` names it in error messages.

    Raises ValueError when the directory is not an encoder with its tokenizer, or the two do not match.
    """
    check_model_directory(directory, field)
    config = open_config(directory, field)
    if config.model_type in (VECO, XLM_ROBERTA):
        tokenizer, veco_config = open_pretrained(directory, field, kinds=(VECO, XLM_ROBERTA))
        return Encoder(directory, tokenizer, veco_config, veco_config.max_tokens, has_token_types=False)
    tokenizer = open_tokenizer(directory, field)
    try:
        shape = empty_masked_lm(config)
        check_vocabulary(tokenizer, config)
        max_tokens = longest_row(shape, tokenizer)
    except ValueError as error:
        raise ValueError(f"{field} {directory}: {error}") from None
    return Encoder(
        directory, tokenizer, config, max_tokens, num_token_types(config) > 1 and takes(shape, "token_type_ids")
    )


def empty_masked_lm(config: PreTrainedConfig) -> PreTrainedModel:
    """The masked language model of a configuration, without memory for its weights.

    Raises ValueError for a configuration that is not an encoder's, and for an encoder that sees padding.
    """
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder:
        raise ValueError(
            f"expected an encoder such as veco, xlm-roberta, bert or modernbert, found a {config.model_type}"
        )
    if absent := [name for name in FIELDS if not hasattr(config, name)]:
        raise ValueError(f"a {config.model_type} has no {absent[0]}; expected an encoder of text")
    with errors_of_transformers("its shape"), torch.device("meta"):
        model = MODEL_FOR_MASKED_LM_MAPPING[type(config)](config)
    if not takes(model, "attention_mask"):
        raise ValueError(
            f"a {config.model_type} takes no attention_mask: its states would depend on the padding of a batch"
        )
    return model


def takes(model: nn.Module, argument: str) -> bool:
    """Whether a model's forward pass names an argument."""
    return argument in inspect.signature(model.forward).parameters


def num_token_types(config: PreTrainedConfig) -> int:
    """The number of token types of a model, 0 for one without a table of them."""
    return int(config.to_dict().get("type_vocab_size", 0))


def longest_row(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that both a model and its tokenizer take.

    In models like RoBERTa the positions of tokens follow that of padding, which is found by its id, unless a VECO names
    that position. Raises ValueError when the two do not agree about that id.
    """
    limits = [int(tokenizer.model_max_length)]
    config = model.config.to_dict()
    if num_positions := config.get("max_position_embeddings"):
        tables = [module for name, module in model.named_modules() if name.endswith(POSITIONS)]
        offsets = [
            table.padding_idx for table in tables if isinstance(table, nn.Embedding) and table.padding_idx is not None
        ]
        is_named = config.get("padding_position") is not None
        if offsets and not is_named and offsets[0] != tokenizer.pad_token_id:
            raise ValueError(
                f"the model finds positions by {offsets[0]}, the id of its padding, its tokenizer pads with "
                f"{tokenizer.pad_token_id}; set pad_token of the tokenizer to {offsets[0]}"
            )
        limits.append(num_positions - (offsets[0] + 1 if offsets else 0))
    return min(limits)


def encoder_weights(config: PreTrainedConfig) -> set[str]:
    """The names of the weights that every pre-trained model of a configuration has; a pooler belongs to the head."""
    return set(empty_masked_lm(config).base_model.state_dict())
