from pathlib import Path

import pytest

from data_tools.corpus.inputs import Input
from data_tools.stages.plan import PlannedPart, PlannedTask
from data_tools.stages.task_reader import TaskReader


def _task(directory: Path, texts: dict[str, bytes], split_sentences: bool = False) -> PlannedTask:
    parts = []
    for name, content in texts.items():
        (directory / name).write_bytes(content)
        item = Input(("de",), "text", (str(directory / name),), split_sentences=split_sentences)
        parts.append(PlannedPart(item, None, name))
    return PlannedTask("key", tuple(parts), sum(map(len, texts.values())))


def test_no_document_extends_over_two_files(tmp_path: Path) -> None:
    task = _task(tmp_path, {"a": b"eins\nzwei\n\ndrei", "b": b"", "c": b"vier\n"})
    reader = TaskReader(task)
    assert reader.num_bytes_read == 0
    assert list(reader.documents()) == [["eins", "zwei"], ["drei"], ["vier"]]
    assert reader.num_bytes_read == task.num_bytes == 20


def test_running_text_is_split_into_sentences(tmp_path: Path) -> None:
    reader = TaskReader(_task(tmp_path, {"a": b"Ein Satz. Noch einer.\n"}, split_sentences=True))
    assert list(reader.documents()) == [["Ein Satz.", "Noch einer."]]


def test_pairs_are_read_and_dropped_units_counted(tmp_path: Path) -> None:
    lines = '{"translation": {"de": "x", "en": "y"}}\n{"translation": {"de": "x", "en": null}}\n'
    parts = []
    for path in (tmp_path / "a.jsonl", tmp_path / "b.jsonl"):
        path.write_text(lines)
        parts.append(PlannedPart(Input(("de", "en"), "jsonl", (str(path),), ("translation",)), None, path.name))
    reader = TaskReader(PlannedTask("key", tuple(parts), 0))
    assert list(reader.pairs()) == [("x", "y")] * 2
    assert reader.dropped == {"missing_side": 2}


def test_all_unreadable_files_are_reported_at_once(tmp_path: Path) -> None:
    task = _task(tmp_path, {"a": b"eins\n", "b": b"zwei\n\xff\n", "c": b"drei\n", "d": b"x", "e": b"\xff\n"})
    (tmp_path / "d").unlink()
    documents = TaskReader(task).documents()
    assert next(documents) == ["eins"]
    with pytest.raises(ValueError) as caught:
        list(documents)
    for problem in ("b: line 2 is not UTF-8", "d: No such file or directory", "e: line 1 is not UTF-8"):
        assert f"{tmp_path}/{problem}" in str(caught.value)


def test_a_single_error_is_raised_unchanged(tmp_path: Path) -> None:
    task = _task(tmp_path, {"a": b"eins\n", "b": b"zwei\n"})
    (tmp_path / "a").unlink()
    with pytest.raises(FileNotFoundError):
        list(TaskReader(task).documents())
