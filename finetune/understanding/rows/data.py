"""The rows that a task trains on and is evaluated on, by setting and mode.

Plugged in, rows are paired. In training, translations are paired with their English originals: those that stand beside
them, else those of the same row, of questions those of the same id; both have labels. In evaluation, examples are
paired with their translations into English, from a directory in the same layout; where it has none, and in English, an
example is its own pair.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune.understanding.heads.interface import TaskHead
from finetune.understanding.readers import Root, languages_with, question_ids, read, read_partners, read_questions
from finetune.understanding.readers.answers import AnswerCounts, located
from finetune.understanding.readers.hub import is_hub
from finetune.understanding.readers.questions import OCCURRENCE
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.windows import NoExamplesError, PairedRows, Rows
from finetune.understanding.tasks.examples import Question, SentencePair
from finetune.understanding.tasks.table import ENGLISH, Head, Split, Task, languages_named

# What a translation knows of its original: a question's id, the row of the file, or the text of a pair of sentences.
Key = str | int | bytes
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
    """What became of the training text."""

    answers: AnswerCounts = field(default_factory=AnswerCounts)
    without_original: int = 0
    incomplete: int = 0

    def notes(self, task: Task) -> list[str]:
        """What there is to tell, in words."""
        notes = [str(self.answers)] if task.head is Head.SPAN else []
        what = "translated questions" if task.head is Head.SPAN else "translations"
        if self.without_original:
            notes.append(f"{self.without_original:,} {what} left out, their originals are not in train")
        if self.incomplete:
            notes.append(f"{self.incomplete:,} rows left out, a sentence of theirs is missing")
        return notes


@dataclass(frozen=True)
class EvaluationSet:
    """The examples of a split in a language, and their rows without targets."""

    language: str
    examples: Sequence[Any]
    rows: PairedRows
    is_own_pair: bool  # plugged in, without translations

    @property
    def cut(self) -> list[str]:
        """What was cut of the examples and of their translations, in words."""
        counts = self.rows.x.rows.counts
        if self.rows.y is not None and not self.is_own_pair:
            counts = counts + self.rows.y.rows.counts
        return [f"{number:,} {what}" for what, number in counts.items()]


def check_is_there(root: str, name: str) -> None:
    """Raise ValueError where a place for text is named, and is not there."""
    if root and not is_hub(root) and not Path(root).is_dir():
        raise ValueError(f"{name} {root}: no such directory")


def translated_languages(task: Task, translated: str, wanted: str) -> list[str]:
    """The languages to read translations of: `wanted`, such as "de,fr", or all that there are.

    Raises ValueError when there is none, or for a language that the task does not have.
    """
    if wanted:
        languages = languages_named(wanted, task.languages)
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

    Translations of questions that are not in the English train are left out: of TyDiQA a part of it is dev. So are rows
    that lack a sentence; plugged in, with the row that they would be paired with. A translation that brings its
    original (XTREME's, which stand in another order) is paired with that, others with the English row of the same
    number. Raises ValueError for text without labels, for question ids that repeat otherwise than in English and,
    plugged in, for translations that bring no original and are not as many as the English rows.
    """
    counts = Counts()
    places = Places()
    originals = [encode_labelled(places.noted(training_examples(text, ENGLISH, counts), counts), head, encoder, text)]
    check_repeated_ids(text)
    parts, partners = [], []
    for language in text.languages:
        if plug_in and text.task.head is Head.SEQUENCE:
            originals += encode_new_originals(text, language, places, head, encoder)
        own = Partners(places, needs_original=plug_in)
        examples = own.noted(training_examples(text, language, counts), counts)
        parts.append(encode_labelled(examples, head, encoder, text, language))
        if own.has_found_by_row and own.num_rows != places.num_rows:
            raise ValueError(
                f"{text.translated}: {own.num_rows:,} training examples of {text.task.name} in {language}, but "
                f"{places.num_rows:,} in {ENGLISH}; plugged in, each must translate that of the same row"
            )
        partners += own.numbers
    if plug_in:
        english, translations = Rows.concatenate(originals), Rows.concatenate(parts)
        check_labels_agree(english, translations, np.array(partners), text.translated)
        rows = PairedRows.paired(english, translations, np.array(partners))
    else:
        rows = PairedRows.alone(Rows.concatenate([*originals, *parts]))
    cut = sum((part.counts for part in (*originals, *parts)), Counter())
    notes = [*(f"{number:,} {what}" for what, number in cut.items()), *counts.notes(text.task)]
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


