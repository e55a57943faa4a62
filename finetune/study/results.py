"""What the finished steps of a study show: the cells of its table, their differences, the numbers of its probes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from finetune.study.cells import Column, Kind, kind_of
from finetune.study.plan import StudyPlan
from finetune.study.probes import probe_results, probe_results_by_layer, probed_models
from finetune.understanding.comparison.findings import differences_of
from finetune.understanding.comparison.plan import Result
from finetune.understanding.comparison.report import score_name
from finetune.understanding.comparison.significance import Difference
from finetune.understanding.metrics.scoring import AVERAGE


@dataclass(frozen=True)
class Cell:
    """The scores in percent of the finished runs of a model in a column, by seed."""

    model: str
    column: str
    kind: Kind
    scores: Mapping[int, float]
    metrics: Sequence[Mapping[str, Mapping[str, float]]]  # of each seed: language or "avg" -> metric -> percent

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.scores.values())

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None


@dataclass
class Findings:
    """The results so far. Differences, which take a while, are computed once for a column and a set of models."""

    plan: StudyPlan
    differences: dict[str, tuple[frozenset[str], Sequence[Difference]]] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """The cells with a finished run, row by row."""
        results = {column.name: column.plan.results() for column in self.plan.columns}
        found = []
        for model in self.plan.study.rows:
            for column in self.plan.columns:
                if own := [result for result in results[column.name] if result.model == model]:
                    found.append(cell_of(model, column, own, self.plan))
        return found

    def update_differences(self, of_unfinished: bool) -> None:
        """Test the differences of columns whose runs are all finished; with `of_unfinished`, of the models that are."""
        for column in self.plan.columns:
            done = [model for model in self.plan.study.rows if column.is_done(model)]
            if len(done) < len(self.plan.study.rows) and not of_unfinished:
                continue
            if len(done) > 1 and self.differences.get(column.name, (None,))[0] != frozenset(done):
                self.differences[column.name] = frozenset(done), differences_between(column, done)

    def all_differences(self) -> dict[str, Sequence[Difference]]:
        """Column -> the differences between its models, on the average of its tests alone."""
        return {
            column.name: [one for one in self.differences[column.name][1] if one.language == AVERAGE]
            for column in self.plan.columns
            if column.name in self.differences
        }

    def probes(self) -> dict[str, dict[str, float]]:
        """Model -> name of a number -> the number, of the finished probes."""
        study, found = self.plan.study, dict[str, dict[str, float]]()
        for name, probe in study.probes.items():
            for model in probed_models(probe, study):
                found.setdefault(model, {}).update(probe_results(name, model, study, self.plan.places))
        return {model: numbers for model, numbers in found.items() if numbers}

    def by_layer(self) -> dict[str, dict[str, dict[int, float]]]:
        """Name of a number -> model -> layer -> the number, of the finished probes."""
        study, found = self.plan.study, dict[str, dict[str, dict[int, float]]]()
        for name, probe in study.probes.items():
            for model in probed_models(probe, study):
                for number, curve in probe_results_by_layer(name, model, study, self.plan.places).items():
                    found.setdefault(number, {})[model] = curve
        return found


def cell_of(model: str, column: Column, results: Sequence[Result], plan: StudyPlan) -> Cell:
    """The cell of a model in a column."""
    scores = {result.seed: result.score(AVERAGE) for result in results if result.seed is not None}
    return Cell(model, column.name, kind_of(model, column, plan.study), scores, [result.scores for result in results])


def differences_between(column: Column, models: Sequence[str]) -> list[Difference]:
    """The tested differences of these models in a column; none without the baseline, if one is given."""
    comparison = column.plan.comparison
    baseline = comparison.significance.get("baseline")
    if baseline is not None and baseline not in models:
        return []
    runs = [run for run in column.plan.runs if run.model in models]
    some = replace(comparison, models={name: comparison.models[name] for name in models})
    planned = replace(column.plan, comparison=some, runs=runs)
    return differences_of(planned.results(), column.group, planned)


def score_of(column: Column) -> str:
    """The name of what the cells of a column show."""
    return score_name(column.task)


@dataclass(frozen=True)
class Comparisons:
    """How often cells of one kind are above cells of another in the same column."""

    better: Kind
    worse: Kind
    held: int
    total: int

    @property
    def share(self) -> float:
        """The share in which they are, in percent."""
        return 100 * self.held / self.total


def comparisons_of(cells: Sequence[Cell]) -> list[Comparisons]:
    """Own above foreign, foreign above the control, own above the control, over all pairs of cells of a column."""
    found = []
    for better, worse in ((Kind.OWN, Kind.FOREIGN), (Kind.FOREIGN, Kind.CONTROL), (Kind.OWN, Kind.CONTROL)):
        pairs = [
            one.mean > other.mean
            for one in cells
            for other in cells
            if (one.kind, other.kind) == (better, worse) and one.column == other.column
        ]
        if pairs:
            found.append(Comparisons(better, worse, sum(pairs), len(pairs)))
    return found
