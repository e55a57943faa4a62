"""The tables of a comparison, in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetune.comparison import mean_and_deviation
from finetune.understanding.comparison.configuration import MIN_FOR_LAYERS, Group
from finetune.understanding.comparison.plan import Plan, Result, members
from finetune.understanding.comparison.report import MISSING, score_name, table_line
from finetune.understanding.comparison.significance import Difference, Estimate
from finetune.understanding.metrics.scoring import AVERAGE
from finetune.understanding.settings import Setting
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Head, Split

Differences = Mapping[Group, Sequence[Difference]]  # of the groups whose runs are all finished
WITH_WINDOWS = (Head.TOKEN, Head.SPAN)  # heads whose long texts become several rows
ESTIMATED_OVER = ("examples", "seeds")
DIFFERENCE_COLUMNS = (
    *("model", "baseline", "language", "difference"),
    *(f"{name}_{kind}" for kind in ESTIMATED_OVER for name in ("low", "high", "p_value")),
)
EXPLAINED = (
    "p, examples: two-sided, by a paired bootstrap of {draws:,} draws over the examples, whose middle 95 % are the "
    "interval. p, seeds: by a paired t-test over the seeds, from three on. No p is corrected for the number of tests."
)


def table(results: Sequence[Result], planned: Plan, differences: Differences) -> str:
    """All tables as Markdown, the averages first."""
    comparison = planned.comparison
    lines = ["Scores on the tests in percent; mean ± sd over the seeds."]
    if comparison.report == Split.DEV:
        has_chosen = any(run.recipe.chooses_by_validation for run in planned.runs if run.recipe is not None)
        chosen = ", which also chose the best epoch," if has_chosen else ""
        lines = [f"Scores on dev{chosen} in percent; mean ± sd over the seeds."]
    lines += ["", *overview(results, planned)]
    lines += [line for note in notes(planned) for line in ("", note)]
    if any(differences.values()):
        lines += ["", EXPLAINED.format(draws=comparison.draws)]
    for group in planned.groups:
        lines += by_language(results, group, list(comparison.models))
        lines += significance(differences.get(group, ()), columns_of(results, group))
    return "\n".join(lines) + "\n"


def overview(results: Sequence[Result], planned: Plan) -> list[str]:
    """The lines of a table of averages over the languages: a row for each group, a column for each model."""
    models = list(planned.comparison.models)
    lines = [table_line(["average over the languages", "score", *models]), table_line(["---"] * (len(models) + 2))]
    for group in planned.groups:
        averages = [[one.score(AVERAGE) for one in members(results, group, model)] for model in models]
        cells = [mean_and_deviation(own) if own else MISSING for own in averages]
        lines.append(table_line([str(group), score_name(group.definition), *cells]))
    return lines


def columns_of(results: Sequence[Result], group: Group) -> list[str]:
    """The languages of a group's results, in the order of the task, and the average; empty without results."""
    found = next((result.scores for result in results if result.group == group), None)
    if found is None:
        return []
    return [*(language for language in group.definition.languages if language in found), AVERAGE]


def by_language(results: Sequence[Result], group: Group, models: Sequence[str]) -> list[str]:
    """The lines of a table: a row for each model, a column for each language and the average; none without results."""
    rows = {model: own for model in models if (own := members(results, group, model))}
    if not rows:
        return []
    columns = columns_of(results, group)
    lines = ["", f"## {group}: {score_name(group.definition)}", ""]
    lines += [table_line(["", "seeds", *columns]), table_line(["---"] * (len(columns) + 2))]
    for model, own in rows.items():
        seeds = ", ".join(MISSING if one.seed is None else str(one.seed) for one in own)
        lines.append(table_line([model, seeds, *(mean_and_deviation([r.score(c) for r in own]) for c in columns)]))
        if own[0].layers:
            chosen = [", ".join(str(one.layers[c]) for one in own) if c != AVERAGE else "" for c in columns]
            lines.append(table_line([f"{model}: layer", seeds, *chosen]))
    return lines


def significance(differences: Sequence[Difference], columns: Sequence[str]) -> list[str]:
    """The lines of a table of differences with their intervals and p-values; none without differences."""
    if not differences:
        return []
    lines = ["", table_line(["difference", "", *columns]), table_line(["---"] * (len(columns) + 2))]
    for model, baseline in dict.fromkeys((one.model, one.baseline) for one in differences):
        own = {one.language: one for one in differences if (one.model, one.baseline) == (model, baseline)}
        cells = [own[column] for column in columns]
        lines.append(table_line([f"{model} − {baseline}", "", *(f"{one.difference:+.2f}" for one in cells)]))
        rows = {
            "95 %, examples": [interval(one.over_examples) for one in cells],
            "p, examples": [p_value(one.over_examples) for one in cells],
            "p, seeds": [p_value(one.over_seeds) for one in cells],
        }
        lines += [table_line(["", name, *row]) for name, row in rows.items() if set(row) != {MISSING}]
    return lines


