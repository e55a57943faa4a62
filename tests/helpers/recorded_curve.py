"""Make tests/golden/pretraining_curve.json, by `PYTHONPATH=tests/helpers python -m recorded_curve` in the root.

Fifty updates of a tiny model by the plain engine in float32, on text whose tokens follow from arithmetic alone.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest
from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training.meters import read_metrics
from training.random_order import mix
from training.run import train_run

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "pretraining_curve.json"
VOCAB_SIZE = 60
NUM_STARTS = 6  # few, so that some pieces are frequent, which is learnt soon
RECIPE: dict[str, Any] = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "steps": 50,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "mono_max_length": 24,
    "bilingual_max_length": 16,
    "mono_batch_pairs": 16,
    "bilingual_batch_pairs": 16,
    "warmup_steps": 5,
    "learning_rate": 5e-3,
    "log_every": 1,
    "save_every": 100,
    "loader_workers": 0,
}
RECORDED = ("mlm", "ca_mlm", "tlm", "grad_norm")


def rising(number: int, stride: int, shift: int = 0) -> np.ndarray:
    """Sentence `number`: 4 to 12 tokens, each `stride` pieces after the previous one; `shift` makes its translation."""
    length = 4 + mix(number, 1) % 9
    start = FIRST_PIECE_ID + shift + mix(number, 2) % NUM_STARTS
    return start + stride * np.arange(length)


def make_data(directory: Path) -> Path:
    """A data directory: 60 documents of eight sentences each in two languages, and 200 pairs."""

    def shard(prefix: str, sentences: list[np.ndarray], per_document: int) -> ShardInfo:
        with ShardWriter(directory / prefix, VOCAB_SIZE) as writer:
            for number, sentence in enumerate(sentences, start=1):
                writer.add_sequence(sentence)
                if number % per_document == 0:
                    writer.end_document()
        return writer.info(prefix)

    mono = {
        language: [shard(f"mono/{language}/00000", [rising(i, stride) for i in range(480)], 8)]
        for language, stride in (("aa", 1), ("bb", 2))
    }
    pairs = {
        language: shard(f"parallel/aa-bb/00000.{language}", [rising(i, 1, shift) for i in range(500, 700)], 200)
        for language, shift in (("aa", 0), ("bb", 20))
    }
    Manifest(MANIFEST_VERSION, "0" * 64, VOCAB_SIZE, mono, {"aa-bb": [pairs]}).save(directory)
    (directory / "tokenizer").mkdir()
    return directory


def curve_of_run(directory: Path) -> list[dict[str, Any]]:
    """Loss terms, gradient norm and digest of the samples of each update."""
    data, run_dir = make_data(directory / "data"), directory / "run"
    train_run(PretrainRecipe(output=str(run_dir), data=str(data), **RECIPE), PretrainingTask.on(data))
    return [
        {
            name: value
            for name, value in line.items()
            if name in ("step", "grad_norm", "samples")
            or (name.startswith(("mono/", "bilingual/")) and name.split("/")[1] in RECORDED)
        }
        for line in read_metrics(run_dir)
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        curve = curve_of_run(Path(directory))
    # All digits of a float32.
    lines = [
        {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in line.items()}
        for line in curve
    ]
    header = {
        "made_by": "PYTHONPATH=tests/helpers python -m recorded_curve",
        "with": f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "about": "50 updates, plain engine, float32, seed 1; recipe and text are in tests/helpers/recorded_curve.py",
        "relative_tolerance": 1e-5,
        "reason": "Other processors and libraries add up in another order: 2e-7 after 50 updates between AVX-512, AVX2 "
        "and neither, one thread and two. That times fifty; a wrong factor or mask is far beyond.",
    }
    told = json.dumps(header, indent=1)[:-2] + ',\n "curve": [\n'
    told += ",\n".join(f"  {json.dumps(line)}" for line in lines) + "\n ]\n}\n"
    GOLDEN.write_text(told, encoding="utf-8")
    print(f"{GOLDEN}: {len(lines)} updates")


if __name__ == "__main__":
    main()
