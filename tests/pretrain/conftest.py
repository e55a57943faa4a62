"""Data of a few German and English words, for what reads lexicons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import PieceEncoder
from data_tools.tokenizers.unigram_training import train_model

SENTENCES = {
    "de": (
        "Der Hund sieht das Haus.",
        "Das Haus ist groß, der Hund klein!",
        "Hund und Katze",
        "Die Katze schläft nicht.",
    ),
    "en": ("The dog sees the house.", "The house is big, the dog small!", "Dog and cat", "The cat does not sleep."),
}
REPEATS = 5  # so that there are enough pairs for a batch


@pytest.fixture(scope="session")
def word_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with tokenizer: parallel/de-en, SENTENCES time and again."""
    data_dir = tmp_path_factory.mktemp("word_data")
    (data_dir / "tokenizer").mkdir()
    lines = [line for of_language in SENTENCES.values() for line in of_language]
    further = ["Kater und Würstchen - riesig, winzig", "hot dogs: house"]
    model = train_model(iter([*lines, *further]), 60, character_coverage=1.0)
    encoder = write_tokenizer(model, data_dir / "tokenizer", lines)

    def shards(prefix: str, by_language: Mapping[str, list[str]]) -> list[dict[str, ShardInfo]]:
        return [{side: shard(f"{prefix}.{side}", of_side) for side, of_side in by_language.items()}]

    def shard(prefix: str, sentences: list[str]) -> ShardInfo:
        (data_dir / prefix).parent.mkdir(parents=True, exist_ok=True)
        with ShardWriter(data_dir / prefix, encoder.vocab_size) as writer:
            for ids in encoder.encode_lines(sentences):
                writer.add_sequence(ids)
            writer.end_document()
        return writer.info(prefix)

    repeated = {language: [*of_language] * REPEATS for language, of_language in SENTENCES.items()}
    Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256=encoder.tokenizer_sha256,
        vocab_size=encoder.vocab_size,
        mono={},
        parallel={"de-en": shards("parallel/de-en/00000", repeated)},
    ).save(data_dir)
    return data_dir


@pytest.fixture(scope="session")
def encoder(word_data: Path) -> PieceEncoder:
    """The tokenizer of `word_data`."""
    return PieceEncoder(word_data / "tokenizer")


@pytest.fixture(scope="session")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lexicon of English and German: the articles and "klein" are not in it, "cat" has two translations."""
    path = tmp_path_factory.mktemp("lexicon") / "de.txt"
    path.write_text(
        "dog\tHund\nhouse\tHaus\ncat\tKater\ncat\tKatze\nhot dog\tWürstchen\nand\tund\nbig\triesig\nbroken\n"
    )
    return path


@pytest.fixture(scope="session")
def thesaurus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thesaurus of German: "groß" is a synonym of "riesig", and "klein" of "winzig"."""
    path = tmp_path_factory.mktemp("thesaurus") / "th_de_DE_v2.dat"
    path.write_text("UTF-8\ngroß|1\n-|riesig\nklein|1\n-|winzig\n")
    return path
