import json
import os
import struct
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.files import sha256_of
from data_tools.shards import Manifest, Shard, ShardInfo, ShardWriter

VOCAB_SIZES = st.sampled_from([300, 32_767, 32_768, 250_002])
# Documents of sentences of positions in the vocabulary, 0 to 1.
SENTENCES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8)
DOCUMENTS = st.lists(st.lists(SENTENCES, max_size=4), max_size=5)


def _write(prefix: Path, vocab_size: int, documents: list[list[list[int]]]) -> ShardWriter:
    with ShardWriter(prefix, vocab_size) as writer:
        for document in documents:
            for sentence in document:
                writer.add_sequence(np.array(sentence))
            writer.end_document()
    return writer


@given(vocab_size=VOCAB_SIZES, shares=DOCUMENTS)
def test_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, vocab_size: int, shares: list[list[list[float]]]
) -> None:
    documents = [[[int(share * vocab_size) for share in sentence] for sentence in document] for document in shares]
    sentences = [sentence for document in documents for sentence in document]
    prefix = tmp_path_factory.mktemp("shard") / "00000.de"
    writer = _write(prefix, vocab_size, documents)
    shard = Shard(prefix)
    shard.check(vocab_size)
    assert [shard[i].tolist() for i in range(len(shard))] == sentences
    assert shard.num_tokens == sum(map(len, sentences))
    assert shard.tokens.tolist() == [i for sentence in sentences for i in sentence]
    assert shard.itemsize == (2 if vocab_size <= 32_767 else 4)
    bounds = shard.documents.tolist()
    read = [sentences[start:end] for start, end in pairwise(bounds)]
    assert read == [document for document in documents if document]
    info = writer.info("mono/de/00000")
    assert (info.num_sequences, info.num_documents) == (len(shard), shard.num_documents)
    assert info.bin_sha256 == sha256_of(prefix.with_name("00000.de.bin"))
    assert info.idx_sha256 == sha256_of(prefix.with_name("00000.de.idx"))


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 5), max_size=20), ends=st.lists(st.integers(0, 20)), cut=st.integers(0, 20))
def test_many_sequences_at_once_equal_one_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], ends: list[int], cut: int
) -> None:
    directory = tmp_path_factory.mktemp("shard")
    ends = sorted(end for end in ends if end <= len(lengths))
    cut = min(cut, len(lengths))
    ids = np.arange(sum(lengths), dtype=np.int32)
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    with ShardWriter(directory / "single", 300) as writer:
        for i in range(len(lengths) + 1):
            if i in ends:
                writer.end_document()
            if i < len(lengths):
                writer.add_sequence(ids[start[i] : start[i + 1]])
    with ShardWriter(directory / "many", 300) as writer:
        before = [end for end in ends if end <= cut]
        after = [end - cut for end in ends if end > cut]
        all_lengths = np.array(lengths, dtype=np.int64)
        writer.add_sequences(ids[: start[cut]], all_lengths[:cut], before)
        writer.add_sequences(ids[start[cut] :], all_lengths[cut:], np.array(after, dtype=np.int64))
    for suffix in ("bin", "idx"):
        assert (directory / f"single.{suffix}").read_bytes() == (directory / f"many.{suffix}").read_bytes()


def test_bytes_are_as_the_format_says(tmp_path: Path) -> None:
    _write(tmp_path / "a", 40_000, [[[39_999, 5], [6]], [[7, 8, 9]]])
    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<6i", 39_999, 5, 6, 7, 8, 9)
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, 3, 3)
    index += struct.pack("<3i", 2, 1, 3) + struct.pack("<3q", 0, 8, 12) + struct.pack("<3q", 0, 2, 3)
    assert (tmp_path / "a.idx").read_bytes() == index
    _write(tmp_path / "b", 32_767, [[[32_766]]])
    assert (tmp_path / "b.bin").read_bytes() == struct.pack("<h", 32_766)
    assert (tmp_path / "b.idx").read_bytes()[17] == 3


@pytest.mark.parametrize("vocab_size", [8_000, 250_002])
def test_deepspeeds_own_reader_reads_the_same(tmp_path: Path, vocab_size: int) -> None:
    indexed_dataset = pytest.importorskip("deepspeed.runtime.data_pipeline.data_sampling.indexed_dataset")
    random = np.random.default_rng(1)
    documents = [
        [random.integers(0, vocab_size, size=random.integers(1, 40)).tolist() for _ in range(random.integers(1, 9))]
        for _ in range(30)
    ]
    _write(tmp_path / "a", vocab_size, documents)
    with redirect_stdout(StringIO()):
        dataset = indexed_dataset.MMapIndexedDataset(str(tmp_path / "a"))
    assert [dataset[i].tolist() for i in range(len(dataset))] == [s for document in documents for s in document]
    assert np.diff(dataset.doc_idx).tolist() == [len(document) for document in documents]


