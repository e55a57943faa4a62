import os
import pickle
import resource
import struct
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.cli import run_main
from data_tools.files.atomic import sha256_of, temporary_path
from data_tools.shards.format import Shard, ShardWriter, shard_path

VOCAB_SIZES = st.sampled_from([300, 32_767, 32_768, 250_002])
# Documents of sentences of positions in the vocabulary, 0 to 1.
SENTENCES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8)
DOCUMENTS = st.lists(st.lists(SENTENCES, max_size=4), max_size=5)


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Make fsync do nothing: waiting for the disk would take most of the time with hundreds of shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def _write(prefix: Path, vocab_size: int, documents: list[list[list[int]]]) -> ShardWriter:
    with ShardWriter(prefix, vocab_size) as writer:
        for document in documents:
            for sentence in document:
                writer.add_sequence(np.array(sentence))
            writer.end_document()
    return writer


def _random_documents(vocab_size: int) -> list[list[list[int]]]:
    """300 documents of 1 to 8 sentences of 2 to 40 ids."""
    random = np.random.default_rng(1)
    return [
        [random.integers(0, vocab_size, size=random.integers(2, 41)).tolist() for _ in range(random.integers(1, 9))]
        for _ in range(300)
    ]


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
    documents = _random_documents(vocab_size)
    _write(tmp_path / "a", vocab_size, documents)
    with redirect_stdout(StringIO()):
        dataset = indexed_dataset.MMapIndexedDataset(str(tmp_path / "a"))
    assert [dataset[i].tolist() for i in range(len(dataset))] == [s for document in documents for s in document]
    assert np.diff(dataset.doc_idx).tolist() == [len(document) for document in documents]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Megatron's, of accelerators that are not there
@pytest.mark.parametrize(("vocab_size", "dtype"), [(32_767, np.int16), (250_002, np.int32)])
def test_megatrons_own_reader_and_writer(tmp_path: Path, vocab_size: int, dtype: type) -> None:
    """Its reader reads our files, and its writer writes the same bytes."""
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    documents = _random_documents(vocab_size)
    _write(tmp_path / "ours", vocab_size, documents)
    dataset = indexed_dataset.IndexedDataset(str(tmp_path / "ours"))
    sentences = [sentence for document in documents for sentence in document]
    assert [dataset[i].tolist() for i in range(len(dataset))] == sentences
    assert dataset.get(3, offset=1, length=1).tolist() == sentences[3][1:2]
    assert dataset.sequence_lengths.tolist() == list(map(len, sentences))
    assert np.diff(dataset.document_indices).tolist() == list(map(len, documents))
    builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
    for document in documents:
        builder.add_document([i for sentence in document for i in sentence], list(map(len, document)))
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in ("bin", "idx"):
        assert (tmp_path / f"ours.{suffix}").read_bytes() == (tmp_path / f"theirs.{suffix}").read_bytes()


