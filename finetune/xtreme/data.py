"""The rows that a task trains on and is evaluated on, by setting and mode.

Plugged in, rows are paired. In training, translations are paired with their English originals, row by row, or questions
by their ids; both have labels. In evaluation, examples are paired with their translations into English, from a
directory in the same layout; where it has none, and in English, an example is its own pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finetune.xtreme.encoding import TextEncoder
from finetune.xtreme.examples import Question
from finetune.xtreme.heads import TaskHead
from finetune.xtreme.readers import languages_with, read, read_questions
from finetune.xtreme.readers.answers import AnswerCounts, located
from finetune.xtreme.rows import NoExamplesError, PairedRows, Rows
from finetune.xtreme.tasks import ENGLISH, Head, Split, Task

LEAST_AGREEMENT = 0.9  # of labels of rows that translate each other; by chance half or a third do
FEW_ROWS = 20  # too few to tell


@dataclass(frozen=True)
class TrainingText:
    """Where a task's training text is. `languages` are those of the translations, none in cross-lingual transfer."""

    task: Task
    data: str
    translated: str
    languages: Sequence[str]


@dataclass
class Counts:
    """What became of the questions of the training text."""

    answers: AnswerCounts = field(default_factory=AnswerCounts)
    without_original: int = 0

    def __str__(self) -> str:
        left_out = f"; {self.without_original:,} translated questions left out, their originals are not in train"
        return str(self.answers) + (left_out if self.without_original else "")


@dataclass(frozen=True)
class EvaluationSet:
    """The examples of a split in a language, and their rows without targets."""

    language: str
    examples: Sequence[Any]
    rows: PairedRows
    is_own_pair: bool  # plugged in, without translations


def translated_languages(task: Task, translated: str, wanted: str) -> list[str]:
    """The languages to read translations of: `wanted`, such as "de,fr", or all that there are.

    Raises ValueError when there is none, or for a language that the task does not have.
    """
    if wanted:
        languages = [language.strip() for language in wanted.split(",")]
        if unknown := [language for language in languages if language not in task.languages or language == ENGLISH]:
            raise ValueError(
                f"languages: {task.name} has no translations into {', '.join(unknown)}, only into "
                f"{', '.join(language for language in task.languages if language != ENGLISH)}"
            )
        return languages
    found = [language for language in languages_with(task, Split.TRANSLATE_TRAIN, translated) if language != ENGLISH]
    if not found:
        raise ValueError(f"{translated}: has no translated training text of {task.name} in any language")
    return found


def training_rows(text: TrainingText, head: TaskHead, encoder: TextEncoder, plug_in: bool) -> tuple[PairedRows, str]:
    """(English rows and those of all translations; plugged in, each translation with its original; a report).

    Translations of questions that are not in the English train are left out: of TyDiQA a part of it is dev. Raises
    ValueError for text without labels and, plugged in, for translations that are not as many as the originals.
    """
    counts = Counts()
    numbers: dict[str, int] = {}  # of the original questions, by their ids
    originals = encode_labelled(
        numbered(training_examples(text, ENGLISH, counts), numbers), head, encoder, text, ENGLISH
    )
    parts, partners = [], []
    for language in text.languages:
        own_partners: list[int] = []
        examples = with_originals(training_examples(text, language, counts), numbers, own_partners, counts)
        parts.append(encode_labelled(examples, head, encoder, text, language))
        if plug_in and text.task.head is not Head.SPAN and len(own_partners) != originals.num_examples:
            raise ValueError(
                f"{text.translated}: {len(own_partners):,} training examples of {text.task.name} in {language}, but "
                f"{originals.num_examples:,} in {ENGLISH}; plugged in, each must translate that of the same row"
            )
        partners += own_partners
    if plug_in:
        translations = Rows.concatenate(parts)
        check_labels_agree(originals, translations, np.array(partners), text.translated)
        rows = PairedRows.paired(originals, translations, np.array(partners))
    else:
        rows = PairedRows.alone(Rows.concatenate([originals, *parts]))
    cut = sum((part.counts for part in (originals, *parts)), Counter())
    notes = [f"{number:,} {what}" for what, number in cut.items()]
    notes += [str(counts)] if text.task.head is Head.SPAN else []
    return rows, "; ".join([f"{len(rows):,} rows in {', '.join([ENGLISH, *text.languages])}", *notes])


