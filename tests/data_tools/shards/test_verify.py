import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data_directories import make_data
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.shards.format import shard_path
from data_tools.shards.manifest import SPLITS, Manifest
from data_tools.shards.verify import ShardCheck, check_shard, unlisted_files, verify


@pytest.fixture(scope="module")
def whole_data(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> tuple[Path, Manifest]:
    data_dir = tmp_path_factory.mktemp("whole") / "data"
    return data_dir, make_data(data_dir, tokenizer_dir, sentences)


@pytest.fixture
def data(tmp_path: Path, whole_data: tuple[Path, Manifest]) -> Path:
    """A data directory to damage."""
    return shutil.copytree(whole_data[0], tmp_path / "data")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the checks in this process: others take longer to start than a small directory takes to read."""

    def run(function: Callable, tasks: list, num_workers: int, on_done: Callable, on_poll: Callable) -> None:
        for task in tasks:
            function(task)
            on_done(task)

    monkeypatch.setattr("data_tools.shards.verify.run_local", run)


def _flip_bit(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_all_problems_of_train_and_valid_are_found(data: Path) -> None:
    manifest = Manifest.load(data)
    assert verify(data, manifest, num_workers=2) == []
    _flip_bit(data / "mono/de/00000.bin", 100)
    os.truncate(data / "mono/de/00000.idx", 200)
    (data / "mono/en/00000.bin").unlink()
    with open(data / "parallel/de-en/00000.de.bin", "ab") as file:
        file.write(b"\0\0")
    _flip_bit(data / "valid/parallel/de-en/00000.en.idx", 40)
    shutil.rmtree(data / "tokenizer")
    (data / "manifest.json").write_text("what counts is the manifest that was read")
    problems = verify(data, manifest, num_workers=2)
    expected = [
        "tokenizer/tokenizer.json: no such file",
        "mono/de/00000.bin: its bytes have changed, sha256 ",
        "mono/de/00000.idx: truncated, 200 bytes instead of 3,882",
        "mono/en/00000.bin: no such file, but the manifest lists it",
        "parallel/de-en/00000.de.bin: too long, ",
        "valid/parallel/de-en/00000.en.idx: its bytes have changed, sha256 ",
    ]
    assert len(problems) == len(expected), problems
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(f"{data}/{start}")


@settings(max_examples=40)
@given(draw=st.data())
def test_any_flipped_bit_is_found(whole_data: tuple[Path, Manifest], tmp_path_factory, draw: st.DataObject) -> None:
    data_dir, manifest = whole_data
    checks = [
        (corpus, sides) for split in SPLITS for corpus, shards in manifest.corpora(split).items() for sides in shards
    ]
    corpus, sides = draw.draw(st.sampled_from(checks))
    info = draw.draw(st.sampled_from(list(sides.values())))
    path = shard_path(data_dir / info.prefix, draw.draw(st.sampled_from(["bin", "idx"])))
    position, bit = draw.draw(st.integers(0, path.stat().st_size - 1)), draw.draw(st.integers(0, 7))
    report = tmp_path_factory.mktemp("report") / "report"
    _flip_bit(path, position, bit)
    try:
        check_shard(ShardCheck(data_dir, corpus, sides, manifest.vocab_size, report))
    finally:
        _flip_bit(path, position, bit)
    (problem,) = report.read_text().splitlines()
    assert problem.startswith(f"{path}: its bytes have changed")


@pytest.mark.usefixtures("in_this_process")
def test_wrong_counts_in_the_manifest_are_found(data: Path) -> None:
    """Hashes and sizes agree, so only looking into the files can tell."""
    manifest = Manifest.load(data)
    first, second = manifest.mono["de"]
    # Two sequences more and three documents less: the index has the same size.
    counted_wrong = replace(first, num_sequences=first.num_sequences + 2, num_documents=first.num_documents - 3)
    problems = verify(data, replace(manifest, mono={"de": [counted_wrong, second]}), num_workers=1)
    assert problems == [
        f"{data}/mono/de/00000: sequences, documents, tokens (300, 30, {first.num_tokens}), the manifest says "
        f"(302, 27, {first.num_tokens})"
    ]
    crossed = {"de-en": [{"de": first, "en": manifest.mono["en"][0]}], "de-ru": manifest.parallel["de-en"]}
    assert verify(data, replace(manifest, parallel=crossed), num_workers=1) == [
        f"{data}: the sides of a pair have different numbers of sentences: mono/de/00000 300, mono/en/00000 100",
        f"{data}: parallel/de-ru has a shard of de and en in the manifest",
    ]


@pytest.mark.usefixtures("in_this_process")
def test_another_tokenizer_is_reported(data: Path) -> None:
    manifest = Manifest.load(data)
    other = replace(
        manifest, tokenizer_sha256="0" * 64, vocab_size=200, parallel={}, valid={"mono": {}, "parallel": {}}
    )
    problems = verify(data, other, num_workers=1)
    assert problems[0].startswith(f"{data}/tokenizer: 300 pieces, sha256 {manifest.tokenizer_sha256[:12]}…; the shards")
    assert problems[0].endswith("another tokenizer, 200 pieces, sha256 000000000000…")
    assert len(problems) == 4
    assert all(": ids from" in problem and "the vocabulary has 200" in problem for problem in problems[1:])


@pytest.mark.usefixtures("in_this_process")
def test_files_that_are_not_in_the_manifest_are_listed(data: Path) -> None:
    manifest = Manifest.load(data)
    assert unlisted_files(data, manifest) == []
    others = ["mono/de/.00002.bin.123.tmp", "mono/de/00002.bin", "valid/mono/xx/00000.idx"]
    for name in others:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).touch()
    assert unlisted_files(data, manifest) == [data / name for name in others]
    assert verify(data, manifest, num_workers=1) == []
