"""The hub's `google/xtreme`, or a local copy of its directories of Parquet files, through the library `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_tools.readers.hub import dataset_errors
from finetune.understanding.readers.files import BY_LANGUAGE, language_alone
from finetune.understanding.readers.labels import known_label
from finetune.understanding.readers.roots import PREFIX
from finetune.understanding.readers.squad import known_answers
from finetune.understanding.readers.tsv import check_sentences
from finetune.understanding.tasks.examples import LabelledText, Question, RetrievalSet, TaggedSentence
from finetune.understanding.tasks.task import TRAINING, HubPlace, Split, Task

BATCH_ROWS = 1_000


def has_config(task: Task, split: Split, language: str, root: str) -> bool:
    """Whether the split exists in a language: on the hub by the task's description, offline; in a copy by its files."""
    if split not in task.hub or language not in task.languages:
        return False
    place = task.hub[split]
    has_languages = any(name in place.config for name in BY_LANGUAGE) or place.has_all_languages
    if not has_languages and language != language_alone(task, split):  # English only: SQuAD
        return False
    if root.startswith(PREFIX):
        return language not in place.without
    return any((Path(root) / _config(task, place, language)).glob(f"{place.split}-*.parquet"))


def hub_pairs(task: Task, split: Split, language: str, root: str) -> Iterator[LabelledText]:
    """Pairs of sentences; raises ValueError for a label that the task does not have."""
    place = _place(task, split, language, root)
    columns = [str(place.columns[field]) for field in ("text_a", "text_b", "label")]
    columns += [place.language_column] if place.language_column else []
    dataset = _dataset(task, place, language, root, columns)
    for number, row in enumerate(_rows(dataset, root), start=1):
        if place.language_column and row[place.language_column] != language:
            continue
        where = f"{root}: row {number} of {task.name}"
        text_a, text_b = (row[column] or "" for column in columns[:2])  # Parquet may hold null
        if split not in TRAINING:
            check_sentences(text_a, text_b, where)
        yield LabelledText(text_a, text_b, known_label(str(row[columns[2]]), task, where), language)


def hub_tagged(task: Task, split: Split, language: str, root: str) -> Iterator[TaggedSentence]:
    """Tagged sentences; the tags in the files are names, or numbers whose names the data set has."""
    place = _place(task, split, language, root)
    column = str(place.columns["tag"])
    dataset = _dataset(task, place, language, root, ["tokens", column])
    names = _class_names(dataset, column)
    for number, row in enumerate(_rows(dataset, root), start=1):
        where = f"{root}: row {number} of {task.name}"
        tags = [known_label(_tag_name(tag, names, where), task, where) for tag in row[column]]
        if len(tags) != len(row["tokens"]) or not tags:
            raise ValueError(f"{where}: {len(row['tokens'])} words but {len(tags)} tags")
        yield TaggedSentence(tuple(row["tokens"]), tuple(tags), language)


def hub_questions(task: Task, split: Split, language: str, root: str) -> Iterator[Question]:
    """Questions; in a configuration of all languages, those whose id begins with the language's name (TyDiQA)."""
    place = _place(task, split, language, root)
    dataset = _dataset(task, place, language, root, ["id", "question", "context", "answers"])
    prefix = place.id_prefix.format(language=language, code=task.code(language))
    for row in _rows(dataset, root):
        if row["id"].startswith(prefix):
            texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
            answers = known_answers(zip(texts, map(int, starts), strict=True))
            yield Question(row["id"], row["question"], row["context"], answers, language)


def hub_retrieval(task: Task, split: Split, language: str, root: str) -> RetrievalSet:
    """Rows that are pairs. The hub has no other sentences of BUCC, so its F1 is not comparable with published ones."""
    place = _place(task, split, language, root)
    dataset = _dataset(task, place, language, root, ["source_sentence", "target_sentence"])
    source, target = [], []
    for row in _rows(dataset, root):
        source.append(row["source_sentence"])
        target.append(row["target_sentence"])
    if not source:
        raise ValueError(f"{root}: {task.name} {split} in {language!r} is empty")
    numbers = [str(number) for number in range(len(source))]
    return RetrievalSet(language, numbers, source, numbers, target, frozenset(zip(numbers, numbers, strict=True)))


def _place(task: Task, split: Split, language: str, root: str) -> HubPlace:
    """The description of a split; raises ValueError if the split does not exist in the language."""
    if not has_config(task, split, language, root):
        raise ValueError(f"{root}: has no {split} of {task.name} for the language {language!r}")
    return task.hub[split]


def _dataset(task: Task, place: HubPlace, language: str, root: str, columns: Sequence[str]) -> Any:
    """The streamed columns of a split; only its own files are opened. Raises ValueError for a missing column."""
    import datasets  # takes a second to import

    config = _config(task, place, language)
    where = f"{root}, {config}, {place.split}"
    datasets.disable_progress_bars()  # of the library's search for files
    with dataset_errors(where):
        if root.startswith(PREFIX):
            name = root.removeprefix(PREFIX)
            dataset = datasets.load_dataset(name, config, split=place.split, streaming=True)
        else:  # by its files, since a copy may lack the card that names the configurations
            files = {place.split: f"{config}/{place.split}-*.parquet"}
            dataset = datasets.load_dataset(root, data_files=files, split=place.split, streaming=True)
        found = dataset.column_names or []
    missing = sorted(set(columns) - set(found))
    if missing:
        raise ValueError(f"{where}: has no column {missing[0]!r}; it has {', '.join(found)}")
    return dataset.select_columns(list(columns))


def _rows(dataset: Any, root: str) -> Iterator[dict[str, Any]]:
    with dataset_errors(root):
        for table in dataset.with_format("arrow").iter(BATCH_ROWS):
            yield from table.to_pylist()


def _class_names(dataset: Any, column: str) -> list[str] | None:
    """The names of the classes in a column of lists of class numbers; None where the data set has no names."""
    from datasets import ClassLabel

    feature = dataset.features[column].feature
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _config(task: Task, place: HubPlace, language: str) -> str:
    return place.config.format(language=language, code=task.code(language))


def _tag_name(tag: int | str, names: list[str] | None, where: str) -> str:
    if isinstance(tag, str):
        return tag
    if names is None or not 0 <= tag < len(names):
        raise ValueError(f"{where}: the tag {tag} has no name; the Parquet files must say what their numbers mean")
    return names[tag]