@dataclass
class Places:
    """Where the English training examples went: what translations know of them -> number among those kept."""

    numbers: dict[Key, int] = field(default_factory=dict)
    num_kept: int = 0
    num_rows: int = 0  # of the file

    def noted(self, examples: Iterable[Any], counts: Counts) -> Iterator[Any]:
        """The examples that are kept, whose places are noted."""
        for row, example in enumerate(examples):
            self.num_rows += 1
            if is_kept(example, counts):
                self.numbers[example.id if isinstance(example, Question) else row] = self.num_kept
                if isinstance(example, SentencePair):
                    self.numbers.setdefault(text_key(example), self.num_kept)
                self.num_kept += 1
                yield example

    def new_originals(self, translations: Iterable[Any]) -> Iterator[SentencePair]:
        """English pairs that stand beside translations and have no place yet: each once, and then it has one.

        Their text may differ from the training file's, which was made another way.
        """
        for translation in translations:
            original = original_of(translation)
            if original is None or not original.is_complete or not translation.is_complete:
                continue
            key = text_key(original)
            if key not in self.numbers:
                self.numbers[key] = self.num_kept
                self.num_kept += 1
                yield original


@dataclass
class Partners:
    """Which English examples the translations of a language are paired with."""

    places: Places
    needs_original: bool  # else any translation is kept, unless it is of a question that is not in train
    numbers: list[int] = field(default_factory=list)  # of the partners of those that are kept
    num_rows: int = 0  # of the file
    has_found_by_row: bool = False  # which is right only if there is a row for each English one

    def noted(self, examples: Iterable[Any], counts: Counts) -> Iterator[Any]:
        """The translations that are kept, whose partners are noted."""
        for row, example in enumerate(examples):
            self.num_rows += 1
            if not is_kept(example, counts):
                continue
            if self.needs_original or isinstance(example, Question):
                number = self.places.numbers.get(self._key(example, row))
                if number is None:
                    counts.without_original += 1
                    continue
                self.numbers.append(number)
            yield example

    def _key(self, translation: Any, row: int) -> Key:
        """What a translation knows of its original."""
        if isinstance(translation, Question):
            return translation.id
        original = original_of(translation)
        if original is not None:
            return text_key(original)
        self.has_found_by_row = True
        return row


def original_of(translation: Any) -> SentencePair | None:
    """The English pair beside a translated one, which has its label; None for what brings none."""
    if not isinstance(translation, SentencePair) or translation.original is None:
        return None
    return SentencePair(*translation.original, translation.label, ENGLISH)


def text_key(pair: SentencePair) -> bytes:
    """A hash of sentences and label, whatever the white space: millions of these are held, texts would be too much."""
    words = "\t".join([*(" ".join(text.split()) for text in (pair.text_a, pair.text_b)), str(pair.label)])
    return hashlib.blake2b(words.encode("utf-8"), digest_size=16).digest()


def is_kept(example: Any, counts: Counts) -> bool:
    """Whether an example is trained on: pairs that lack a sentence are not, and are counted."""
    if isinstance(example, SentencePair) and not example.is_complete:
        counts.incomplete += 1
        return False
    return True


def check_repeated_ids(text: TrainingText) -> None:
    """Raise ValueError as `check_same_questions`, of English, what is dev there included, and each translation."""
    for language in text.languages if text.task.dev_from_train else ():
        check_same_questions(
            text.task,
            (Split.TRAIN, ENGLISH, text.data),
            (Split.TRANSLATE_TRAIN, language, text.translated),
        )


def check_same_questions(task: Task, one: tuple[Split, str, Root], other: tuple[Split, str, Root]) -> None:
    """Raise ValueError where ids of questions repeat in one of two sets of files, and not equally often in both.

    Then nothing says which translates which: see `with_ids_of_their_own`.
    """
    ids, other_ids = (question_ids(task, *which) for which in (one, other))
    if ids != other_ids and any(OCCURRENCE in id for id in ids | other_ids):
        raise ValueError(
            f"{other[2]}: ids of {task.name} repeat, and not as often in {other[1]} as in {one[1]} in {one[2]}: "
            "nothing says which question translates which; give the files whole ids"
        )


def encode_new_originals(
    text: TrainingText, language: str, places: Places, head: TaskHead, encoder: TextEncoder
) -> list[Rows]:
    """The rows of the English pairs beside translations that are no row yet: one part, or none.

    The file is read for them alone, so that their texts need not be held until those of the translations are encoded.
    """
    originals = places.new_originals(training_examples(text, language, Counts()))
    first = next(originals, None)
    if first is None:
        return []
    return [encode_labelled(itertools.chain([first], originals), head, encoder, text)]


def encode_labelled(
    examples: Iterable[Any], head: TaskHead, encoder: TextEncoder, text: TrainingText, language: str = ENGLISH
) -> Rows:
    """Rows of training examples. Raises ValueError when there is none, or one has no label."""
    task = text.task
    try:
        rows = head.encode(examples, encoder)
    except NoExamplesError:
        raise ValueError(f"{task.name}: no training example in {language} is left") from None
    if not rows.row_targets and not rows.token_targets:
        teacher = "; finetune.understanding.label writes those of a teacher" if task.head is Head.TOKEN else ""
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
    if task.dev_from_train:
        check_same_questions(task, (split, language, data), (split, language, translated))
    translations: list[Any] = list(read_partners(task, split, language, translated))
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
