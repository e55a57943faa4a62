"""The rows on which a model is evaluated.

Plugged in, examples are paired with their translations into the source language, from a directory in the same layout;
where it has none, and in the source language, an example is its own pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune.understanding.heads.head import TaskHead
from finetune.understanding.readers.examples_of_task import read, read_partners
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.readers.roots import Source
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.pairing import check_labels_agree, check_same_questions
from finetune.understanding.tasks.examples import Question
from finetune.understanding.tasks.task import Head, Task


@dataclass(frozen=True)
class EvaluationSet:
    """The examples of a split in a language, and their rows without targets."""

    language: str
    examples: Sequence[Any]
    rows: PairedRows
    is_own_pair: bool  # plugged in, without translations

    @property
    def truncated(self) -> list[str]:
        """The numbers of truncated examples and translations, in words."""
        truncated = self.rows.x.rows.truncated
        if self.rows.y is not None and not self.is_own_pair:
            truncated = truncated + self.rows.y.rows.truncated
        return [f"{number:,} {what}" for what, number in truncated.items()]


def evaluation_set(
    task: Task, source: Source, translated: str | None, head: TaskHead, encoder: TextEncoder
) -> EvaluationSet:
    """The examples of a source and their rows; `translated` is None plugged out, else the root of translations, if any.

    Raises ValueError when the translations are not those of the examples.
    """
    language = source.language
    examples: list[Any] = list(read(task, source.split, language, source.root))
    encoded = head.encode(examples, encoder)
    own = encoded.without_targets()
    if translated is None:
        return EvaluationSet(language, examples, PairedRows.alone(own), is_own_pair=False)
    one_by_one = np.arange(len(examples))
    has_translations = translated and language != task.source_language
    if not has_translations or language not in languages_with(task, source.split, translated):
        return EvaluationSet(language, examples, PairedRows.paired(own, own, one_by_one), is_own_pair=True)
    translations = read_translations(task, source, translated, examples)
    pair = head.encode(translations, encoder)
    check_labels_agree(encoded, pair, one_by_one, translated)
    rows = PairedRows.paired(own, pair.without_targets(), one_by_one)
    return EvaluationSet(language, examples, rows, is_own_pair=False)


def read_translations(task: Task, source: Source, translated: str, examples: Sequence[Any]) -> list[Any]:
    """The translation of each example of a source. Raises ValueError when there is not one for each."""
    if task.dev_from_train:
        check_same_questions(task, source, replace(source, root=translated))
    translations: list[Any] = list(read_partners(task, source.split, source.language, translated))
    if task.head is Head.SPAN:
        translations = in_order_of(examples, translations, translated)
    if len(translations) != len(examples):
        raise ValueError(
            f"{translated}: {len(translations):,} {source.split} examples of {task.name} in {source.language}, but "
            f"{len(examples):,} in {source.root}; each must translate that of the same row"
        )
    return translations


def in_order_of(questions: Sequence[Question], translations: Iterable[Question], where: str) -> list[Question]:
    """The translation of each question, by its id. Raises ValueError for a missing one."""
    by_id = {translation.id: translation for translation in translations}
    if missing := [question.id for question in questions if question.id not in by_id]:
        raise ValueError(f"{where}: no translation of {len(missing):,} questions, such as {missing[0]}")
    return [by_id[question.id] for question in questions]
