from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
from loguru import logger

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.deduplicate.minhash import (
    TokenSignature,
    cluster_documents,
    match_documents,
    near_duplicate_units,
    write_document_signatures,
)
from data_tools.deduplicate.settings import MinhashSettings
from data_tools.tokenizers.sentence_piece import UNK_ID

SETTINGS = MinhashSettings()
Document = list[tuple[tuple[int, ...]]]


@pytest.fixture(autouse=True)
def _no_log() -> Any:
    logger.disable("datatrove")
    yield
    logger.enable("datatrove")


def _document(random: np.random.Generator, num_sentences: int = 40) -> Document:
    """Sentences of 20 random tokens."""
    return [(tuple(random.integers(4, 300, size=20).tolist()),) for _ in range(num_sentences)]


def _changed(random: np.random.Generator, document: Document, num_sentences: int) -> Document:
    """The document with `num_sentences` of its sentences replaced."""
    changed = list(document)
    for i in random.choice(len(document), size=num_sentences, replace=False):
        changed[i] = _document(random, 1)[0]
    return changed


def _near_duplicates(
    tasks: Sequence[EncodedTask], work: Path, settings: MinhashSettings = SETTINGS
) -> list[list[list[bool]]]:
    """For each task and shard of its training data, which units are removed."""
    for task in tasks:
        write_document_signatures(task, work, settings, UNK_ID)
    for bucket in range(settings.num_buckets):
        match_documents(tasks, work, bucket, settings)
    cluster_documents(tasks, work, settings)
    return [[goes.tolist() for goes in near_duplicate_units(task, work).values()] for task in tasks]


@pytest.mark.parametrize("num_shingles", [1, 2, 127, 128, 129, 1000])
def test_signatures_are_datatroves(tmp_path: Path, num_shingles: int) -> None:
    block = TokenSignature(tmp_path, SETTINGS)
    shingles = np.random.default_rng(num_shingles).integers(0, 1 << 64, size=(num_shingles, 1), dtype=np.uint64)
    shingles[0] = (1 << 64) - 1
    assert block.get_signature(shingles) == MinhashDedupSignature.get_signature(block, shingles)


def test_documents_agree_in_a_bucket_as_often_as_the_formula_says(tmp_path: Path) -> None:
    """1 - (1 - s^8)^14 for Jaccard similarity s: it rises around (1/14)^(1/8) = 0.72, the threshold."""
    block = TokenSignature(tmp_path, SETTINGS)
    random = np.random.default_rng(3)
    num_pairs, size = 250, 400
    for similarity in (0.3, 0.5, (1 / 14) ** (1 / 8), 0.8, 0.9):
        # Two sets of `size` shingles that share c of them: s = c / (2 size - c).
        common = round(2 * size * similarity / (1 + similarity))
        found = 0
        for _ in range(num_pairs):
            shingles = random.integers(0, 1 << 64, size=(2 * size - common, 1), dtype=np.uint64)
            first, second = (block.get_signature(part) for part in (shingles[:size], shingles[-size:]))
            found += any(a == b for a, b in zip(first, second, strict=True))
        expected = 1 - (1 - similarity**8) ** 14
        deviation = (expected * (1 - expected) / num_pairs) ** 0.5
        assert abs(found / num_pairs - expected) < 4 * deviation + 1 / num_pairs, similarity


def test_planted_near_duplicates_are_removed_and_others_stay(tmp_path: Path, make_task: Any) -> None:
    """With 5 % other sentences documents have s = 0.89 of their 5-grams in common (found with probability 0.999).

    With 35 % they have 0.44 (0.02).
    """
    random = np.random.default_rng(1)
    originals = [_document(random) for _ in range(30)]
    near = [_changed(random, document, 2) for document in originals[:20]]
    far = [_changed(random, document, 14) for document in originals[20:]]
    tasks = [
        make_task(tmp_path / "0", 2, ("de",), [], [originals[:12], originals[12:]]),
        make_task(tmp_path / "1", 5, ("de",), [], [near + far]),
    ]
    first, second = _near_duplicates(tasks, tmp_path / "work")
    assert [len(goes) for goes in first] == [12 * 40, 18 * 40]
    gone = np.array([*first[0], *first[1], *second[0]]).reshape(60, 40)
    assert (gone.any(axis=1) == gone.all(axis=1)).all()  # documents are removed as a whole
    by_document = gone[:, 0]
    assert by_document[30:50].sum() + by_document[:20].sum() == 20
    assert (by_document[:20] ^ by_document[30:50]).all()  # one of each two
    assert not by_document[20:30].any()
    assert not by_document[50:].any()


def test_all_documents_similar_to_held_out_ones_are_removed(tmp_path: Path, make_task: Any) -> None:
    random = np.random.default_rng(2)
    held_out, other = _document(random), _document(random)
    tasks = [
        make_task(tmp_path / "0", 0, ("de",), [], [[_changed(random, held_out, 1), other]]),
        make_task(tmp_path / "1", 1, ("de",), [[held_out]], [[_changed(random, held_out, 1), held_out]]),
    ]
    assert _near_duplicates(tasks, tmp_path / "work") == [[[True] * 40 + [False] * 40], [[True] * 80]]


