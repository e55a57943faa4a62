"""Lines of digits to copy or to sort, and a tiny random VECO with a vocabulary of digits."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch

from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.unigram_training import train_model
from veco import VecoConfig, VecoForMaskedLM

DIGITS = "0123456789"


def digit_lines(number: int, seed: int, shortest: int = 3, longest: int = 9) -> list[str]:
    """Lines of digits separated by spaces."""
    random = Random(seed)
    return [" ".join(random.choices(DIGITS, k=random.randint(shortest, longest))) for _ in range(number)]


def sorted_digits(line: str) -> str:
    return " ".join(sorted(line.split()))


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_digit_model(directory: Path, hidden_size: int = 64, num_layers: int = 2, seed: int = 0) -> Path:
    """Write a random VECO with its tokenizer, as pretrain.export would."""
    directory.mkdir(parents=True)
    model = train_model(iter(digit_lines(300, seed)), vocab_size=26, character_coverage=1.0)
    write_tokenizer(model, directory, digit_lines(20, seed=0))
    torch.manual_seed(0)
    config = VecoConfig(
        vocab_size=26,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=34,
        initializer_range=hidden_size**-0.5,
    )
    VecoForMaskedLM(config).save_pretrained(directory)
    return directory