def test_more_than_one_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.shards.BUFFER_TOKENS", 10)
    writer = _write(tmp_path / "a", 300, [[[i % 300] * (i % 7 + 1) for i in range(100)]])
    assert Shard(tmp_path / "a").tokens.tolist() == [i % 300 for i in range(100) for _ in range(i % 7 + 1)]
    assert writer.info("a").bin_sha256 == sha256_of(tmp_path / "a.bin")


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="middle"), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequence(np.array([1, 2]))
        raise RuntimeError("middle")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_closing_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space left"), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequence(np.array([1, 2]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ids", "message"), [([], "empty"), ([1, 300], "from 1 to 300"), ([-1], "from -1 to -1")])
def test_writer_refuses(tmp_path: Path, ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequence(np.array(ids, dtype=np.int64))
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_lengths_that_do_not_add_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add up to 3 but 2 ids"), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequences(np.array([1, 2]), np.array([3]))


def _damage(path: Path, position: int, replacement: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "position", "replacement", "message"),
    [
        ("idx", 0, b"TNTIDX", "not a shard index"),
        ("idx", 9, b"\2", "version 2"),
        ("idx", 17, b"\x08", "dtype code 8"),  # Megatron's uint16
        ("idx", 18, b"\4", "need 106"),  # a sequence more than there is: 34 + 4 * 12 + 3 * 8
    ],
)
def test_a_wrong_header_is_refused_on_opening(
    tmp_path: Path, suffix: str, position: int, replacement: bytes, message: str
) -> None:
    _write(tmp_path / "a", 40_000, [[[1, 2], [3]], [[4]]])
    _damage(tmp_path / f"a.{suffix}", position, replacement)
    with pytest.raises(ValueError, match=message):
        Shard(tmp_path / "a")


@pytest.mark.parametrize(
    ("suffix", "position", "replacement", "message"),
    [
        ("idx", 34, struct.pack("<i", 1), "running sum"),
        ("idx", 34 + 8, struct.pack("<i", 9), "4 tokens, but the index says 12"),
        ("idx", 34 + 12 + 8, struct.pack("<q", 4), "running sum"),
        ("idx", 34 + 36 + 8, struct.pack("<q", 3), "document index"),
        ("bin", 0, struct.pack("<i", 40_000), "from 2 to 40000"),
        ("bin", 0, struct.pack("<i", -1), "from -1 to 4"),
    ],
)
def test_wrong_content_is_found_by_check(
    tmp_path: Path, suffix: str, position: int, replacement: bytes, message: str
) -> None:
    _write(tmp_path / "a", 40_000, [[[1, 2], [3]], [[4]]])
    Shard(tmp_path / "a").check(40_000)
    _damage(tmp_path / f"a.{suffix}", position, replacement)
    with pytest.raises(ValueError, match=message):
        Shard(tmp_path / "a").check(40_000)


def test_files_cut_short_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a", 40_000, [[[1, 2], [3]], [[4]]])
    os.truncate(tmp_path / "a.bin", 15)
    with pytest.raises(ValueError, match=r"a\.bin: 15 bytes is not a multiple of its 4-byte ids"):
        Shard(tmp_path / "a")
    os.truncate(tmp_path / "a.bin", 12)
    with pytest.raises(ValueError, match=r"a\.bin: 3 tokens, but the index says 4"):
        Shard(tmp_path / "a").check(40_000)
    os.truncate(tmp_path / "a.idx", 20)
    with pytest.raises(ValueError, match=r"a\.idx: not a shard index"):
        Shard(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        Shard(tmp_path / "b")


def test_indexing(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1, 2], [3]]])
    shard = Shard(tmp_path / "a")
    assert shard[-1].tolist() == [3]
    assert [ids.tolist() for ids in shard] == [[1, 2], [3]]
    with pytest.raises(IndexError):
        shard[2]
    with pytest.raises(ValueError, match="read-only"):
        shard[0][0] = 5


def test_opening_holds_no_file_and_close_lets_go(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1, 2], [3]]])

    def num_open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = num_open_files()
    shards = [Shard(tmp_path / "a") for _ in range(100)]
    assert num_open_files() == before
    assert all(shard[0].tolist() == [1, 2] for shard in shards)
    assert num_open_files() > before
    for shard in shards:
        shard.close()
    assert num_open_files() == before
    assert shards[0][1].tolist() == [3]


INFO = ShardInfo("mono/de/00000", num_sequences=3, num_documents=1, num_tokens=9, bin_sha256="ab", idx_sha256="cd")
MANIFEST = Manifest(1, "ef", 300, mono={"de": [INFO]}, parallel={"de-en": [{"de": INFO, "en": INFO}]})


def test_manifest_round_trip(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    assert Manifest.load(tmp_path) == MANIFEST
    assert Manifest.load(tmp_path).fingerprint == MANIFEST.fingerprint
    other = Manifest(1, "ef", 301, mono=MANIFEST.mono, parallel=MANIFEST.parallel)
    assert other.fingerprint != MANIFEST.fingerprint


def test_manifest_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json: no such file"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 1, "mono": {"de": [{"size": 1}]}, "parallel": {}}))
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(ValueError, match="version 2, expected 1"):
        Manifest.load(tmp_path)