def test_a_chain_leaves_one_and_the_order_does_not_matter(tmp_path: Path, make_task: Any) -> None:
    random = np.random.default_rng(4)
    chain = [_document(random)]
    for _ in range(4):
        chain.append(_changed(random, chain[-1], 1))
    tasks = [make_task(tmp_path / str(i), i, ("de",), [], [[document]]) for i, document in enumerate(chain)]
    found = _near_duplicates(tasks, tmp_path / "work")
    assert sorted(sum(shards[0]) for shards in found) == [0, 40, 40, 40, 40]
    assert _near_duplicates(tasks[::-1], tmp_path / "other")[::-1] == found


def test_short_documents_and_empty_tasks(tmp_path: Path, make_task: Any) -> None:
    """Documents of fewer tokens than an n-gram stay; a task may have no documents at all."""
    short, long = [((4, 5),), ((6, 7),)], [((4, 5),), ((6, 7, 8),)]
    tasks = [
        make_task(tmp_path / "0", 0, ("de",), [], [[short, short, long, long]]),
        make_task(tmp_path / "1", 1, ("de",), [], []),
    ]
    assert _near_duplicates(tasks, tmp_path / "work") == [[[False] * 6 + [True] * 2], []]


def test_settings_change_what_counts_as_similar(tmp_path: Path, make_task: Any) -> None:
    """With one bucket of one hash even different documents match; with n-grams of one token, order does not count."""
    ids = list(range(4, 104))
    task = make_task(tmp_path / "0", 0, ("de",), [], [[[(tuple(ids),)], [(tuple(ids[::-1]),)]]])
    assert _near_duplicates([task], tmp_path / "a", MinhashSettings(3, 4, 1)) == [[[False, True]]]
    assert _near_duplicates([task], tmp_path / "b", MinhashSettings(3, 4, 2)) == [[[False, False]]]


def test_stages_run_again_after_a_kill_give_the_same(tmp_path: Path, make_task: Any) -> None:
    """Whatever files are left, running the stages again gives the same."""
    random = np.random.default_rng(6)
    document = _document(random)
    task = make_task(tmp_path / "0", 0, ("de",), [], [[document, _changed(random, document, 1)]])
    work = tmp_path / "work"
    expected = _near_duplicates([task], work)
    files = {path.relative_to(work): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} == {".sig", ".dups", ".remove"}
    (work / "minhash" / "train" / "bucket_003" / "00000.minhash.sig").write_bytes(b"cut short")
    (work / "minhash" / "matches" / "00002_00.dups").write_bytes(b"cut short")
    (work / "minhash" / "removed" / "000009.remove").write_bytes(b"1234")
    assert _near_duplicates([task], work) == expected
    assert {path.relative_to(work): path.read_bytes() for path in work.rglob("*") if path.is_file()} == files


def test_signatures_of_other_tasks_are_noticed(tmp_path: Path, make_task: Any) -> None:
    tasks = [make_task(tmp_path / str(i), i, ("de",), [], [[[((4,),)]]]) for i in range(2)]
    for task in tasks:
        write_document_signatures(task, tmp_path / "work", SETTINGS, UNK_ID)
    with pytest.raises(AssertionError, match="signatures of other tasks"):
        match_documents(tasks[:1], tmp_path / "work", 0, SETTINGS)
    with pytest.raises(FileNotFoundError):
        cluster_documents(tasks, tmp_path / "work", SETTINGS)
    match_documents(tasks, tmp_path / "work", 0, SETTINGS)
    with pytest.raises(AssertionError, match="other buckets"):
        cluster_documents(tasks, tmp_path / "work", SETTINGS)
    with pytest.raises(AssertionError, match="has not run"):
        near_duplicate_units(tasks[0], tmp_path / "work")


def test_a_bad_path_and_a_low_limit_of_open_files_are_reported(
    tmp_path: Path, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "0", 0, ("de",), [], [[[((4,),)]]])
    with pytest.raises(ValueError, match="needs a directory without"):
        write_document_signatures(task, tmp_path / "[data]", SETTINGS, UNK_ID)
    write_document_signatures(task, tmp_path / "work", SETTINGS, UNK_ID)
    monkeypatch.setattr("resource.getrlimit", lambda kind: (64, 64))
    with pytest.raises(ValueError, match=r"files must be open at once, but the system allows 64; .*ulimit"):
        match_documents([task], tmp_path / "work", 0, SETTINGS)


def test_nothing_is_printed(tmp_path: Path, make_task: Any, capfd: pytest.CaptureFixture[str]) -> None:
    task = make_task(tmp_path / "0", 0, ("de",), [], [[_document(np.random.default_rng(1))] * 2])
    _near_duplicates([task], tmp_path / "work")
    assert capfd.readouterr() == ("", "")
