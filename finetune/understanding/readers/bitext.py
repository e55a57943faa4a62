"""Sentences of a language and of English, a file each, for retrieval: BUCC 2018 and Tatoeba."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.files import existing, find_file, name_of
from finetune.understanding.readers.records import Record
from finetune.understanding.tasks.examples import RetrievalSet
from finetune.understanding.tasks.task import Head, Split, Task

GOLD = "gold"


def retrieval_set_of_files(task: Task, split: Split, language: str, root: Path) -> RetrievalSet:
    """The sentences of a language and of English; raises ValueError as `mining_set` and `search_set` do."""
    read = mining_set if task.head is Head.MINING else search_set
    return read(task, split, language, root)


def mining_set(task: Task, split: Split, language: str, root: Path) -> RetrievalSet:
    """Two files of lines `id TAB sentence` and, if it exists, one of gold pairs `id TAB id`, as BUCC has them.

    Raises ValueError for other lines, a repeated id, or a gold pair of an unknown id.
    """
    source = find_file(task, split, language, root, side=language).path
    target = find_file(task, split, language, root, side=task.source_language).path
    source_ids, source_sentences = numbered_sentences(source)
    target_ids, target_sentences = numbered_sentences(target)
    gold_path = _gold_path(task, split, language, root)
    gold = None
    if gold_path is not None:
        gold = read_gold_pairs(gold_path)
        unknown = sorted({pair[0] for pair in gold} - set(source_ids) | {pair[1] for pair in gold} - set(target_ids))
        if unknown:
            raise ValueError(f"{gold_path}: {len(unknown):,} ids are not in {source} or {target}: {unknown[0]}, …")
    return RetrievalSet(language, source_ids, source_sentences, target_ids, target_sentences, gold)


def search_set(task: Task, split: Split, language: str, root: Path) -> RetrievalSet:
    """Two files of a sentence a line, as Tatoeba has them; the gold pairs are known for the task's `aligned_files`.

    XTREME's own files are sorted on the English side, so their `gold` is None. Raises ValueError for files of different
    lengths.
    """
    source = find_file(task, split, language, root, side=language).path
    target = find_file(task, split, language, root, side=task.source_language).path
    sentences = []
    for path in (source, target):
        with open_text(path, is_prose=True) as lines:
            sentences.append(list(lines))
        if not sentences[-1]:
            raise ValueError(f"{path}: empty; expected a sentence a line")
    if len(sentences[0]) != len(sentences[1]):
        raise ValueError(f"{source} has {len(sentences[0]):,} rows but {target} has {len(sentences[1]):,}")
    rows = [str(row) for row in range(len(sentences[0]))]
    aligned = [
        existing(root / name_of(place, task, language, language))
        for place in task.files[split]
        if place.path in task.aligned_files
    ]
    gold = frozenset(zip(rows, rows, strict=True)) if source in aligned else None
    return RetrievalSet(language, rows, sentences[0], rows, sentences[1], gold)


def retrieval_set_of_records(records: Iterable[Record], language: str, where: str) -> RetrievalSet:
    """Rows that are pairs of the fields `source` and `target`; raises ValueError if there is none.

    The hub has no other sentences of BUCC, so its F1 is not comparable with published ones.
    """
    pairs = [(record.text("source"), record.text("target")) for record in records]
    if not pairs:
        raise ValueError(f"{where}: empty; expected pairs of sentences")
    source, target = zip(*pairs, strict=True)
    numbers = [str(number) for number in range(len(pairs))]
    return RetrievalSet(
        language, numbers, list(source), numbers, list(target), frozenset(zip(numbers, numbers, strict=True))
    )


def numbered_sentences(path: Path) -> tuple[list[str], list[str]]:
    """(ids, sentences) of a file of lines `id TAB sentence`."""
    ids, sentences = [], []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            id, tab, sentence = line.partition("\t")
            if not tab or not id:
                raise ValueError(f"{lines.place(number)}: expected `id TAB sentence`, found {line[:80]!r}")
            ids.append(id)
            sentences.append(sentence)
    if not ids:
        raise ValueError(f"{path}: empty; expected lines `id TAB sentence`")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path}: {len(ids) - len(set(ids)):,} ids are repeated")
    return ids, sentences


def read_gold_pairs(path: Path) -> frozenset[tuple[str, str]]:
    """The pairs of a file of lines `source id TAB target id`; raises ValueError that names a line of another form."""
    pairs = set()
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.strip().split("\t")
            if len(fields) != 2 or not all(fields):
                raise ValueError(f"{lines.place(number)}: expected `source id TAB target id`, found {line[:80]!r}")
            pairs.add((fields[0], fields[1]))
    return frozenset(pairs)


def _gold_path(task: Task, split: Split, language: str, root: Path) -> Path | None:
    """The file of gold pairs; None without one, as in XTREME's copy of the test sets."""
    (place,) = task.files[split]
    return existing(root / name_of(place, task, language, GOLD))
