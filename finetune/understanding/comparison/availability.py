"""Checks before the first run that a comparison's data and models have all that the runs need."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.comparison import check_same_tokenizers
from finetune.encoders import Encoder, open_encoder
from finetune.pretrained import XLM_ROBERTA
from finetune.understanding.comparison.configuration import Comparison, Group, Run, recipe_values
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import check_encoder, limits_of
from finetune.understanding.metrics.gold import read_shown_gold
from finetune.understanding.readers.examples_of_task import read, read_tagged
from finetune.understanding.readers.languages import languages_tested, languages_with, translated_languages
from finetune.understanding.readers.roots import check_root, is_hub
from finetune.understanding.rows.encoding import text_encoder
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Example, LabelledText
from finetune.understanding.tasks.task import ENGLISH, Head, Split, Task
from veco import VecoConfig

TRAINS_CROSS_ATTENTION = "ca_mlm"  # the start of such an objective in pretrain.recipe


@dataclass(frozen=True)
class LabelledTests:
    """The languages of a task's tests whose labels are known, and others with the reason why theirs are hidden."""

    languages: Sequence[str] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """The reason why no test can be scored, empty if one can."""
        if self.languages:
            return ""
        return f"tests without labels ({next(iter(self.hidden.values()))})" if self.hidden else "no test files"


def tests_of(task: Task, comparison: Comparison) -> LabelledTests:
    """The requested tests of a task. Raises ValueError for a missing test, and for bad files.

    Labels are read here, lest a comparison find after hours of training that a test has none. The hub hides no labels,
    and its tests are not downloaded for this.
    """
    if not languages_with(task, Split.TEST, comparison.data):
        return LabelledTests()
    languages = languages_tested(task, comparison.data, comparison.wanted_languages(task.name))
    if is_hub(comparison.data):
        return LabelledTests(languages)
    gold, hidden = read_shown_gold(task, languages, comparison.data)
    return LabelledTests(list(gold), hidden)


def missing(group: Group, comparison: Comparison, tests: LabelledTests) -> str:
    """The data that a group needs and that is missing; empty if there is all.

    Raises ValueError for languages of a recipe that are missing.
    """
    task = task_named(group.task)
    if reason := tests.missing:
        return reason
    if task.head is Head.MINING and not languages_with(task, Split.DEV, comparison.data):
        return "no dev files"
    if task.is_retrieval:
        return ""
    if ENGLISH not in languages_with(task, Split.TRAIN, comparison.data):
        return "no English training text"
    if not languages_with(task, Split.DEV, comparison.data):
        return "no dev files"
    return missing_translations(task, recipe_values(group, comparison)) if group.setting != "transfer" else ""


def missing_translations(task: Task, values: Mapping[str, Any]) -> str:
    """The reason why translate-train-all cannot be trained, empty if it can; `values` are those of the recipe."""
    translated = str(values.get("translated_train") or values["data"])
    found = [language for language in languages_with(task, Split.TRANSLATE_TRAIN, translated) if language != ENGLISH]
    if not found:
        return "no translated training text"
    languages = translated_languages(task, translated, str(values.get("languages", "")))
    if absent := [language for language in languages if language not in found]:
        raise ValueError(f"{translated}: has no translated training text of {task.name} in {', '.join(absent)}")
    if task.head is Head.TOKEN:
        first = next(iter(read_tagged(task, Split.TRANSLATE_TRAIN, languages[0], translated)))
        if first.tags is None:
            return "translated training text without tags, which finetune.understanding.label writes"
    if values["plug_in"] and task.head is not Head.SPAN:
        return unequal_rows(task, str(values["data"]), translated, languages)
    return ""


def unequal_rows(task: Task, data: str, translated: str, languages: Sequence[str]) -> str:
    """The reason why rows are no pairs, empty if they are: as many as in English, or with originals beside them."""
    num_english = sum(1 for _ in read(task, Split.TRAIN, ENGLISH, data))
    unequal = []
    for language in languages:
        rows = (has_original(one) for one in read(task, Split.TRANSLATE_TRAIN, language, translated))
        own = Counter(rows)
        if own[False] and own.total() != num_english:
            unequal.append(f"{own.total():,} in {language}")
    return f"no pairs: {num_english:,} training rows in {ENGLISH}, {', '.join(unequal)}" if unequal else ""


def has_original(example: Example) -> bool:
    """Whether a translation has the English pair beside it."""
    return isinstance(example, LabelledText) and example.original is not None


def available(
    groups: Sequence[Group], comparison: Comparison
) -> tuple[list[Group], dict[str, str], dict[str, LabelledTests]]:
    """(the groups whose data is complete, {other group: what it lacks}, {task: its tests}).

    Raises ValueError when there is no data, not enough for any group, or a bad file.
    """
    check_root(comparison.data, "data")
    tests: dict[str, LabelledTests] = {}
    reasons, problems = {}, []
    for group in groups:
        try:
            if group.task not in tests:
                tests[group.task] = tests_of(task_named(group.task), comparison)
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


def languages_in_own_pairs(runs: Sequence[Run], tested: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """{plugged-in group: its tested languages without translations in `translated_test`}."""
    found = {}
    recipes = {run.group: run.recipe for run in runs if run.recipe is not None and run.recipe.plug_in}
    for group, recipe in recipes.items():
        translated = recipe.translated_test
        have = languages_with(task_named(group.task), Split.TEST, translated) if translated else ()
        if own := [language for language in tested[group.task] if language != ENGLISH and language not in have]:
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
    objective = re.search(r"^objective: (\S+)$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return objective[1] if objective and not objective[1].startswith(TRAINS_CROSS_ATTENTION) else ""


def check_models(runs: Sequence[Run], comparison: Comparison) -> None:
    """Raise ValueError for models with which a run would fail after hours of other runs.

    With different tokenizers, trained VECOs and XLM-Rs would not see the same rows; retrieval has no such rows, and
    other encoders come with tokenizers of their own.
    """
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
    trained = [run.init_from for run in runs if run.recipe is not None]
    if same := [directory for directory in trained if isinstance(encoders[directory].config, VecoConfig)]:
        check_same_tokenizers(same)


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
