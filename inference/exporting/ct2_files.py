"""An encoder as CTranslate2 reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from finetune.ctranslate2_library import import_ctranslate2, unknown_token
from finetune.exported.engines import CT2_DIRECTORY
from finetune.mt.decoding.ct2 import pieces_by_id
from veco import VecoConfig
from veco.convert.ctranslate2_layers import ACTIVATIONS, check_activation, set_embeddings, set_layer
from veco.layer import VecoLayer
from veco.model import VecoModel

LARGEST = 127  # of a weight in 8 bits, and of the sum of two neighbours: see `in_safe_bytes`


def check_ct2(config: VecoConfig) -> None:
    """Raise ValueError where CTranslate2 is not installed, or for a model whose layers it does not have."""
    import_ctranslate2()
    check_activation(config)


@torch.no_grad()
def write_ct2(model: VecoModel, tokenizer: PreTrainedTokenizerBase, directory: Path, precision: str) -> None:
    """Write all layers of a model, plugged out; in int8, matrices and embeddings have a scale for each row."""
    from ctranslate2.specs import TransformerEncoderModelSpec, TransformerEncoderSpec, common_spec
    from ctranslate2.specs.model_spec import NumpyVariable

    config = model.config
    encoder = TransformerEncoderSpec(
        len(model.layers),
        config.num_attention_heads,
        pre_norm=False,
        activation=common_spec.Activation[ACTIVATIONS[config.hidden_act]],
        layernorm_embedding=True,
    )
    set_embeddings(encoder, encoder.embeddings[0], model.embeddings, range(config.vocab_size))
    for layer_spec, layer in zip(encoder.layer, cast(list[VecoLayer], model.layers), strict=True):
        set_layer(layer_spec, layer)
    spec = TransformerEncoderModelSpec(encoder)
    spec.config.layer_norm_epsilon = config.layer_norm_eps
    spec.config.unk_token = unknown_token(tokenizer)
    spec.register_vocabulary(pieces_by_id(tokenizer, config.vocab_size))
    spec.validate()
    parts = linear_parts(encoder)
    exact = [part.weight.numpy().copy() for part in parts]  # `optimize` rounds in place
    spec.optimize(precision)
    if precision == "int8":
        for part, weight in zip(parts, exact, strict=True):
            part.weight, part.weight_scale = map(NumpyVariable, in_safe_bytes(weight))
    (directory / CT2_DIRECTORY).mkdir()
    spec.save(str(directory / CT2_DIRECTORY))


def linear_parts(encoder: Any) -> list[Any]:
    """The descriptions of all products with weights in an encoder's layers."""
    return [
        linear
        for layer in encoder.layer
        for linear in (*layer.self_attention.linear, layer.ffn.linear_0, layer.ffn.linear_1)
    ]


def in_safe_bytes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (out, in) as int8, and the scale (out,) that each row was multiplied with.

    On CPUs without VNNI, a sum of two neighbouring products of an unsigned and a signed byte is kept in 16 bits, and
    255 (w + v) must not exceed them: states would be wrong by far more than rounding, without an error.
    """
    pairs = np.pad(weight, ((0, 0), (0, weight.shape[1] % 2))).reshape(len(weight), -1, 2)
    largest = np.maximum(np.abs(weight).max(axis=1), np.abs(pairs.sum(axis=2)).max(axis=1))
    scale = LARGEST / np.where(largest > 0, largest, LARGEST)
    return np.rint(weight * scale[:, None]).astype(np.int8), scale.astype(np.float32)
