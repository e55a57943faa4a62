"""The examples of a task, from files or the hub's Parquet.

`root` is a directory that the patterns of the task's files are relative to (files plain, .gz, .xz, .zst or .bz2), a
copy of a hub data set's directories of Parquet files, or `hub:google/xtreme`. Examples are streamed, and only files of
the requested split are opened: a reader for training never sees a test file. All functions raise a one-line ValueError
for a language without a file, rows of another form, unknown labels and empty files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import cast

from finetune.understanding.readers.bitext import retrieval_set_of_files, retrieval_set_of_records
from finetune.understanding.readers.conll import records_of_conll
from finetune.understanding.readers.delimited import records_of_lines, records_of_table
from finetune.understanding.readers.files import find_file, not_empty
from finetune.understanding.readers.held_out import ExampleT, held_out
from finetune.understanding.readers.hub import records_of_hub, records_of_parquet
from finetune.understanding.readers.json_records import records_of_json, records_of_json_lines
from finetune.understanding.readers.labels import known_label
from finetune.understanding.readers.records import Record, labels_joined, shown
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.readers.squad import (
    question_of,
    records_of_squad,
    with_distinct_ids,
    with_unique_ids,
)
from finetune.understanding.readers.texts import choices_of, labelled_text
from finetune.understanding.tasks.examples import (
    Choices,
    Example,
    LabelledText,
    Question,
    RetrievalSet,
    TaggedSentence,
)
from finetune.understanding.tasks.task import (
    OF_TEXTS,
    TRAINING,
    UNTAGGED,
    WITH_LABELS,
    FileKind,
    Format,
    Head,
    Split,
    Task,
)

DEFAULT_SEPARATOR = ","


def read(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """The examples of any task but retrieval, for which see `read_retrieval`."""
    where = _where(task, split, language, root)
    examples = not_empty(_part(_all(task, split, language, root), task, split), where)
    return with_labels_alike(examples, where) if split in TRAINING else examples


def with_labels_alike(examples: Iterable[Example], where: str) -> Iterator[Example]:
    """The examples; raises ValueError for the first one without a label among others that have one, or the reverse."""
    has_first = None
    for number, example in enumerate(examples, start=1):
        has_label = isinstance(example, Question) or _is_labelled(example)
        has_first = has_label if has_first is None else has_first
        if has_label is not has_first:
            raise ValueError(
                f"{where}: example {number} has {'a' if has_label else 'no'} label, unlike those before it"
            )
        yield example


def _is_labelled(example: LabelledText | Choices | TaggedSentence) -> bool:
    return (example.tags if isinstance(example, TaggedSentence) else example.label) is not None


def _all(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """All examples in the files of a split, dev and train in one where dev is a part of train."""
    if task.head in OF_TEXTS:
        return _texts(task, split, language, root)
    if task.head is Head.CHOICE:
        return (choices_of(record, task, language) for record in records_of_split(task, split, language, root))
    if task.head is Head.TOKEN:
        return (tagged_sentence(record, task, language) for record in records_of_split(task, split, language, root))
    if task.head is Head.SPAN:
        return _questions(task, split, language, root)
    raise ValueError(f"{task.name} has two sets of sentences rather than examples: use read_retrieval")


def _part(examples: Iterator[ExampleT], task: Task, split: Split) -> Iterator[ExampleT]:
    """The examples of a split where dev is a part of train."""
    return held_out(examples, split) if task.dev_from_train and split in (Split.TRAIN, Split.DEV) else examples


def read_texts(task: Task, split: Split, language: str, root: Root) -> Iterator[LabelledText]:
    """One or two texts each; in dev and test, an incomplete example raises ValueError."""
    return cast(Iterator[LabelledText], read(task, split, language, root))


def _texts(task: Task, split: Split, language: str, root: Root) -> Iterator[LabelledText]:
    separator = DEFAULT_SEPARATOR
    if not is_hub(str(root)):
        separator = find_file(task, split, language, Path(root)).place.format.separator
    takes_empty = split in TRAINING
    records = records_of_split(task, split, language, root)
    return (labelled_text(record, task, language, separator, takes_empty) for record in records)


def read_tagged(task: Task, split: Split, language: str, root: Root) -> Iterator[TaggedSentence]:
    """Tagged sentences; their tags are None where the file has only words."""
    return cast(Iterator[TaggedSentence], read(task, split, language, root))


def tagged_sentence(record: Record, task: Task, language: str) -> TaggedSentence:
    """The words and tags of a record; raises ValueError for unknown tags, and unless each word has one."""
    words = record.texts("word")
    tags = record.values.get("tag")
    if tags is None:
        return TaggedSentence(words, None, language)
    if not isinstance(tags, list | tuple):
        raise ValueError(f"{record.where}: tag: expected a list of tags, found {shown(tags)}")
    if not words or len(tags) != len(words):
        raise ValueError(f"{record.where}: {len(words)} words but {len(tags)} tags")
    if others := [tag for tag in tags if not isinstance(tag, str)]:
        raise ValueError(
            f"{record.where}: tag: expected texts, found {shown(others[0])} among them; numbers need names, which "
            "Parquet files can have in their features"
        )
    return TaggedSentence(words, tuple(known_label(tag, task, record.where) for tag in tags), language)


def read_questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """Questions, with answers as the file has them."""
    return cast(Iterator[Question], read(task, split, language, root))


def read_partners(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """Examples that include the translations of a split's examples, from the files of another root.

    Held-out examples are chosen by their text, which differs in translation: all are read, to be matched by their ids.
    """
    return not_empty(_all(task, split, language, root), _where(task, split, language, root))


def question_ids(task: Task, split: Split, language: str, root: Root) -> set[str]:
    """The ids in the files of a split; in those of train, dev's are included: see `Task.dev_from_train`."""
    return {question.id for question in _questions(task, split, language, root)}


