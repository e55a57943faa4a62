"""A translation model made by hand, whose decoder attends to the source word that its input translates.

Source word `w3` and target word `v3` share their embedding, a unit vector of their own; positions have none, and all
modules but the decoder's cross-attention add nothing. So the state of any token is the normed unit vector u of its
word, and the score of a query of word i on a key of word j is SHARPNESS times u_i . u_j over the root of the width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from veco import VecoConfig, VecoForConditionalGeneration

NUM_WORDS = 10
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "__en__"]
WIDTH = 32  # more than there are vectors
SHARPNESS = 0.5
EPSILON = 1e-12  # of LayerNorm: too little to show


def write_copying_translator(directory: Path) -> None:
    """Write the model, whose words are pieces, with its tokenizer."""
    words = [f"{side}{number}" for side in "wv" for number in range(NUM_WORDS)]
    vocabulary = {token: id for id, token in enumerate([*SPECIAL, *words])}
    pieces = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        **names,
        unk_token="<unk>",
        mask_token="<mask>",
        extra_special_tokens=["__en__"],
    ).save_pretrained(directory)
    model = VecoForConditionalGeneration(
        VecoConfig(
            vocab_size=len(vocabulary),
            hidden_size=WIDTH,
            num_hidden_layers=1,
            decoder_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=40,
            layer_norm_eps=EPSILON,
            decoder_start_token_id=SPECIAL.index("__en__"),
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(1)
        table = model.get_input_embeddings().weight
        for token, id in vocabulary.items():
            table[id] = vector_of(token)
        (layer,) = model.decoder.layers
        layer.cross_attention.q_proj.weight.copy_(SHARPNESS * torch.eye(WIDTH))
        layer.cross_attention.k_proj.weight.copy_(torch.eye(WIDTH))
    model.save_pretrained(directory)


def vector_of(token: str) -> torch.Tensor:
    """The embedding of a token: that of its word, or of the special token."""
    number = len(SPECIAL) + int(token[1:]) if token not in SPECIAL else SPECIAL.index(token)
    return torch.eye(WIDTH)[number]


def weights_of(queries: list[str], keys: list[str]) -> np.ndarray:
    """The weights (queries, keys) of tokens on tokens, from the formula above."""

    def normed(tokens: list[str]) -> np.ndarray:
        vectors = np.stack([vector_of(token).numpy() for token in tokens]).astype(np.float64)
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        return centred / centred.std(axis=1, keepdims=True)

    scores = SHARPNESS * normed(queries) @ normed(keys).T / np.sqrt(WIDTH)
    shares = np.exp(scores)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
