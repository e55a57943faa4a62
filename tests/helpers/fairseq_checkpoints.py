"""fairseq's translation models, by torch's own post-LayerNorm layers, and their checkpoints and dictionaries."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

V, D, FFN, HEADS, LAYERS, POSITIONS, PAD = 60, 32, 48, 4, 3, 66, 1


def save(path: Path, weights: dict[str, Tensor], args: Namespace, zipped: bool = True) -> Path:
    """`path`, a checkpoint as fairseq's trainer writes it."""
    state = {"args": args, "model": weights, "optimizer_history": [{"num_updates": 3}], "extra_state": {"epoch": 1}}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


class Reference(nn.Module):
    """fairseq's translation model: post-LayerNorm, learned positions, embeddings of tokens scaled, output tied."""

    def __init__(self, num_decoder_layers: int, scaled: bool) -> None:
        super().__init__()
        self.scale = math.sqrt(D) if scaled else 1.0
        self.tokens = nn.Embedding(V, D, padding_idx=PAD)
        self.positions = nn.ModuleDict({part: nn.Embedding(POSITIONS, D) for part in ("encoder", "decoder")})
        self.norms = nn.ModuleDict({part: nn.LayerNorm(D) for part in ("encoder", "decoder")})
        shape = {"d_model": D, "nhead": HEADS, "dim_feedforward": FFN, "activation": "gelu", "batch_first": True}
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(**shape) for _ in range(LAYERS))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(**shape) for _ in range(num_decoder_layers))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(0.15 * torch.randn_like(parameter) + ("norm" in name and name.endswith("weight")))

    def embed(self, part: str, ids: Tensor) -> Tensor:
        positions = ids.ne(PAD).cumsum(1) * ids.ne(PAD) + PAD
        return self.norms[part](self.scale * self.tokens(ids) + self.positions[part](positions))

    def encode(self, ids: Tensor) -> Tensor:
        states = self.embed("encoder", ids)
        for layer in self.encoder:
            states = layer(states, src_key_padding_mask=ids.eq(PAD))
        return states

    def decode(self, ids: Tensor, source: Tensor, source_ids: Tensor, is_causal: bool) -> Tensor:
        states = self.embed("decoder", ids)
        future = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        for layer in self.decoder:
            states = layer(
                states,
                source,
                tgt_mask=future if is_causal else None,
                tgt_key_padding_mask=None if is_causal else ids.eq(PAD),
                memory_key_padding_mask=source_ids.eq(PAD),
            )
        return states @ self.tokens.weight.T

    def share(self) -> None:
        """Make encoder and decoder share one set of weights, as in pre-training."""
        for own, other in ((self.positions, "encoder"), (self.norms, "encoder")):
            own["decoder"].load_state_dict(own[other].state_dict())
        for encoder_layer, decoder_layer in zip(self.encoder, self.decoder, strict=True):
            shared = {name.replace("norm2", "norm3"): weight for name, weight in encoder_layer.state_dict().items()}
            decoder_layer.load_state_dict(shared, strict=False)

    def fairseq_weights(self) -> dict[str, Tensor]:
        """Its weights under fairseq's names."""
        weights: dict[str, Tensor] = {"decoder.output_projection.weight": self.tokens.weight}
        for part, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            weights[f"{part}.version"] = torch.tensor([3.0])
            weights[f"{part}.embed_tokens.weight"] = self.tokens.weight
            weights[f"{part}.embed_positions.weight"] = self.positions[part].weight
            weights[f"{part}.layernorm_embedding.weight"] = self.norms[part].weight
            weights[f"{part}.layernorm_embedding.bias"] = self.norms[part].bias
            last_norm = "norm2" if part == "encoder" else "norm3"
            modules = [("norm1", "self_attn_layer_norm"), ("linear1", "fc1"), ("linear2", "fc2")]
            modules += [(last_norm, "final_layer_norm")]
            attentions = [("self_attn", "self_attn")]
            if part == "decoder":
                modules.append(("norm2", "encoder_attn_layer_norm"))
                attentions.append(("multihead_attn", "encoder_attn"))
            for i, layer in enumerate(layers):
                theirs = dict(layer.named_parameters())
                for torchs, fairseqs in attentions:
                    for kind in ("weight", "bias"):
                        for letter, matrix in zip("qkv", theirs[f"{torchs}.in_proj_{kind}"].chunk(3), strict=True):
                            weights[f"{part}.layers.{i}.{fairseqs}.{letter}_proj.{kind}"] = matrix
                    modules.append((f"{torchs}.out_proj", f"{fairseqs}.out_proj"))
                for torchs, fairseqs in modules:
                    for kind in ("weight", "bias"):
                        weights[f"{part}.layers.{i}.{fairseqs}.{kind}"] = theirs[f"{torchs}.{kind}"]
        return {name: weight.detach().clone() for name, weight in weights.items()}


def veco_args(**changes: Any) -> Namespace:
    """Settings of a fine-tuning run as published."""
    settings = {
        "task": "translation_from_pretrained_veco",
        "source_lang": "en",
        "target_lang": "de",
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "activation_fn": "gelu",
        "no_scale_embedding": False,
        "dropout": 0.3,
        "attention_dropout": 0.1,
    }
    return Namespace(**{**settings, **changes})


def write_dictionary(path: Path, num_pieces: int, *others: str) -> Path:
    """`path`, a dict.txt of so many pieces and then the others."""
    pieces = [*(f"▁piece{i}" for i in range(num_pieces)), *others]
    path.write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    return path


def with_stale_copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the copies in encoder layers of fairseq 0.12: their weights from before the training."""
    copies = {}
    for i in range(LAYERS):
        shapes = {"in_proj": (3 * D, D), "out_proj": (D, D), "fc1": (FFN, D), "fc2": (D, FFN)}
        for name, shape in shapes.items():
            copies[f"encoder.layers.{i}.{name}_weight"] = torch.randn(shape)
            copies[f"encoder.layers.{i}.{name}_bias"] = torch.zeros(shape[0])
    return {**copies, **weights}
