import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.corpus import Input
from data_tools.shards import Shard
from data_tools.tasks import ShardSeries, Task, TaskResult, batched, run_task
from data_tools.tokenizer import PieceEncoder

VOCAB_SIZE = 300


@given(sizes=st.lists(st.integers(0, 9)), limit=st.integers(1, 30))
def test_batches_keep_order_and_size(sizes: list[int], limit: int) -> None:
    batches = list(batched(sizes, lambda size: size, limit))
    assert [size for batch in batches for size in batch] == sizes
    assert all(batch and sum(batch[:-1]) + len(batch) - 1 < limit for batch in batches)


# Batches of sentences, given by their lengths; 0 stands for the end of a document.
STREAM = st.lists(st.lists(st.integers(0, 6), max_size=12), max_size=8)


def _write_series(directory: Path, stream: list[list[int]], shard_tokens: int) -> ShardSeries:
    with ShardSeries(directory, ("de",), VOCAB_SIZE, shard_tokens) as series:
        next_id = 0
        for batch in stream:
            lengths = np.array([length for length in batch if length], dtype=np.int64)
            ends = np.cumsum([length > 0 for length in batch], dtype=np.int64)[np.array(batch, dtype=int) == 0]
            ids = np.arange(next_id, next_id + lengths.sum()) % VOCAB_SIZE
            next_id += int(lengths.sum())
            series.add_sentences(ids, lengths, ends)
    return series


@settings(max_examples=50)
@given(stream=STREAM, shard_tokens=st.integers(1, 60))
def test_shards_of_any_size_hold_the_same_text(
    tmp_path_factory: pytest.TempPathFactory, stream: list[list[int]], shard_tokens: int
) -> None:
    directory = tmp_path_factory.mktemp("series")
    series = _write_series(directory, stream, shard_tokens)
    whole = _write_series(directory / "whole", stream, shard_tokens=10**9)

    def content(folder: Path, number: int) -> list[list[list[int]]]:
        shard = Shard(folder / f"{number:05d}")
        shard.check(VOCAB_SIZE)
        bounds = shard.documents.tolist()
        return [[shard[i].tolist() for i in range(a, b)] for a, b in pairwise(bounds)]

    parts = [content(directory, number) for number in range(len(series.shards))]
    expected = content(directory / "whole", 0) if whole.shards else []
    assert [s for part in parts for document in part for s in document] == [s for d in expected for s in d]
    for part in parts[:-1]:
        sizes = [sum(map(len, document)) for document in part]
        assert sum(sizes) >= shard_tokens  # closed when full,
        assert sum(sizes[:-1]) < shard_tokens  # and by the document that filled it
    # Only a document as long as a whole shard may be cut in two.
    cut_documents = sum(map(len, parts)) - len(expected)
    assert cut_documents <= sum(sum(map(len, document)) >= shard_tokens for document in expected) * len(parts)
    if all(sum(map(len, document)) < shard_tokens for document in expected):
        assert [document for part in parts for document in part] == expected


def _task(tmp_path: Path, tokenizer_dir: Path, languages: tuple[str, ...], format: str, *texts: str) -> Task:
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"input{number}")
        paths[-1].write_text(text, encoding="utf-8")
    return Task(Input(languages, tuple(paths), format), tmp_path / "task", tokenizer_dir, shard_tokens=1000)


def test_documents_and_lines_without_tokens(tmp_path: Path, tokenizer_dir: Path) -> None:
    text = "\n\neins zwei\n\u200b\ndrei\n \n\nvier\n\n"  # a zero-width space is a line, but normalisation removes it
    task = _task(tmp_path, tokenizer_dir, ("de",), "text", text)
    run_task(task)
    result = TaskResult.load(task.directory)
    (info,) = [sides["de"] for sides in result.shards]
    assert (info.num_sequences, info.num_documents) == (3, 2)
    assert result.dropped == {"no_tokens": 1}
    shard = Shard(task.directory / info.prefix)
    encoder = PieceEncoder(tokenizer_dir)
    assert [encoder.decode(ids) for ids in shard] == ["eins zwei", "drei", "vier"]
    assert shard.documents.tolist() == [0, 2, 3]


def test_pairs_with_an_empty_side_are_dropped_on_both(tmp_path: Path, tokenizer_dir: Path) -> None:
    task = _task(tmp_path, tokenizer_dir, ("de", "en"), "text", "eins\nzwei\n \nvier\n", "one\n\nthree\nfour\n")
    run_task(task)
    result = TaskResult.load(task.directory)
    (sides,) = result.shards
    assert result.dropped == {"empty_side": 2}
    encoder = PieceEncoder(tokenizer_dir)
    assert [encoder.decode(ids) for ids in Shard(task.directory / sides["de"].prefix)] == ["eins", "vier"]
    assert [encoder.decode(ids) for ids in Shard(task.directory / sides["en"].prefix)] == ["one", "four"]
    assert {info.num_documents for info in sides.values()} == {1}


def test_jsonl_and_tsv(tmp_path: Path, tokenizer_dir: Path) -> None:
    lines = [json.dumps({"text": text}) for text in ("eins\nzwei", "drei")]
    task = _task(tmp_path, tokenizer_dir, ("de",), "jsonl", "\n".join(lines))
    run_task(task)
    assert Shard(task.directory / "00000").documents.tolist() == [0, 2, 3]
    task = _task(tmp_path, tokenizer_dir, ("de", "en"), "tsv", "eins\tone\nzwei\ttwo\t0.5\n")
    run_task(task)
    encoder = PieceEncoder(tokenizer_dir)
    assert [encoder.decode(ids) for ids in Shard(task.directory / "00000.en")] == ["one", "two"]


def test_a_failed_task_has_no_result_and_can_be_run_again(tmp_path: Path, tokenizer_dir: Path) -> None:
    task = _task(tmp_path, tokenizer_dir, ("de", "en"), "text", "eins\nzwei\n", "one\n")
    with pytest.raises(ValueError, match=r"has 2 lines, .* has 1"):
        run_task(task)
    assert not (task.directory / "result.json").exists()
    assert not list(task.directory.glob("**/*.idx"))
    task.input.paths[1].write_text("one\ntwo\n")
    run_task(task)
    assert len(Shard(task.directory / "00000.de")) == 2


def test_no_text_no_shard(tmp_path: Path, tokenizer_dir: Path) -> None:
    task = _task(tmp_path, tokenizer_dir, ("de",), "text", "\n\n \n")
    run_task(task)
    assert TaskResult.load(task.directory).shards == []
    assert sorted(path.name for path in task.directory.iterdir()) == ["result.json"]
