from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.deduplicate.exact import duplicate_units, find_duplicates, write_signatures
from data_tools.deduplicate.rewrite import Rewritten, rewrite_task
from data_tools.deduplicate.settings import Deduplication
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.sentence_piece import UNK_ID
from data_tools.tokenizers.special_ids import SpecialIds

EXACT = Deduplication(exact=True)
TABLE = PieceTable(starts_word=np.arange(300) % 2 == 0, num_characters=np.full(300, 3))
SPECIAL = SpecialIds.xlm_r(300)
SENTENCE = st.lists(st.integers(4, 6), min_size=1, max_size=3).map(tuple)


def _tasks(num_languages: int) -> st.SearchStrategy[list[tuple[Any, Any]]]:
    """(valid, train) shards of some tasks, from few tokens: most units come several times."""
    unit = st.tuples(*[SENTENCE] * num_languages)
    shards = st.lists(st.lists(st.lists(unit, min_size=1, max_size=5), min_size=1, max_size=4), max_size=3)
    return st.lists(st.tuples(shards, shards), min_size=1, max_size=3)


def _rewrite(tasks: Sequence[EncodedTask], work: Path, num_buckets: int, output: Path) -> list[Rewritten]:
    for task in tasks:
        write_signatures(task, work, EXACT, UNK_ID)
    for bucket in range(num_buckets):
        find_duplicates(tasks, work, bucket, num_buckets)
    return [rewrite_task(task, work, EXACT, num_buckets, output / str(task.index), TABLE, SPECIAL) for task in tasks]


@settings(max_examples=30)
@given(data=st.data(), languages=st.sampled_from([("de",), ("de", "en")]), buckets=st.tuples(*[st.integers(1, 9)] * 2))
def test_the_first_of_equal_units_stays(
    tmp_path_factory: pytest.TempPathFactory,
    make_task: Any,
    read_back: Any,
    data: st.DataObject,
    languages: tuple[str, ...],
    buckets: tuple[int, int],
) -> None:
    content = data.draw(_tasks(len(languages)))
    directory = tmp_path_factory.mktemp("exact")
    # Indices of tasks need not be consecutive: other languages have tasks too.
    tasks = [make_task(directory / f"task{i}", 3 * i + 1, languages, *shards) for i, shards in enumerate(content)]
    results = _rewrite(tasks, directory / "work", buckets[0], directory / "once")
    assert results == _rewrite(tasks[::-1], directory / "work2", buckets[1], directory / "twice")[::-1]

    seen: set[Any] = set()
    for split in ("valid", "train"):
        for task, shards, result in zip(tasks, content, results, strict=True):
            expected = []
            for documents in shards[0 if split == "valid" else 1]:
                kept = [[unit for unit in document if not (unit in seen or seen.add(unit))] for document in documents]
                expected.append([document for document in kept if document])
            expected = [documents for documents in expected if documents]
            output = directory / "once" / str(task.index)
            assert read_back(output, split, languages) == expected
            for number, infos in enumerate(result.shards[split]):
                assert list(infos) == list(languages)
                assert infos[languages[0]].num_sequences == sum(map(len, expected[number]))
    for task, shards, result in zip(tasks, content, results, strict=True):
        num_before = sum(len(document) for split in shards for documents in split for document in documents)
        stayed = [info[languages[0]].num_sequences for infos in result.shards.values() for info in infos]
        assert result.dropped == ({"duplicate": num_before - sum(stayed)} if num_before > sum(stayed) else {})
        read = [
            unit
            for split in ("valid", "train")
            for documents in read_back(directory / "once" / str(task.index), split, languages)
            for document in documents
            for unit in document
        ]
        assert result.words == {
            language: sum(token % 2 == 0 for unit in read for token in unit[side])
            for side, language in enumerate(languages)
        }


def test_no_held_out_sentence_is_trained_on(tmp_path: Path, make_task: Any, read_back: Any) -> None:
    """A sentence held out in the last task is not in the first one's training data."""
    a, b, c = ((4, 5),), ((6,),), ((7,),)
    tasks = [
        make_task(tmp_path / "0", 0, ("de",), [], [[[a, b]]]),
        make_task(tmp_path / "1", 1, ("de",), [[[a]]], [[[c]]]),
    ]
    _rewrite(tasks, tmp_path / "work", 2, tmp_path / "new")
    assert read_back(tmp_path / "new" / "0", "train", ("de",)) == [[[b]]]
    assert read_back(tmp_path / "new" / "1", "valid", ("de",)) == [[[a]]]


def test_signatures_are_sorted_and_complete(tmp_path: Path, make_task: Any) -> None:
    units = [((4 + i % 7,),) for i in range(50)]
    write_signatures(make_task(tmp_path, 3, ("de",), [], [[units]]), tmp_path / "work", EXACT, UNK_ID)
    (path,) = (tmp_path / "work" / "signatures").iterdir()
    assert path.name == "train.000003.00000"
    content = path.read_bytes()
    assert len(content) == 12 * 50
    records = list(
        zip(np.frombuffer(content[:400], "<u8").tolist(), np.frombuffer(content[400:], "<u4").tolist(), strict=True)
    )
    assert records == sorted(records)
    assert sorted(position for _, position in records) == list(range(50))


def test_a_task_that_was_not_looked_at_is_noticed(tmp_path: Path, make_task: Any) -> None:
    tasks = [make_task(tmp_path / str(i), i, ("de",), [], [[[((4,),)]]]) for i in range(2)]
    write_signatures(tasks[0], tmp_path / "work", EXACT, UNK_ID)
    with pytest.raises(FileNotFoundError, match="train.000001.00000"):
        find_duplicates(tasks, tmp_path / "work", 0, 1)
    find_duplicates(tasks[:1], tmp_path / "work", 0, 1)
    with pytest.raises(AssertionError, match="was not looked at"):
        duplicate_units(tasks[1], tmp_path / "work", 1)
    with pytest.raises(FileNotFoundError, match="00001"):
        duplicate_units(tasks[0], tmp_path / "work", 2)
