"""What a model is, in a few rows: its shape, its parameters, its tokenizer."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import safe_open

from finetune.encoders import open_encoder

SHAPE = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "intermediate_size": "width of feed-forward layers",
    "vocab_size": "vocabulary",
}


def summary_of(directory: Path) -> list[tuple[str, str]]:
    """(quantity, value) of a model directory. Raises ValueError for a directory that is no encoder with a tokenizer."""
    encoder = open_encoder(directory, "model")
    config = encoder.config.to_dict()
    rows = [("model", str(directory)), ("kind", str(config["model_type"]))]
    rows += [(name, f"{config[key]:,}") for key, name in SHAPE.items() if isinstance(config.get(key), int)]
    if (parameters := num_parameters(directory)) is not None:
        rows.append(("parameters in its files", f"{parameters:,}"))
    if encoder.max_tokens < 10**9:  # transformers' sign that there is no limit is larger
        rows.append(("longest text, tokens", f"{encoder.max_tokens:,}"))
    if isinstance(task := config.get("understanding"), dict):
        rows.append(("fine-tuned for", str(task["task"]["name"])))
    tokenizer = encoder.tokenizer
    rows.append(("tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} pieces"))
    rows.append(("special tokens", " ".join(map(str, tokenizer.all_special_tokens))))
    return rows


def num_parameters(directory: Path) -> int | None:
    """The numbers in all tensors of a directory's safetensors, of which tied ones are there once; None without any."""
    total = 0
    files = sorted(directory.glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="numpy") as tensors:
            names = tensors.keys()
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return total if files else None
