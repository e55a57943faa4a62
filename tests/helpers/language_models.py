"""A tiny language identification model, trained in a fraction of a second."""

from __future__ import annotations

from pathlib import Path

import fasttext

# Each thread of fastText initialises a tenth of the weights: with fewer the rest is what was in memory, often NaN.
NUM_THREADS = 10


def train_language_model(path: Path, sentences: dict[str, list[str]], **options: object) -> fasttext.FastText._FastText:
    """The model that tells the keys of `sentences` apart, which become its labels; also written to `path`."""
    lines = [f"__label__{label} {line}" for label, group in sentences.items() for line in group]
    text = path.with_suffix(".train.txt")
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    defaults = {"dim": 10, "bucket": 10_000, "minn": 2, "maxn": 3, "epoch": 5, "lr": 0.3, "verbose": 0}
    model = fasttext.train_supervised(str(text), thread=NUM_THREADS, **{**defaults, **options})
    model.save_model(str(path))
    return model
