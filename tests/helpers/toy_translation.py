"""A tiny random translation model with its tokenizer, and sentences for it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer

from veco import VecoConfig, VecoForConditionalGeneration

ROOT = Path(__file__).parents[2]
SYLLABLES = ["ha", "us", "bau", "kin", "hun", "son", "was", "ser", "geh", "sie", "rot", "alt", "und", "nich", "drei"]
TAGS = ["__de__", "__en__"]


def sentences(number: int, seed: int) -> list[str]:
    """Lines of 1 to 12 made-up words."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3)))

    return [" ".join(word() for _ in range(rng.randint(1, 12))) for _ in range(number)]


def write_toy_tokenizer(directory: Path) -> None:
    """Write a tokenizer of 70 pieces and two language tags."""
    text = directory.with_name(f"{directory.name}.text")
    text.write_text("".join(line + "\n" for line in sentences(300, 1)), encoding="utf-8")
    plain = directory.with_name(f"{directory.name}.plain")
    command = [sys.executable, "-m", "data_tools.train_tokenizer", "--input", str(text), "--vocab-size", "70"]
    subprocess.run([*command, "--output", str(plain)], check=True, capture_output=True, cwd=ROOT)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_special_tokens({"additional_special_tokens": TAGS})
    tokenizer.save_pretrained(directory)


def toy_model(tokenizer_dir: Path, **overrides: object) -> VecoForConditionalGeneration:
    """A random model of two directions whose vocabulary is that of the tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    torch.manual_seed(1)
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
        "decoder_layers": 2,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids("__de__"),
        "initializer_range": 0.7,  # far from uniform, so that beams differ and none are tied
    }
    return VecoForConditionalGeneration(VecoConfig(**{**fields, **overrides})).eval()
