"""Data directories like those of data_tools.prepare, written directly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest
from data_tools.tokenizers.encoder import open_encoder

SENTENCES_PER_DOCUMENT = 10


def make_data(data_dir: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]) -> Manifest:
    """Manifest of a directory with 400 German sentences in two shards, 100 English ones, and 50 pairs.

    20 German sentences and 5 pairs are held out. Words are counted by the spaces in the text.
    """
    shutil.copytree(tokenizer_dir, data_dir / "tokenizer")
    encoder = open_encoder(tokenizer_dir)
    german, english = sentences["de"], sentences["en"]

    def shard(prefix: str, lines: list[str]) -> ShardInfo:
        with ShardWriter(data_dir / prefix, encoder.vocab_size) as writer:
            ends = np.arange(SENTENCES_PER_DOCUMENT, len(lines), SENTENCES_PER_DOCUMENT)
            writer.add_sequences(*encoder.encode_flat(lines), ends)
        return writer.info(prefix)

    def pairs(directory: str, start: int, end: int) -> list[dict[str, ShardInfo]]:
        return [{side: shard(f"{directory}/00000.{side}", sentences[side][start:end]) for side in ("de", "en")}]

    manifest = Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256=encoder.tokenizer_sha256,
        vocab_size=encoder.vocab_size,
        special_ids=encoder.special.unless_xlm_r(encoder.vocab_size),
        mono={
            "de": [shard("mono/de/00000", german[:300]), shard("mono/de/00001", german[300:400])],
            "en": [shard("mono/en/00000", english[:100])],
        },
        parallel={"de-en": pairs("parallel/de-en", 400, 450)},
        valid={
            "mono": {"de": [shard("valid/mono/de/00000", german[500:520])]},
            "parallel": {"de-en": pairs("valid/parallel/de-en", 600, 605)},
        },
        dropped={"mono/de": {"too_long": 3, "duplicate": 1234}},
        words={
            "mono/de": {"de": num_words([*german[:400], *german[500:520]])},
            "mono/en": {"en": num_words(english[:100])},
            "parallel/de-en": {
                side: num_words([*sentences[side][400:450], *sentences[side][600:605]]) for side in ("de", "en")
            },
        },
    )
    manifest.save(data_dir)
    return manifest


def num_words(lines: list[str]) -> int:
    return sum(len(line.split()) for line in lines)