def interval(estimate: Estimate | None) -> str:
    """The interval of a difference."""
    return MISSING if estimate is None else f"{estimate.low:+.2f} to {estimate.high:+.2f}"


def p_value(estimate: Estimate | None) -> str:
    """The p-value of a difference."""
    return MISSING if estimate is None else f"{estimate.p_value:.3f}"


def notes(planned: Plan) -> list[str]:
    """Remarks that the tables do not make."""
    found = []
    if planned.num_done < len(planned.runs):
        found.append(f"{planned.num_done} of {len(planned.runs)} runs are done.")
    for reason in dict.fromkeys(planned.left_out.values()):
        names = (name for name, why in planned.left_out.items() if why == reason)
        found.append(f"Left out ({reason}): {'; '.join(names)}.")
    for task, hidden in planned.hidden.items():
        reason = next(iter(hidden.values()))
        found.append(f"{task_named(task).title}: no labels are known in {', '.join(hidden)} ({reason}).")
    if planned.untrained:
        models = ", ".join(f"{name} ({objective})" for name, objective in planned.untrained.items())
        found.append(f"Plugged in, but pre-training did not train the cross-attention: {models}.")
    found += _notes_of_tokenizers(planned)
    if planned.chosen_on_tests and planned.comparison.report == Split.TEST:
        same = (f"{group} ({', '.join(languages)})" for group, languages in planned.chosen_on_tests.items())
        found.append(
            "The dev set is the test, and the best epoch is chosen on what is reported (with `keep_best: 0` and "
            f"`keep_checkpoints: 1` none is chosen): {'; '.join(same)}."
        )
    if planned.own_pairs:
        own = (f"{group} ({', '.join(languages)})" for group, languages in planned.own_pairs.items())
        found.append(f"Without translations into English, tests are their own pairs: {'; '.join(own)}.")
    for group in planned.groups:
        found += _notes_of_group(group, planned)
    return found


def _notes_of_tokenizers(planned: Plan) -> list[str]:
    """Remarks on models whose rows are not the same."""
    if len(planned.tokenizers) < 2:
        return []
    names = " | ".join(", ".join(members) for members in planned.tokenizers)
    found = [f"Different tokenizers ({names}): the same examples, but not the same tokens."]
    by_epochs = [
        run.group.definition.title
        for run in planned.runs
        if run.recipe is not None and run.recipe.epochs and run.group.definition.head in WITH_WINDOWS
    ]
    if by_epochs:
        found.append(
            f"{', '.join(dict.fromkeys(by_epochs))}: long texts become several rows, and how many depends on the "
            "tokenizer; equal epochs are not equally many updates (`steps` would make them equal)."
        )
    return found


def _notes_of_group(group: Group, planned: Plan) -> list[str]:
    """Remarks on one group."""
    tested = planned.languages[group.task]
    if group.setting == Setting.INDIVIDUAL:
        own = list(dict.fromkeys(run.language for run in planned.runs if run.group == group))
        return [f"{group}: a model for each of {', '.join(own)}; the average is over these alone."]
    if group.definition.is_retrieval and len(tested) < MIN_FOR_LAYERS:
        asked = planned.comparison.retrieval_flags(group.task)
        layer = asked.get("layer", "as finetune.understanding.predict has it")
        return [f"{group}: one language, and no other to choose a layer on; layer {layer}."]
    return []


def scores_csv(results: Sequence[Result], planned: Plan) -> str:
    """CSV with a line for each group, model and language: mean and sample sd over the seeds."""
    rows = []
    for group in planned.groups:
        for model in planned.comparison.models:
            own = members(results, group, model)
            for language in columns_of(own, group):
                scores = [one.score(language) for one in own]
                deviation = statistics.stdev(scores) if len(scores) > 1 else ""
                score = {"score": score_name(group.definition), "seeds": len(own)}
                rows.append(
                    {**_group_cells(group), "model": model, "language": language, **score}
                    | {"mean": statistics.fmean(scores), "sd": deviation}
                )
    return csv_text(("task", "setting", "mode", "model", "language", "score", "seeds", "mean", "sd"), rows)


def significance_csv(differences: Differences) -> str:
    """CSV with a line for each group, pair of models and language."""
    columns = ("task", "setting", "mode", *DIFFERENCE_COLUMNS)
    rows = [{**_group_cells(group), **difference_cells(one)} for group, own in differences.items() for one in own]
    return csv_text(columns, rows)


def difference_cells(one: Difference) -> dict[str, Any]:
    """The cells of a difference in CSV, without estimates that it does not have."""
    cells = {name: getattr(one, name) for name in ("model", "baseline", "language", "difference")}
    for kind, estimate in zip(ESTIMATED_OVER, (one.over_examples, one.over_seeds), strict=True):
        if estimate is not None:
            cells |= {f"low_{kind}": estimate.low, f"high_{kind}": estimate.high, f"p_value_{kind}": estimate.p_value}
    return cells


def _group_cells(group: Group) -> dict[str, str]:
    return {"task": group.definition.name, "setting": group.setting, "mode": group.mode}


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of a CSV file; cells that a row lacks are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