def _questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """All questions in the files of a split; where XTREME cuts the ids of training questions, they are made unique."""
    records = enumerate(records_of_split(task, split, language, root))
    questions = (question_of(record, language, number) for number, record in records)
    if split in TRAINING and not task.dev_from_train:
        return questions
    if task.dev_from_train and split is not Split.TEST:
        return with_unique_ids(questions)
    return with_distinct_ids(questions, _where(task, split, language, root))


def read_retrieval(task: Task, split: Split, language: str, root: Root) -> RetrievalSet:
    """The sentences of both languages, and their gold pairs where known."""
    if is_hub(str(root)):
        where = _where(task, split, language, root)
        return retrieval_set_of_records(records_of_split(task, split, language, root), language, where)
    return retrieval_set_of_files(task, split, language, Path(root))


def records_of_split(task: Task, split: Split, language: str, root: Root) -> Iterator[Record]:
    """The records of a split in a language; the file is looked for at once, and read as the records are."""
    if is_hub(str(root)):
        return records_of_hub(task, split, language, str(root))
    found = find_file(task, split, language, Path(root))
    form, of_labels = found.place.format, found.place.labels
    records = chain.from_iterable(records_of_file(path, form, task.head) for path in (found.path, *found.further))
    if of_labels is None or found.labels is None:
        return records
    return labels_joined(records, records_of_file(found.labels, of_labels.format, task.head), str(found.labels))


def records_of_file(path: Path, form: Format, head: Head) -> Iterator[Record]:
    """The records of one file."""
    if form.kind in (FileKind.TSV, FileKind.CSV):
        return records_of_table(path, form)
    if form.kind is FileKind.JSONL:
        return records_of_json_lines(path, form)
    if form.kind is FileKind.JSON:
        return records_of_json(path, form)
    if form.kind is FileKind.PARQUET:
        return records_of_parquet(path, form)
    if form.kind is FileKind.CONLL:
        return records_of_conll(path, form, head)
    return records_of_squad(path) if form.kind is FileKind.SQUAD else records_of_lines(path)


def with_labels(task: Task, root: Root) -> Task:
    """The task with the labels of its training text, sorted, if it does not name any and its classes have names.

    Raises ValueError for text without labels, and for fewer than two of them.
    """
    if task.labels or task.head not in WITH_LABELS:
        return task
    found: set[str] = set()
    no_class = {*task.other_labels, *([UNTAGGED] if task.head is Head.TOKEN else [])}
    for language in task.train_languages:
        for number, example in enumerate(read(task, Split.TRAIN, language, root), start=1):
            labels = labels_of(example)
            if labels is None:
                where = _where(task, Split.TRAIN, language, root)
                raise ValueError(f"{where}: example {number} has no label, of which the task names none either")
            found.update(set(labels) - no_class)
    if len(found) < 2:
        raise ValueError(
            f"{_where(task, Split.TRAIN, task.source_language, root)}: expected two labels or more, found "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    return replace(task, labels=tuple(sorted(found)))


def labels_of(example: Example) -> tuple[str, ...] | None:
    """The labels of one example of a task whose classes have names; None if they are not known."""
    if isinstance(example, TaggedSentence):
        labels: object = example.tags
    else:
        assert isinstance(example, LabelledText), "classes with names are of texts or of words"
        labels = example.label
    if labels is None:
        return None
    return (labels,) if isinstance(labels, str) else tuple(map(str, labels))  # type: ignore[call-overload]


def _where(task: Task, split: Split, language: str, root: Root) -> str:
    return f"{root}: {split} of {task.name} in {language!r}"
