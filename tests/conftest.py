"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest

# Tests run many small processes on few cores: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How long an example takes says more about the machine than about the code.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")

VOCAB_SIZE = 60


def pytest_configure(config: pytest.Config) -> None:
    """Hide all cards from the tests and what they start, unless the marker `gpu` is asked for: they are for a CPU."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["DS_ACCELERATOR"] = "cpu"


def write_shard(data_dir: Path, prefix: str, documents: list[list[np.ndarray]]) -> ShardInfo:
    """Info of a shard that holds the given documents of sentences."""
    (data_dir / prefix).parent.mkdir(parents=True, exist_ok=True)
    with ShardWriter(data_dir / prefix, VOCAB_SIZE) as writer:
        for document in documents:
            for sentence in document:
                writer.add_sequence(sentence)
            writer.end_document()
    return writer.info(prefix)


@pytest.fixture(scope="session")
def random_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of random ids: mono/de in two shards, mono/en in one, parallel/de-en in one."""
    data_dir = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)

    def sentence() -> np.ndarray:
        return rng.integers(4, VOCAB_SIZE - 1, size=rng.integers(2, 15))

    def documents(count: int) -> list[list[np.ndarray]]:
        return [[sentence() for _ in range(rng.integers(1, 9))] for _ in range(count)]

    mono = {
        "de": [write_shard(data_dir, f"mono/de/{number:05}", documents(30)) for number in range(2)],
        "en": [write_shard(data_dir, "mono/en/00000", documents(20))],
    }
    pairs = {
        side: write_shard(data_dir, f"parallel/de-en/00000.{side}", [[sentence() for _ in range(90)]])
        for side in ("de", "en")
    }
    Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256="0" * 64,
        vocab_size=VOCAB_SIZE,
        mono=mono,
        parallel={"de-en": [pairs]},
    ).save(data_dir)
    (data_dir / "tokenizer").mkdir()
    (data_dir / "tokenizer" / "tokenizer_config.json").write_text("{}")
    return data_dir


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a name of ENCODERS to the directory of that encoder."""
    from small_encoders import write_encoder  # transformers, which many tests do without

    root = tmp_path_factory.mktemp("encoders")

    @cache
    def directory(name: str) -> Path:
        write_encoder(name, root / name)
        return root / name

    return directory
