"""The rows that a task is trained on, by setting and mode.

Plugged in, rows are paired: translations with their originals in the source language, both with labels. The original is
the pair beside the translation, else the original example in the same row or, for questions, with the same id.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from finetune.understanding.adaptation.few_shot import FewShot
from finetune.understanding.heads.head import TaskHead
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.readers.languages import trained_languages, translated_languages
from finetune.understanding.readers.roots import Source
from finetune.understanding.rows.answer_spans import AnswerCounts, locate_answers
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.pairing import check_labels_agree, check_same_questions
from finetune.understanding.rows.token_rows import NoExamplesError, TokenRows
from finetune.understanding.settings import WITH_TRANSLATIONS, Setting
from finetune.understanding.tasks.examples import Example, LabelledText, Question
from finetune.understanding.tasks.task import OF_TEXTS, Head, Split, Task

# By which a translation finds its original: a question's id, the row of the file, or the text of a pair of sentences.
Key = str | int | bytes


@dataclass(frozen=True)
class TrainingText:
    """A task's training text: train files, and translations of the source language's.

    `files` are the languages whose train files are trained on; None is the source language alone. `few` draws the
    examples to use in each language, None for all.
    """

    task: Task
    data: str
    translated: str
    translations: Sequence[str]  # languages, none in cross-lingual transfer
    files: Sequence[str] | None = None
    few: FewShot | None = None

    @property
    def train_files(self) -> Sequence[str]:
        """The languages whose train files are trained on."""
        return (self.task.source_language,) if self.files is None else self.files

    def source(self, language: str) -> Source:
        """The train file of a language, or the translations into it."""
        if language in self.translations:
            return Source(Split.TRANSLATE_TRAIN, language, self.translated)
        return Source(Split.TRAIN, language, self.data)


def training_text(task: Task, data: str, translated: str, setting: Setting, wanted: str) -> TrainingText:
    """The training text of a setting; `wanted` are the languages of translations or train files, empty for all.

    Raises ValueError for languages without files, for `Setting.INDIVIDUAL` with more than one language, and for
    translations among which those of a held-out dev cannot be told.
    """
    if setting in WITH_TRANSLATIONS:
        if task.dev_from_train and task.head is not Head.SPAN:
            raise ValueError(
                f"setting {setting}: dev of {task.name} is a part of its train, and translations have no ids by which "
                "those of dev could be left out; give the task a dev set of its own"
            )
        languages = translated_languages(task, translated, wanted)
        return TrainingText(task, data, translated, languages, None if setting is Setting.TRANSLATE_TRAIN_ALL else ())
    if setting is Setting.TRANSFER:
        return TrainingText(task, data, translated, ())
    files = trained_languages(task, data, wanted)
    if setting is Setting.INDIVIDUAL and len(files) > 1:
        raise ValueError(
            f"languages: in the setting {setting} a model is trained on one language; name one of {', '.join(files)}"
        )
    return TrainingText(task, data, translated, (), files)


@dataclass(frozen=True)
class Counts:
    """Numbers of the examples that are changed or skipped, and why."""

    answers: AnswerCounts = AnswerCounts()  # noqa: RUF009  # it is frozen
    without_original: int = 0
    incomplete: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.answers + other.answers,
            self.without_original + other.without_original,
            self.incomplete + other.incomplete,
        )

    def notes(self, task: Task) -> list[str]:
        """The counts in words."""
        notes = [str(self.answers)] if task.head is Head.SPAN else []
        noun = "translated questions" if task.head is Head.SPAN else "translations"
        if self.without_original:
            notes.append(f"{self.without_original:,} {noun} skipped, their originals are not in train")
        if self.incomplete:
            notes.append(f"{self.incomplete:,} rows skipped, which lack a sentence")
        return notes


@dataclass(frozen=True)
class TrainingSet:
    """The rows to train on, and a report of their numbers in words."""

    rows: PairedRows
    report: str


def training_set(text: TrainingText, head: TaskHead, encoder: TextEncoder, plug_in: bool) -> TrainingSet:
    """The rows of train files and of all translations; plugged in, each translation with its original.

    Translations of questions that are not in the original train are skipped: a part of TyDiQA's is dev. So are rows
    that lack a sentence and, plugged in, the rows that would be paired with them. A translation beside its original
    (XTREME's, whose order differs) is paired with that, others with the original row of the same number. Raises
    ValueError for text without labels, for question ids that repeat less or more often than in the original and,
    plugged in, for translations without originals beside them that are not as many as the original rows.
    """
    source = text.task.source_language
    beside = plug_in and text.task.head in OF_TEXTS
    files = {one: encode_originals(text, one, head, encoder, beside) for one in text.train_files}
    originals = files.get(source)
    if originals is None and text.translations and text.task.head is Head.SPAN:  # by whose ids those of dev are known
        originals = encode_originals(text, source, head, encoder, beside_translations=False)
    check_repeated_ids(text)
    translations = [
        encode_translations(text, language, originals, head, encoder, plug_in) for language in text.translations
    ]
    parts: list[Originals | Translations] = [*files.values(), *translations]
    if plug_in:
        translated = TokenRows.concatenate([translation.rows for translation in translations])
        partners = np.array([number for translation in translations for number in translation.partners])
        check_labels_agree(files[source].rows, translated, partners, text.translated)
        rows = PairedRows.paired(files[source].rows, translated, partners)
    else:
        rows = PairedRows.alone(TokenRows.concatenate([part.rows for part in parts]))
    truncated = sum((part.rows.truncated for part in parts), Counter())
    counts = sum((part.counts for part in parts), Counts())
    notes = [*(f"{number:,} {what}" for what, number in truncated.items()), *counts.notes(text.task)]
    languages = ", ".join([*text.train_files, *text.translations])
    return TrainingSet(rows, "; ".join([f"{len(rows):,} rows in {languages}", *notes]))


def check_repeated_ids(text: TrainingText) -> None:
    """Raise ValueError as `check_same_questions` does, for the original, dev included, and each of its translations."""
    if text.task.dev_from_train:
        for language in text.translations:
            check_same_questions(text.task, text.source(text.task.source_language), text.source(language))


@dataclass(frozen=True)
class Block:
    """The usable ones among `num_read` consecutive examples of a file, their rows in it, and counts of the others."""

    examples: Sequence[Example]
    rows: Sequence[int]
    num_read: int
    counts: Counts

    def only(self, rows: Collection[int]) -> Block:
        """The block with those of its examples that are in `rows`."""
        kept = [pair for pair in zip(self.rows, self.examples, strict=True) if pair[0] in rows]
        return replace(self, rows=[row for row, _ in kept], examples=[example for _, example in kept])


def training_blocks(text: TrainingText, language: str) -> Iterator[Block]:
    """The training examples in a language, a block at a time, so that texts need not be held."""
    if text.few is None:
        yield from usable_blocks(text, language)
        return
    every = (row for block in usable_blocks(text, language) for row in zip(block.rows, block.examples, strict=True))
    drawn = text.few.draw(every, text.task, f"{text.source(language).root}: {language}")
    for block in usable_blocks(text, language):
        yield block.only(drawn)


def usable_blocks(text: TrainingText, language: str) -> Iterator[Block]:
    """All training examples in a language that can be used, a block at a time."""
    source = text.source(language)
    first = 0
    for examples in in_blocks(read(text.task, source.split, language, source.root)):
        yield usable(examples, first)
        first += len(examples)


def usable(examples: Sequence[Example], first: int) -> Block:
    """The complete examples, and questions with answers in their contexts; `first` is the row of the first example."""
    kept: list[Example] = []
    rows = []
    answers = AnswerCounts()
    num_incomplete = 0
    for row, example in enumerate(examples, start=first):
        if isinstance(example, Question):
            located = locate_answers(example)
            answers += located.counts
            if located.question is None:
                continue
            example = located.question
        elif isinstance(example, LabelledText) and not example.is_complete:
            num_incomplete += 1
            continue
        kept.append(example)
        rows.append(row)
    return Block(kept, rows, len(examples), Counts(answers, incomplete=num_incomplete))


@dataclass(frozen=True)
class Originals:
    """The examples of a train file, by which translations find their originals."""

    rows: TokenRows
    numbers: Mapping[Key, int]  # among the examples of `rows`
    num_read: int  # examples of the file, usable or not
    counts: Counts


def encode_originals(
    text: TrainingText, language: str, head: TaskHead, encoder: TextEncoder, beside_translations: bool
) -> Originals:
    """The train file of a language and, if asked for, the pairs beside translations that it lacks, each once.

    The text of a pair beside a translation may differ from the training file's, which was made differently. The files
    of translations are read for these pairs alone, so that their texts need not be held until they are encoded.
    """
    numbers: dict[Key, int] = {}
    parts: list[TokenRows] = []
    counts = Counts()
    num_read = num_kept = 0
    for block in training_blocks(text, language):
        for number, (row, example) in enumerate(zip(block.rows, block.examples, strict=True), start=num_kept):
            numbers[example.id if isinstance(example, Question) else row] = number
            if isinstance(example, LabelledText):
                numbers.setdefault(text_key(example), number)
        parts += encoded(block.examples, head, encoder)
        num_kept += len(block.examples)
        num_read += block.num_read
        counts += block.counts
    parts = [labelled(parts, text.task, language)]
    for translated in text.translations if beside_translations else ():
        for block in training_blocks(text, translated):
            new = new_originals(block.examples, numbers, language)
            numbers |= {key: number for number, key in enumerate(new, start=num_kept)}
            parts += encoded(list(new.values()), head, encoder)
            num_kept += len(new)
    return Originals(labelled(parts, text.task, language), numbers, num_read, counts)


def new_originals(
    translations: Iterable[Example], known: Mapping[Key, int], language: str
) -> dict[bytes, LabelledText]:
    """The complete originals beside translations that are not `known` yet, by their `text_key`."""
    new: dict[bytes, LabelledText] = {}
    for translation in translations:
        original = original_of(translation, language)
        if original is not None and original.is_complete and (key := text_key(original)) not in known:
            new.setdefault(key, original)
    return new


@dataclass(frozen=True)
class Translations:
    """The translations into a language, and the numbers of their originals where these are needed."""

    rows: TokenRows
    partners: Sequence[int]
    counts: Counts


def encode_translations(
    text: TrainingText, language: str, originals: Originals | None, head: TaskHead, encoder: TextEncoder, plug_in: bool
) -> Translations:
    """The translations into a language; plugged in, and of questions, only those whose original is known."""
    source = text.task.source_language
    parts: list[TokenRows] = []
    partners: list[int] = []
    counts = Counts()
    num_read = 0
    some_by_row = False
    for block in training_blocks(text, language):
        examples = block.examples
        if originals is not None and (plug_in or text.task.head is Head.SPAN):
            keys = [original_key(example, row, source) for example, row in zip(examples, block.rows, strict=True)]
            found = [(example, originals.numbers.get(key)) for example, key in zip(examples, keys, strict=True)]
            examples = [example for example, number in found if number is not None]
            partners += [number for _, number in found if number is not None]
            some_by_row |= any(isinstance(key, int) for key in keys)
        parts += encoded(examples, head, encoder)
        num_read += block.num_read
        counts += block.counts + Counts(without_original=len(block.examples) - len(examples))
    rows = labelled(parts, text.task, language)
    if originals is not None and some_by_row and num_read != originals.num_read:
        raise ValueError(
            f"{text.translated}: {num_read:,} training examples of {text.task.name} in {language}, but "
            f"{originals.num_read:,} in {source}; plugged in, each must translate that of the same row"
        )
    return Translations(rows, partners, counts)


def original_key(translation: Example, row: int, source_language: str) -> Key:
    """The key by which a translation finds its original."""
    if isinstance(translation, Question):
        return translation.id
    original = original_of(translation, source_language)
    return row if original is None else text_key(original)


def original_of(translation: Example, source_language: str) -> LabelledText | None:
    """The original beside a translation, which has its label; None if there is none."""
    if not isinstance(translation, LabelledText) or translation.original is None:
        return None
    text_a, second = translation.original
    text_b = None if translation.text_b is None else second
    return replace(translation, text_a=text_a, text_b=text_b, language=source_language, original=None)


def text_key(pair: LabelledText) -> bytes:
    """A hash of sentences and label, ignoring white space: millions are held, for which texts would be too large."""
    words = "\t".join([*(" ".join(text.split()) for text in pair.texts), str(pair.label)])
    return hashlib.blake2b(words.encode("utf-8"), digest_size=16).digest()


def encoded(examples: Sequence[Example], head: TaskHead, encoder: TextEncoder) -> list[TokenRows]:
    """The rows of some examples for training, as one part; no part without examples."""
    return [head.encode(examples, encoder).without_marks()] if examples else []


def labelled(parts: Sequence[TokenRows], task: Task, language: str) -> TokenRows:
    """All rows. Raises ValueError when there is none, or one has no label."""
    try:
        rows = TokenRows.concatenate(parts)
    except NoExamplesError:
        raise ValueError(f"{task.name}: no training example in {language} is left") from None
    if not rows.has_targets:
        teacher = "; finetune.understanding.label writes those of a teacher" if task.head is Head.TOKEN else ""
        raise ValueError(f"{task.name}: training examples in {language} have no labels{teacher}")
    return rows
