"""The plan of a comparison: the runs that its data and models allow, their results, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.command_stages import Stage
from finetune.comparison import without_places
from finetune.understanding.comparison.availability import (
    available,
    check_models,
    individual_languages,
    languages_chosen_on_tests,
    languages_in_own_pairs,
    tokenizers_of,
    without_cross_attention,
)
from finetune.understanding.comparison.configuration import MIN_FOR_LAYERS, TRANSLATE_TEST, Comparison, Group, groups_of
from finetune.understanding.comparison.runs import Run, runs_of
from finetune.understanding.comparison.stages import result_of, settings_of, stages_of, translation_stages
from finetune.understanding.metrics.scoring import AVERAGE, average, task_score
from finetune.understanding.settings import Setting
from finetune.understanding.tasks.task import Split


@dataclass(frozen=True)
class Result:
    """The scores of one run, or of the runs of all languages of individual training."""

    name: str
    group: Group
    model: str
    seed: int | None
    scores: dict[str, dict[str, float]]  # language or "avg" -> metric -> percent
    layers: dict[str, int] = field(
        default_factory=dict
    )  # language -> the layer that finetune.understanding.layers chose

    def score(self, language: str) -> float:
        """The score of the task in a language, or its average."""
        return task_score(self.group.definition, self.scores[language])


@dataclass(frozen=True)
class Plan:
    """The runs that the data and models of a comparison allow, and what is left out, with the reason."""

    comparison: Comparison
    runs: Sequence[Run]
    languages: Mapping[str, Sequence[str]]  # of each task's tests
    left_out: Mapping[str, str]
    hidden: Mapping[str, Mapping[str, str]]  # task -> language whose labels are not known -> why
    own_pairs: Mapping[str, Sequence[str]]  # group that is plugged in -> languages without translations into English
    untrained: Mapping[str, str]  # model whose cross-attention was not trained -> its pre-training
    tokenizers: Sequence[Sequence[str]] = ()  # the trained models, those with the same tokenizer together
    # Group whose epochs are chosen by dev -> tested languages whose dev set is the test.
    chosen_on_tests: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def groups(self) -> list[Group]:
        """The groups in which models are compared, in order."""
        return list(dict.fromkeys(run.group for run in self.runs))

    @property
    def num_done(self) -> int:
        """The number of finished runs."""
        return sum(self.is_done(run) for run in self.runs)

    def tested(self, run: Run) -> Sequence[str]:
        """The languages that a run is tested in."""
        return [run.language] if run.language else self.languages[run.group.task]

    def stages(self, run: Run) -> list[Stage]:
        """The commands of a run."""
        return stages_of(run, self.comparison, self.tested(run))

    def is_done(self, run: Run) -> bool:
        """Whether a run is finished."""
        return self.result(run).is_file()

    def result(self, run: Run) -> Path:
        """The file of a finished run's scores."""
        return result_of(run, self.tested(run))

    def runs_of(self, group: Group, model: str) -> list[Run]:
        """The runs of a model in a group."""
        return [run for run in self.runs if (run.group, run.model) == (group, model)]

    def translations(self) -> list[Stage]:
        """The translations of tests, which all runs share."""
        groups = [group for group in self.groups if group.setting == TRANSLATE_TEST]
        own = {group: [run for run in self.runs if run.group == group] for group in groups}
        stages = [translation_stages(own[group], self.comparison, self.languages[group.task]) for group in groups]
        return list({stage.result: stage for of_group in stages for stage in of_group}.values())

    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of each run, by its name."""
        return {run.name: without_places(settings_of(run, self.comparison, self.tested(run))) for run in self.runs}

    def has_predictions(self, group: Group) -> bool:
        """Whether the runs of a group leave predictions behind; the choice of a layer leaves scores alone."""
        return not group.definition.is_retrieval or len(self.languages[group.task]) < MIN_FOR_LAYERS

    def results(self) -> list[Result]:
        """The results of the finished runs; of individual training, where the runs of all languages are finished."""
        found = []
        together: dict[tuple[Group, str, int | None], list[Run]] = {}
        for run in self.runs:
            together.setdefault((run.group, run.model, run.seed), []).append(run)
        for runs in together.values():
            parts = [read_result(run, self.result(run)) for run in runs]
            results = [part for part in parts if part is not None]
            if len(results) == len(runs):
                found.append(joined(runs, results))
        return found


def plan(comparison: Comparison, output: Path) -> Plan:
    """The plan of a comparison. Raises ValueError, before the first run, for all that is certain to fail."""
    groups, left_out, tests = available(groups_of(comparison), comparison)
    individual = {
        group: individual_languages(group, comparison, tests[group.task])
        for group in groups
        if group.setting == Setting.INDIVIDUAL
    }
    runs = runs_of(groups, comparison, output, individual)
    encoders = check_models(runs, comparison)
    plugged_in = {run.model: run for run in runs if run.recipe is not None and run.recipe.plug_in}
    pretrained = {name: run for name, run in plugged_in.items() if run.recipe and run.recipe.init == "pretrained"}
    untrained = {name: without_cross_attention(Path(run.init_from)) for name, run in pretrained.items()}
    compared = {group.task: tests[group.task] for group in groups}
    tested = {task: own.languages for task, own in compared.items()}
    return Plan(
        comparison,
        runs,
        tested,
        left_out,
        {task: own.hidden for task, own in compared.items() if own.hidden},
        languages_in_own_pairs(runs, tested, Split(comparison.report)),
        {name: objective for name, objective in untrained.items() if objective},
        tokenizers_of(runs, encoders),
        languages_chosen_on_tests(runs, tested, comparison),
    )


def read_result(run: Run, path: Path) -> Result | None:
    """The result of a run, None until it is finished."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    task, layers = run.group.definition, {}
    if "chosen" in content:
        (metric,) = task.main_metrics
        layers = {language: own["layer"] for language, own in content["chosen"].items()}
        scores = {language: {metric: own["score"]} for language, own in content["chosen"].items()}
        scores[AVERAGE] = {metric: content[AVERAGE]}
    else:
        scores = content[task.name]
    return Result(run.name, run.group, run.model, run.seed, scores, layers)


def joined(runs: Sequence[Run], results: Sequence[Result]) -> Result:
    """One result of the runs that differ in their language alone."""
    first, run = results[0], runs[0]
    if not run.language:
        return first
    scores = {run.language: result.scores[run.language] for run, result in zip(runs, results, strict=True)}
    scores[AVERAGE] = average(run.group.definition, scores)
    return Result(run.name.removesuffix(f"-{run.language}"), run.group, run.model, run.seed, scores)


def members(results: Sequence[Result], group: Group, model: str) -> list[Result]:
    """The results of a model in a group, one for each seed."""
    return [result for result in results if (result.group, result.model) == (group, model)]
