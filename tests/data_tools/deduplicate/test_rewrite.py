from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.deduplicate.exact import find_duplicates, write_signatures
from data_tools.deduplicate.rewrite import rewrite_task
from data_tools.deduplicate.settings import Deduplication, MinhashSettings
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.sentence_piece import UNK_ID
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import RecordWriter, Unknown, records_of

BOTH = Deduplication(exact=True, minhash=MinhashSettings())
TABLE = PieceTable(starts_word=np.ones(300, dtype=bool), num_characters=np.where(np.arange(300) == UNK_ID, 0, 3))
SPECIAL = SpecialIds.xlm_r(300)
UNIT = st.tuples(st.lists(st.integers(4, 6), min_size=1, max_size=3).map(tuple))
SHARDS = st.lists(st.lists(st.lists(UNIT, min_size=1, max_size=5), min_size=1, max_size=4), max_size=3)


def _remove(task: EncodedTask, work: Path, documents: list[int]) -> None:
    """Write what MinHash would write if it had found these documents."""
    (work / "minhash" / "removed").mkdir(parents=True)
    if documents:
        np.array(documents, dtype="<u4").tofile(work / "minhash" / "removed" / f"{task.index:06d}.remove")


@settings(max_examples=40)
@given(valid=SHARDS, train=SHARDS, gone=st.sets(st.integers(0, 11)), block_tokens=st.integers(1, 12))
def test_rewriting_drops_near_duplicate_documents_then_repeated_units(
    tmp_path_factory: pytest.TempPathFactory,
    make_task: Any,
    read_back: Any,
    valid: Any,
    train: Any,
    gone: set[int],
    block_tokens: int,
) -> None:
    """Near-duplicate documents are dropped first, then repeated units among the rest."""
    directory = tmp_path_factory.mktemp("rewrite")
    task = make_task(directory / "old", 4, ("de",), valid, train)
    work = directory / "work"
    _remove(task, work, sorted(i for i in gone if i < sum(map(len, train))))
    write_signatures(task, work, BOTH, UNK_ID)
    find_duplicates([task], work, 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_tools.deduplicate.rewrite.BLOCK_TOKENS", block_tokens)
        result = rewrite_task(task, work, BOTH, 1, directory / "new", TABLE, SPECIAL)

    seen: set[Any] = set()
    dropped = {"duplicate": 0, "near_duplicate": 0}
    num_words = 0
    for split, shards in (("valid", valid), ("train", train)):
        expected: list[list[list[Any]]] = []
        numbers = count()
        for documents in shards:
            kept: list[list[Any]] = [[]]
            for document in documents:
                if next(numbers) in gone and split == "train":
                    dropped["near_duplicate"] += len(document)
                    continue
                for unit in document:
                    if unit in seen:
                        dropped["duplicate"] += 1
                    else:
                        seen.add(unit)
                        kept[-1].append(unit)
                        num_words += len(unit[0])
                kept.append([])
            expected.append([document for document in kept if document])
        assert read_back(directory / "new", split, ("de",)) == [documents for documents in expected if documents]
    assert result.dropped == {reason: number for reason, number in dropped.items() if number}
    assert result.words == {"de": num_words}
    prefixes = [info["de"].prefix for split in ("valid", "train") for info in result.shards[split]]
    assert sorted(prefixes) == sorted(
        path.relative_to(directory / "new").with_suffix("").as_posix() for path in (directory / "new").rglob("*.idx")
    )


@given(
    units=st.lists(st.tuples(st.lists(st.integers(2, 4), min_size=1, max_size=4).map(tuple)), min_size=1, max_size=12),
    block_tokens=st.integers(1, 6),
)
def test_unknown_pieces_are_told_apart_by_their_text_and_counted(
    tmp_path_factory: pytest.TempPathFactory, make_task: Any, read_back: Any, units: Any, block_tokens: int
) -> None:
    directory = tmp_path_factory.mktemp("unknown")
    task = make_task(directory / "old", 0, ("de",), [], [[units]])
    num_unknown = sum(unit[0].count(UNK_ID) for unit in units)
    texts = [("a", "bb")[i % 2] for i in range(num_unknown)]
    records = records_of(texts)
    records["characters"] = list(map(len, texts))
    with RecordWriter(directory / "old" / "train" / "00000") as writer:
        writer.add(records)
    write_signatures(task, directory / "work", Deduplication(exact=True), UNK_ID)
    find_duplicates([task], directory / "work", 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_tools.deduplicate.rewrite.BLOCK_TOKENS", block_tokens)
        result = rewrite_task(task, directory / "work", Deduplication(exact=True), 1, directory / "new", TABLE, SPECIAL)

    remaining = iter(texts)
    spelt = [tuple(next(remaining) if i == UNK_ID else i for i in unit[0]) for unit in units]
    kept = list(dict.fromkeys(spelt))
    ids = [(tuple(UNK_ID if isinstance(i, str) else i for i in unit),) for unit in kept]
    assert read_back(directory / "new", "train", ("de",)) == [[ids]]
    lost = [i for unit in kept for i in unit if isinstance(i, str)]
    num_known = sum(map(len, kept)) - len(lost)
    num_lost = sum(map(len, lost))
    # In the table all pieces have three characters, except the unknown one.
    assert result.unknown == {"de": Unknown(len(lost), num_known + len(lost), num_lost, 3 * num_known + num_lost)}


@pytest.mark.parametrize("languages", [("de",), ("de", "en")])
def test_without_duplicates_the_bytes_are_the_same(tmp_path: Path, make_task: Any, languages: tuple[str, ...]) -> None:
    numbers = count(4)
    shards = [[[((next(numbers), 5),) * len(languages) for _ in range(3)] for _ in range(4)] for _ in range(2)]
    task = make_task(tmp_path / "old", 0, languages, shards[:1], shards[1:])
    settings = Deduplication(exact=True)
    write_signatures(task, tmp_path / "work", settings, UNK_ID)
    find_duplicates([task], tmp_path / "work", 0, 1)
    result = rewrite_task(task, tmp_path / "work", settings, 1, tmp_path / "new", TABLE, SPECIAL)
    files = sorted(path.relative_to(tmp_path / "old") for path in (tmp_path / "old").rglob("*.*"))
    assert len(files) == 4 * len(languages)
    for file in files:
        assert (tmp_path / "new" / file).read_bytes() == (tmp_path / "old" / file).read_bytes()
    assert result.dropped == {}
    assert result.words == dict.fromkeys(languages, 2 * 3 * 4 * 2)


def test_the_output_of_an_unfinished_run_is_replaced(tmp_path: Path, make_task: Any, read_back: Any) -> None:
    task = make_task(tmp_path / "old", 0, ("de",), [], [[[((4,),)]]])
    write_signatures(task, tmp_path / "work", Deduplication(exact=True), UNK_ID)
    find_duplicates([task], tmp_path / "work", 0, 1)
    for name in ("00000.bin", "00001.bin", "00001.idx"):
        path = tmp_path / "new" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left by a run that was killed")
    rewrite_task(task, tmp_path / "work", Deduplication(exact=True), 1, tmp_path / "new", TABLE, SPECIAL)
    assert read_back(tmp_path / "new", "train", ("de",)) == [[[((4,),)]]]
    assert len(list((tmp_path / "new" / "train").iterdir())) == 2
