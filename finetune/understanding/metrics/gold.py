"""The labels of tests or dev sets, from label files or from the data itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.metrics.labels import INSPECTED_LINES
from finetune.understanding.metrics.prediction_files import prediction_path
from finetune.understanding.metrics.scoring import Gold, form_of, gold_of
from finetune.understanding.readers.conll import DOCUMENT_START, is_comment, separator_of
from finetune.understanding.readers.delimited import ORIGINALS, Layout
from finetune.understanding.readers.examples_of_task import read, read_retrieval
from finetune.understanding.readers.files import existing, find_file, has_file
from finetune.understanding.readers.hub import has_config
from finetune.understanding.readers.pooled import read_pooled
from finetune.understanding.readers.roots import Root, Source, is_hub
from finetune.understanding.tasks.examples import HiddenLabelsError, PooledSet, wrong_labels_of
from finetune.understanding.tasks.task import FileKind, Format, Head, Split, Task


def read_gold(
    task: Task,
    language: str,
    labels: Root,
    split: Split = Split.TEST,
    pools: Mapping[str, PooledSet] | None = None,
) -> Gold:
    """The labels of a split, from `labels/{task}/{split}-{language}` or from the data that the readers read.

    `pools` are those sets of a task with a pool that have been read.

    Raises HiddenLabelsError for a test without its labels, ValueError for bad files.
    """
    if not is_hub(str(labels)):
        path = existing(prediction_path(Path(labels), task, language, split))
        if path is not None and not is_data_alone(path, task, Source(split, language, Path(labels))):
            return form_of(task).read_gold(path, task)
    if task.pool:
        return gold_of(task, (pools or read_pooled(task, split, [language], labels))[language])
    if task.is_retrieval:
        return gold_of(task, read_retrieval(task, split, language, labels))
    examples = list(read(task, split, language, labels))
    with wrong_labels_of(f"{labels}: {split} of {task.name} in {language!r}"):
        return gold_of(task, examples)


def is_data_alone(path: Path, task: Task, source: Source) -> bool:
    """Whether a file is the data rather than labels, of which a line may have no more than the last column."""
    split, language, root = source.split, source.language, Path(source.root)
    if not has_file(task, split, language, root):
        return False
    found = find_file(task, split, language, root, side=language)
    form = found.place.format
    if found.path != path or form.kind in (FileKind.SQUAD, FileKind.LINES):
        return False
    label = form.columns.get("tag" if task.head is Head.TOKEN else "label", ())
    named = {column for own in form.columns.values() for column in own}
    # Rows may have columns after the last one that a form names, unless it names all.
    has_labels_last = (
        form.kind in (FileKind.TSV, FileKind.CONLL)
        and not (form.header or form.more_columns)
        and named == set(range(len(named)))
        and label == (len(named) - 1,)
    )
    return not has_labels_last or has_all_columns(path, form)


def has_all_columns(path: Path, form: Format) -> bool:
    """Whether most of the first lines of a table or a CoNLL file have as many columns as the form, labels included."""
    with open_text(path) as lines:
        first = list(itertools.islice(filter(str.strip, lines), INSPECTED_LINES))
    if form.kind is FileKind.CONLL:
        separator = separator_of(first, form)
        words = [line for line in first if not (line.startswith(DOCUMENT_START) or is_comment(line, form))]
        return sum(len(line.split(separator)) > 1 for line in words) > len(words) / 2
    usual = Layout.of(form, None, str(path)).counts[-1]
    expected = (usual, usual + len(ORIGINALS)) if form.originals else (usual,)
    return sum(len(line.split("\t")) in expected for line in first) > len(first) / 2


def read_shown_gold(
    task: Task, languages: Iterable[str], labels: Root, split: Split = Split.TEST
) -> tuple[dict[str, Gold], dict[str, str]]:
    """({language: its labels}, {other language: why its labels are hidden}); raises ValueError for a bad file."""
    wanted = list(languages)
    pools = None
    if task.pool and any(existing(prediction_path(Path(labels), task, one, split)) is None for one in wanted):
        pools = read_pooled(task, split, wanted, labels)  # once for all, since they have the same candidates
    gold, hidden = {}, {}
    for language in wanted:
        try:
            gold[language] = read_gold(task, language, labels, split, pools)
        except HiddenLabelsError as error:
            hidden[language] = str(error)
    return gold, hidden


def has_gold(task: Task, language: str, labels: Root, split: Split = Split.TEST) -> bool:
    """Whether `read_gold` finds a file for the language; no file is opened."""
    if is_hub(str(labels)):
        return has_config(task, split, language, str(labels))
    has_label_file = existing(prediction_path(Path(labels), task, language, split)) is not None
    return has_label_file or has_file(task, split, language, Path(labels))
