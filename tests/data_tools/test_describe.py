import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.corpus import Corpus
from data_tools.describe import sampling_probabilities, verify
from data_tools.prepare import prepare
from data_tools.shards import Manifest

MODULE = "data_tools.describe"


@pytest.fixture
def data(tmp_path: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]) -> Path:
    """A data directory: 400 German and 100 English sentences, 50 pairs."""
    for name, language, count in (("m.de", "de", 400), ("m.en", "en", 100), ("p.de", "de", 50), ("p.en", "en", 50)):
        (tmp_path / name).write_text("\n".join(sentences[language][:count]) + "\n", encoding="utf-8")
    corpus = tmp_path / "corpus.yaml"
    corpus.write_text(
        f"tokenizer: {tokenizer_dir}\nmono: {{de: m.de, en: m.en}}\nparallel: {{de-en: {{source: p.de, target: p.en}}}}"
    )
    prepare(Corpus.load(corpus), tmp_path / "data", num_workers=1, shard_tokens=2000)
    return tmp_path / "data"


def test_table_samples_and_verify(data: Path, run_module: Callable, sentences: dict[str, list[str]]) -> None:
    process = run_module(MODULE, data, "--verify", "--samples", "2")
    assert process.returncode == 0, process.stderr
    manifest = Manifest.load(data)
    row = next(line for line in process.stdout.splitlines() if line.startswith("│ de "))
    num_tokens = sum(info.num_tokens for info in manifest.mono["de"])
    for cell in (str(len(manifest.mono["de"])), "400", f"{num_tokens:,}", "0.6667"):  # sqrt(400) : sqrt(100) = 2 : 1
        assert f" {cell} " in row
    assert sentences["de"][0] in process.stdout
    assert f"{sentences['de'][49]}\n             {sentences['en'][49]}\n" in process.stdout
    num_shards = sum(map(len, manifest.mono.values())) + 2 * len(manifest.parallel["de-en"])
    assert f"{num_shards} shards verified" in process.stdout
    assert manifest.fingerprint in process.stdout


def test_alpha(data: Path, run_module: Callable) -> None:
    process = run_module(MODULE, data, "--alpha", "1")
    assert "0.8000" in process.stdout


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.0, [0.5, 0.5]), (0.5, [2 / 3, 1 / 3]), (1.0, [0.8, 0.2]), (2.0, [16 / 17, 1 / 17])]
)
def test_sampling_probabilities(alpha: float, expected: list[float]) -> None:
    assert sampling_probabilities([400, 100], alpha) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mono/de/00000.bin", "mono/en/00000.idx", "parallel/de-en/00000.en.bin"])
def test_one_flipped_bit_is_found(data: Path, name: str) -> None:
    manifest = Manifest.load(data)
    verify(data, manifest)
    content = bytearray((data / name).read_bytes())
    content[len(content) // 2] ^= 1
    (data / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: its sha256 is"):
        verify(data, manifest)


def test_other_damage_on_the_command_line(data: Path, run_module: Callable, assert_one_line_error: Callable) -> None:
    os.truncate(data / "mono/de/00000.bin", 10)
    assert_one_line_error(run_module(MODULE, data, "--verify"), "mono/de/00000.bin", "prepare again")
    (data / "mono/de/00000.bin").unlink()
    assert_one_line_error(run_module(MODULE, data, "--verify"), "mono/de/00000.bin: no such file")
    (data / "manifest.json").unlink()
    assert_one_line_error(run_module(MODULE, data), "manifest.json: no such file")


def test_another_tokenizer_and_unequal_pairs(data: Path) -> None:
    manifest = Manifest.load(data)
    other = Manifest(1, "0" * 64, manifest.vocab_size, manifest.mono, manifest.parallel)
    with pytest.raises(ValueError, match="the shards were made with 300 pieces, 000000000000…"):
        verify(data, other)
    crossed = {"de-en": [{"de": manifest.mono["de"][0], "en": manifest.mono["en"][0]}]}
    with pytest.raises(ValueError, match="the sides of de-en differ in their number of sentences"):
        verify(data, Manifest(1, manifest.tokenizer_sha256, manifest.vocab_size, manifest.mono, crossed))
