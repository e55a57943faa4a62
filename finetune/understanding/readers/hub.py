"""The hub's `google/xtreme`, or a local copy of its directories of Parquet files, through the library `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_tools.readers.hub import dataset_errors
from finetune.understanding.readers.pairs import check_sentences, known_label
from finetune.understanding.readers.questions import known_answers
from finetune.understanding.tasks.examples import Question, RetrievalSet, SentencePair, TaggedSentence
from finetune.understanding.tasks.table import ENGLISH, HubSplit, Split, Task

PREFIX = "hub:"  # before the name of a data set of the hub, such as hub:google/xtreme
BATCH_ROWS = 1_000
# The hub's configurations call languages by English names (udpos, and the ids of tydiqa) and ISO 639-3 (tatoeba: as
# Tatoeba itself, so Iranian Persian, Swahili proper and Mandarin).
NAMES = {
    "af": ("Afrikaans", "afr"), "ar": ("Arabic", "ara"), "bg": ("Bulgarian", "bul"), "bn": ("Bengali", "ben"),
    "de": ("German", "deu"), "el": ("Greek", "ell"), "en": ("English", "eng"), "es": ("Spanish", "spa"),
    "et": ("Estonian", "est"), "eu": ("Basque", "eus"), "fa": ("Persian", "pes"), "fi": ("Finnish", "fin"),
    "fr": ("French", "fra"), "he": ("Hebrew", "heb"), "hi": ("Hindi", "hin"), "hu": ("Hungarian", "hun"),
    "id": ("Indonesian", "ind"), "it": ("Italian", "ita"), "ja": ("Japanese", "jpn"), "jv": ("Javanese", "jav"),
    "ka": ("Georgian", "kat"), "kk": ("Kazakh", "kaz"), "ko": ("Korean", "kor"), "ml": ("Malayalam", "mal"),
    "mr": ("Marathi", "mar"), "ms": ("Malay", "msa"), "my": ("Burmese", "mya"), "nl": ("Dutch", "nld"),
    "pt": ("Portuguese", "por"), "ru": ("Russian", "rus"), "sw": ("Swahili", "swh"), "ta": ("Tamil", "tam"),
    "te": ("Telugu", "tel"), "th": ("Thai", "tha"), "tl": ("Tagalog", "tgl"), "tr": ("Turkish", "tur"),
    "ur": ("Urdu", "urd"), "vi": ("Vietnamese", "vie"), "yo": ("Yoruba", "yor"), "zh": ("Chinese", "cmn"),
}  # fmt: skip


def is_hub(root: str) -> bool:
    """Whether a root is read by `datasets`: a name of the hub, or a directory of directories of Parquet files."""
    return root.startswith(PREFIX) or any(Path(root).glob("*/*.parquet"))


def has_config(task: Task, split: Split, language: str, root: str) -> bool:
    """Whether the split exists in a language: on the hub by the table, which asks nobody; in a copy by its files."""
    if split not in task.hub or language not in task.languages:
        return False
    place = task.hub[split]
    if "{" not in place.config and not place.one_config and language != ENGLISH:  # SQuAD
        return False
    if root.startswith(PREFIX):
        return split is not Split.DEV or language not in task.hub_without_dev
    return any((Path(root) / _config(place, language)).glob(f"{place.split}-*.parquet"))


def hub_pairs(task: Task, split: Split, language: str, root: str) -> Iterator[SentencePair]:
    """Pairs of XNLI and PAWS-X; raises ValueError for a label that the task does not have."""
    is_mixed = task.hub[split].one_config if split in task.hub else False  # XNLI, all languages together
    label_column = "gold_label" if is_mixed else "label"
    columns = ["sentence1", "sentence2", label_column] + ["language"] * is_mixed
    dataset = _dataset(task, split, language, root, columns)
    for number, row in enumerate(_rows(dataset, root), start=1):
        if is_mixed and row["language"] != language:
            continue
        where = f"{root}: row {number} of {task.name}"
        text_a, text_b = (row[column] or "" for column in ("sentence1", "sentence2"))  # Parquet may hold null
        if split not in (Split.TRAIN, Split.TRANSLATE_TRAIN):
            check_sentences(text_a, text_b, where)
        yield SentencePair(text_a, text_b, known_label(str(row[label_column]), task, where), language)


def hub_tagged(task: Task, split: Split, language: str, root: str) -> Iterator[TaggedSentence]:
    """Sentences of udpos and PAN-X; their tags are names, or numbers whose names the data set tells."""
    column = "pos_tags" if task.name == "udpos" else "ner_tags"
    dataset = _dataset(task, split, language, root, ["tokens", column])
    names = _class_names(dataset, column)
    for number, row in enumerate(_rows(dataset, root), start=1):
        where = f"{root}: row {number} of {task.name}"
        tags = [known_label(_tag_name(tag, names, where), task, where) for tag in row[column]]
        if len(tags) != len(row["tokens"]) or not tags:
            raise ValueError(f"{where}: {len(row['tokens'])} words but {len(tags)} tags")
        yield TaggedSentence(tuple(row["tokens"]), tuple(tags), language)


def hub_questions(task: Task, split: Split, language: str, root: str) -> Iterator[Question]:
    """Questions of SQuAD, XQuAD, MLQA and TyDiQA; of the latter those whose id begins with the language's name."""
    dataset = _dataset(task, split, language, root, ["id", "question", "context", "answers"])
    prefix = f"{NAMES[language][0].lower()}-" if task.hub[split].one_config else ""
    for row in _rows(dataset, root):
        if row["id"].startswith(prefix):
            texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
            answers = known_answers(zip(texts, map(int, starts), strict=True))
            yield Question(row["id"], row["question"], row["context"], answers, language)


