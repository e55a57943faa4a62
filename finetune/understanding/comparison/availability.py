"""Checks before the first run that a comparison's data and models have all that the runs need."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from finetune.comparison import by_tokenizer
from finetune.encoders import Encoder, open_encoder
from finetune.model_directory import model_directory
from finetune.pretrained import XLM_ROBERTA
from finetune.understanding.comparison.configuration import TRANSLATE_TEST, Comparison, Group
from finetune.understanding.comparison.runs import Run, recipe_values
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import check_encoder, limits_of
from finetune.understanding.metrics.gold import read_shown_gold
from finetune.understanding.readers.examples_of_task import read, read_tagged
from finetune.understanding.readers.languages import (
    languages_tested,
    languages_with,
    trained_languages,
    translated_languages,
)
from finetune.understanding.readers.roots import Root, check_root, is_hub
from finetune.understanding.readers.tested_on_dev import languages_tested_on_dev
from finetune.understanding.rows.encoding import text_encoder
from finetune.understanding.settings import WITH_TRANSLATIONS, Setting
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Example, LabelledText
from finetune.understanding.tasks.task import Head, Split, Task
from finetune.understanding.translate import TRANSLATED_HEADS
from training.run_directory.kinds import Kind
from veco.objectives.objective_sum import ObjectiveSum

FROM_SOURCE = (Setting.TRANSFER, Setting.TRANSLATE_TRAIN_ALL, TRANSLATE_TEST)  # trained on the source language
OF_FILES = (Setting.JOINT, Setting.INDIVIDUAL)
MIN_TOGETHER = 2  # languages with train files, without which joint training is transfer


@dataclass(frozen=True)
class LabelledTests:
    """The languages of a task's tests whose labels are known, and others with the reason why theirs are hidden.

    With `report: dev`, here and below, the tests are the dev sets.
    """

    languages: Sequence[str] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)
    split: Split = Split.TEST

    @property
    def missing(self) -> str:
        """The reason why no test can be scored, empty if one can."""
        if self.languages:
            return ""
        noun = "tests" if self.split is Split.TEST else "dev sets"
        if self.hidden:
            return f"{noun} without labels ({next(iter(self.hidden.values()))})"
        return f"no {self.split} files"


def tests_of(name: str, comparison: Comparison) -> LabelledTests:
    """The requested tests of the task of that name. Raises ValueError for a missing test, and for bad files.

    Labels are read here, lest a comparison find after hours of training that a test has none. The hub hides no labels,
    and its tests are not downloaded for this.
    """
    task, data, split = task_named(name), comparison.data_of(name), Split(comparison.report)
    if not languages_with(task, split, data):
        return LabelledTests(split=split)
    languages = languages_tested(task, data, comparison.wanted_languages(name), split)
    if is_hub(data):
        return LabelledTests(languages, split=split)
    gold, hidden = read_shown_gold(task, languages, data, split)
    return LabelledTests(list(gold), hidden, split)


def missing(group: Group, comparison: Comparison, tests: LabelledTests) -> str:
    """The data that a group needs and that is missing; empty if there is all.

    Raises ValueError for languages of a recipe that are missing.
    """
    task, data = group.definition, comparison.data_of(group.task)
    if reason := tests.missing:
        return reason
    has_dev = bool(languages_with(task, Split.DEV, data))
    if task.is_retrieval:
        return "no dev files" if task.head is Head.MINING and not has_dev else ""
    values = recipe_values(group, comparison)
    trained = languages_with(task, Split.TRAIN, data)
    if group.setting in FROM_SOURCE and task.source_language not in trained:
        return f"no training text in {task.source_language}"
    if group.setting in OF_FILES and not trained:
        return "no train files"
    if not has_dev:
        return "no dev files"
    if group.setting in WITH_TRANSLATIONS:
        return missing_translations(task, values)
    if group.setting == TRANSLATE_TEST:
        return missing_translated_tests(group, values, comparison, tests)
    return missing_train_files(group, comparison, tests) if group.setting in OF_FILES else ""


def missing_train_files(group: Group, comparison: Comparison, tests: LabelledTests) -> str:
    """The reason why languages cannot be trained on together or alone, empty if they can."""
    wanted = str(recipe_values(group, comparison).get("languages", ""))
    trained = trained_languages(group.definition, comparison.data_of(group.task), wanted)
    if len(trained) < MIN_TOGETHER:
        return f"a train file in {', '.join(trained)} alone"
    if group.setting == Setting.INDIVIDUAL and not individual_languages(group, comparison, tests):
        return "no language with files of train and dev and with labels of tests"
    return ""


def individual_languages(group: Group, comparison: Comparison, tests: LabelledTests) -> list[str]:
    """The languages with a train file, a dev file and a labelled test, each of which has a model of its own."""
    task, data = group.definition, comparison.data_of(group.task)
    wanted = str(recipe_values(group, comparison).get("languages", ""))
    trained, validated = trained_languages(task, data, wanted), languages_with(task, Split.DEV, data)
    return [language for language in tests.languages if language in trained and language in validated]


def missing_translated_tests(
    group: Group, values: Mapping[str, Any], comparison: Comparison, tests: LabelledTests
) -> str:
    """The reason why a model cannot be tested on translated tests, empty if it can.

    Raises ValueError for a translation model that is none, and for translations that are not as many as the tests.
    """
    task, data = group.definition, comparison.data_of(group.task)
    if task.head not in TRANSLATED_HEADS:
        return "the spans and tags of a translation are not those of the test"
    foreign = [language for language in tests.languages if language != task.source_language]
    if not foreign:
        return f"tests in {task.source_language} alone, which need no translation"
    translated = str(values.get("translated_test", ""))
    if not translated:
        if not comparison.translation_model:
            return "neither translated_test nor a translation_model"
        for language in foreign:
            model_directory(Path(comparison.translation_model_of(language)), [Kind.TRANSLATION])
        return ""
    check_root(translated, "translated_test")
    found = languages_with(task, tests.split, translated)
    if absent := [language for language in foreign if language not in found]:
        return f"no translated tests in {', '.join(absent)}"
    for language in foreign:
        count = partial(num_examples, task, tests.split, language)
        if (own := count(translated)) != (expected := count(data)):
            raise ValueError(
                f"{translated}: {own:,} {tests.split} examples of {task.name} in {language}, but {expected:,} in {data}"
            )
    return ""


def num_examples(task: Task, split: Split, language: str, root: Root) -> int:
    """The number of examples of a split in a language."""
    return sum(1 for _ in read(task, split, language, root))


def missing_translations(task: Task, values: Mapping[str, Any]) -> str:
    """The reason why translations cannot be trained on, empty if they can; `values` are those of the recipe."""
    translated = str(values.get("translated_train") or values["data"])
    found = [one for one in languages_with(task, Split.TRANSLATE_TRAIN, translated) if one != task.source_language]
    if not found:
        return "no translated training text"
    languages = translated_languages(task, translated, str(values.get("languages", "")))
    if absent := [language for language in languages if language not in found]:
        raise ValueError(f"{translated}: has no translated training text of {task.name} in {', '.join(absent)}")
    if task.head is Head.TOKEN:
        first = next(iter(read_tagged(task, Split.TRANSLATE_TRAIN, languages[0], translated)))
        if first.tags is None:
            return "translated training text without tags, which finetune.understanding.label writes"
    if task.head is Head.SPAN and task.source_language not in languages_with(task, Split.TRAIN, str(values["data"])):
        return f"no training text in {task.source_language}"  # by whose ids the questions of dev are known
    if values["plug_in"] and task.head is not Head.SPAN:
        return unequal_rows(task, str(values["data"]), translated, languages)
    return ""


def unequal_rows(task: Task, data: str, translated: str, languages: Sequence[str]) -> str:
    """The reason why rows are no pairs, empty if they are: as many as originals, or with originals beside them."""
    num_originals = num_examples(task, Split.TRAIN, task.source_language, data)
    unequal = []
    for language in languages:
        rows = (has_original(one) for one in read(task, Split.TRANSLATE_TRAIN, language, translated))
        own = Counter(rows)
        if own[False] and own.total() != num_originals:
            unequal.append(f"{own.total():,} in {language}")
    originals = f"{num_originals:,} training rows in {task.source_language}"
    return f"no pairs: {originals}, {', '.join(unequal)}" if unequal else ""


def has_original(example: Example) -> bool:
    """Whether a translation has its original beside it."""
    return isinstance(example, LabelledText) and example.original is not None


def available(
    groups: Sequence[Group], comparison: Comparison
) -> tuple[list[Group], dict[str, str], dict[str, LabelledTests]]:
    """(the groups whose data is complete, {other group: what it lacks}, {task: its tests}).

    Raises ValueError when there is no data, not enough for any group, or a bad file.
    """
    tests: dict[str, LabelledTests] = {}
    reasons, problems = {}, []
    for group in groups:
        try:
            if group.task not in tests:
                check_root(comparison.data_of(group.task), "data")
                tests[group.task] = tests_of(group.task, comparison)
            reasons[group] = missing(group, comparison, tests[group.task])
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    left_out = {str(group): reason for group, reason in reasons.items() if reason}
    found = [group for group, reason in reasons.items() if not reason]
    if not found:
        reasons_by_group = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(
            f"data {comparison.data}: nothing to compare on. {reasons_by_group or 'In transfer there are no pairs'}"
        )
    return found, left_out, tests


def languages_in_own_pairs(
    runs: Sequence[Run], tested: Mapping[str, Sequence[str]], split: Split
) -> dict[str, list[str]]:
    """{plugged-in group: its languages whose split is scored without translations in `translated_test`}."""
    found = {}
    recipes = {run.group: run.recipe for run in runs if run.recipe is not None and run.recipe.plug_in}
    for group, recipe in recipes.items():
        translated = recipe.translated_test
        task = group.definition
        have = languages_with(task, split, translated) if translated else ()
        if own := [one for one in tested[group.task] if one != task.source_language and one not in have]:
            found[str(group)] = own
    return found


def languages_chosen_on_tests(
    runs: Sequence[Run], tested: Mapping[str, Sequence[str]], comparison: Comparison
) -> dict[str, list[str]]:
    """{group whose best epoch is chosen by validation: its tested languages whose dev set is the test}."""
    found = {}
    choosing = dict.fromkeys(run.group for run in runs if run.recipe is not None and run.recipe.chooses_by_validation)
    for group in choosing:
        same = languages_tested_on_dev(group.definition, comparison.data_of(group.task))
        if own := [language for language in tested[group.task] if language in same]:
            found[str(group)] = own
    return found


def without_cross_attention(directory: Path) -> str:
    """The pre-training of a model if it did not train the cross-attention; empty if it did, or if it is unknown.

    The README.md that pretrain.export writes has the recipe with its `objective`.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") == XLM_ROBERTA:
        return "XLM-R, which has none"
    card = directory / "README.md"
    if not card.is_file():
        return ""
    found = re.search(r"^objective: (.+)$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    try:
        return found[1] if found and not ObjectiveSum.of(found[1]).trains_cross_attention else ""
    except ValueError:
        return ""  # of another version


def check_models(runs: Sequence[Run], comparison: Comparison) -> dict[str, Encoder]:
    """The encoders of all runs by directory. Raises ValueError for those with which a run would fail after hours."""
    problems = []
    encoders: dict[str, Encoder] = {}
    for run in runs:
        try:
            if run.init_from not in encoders:
                encoders[run.init_from] = open_encoder(Path(run.init_from))
            problems.append(problem_with(run, encoders[run.init_from], comparison))
        except ValueError as error:
            problems.append(str(error))
    if problems := list(filter(None, dict.fromkeys(problems))):
        raise ValueError("; ".join(problems))
    return encoders


def tokenizers_of(runs: Sequence[Run], encoders: Mapping[str, Encoder]) -> list[list[str]]:
    """The models of trained runs, those with the same tokenizer together; retrieval has no rows to compare."""
    trained = {run.model: encoders[run.init_from].tokenizer for run in runs if run.recipe is not None}
    return by_tokenizer(trained)


def problem_with(run: Run, encoder: Encoder, comparison: Comparison) -> str:
    """The requirement of a run that its model or the disk does not meet; empty if all are met."""
    if run.recipe is not None:
        try:
            check_root(run.recipe.translated_test, "translated_test")
        except ValueError as error:
            return str(error)
        head = build_head(task_named(run.group.task), limits_of(run.recipe))
        try:
            text_encoder(encoder)
            check_encoder(run.recipe, head, encoder)
        except ValueError as error:
            return f"{run.init_from}: {error}"
        return ""
    asked = comparison.retrieval_flags(run.group.task)
    layers = [*asked.get("layers", []), asked.get("layer", 0)]
    if wrong := [layer for layer in layers if not 0 <= layer <= encoder.config.num_hidden_layers]:
        last = encoder.config.num_hidden_layers
        return f"retrieval: layer {wrong[0]}: {run.init_from} has layers 1 to {last}, and 0"
    return ""
