"""What the finished groups of a comparison show: tested differences between models, and heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune.understanding.comparison.configuration import Group
from finetune.understanding.comparison.heat_map import draw_grid
from finetune.understanding.comparison.plan import Plan, Result, members
from finetune.understanding.comparison.report import score_name
from finetune.understanding.comparison.significance import (
    Difference,
    Estimate,
    bootstrap_differences,
    seed_difference,
)
from finetune.understanding.comparison.tables import columns_of
from finetune.understanding.metrics.gold import read_gold
from finetune.understanding.metrics.prediction_files import read_predictions
from finetune.understanding.metrics.resampling import Scored, keys_of
from finetune.understanding.metrics.scoring import AVERAGE
from finetune.understanding.tasks.task import Split


def heat_map_name(group: Group) -> str:
    """The name of a group's heat map."""
    return f"heat_map-{'-'.join(group.words)}.png"


def differences_of(results: Sequence[Result], group: Group, planned: Plan) -> list[Difference]:
    """The differences between the models of a group whose runs are all finished, by language and on average."""
    comparison = planned.comparison
    pairs = comparison.pairs()
    scored = {}
    if comparison.draws and pairs and planned.has_predictions(group):
        scored = scored_models(group, planned)
    found = []
    for model, baseline in pairs:
        own, other = members(results, group, model), members(results, group, baseline)
        over_examples: dict[str, Estimate] = {}
        if scored:
            over_examples = bootstrap_differences(scored[model], scored[baseline], comparison.draws)
        for language in columns_of(results, group):
            means = [sum(one.score(language) for one in side) / len(side) for side in (own, other)]
            by_seed = [{one.seed: one.score(language) for one in side if one.seed is not None} for side in (own, other)]
            key = "" if language == AVERAGE else language
            estimates = (over_examples.get(key), seed_difference(*by_seed))
            found.append(Difference(model, baseline, language, means[0] - means[1], *estimates))
    return found


def scored_models(group: Group, planned: Plan) -> dict[str, dict[str, list[Scored]]]:
    """{model: {language: the predictions of each seed, with the labels}} of a group."""
    task, comparison = group.definition, planned.comparison
    data, split = comparison.data_of(group.task), Split(comparison.report)
    languages = list(
        dict.fromkeys(language for run in planned.runs if run.group == group for language in planned.tested(run))
    )
    found: dict[str, dict[str, list[Scored]]] = {model: {} for model in comparison.models}
    for language in languages:
        gold = read_gold(task, language, data, split)
        predicted = {
            model: [
                read_predictions(task, language, run.output / "predictions", split)
                for run in planned.runs_of(group, model)
                if language in planned.tested(run)
            ]
            for model in comparison.models
        }
        keys = keys_of(task, gold, [one for own in predicted.values() for one in own])
        for model, own in predicted.items():
            found[model][language] = [Scored(task, language, gold, one, keys) for one in own]
    return found


def draw_heat_map(results: Sequence[Result], group: Group, planned: Plan, output: Path) -> None:
    """Draw models and languages of a group: the difference to the baseline, if one is given, or else the scores."""
    columns = columns_of(results, group)
    columns = [AVERAGE, *columns[:-1]]
    baseline = planned.comparison.significance.get("baseline")
    means = {
        model: [sum(one.score(column) for one in own) / len(own) for column in columns]
        for model in planned.comparison.models
        if (own := members(results, group, model))
    }
    title = f"{group}: {score_name(group.definition)}"
    path = output / heat_map_name(group)
    if baseline is None or len(means) == 1:
        draw_grid(list(means.values()), list(means), columns, path, title)
        return
    others = [model for model in means if model != baseline]
    grid = [[own - base for own, base in zip(means[model], means[baseline], strict=True)] for model in others]
    draw_grid(grid, others, columns, path, f"{title}, less {baseline}", is_difference=True)