def hub_retrieval(task: Task, split: Split, language: str, root: str) -> RetrievalSet:
    """Rows that are pairs. Of BUCC the hub has these alone: without the other sentences its F1 compares with none."""
    dataset = _dataset(task, split, language, root, ["source_sentence", "target_sentence"])
    source, target = [], []
    for row in _rows(dataset, root):
        source.append(row["source_sentence"])
        target.append(row["target_sentence"])
    if not source:
        raise ValueError(f"{root}: {task.name} {split} in {language!r} is empty")
    numbers = [str(number) for number in range(len(source))]
    return RetrievalSet(language, numbers, source, numbers, target, frozenset(zip(numbers, numbers, strict=True)))


def _dataset(task: Task, split: Split, language: str, root: str, columns: Sequence[str]) -> Any:
    """The streamed columns of a split; only its own files are opened. Raises ValueError if there is no such column."""
    import datasets  # takes a second to import

    if not has_config(task, split, language, root):
        raise ValueError(f"{root}: has no {split} of {task.name} for the language {language!r}")
    place = task.hub[split]
    config = _config(place, language)
    where = f"{root}, {config}, {place.split}"
    datasets.disable_progress_bars()  # of its search for files
    with dataset_errors(where):
        if root.startswith(PREFIX):
            name = root.removeprefix(PREFIX)
            dataset = datasets.load_dataset(name, config, split=place.split, streaming=True)
        else:  # by its files: a copy need not have the card that names the configurations
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
    """The names of the classes whose numbers a column of lists holds; None if it does not say."""
    from datasets import ClassLabel

    feature = dataset.features[column].feature
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _config(place: HubSplit, language: str) -> str:
    name, iso3 = NAMES[language]
    return place.config.format(language=language, name=name, iso3=iso3)


def _tag_name(tag: int | str, names: list[str] | None, where: str) -> str:
    if isinstance(tag, str):
        return tag
    if names is None or not 0 <= tag < len(names):
        raise ValueError(f"{where}: the tag {tag} has no name; the Parquet files must say what their numbers mean")
    return names[tag]