def training_examples(text: TrainingText, language: str, counts: Counts) -> Iterator[Any]:
    """The training examples in English, or their translations; questions with answers that stand in their contexts."""
    if language == ENGLISH:
        split, root = Split.TRAIN, text.data
    else:
        split, root = Split.TRANSLATE_TRAIN, text.translated
    if text.task.head is Head.SPAN:
        return located(read_questions(text.task, split, language, root), counts.answers)
    return read(text.task, split, language, root)


def numbered(examples: Iterable[Any], numbers: dict[str, int]) -> Iterator[Any]:
    """The examples as they come; those that are questions get their number noted under their id."""
    for number, example in enumerate(examples):
        if isinstance(example, Question):
            numbers[example.id] = number
        yield example


def with_originals(
    examples: Iterable[Any], numbers: Mapping[str, int], partners: list[int], counts: Counts
) -> Iterator[Any]:
    """Translations whose original is there; its number, the row's or by a question's id, is added to `partners`."""
    for number, example in enumerate(examples):
        if not isinstance(example, Question):
            partners.append(number)
        elif example.id in numbers:
            partners.append(numbers[example.id])
        else:
            counts.without_original += 1
            continue
        yield example


def encode_labelled(
    examples: Iterable[Any], head: TaskHead, encoder: TextEncoder, text: TrainingText, language: str
) -> Rows:
    """Rows of training examples. Raises ValueError when there is none, or one has no label."""
    task = text.task
    try:
        rows = head.encode(examples, encoder)
    except NoExamplesError:
        raise ValueError(f"{task.name}: no training example in {language} is left") from None
    if not rows.row_targets and not rows.token_targets:
        teacher = "; finetune.xtreme.label writes those of a teacher" if task.head is Head.TOKEN else ""
        raise ValueError(f"{task.name}: training examples in {language} have no labels{teacher}")
    return replace(rows, marks={})  # these are for decoding, and take more memory than the tokens


def evaluation_set(
    task: Task,
    split: Split,
    language: str,
    data: str,
    translated: str | None,
    head: TaskHead,
    encoder: TextEncoder,
) -> EvaluationSet:
    """What a model is evaluated on; `translated` is None plugged out, else where English translations may be.

    Raises ValueError when the translations are not those of the examples.
    """
    examples: list[Any] = list(read(task, split, language, data))
    own = head.encode(examples, encoder)
    if translated is None:
        return EvaluationSet(language, examples, PairedRows.alone(own.without_targets()), is_own_pair=False)
    if language == ENGLISH or not translated or language not in languages_with(task, split, translated):
        alone = own.without_targets()
        rows = PairedRows.paired(alone, alone, np.arange(len(examples)))
        return EvaluationSet(language, examples, rows, is_own_pair=True)
    translations: list[Any] = list(read(task, split, language, translated))
    if task.head is Head.SPAN:
        translations = in_order_of(examples, translations, translated)
    if len(translations) != len(examples):
        raise ValueError(
            f"{translated}: {len(translations):,} {split} examples of {task.name} in {language}, but {len(examples):,} "
            f"in {data}; each must translate that of the same row"
        )
    pair = head.encode(translations, encoder)
    check_labels_agree(own, pair, np.arange(len(examples)), translated)
    rows = PairedRows.paired(own.without_targets(), pair.without_targets(), np.arange(len(examples)))
    return EvaluationSet(language, examples, rows, is_own_pair=False)


def check_labels_agree(x: Rows, y: Rows, partners: np.ndarray, where: str) -> None:
    """Raise ValueError when rows are no pairs: sentence pairs and their translations have the same label.

    Equal numbers of rows do not say so, for instance where each side lacks others. Some translators' files have labels
    of their own, so a few may differ.
    """
    if "labels" not in x.row_targets or "labels" not in y.row_targets or len(partners) < FEW_ROWS:
        return
    share = float(np.mean(x.row_targets["labels"][partners] == y.row_targets["labels"]))
    if share < LEAST_AGREEMENT:
        raise ValueError(
            f"{where}: only {share:.0%} of the rows have the same label as those that they should translate; "
            "plugged in, each must translate that of the same row"
        )


def in_order_of(questions: Sequence[Question], translations: Iterable[Question], where: str) -> list[Question]:
    """The translation of each question, by its id. Raises ValueError for one that is missing."""
    by_id = {translation.id: translation for translation in translations}
    if missing := [question.id for question in questions if question.id not in by_id]:
        raise ValueError(f"{where}: no translation of {len(missing):,} questions, such as {missing[0]}")
    return [by_id[question.id] for question in questions]