def test_shards_larger_than_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.shards.format.BUFFER_TOKENS", 10)
    writer = _write(tmp_path / "a", 300, [[[i % 300] * (i % 7 + 1) for i in range(100)]])
    assert Shard(tmp_path / "a").tokens.tolist() == [i % 300 for i in range(100) for _ in range(i % 7 + 1)]
    assert writer.info("a").bin_sha256 == sha256_of(tmp_path / "a.bin")


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="middle"), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequence(np.array([1, 2]))
        raise RuntimeError("middle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["bin", "idx"])
@pytest.mark.parametrize("num_tokens", [2, 3_000_000], ids=["at the end", "in the middle"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, num_tokens: int
) -> None:
    path = shard_path(tmp_path / "a", suffix)
    temporary_path(path).symlink_to("/dev/full")

    def write() -> None:
        with ShardWriter(tmp_path / "a", 300) as writer:
            for _ in range(2):
                writer.add_sequence(np.ones(num_tokens // 2, dtype=np.int32))

    with pytest.raises(SystemExit, match="2"):
        run_main(write)
    assert capsys.readouterr().err == f"error: {path}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_after_the_first_bytes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*/a\.bin'"), ShardWriter(tmp_path / "a", 300) as writer:
            writer.add_sequence(np.ones(8_000, dtype=np.int32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_does_not_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems report only then that they are full; the .bin must not have been renamed by that time."""

    def no_space_for_an_index(descriptor: int) -> None:
        if ".idx" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space_for_an_index)
    with (
        pytest.raises(OSError, match=r"No space left on device: .*/a\.idx"),
        ShardWriter(tmp_path / "a", 300) as writer,
    ):
        writer.add_sequence(np.array([1, 2]))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="tmp/file|file/"), ShardWriter(tmp_path / "file/de/00000", 300):
        pass
    (tmp_path / "loop.bin").mkdir()
    with pytest.raises(ValueError, match=r"loop\.bin: is a directory"), ShardWriter(tmp_path / "loop", 300) as writer:
        writer.add_sequence(np.array([1]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop.bin"]


@pytest.mark.parametrize(("ids", "message"), [([], "empty"), ([1, 300], "from 1 to 300"), ([-1], "from -1 to -1")])
def test_invalid_ids_are_refused(tmp_path: Path, ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message), ShardWriter(tmp_path / "a", 300) as writer:
        writer.add_sequence(np.array(ids, dtype=np.int64))
    assert list(tmp_path.iterdir()) == []


def test_lengths_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add up to 3, found 2 ids"), ShardWriter(tmp_path / "a", 300) as writer:
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
        ("idx", 34 + 8, struct.pack("<i", 9), "16 bytes, but its index says 12 ids of 4"),
        ("idx", 34 + 12 + 8, struct.pack("<q", 4), "running sum"),
        ("idx", 34 + 4, struct.pack("<2i3q", 0, 2, 0, 8, 8), "a sequence of 0 tokens"),
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


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a", 40_000, [[[1, 2], [3]], [[4]]])
    os.truncate(tmp_path / "a.bin", 15)
    with pytest.raises(ValueError, match=r"a\.bin: 15 bytes, but its index says 4 ids of 4 bytes"):
        Shard(tmp_path / "a")
    os.truncate(tmp_path / "a.bin", 12)
    with pytest.raises(ValueError, match=r"a\.bin: 12 bytes, but its index says 4 ids of 4 bytes"):
        Shard(tmp_path / "a")
    os.truncate(tmp_path / "a.idx", 20)
    with pytest.raises(ValueError, match=r"a\.idx: not a shard index"):
        Shard(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        Shard(tmp_path / "b")


def test_sequences_are_indexed_like_a_list(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1, 2], [3]]])
    shard = Shard(tmp_path / "a")
    assert shard[-1].tolist() == [3]
    assert [ids.tolist() for ids in shard] == [[1, 2], [3]]
    with pytest.raises(ValueError, match="read-only"):
        shard[0][0] = 5
    for wrong in (2, -3):
        with pytest.raises(IndexError, match=f"a: sequence {wrong} of 2"):
            shard[wrong]


@settings(max_examples=50)
@given(vocab_size=VOCAB_SIZES, shares=DOCUMENTS.filter(any), data=st.data())
def test_taking_many_sequences_equals_taking_each(
    tmp_path_factory: pytest.TempPathFactory, vocab_size: int, shares: list[list[list[float]]], data: st.DataObject
) -> None:
    documents = [[[int(share * vocab_size) for share in sentence] for sentence in document] for document in shares]
    prefix = tmp_path_factory.mktemp("shard") / "a"
    _write(prefix, vocab_size, documents)
    shard = Shard(prefix)
    indices = data.draw(st.lists(st.integers(-len(shard), len(shard) - 1)))
    ids, lengths = shard.take(indices)
    assert ids.tolist() == [i for index in indices for i in shard[index].tolist()]
    assert lengths.tolist() == [len(shard[index]) for index in indices]
    assert (ids.dtype, lengths.dtype) == (shard.dtype, np.int64)
    with pytest.raises(IndexError):
        shard.take([len(shard)])


def test_more_shards_than_file_descriptors(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1, 2], [3]]])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
    try:
        shards = [Shard(tmp_path / "a") for _ in range(100)]
        assert all(shard[1].tolist() == [3] and shard.documents.tolist() == [0, 2] for shard in shards)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_closing_releases_the_memory_and_keeps_views_valid(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1, 2], [3]]])
    shard = Shard(tmp_path / "a")
    view = shard[0]

    def num_maps() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    assert num_maps() == 2
    shard.close()
    assert num_maps() == 1
    assert view.tolist() == [1, 2]
    assert shard[1].tolist() == [3], "used again, it maps itself again"
    del shard, view
    assert num_maps() == 0


def test_a_shard_pickles_as_its_path(tmp_path: Path) -> None:
    _write(tmp_path / "a", 300, [[[1] * 10_000]])
    shard = Shard(tmp_path / "a")
    assert len(shard[0]) == 10_000
    content = pickle.dumps(shard)
    assert len(content) < 1000
    assert pickle.loads(content)[0].tolist() == shard[0].tolist()
