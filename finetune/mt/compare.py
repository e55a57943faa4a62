"""Compare initialisations of a translation model with equal budgets: VECO, XLM, random; first or last layers; seeds.

    python -m finetune.mt.compare COMPARE.yaml --output DIR

Trains, averages, translates and scores every run by the commands that a user would type, each in its own process, and
writes DIR/table.md, DIR/results.json and DIR/learning_curves.png: the paper's tables 3 (right) and 4 (VECO, ACL 2021).
Finished stages are skipped, so an interrupted comparison continues where it stopped; the table is rewritten after each
run, from the runs that are finished.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from finetune.comparison import check_same_tokenizers, mean_and_deviation, without_places
from finetune.mt import comparison_configuration as comparison_file
from finetune.mt.comparison_configuration import Comparison, Run, read_comparison, runs_of, stages_of
from finetune.mt.decoding.input_lines import count_lines
from finetune.mt.recipe import TranslationRecipe
from finetune.mt.translation_task import check_model
from finetune.steps import Step, check_unchanged, held, parse_steps, run_steps, steps_parser
from training.figures import pyplot, save
from training.meters import read_metrics

# The table shows those that all runs have: for instance, no tokenized BLEU for languages without spaces between words.
SCORES = {"sacrebleu": "sacreBLEU", "chrf": "chrF", "tokenized_bleu_lc": "tokenized BLEU -lc"}
COMPARISONS = Path(__file__).resolve().parent / "comparisons"

MICRO_BATCHES = "micro-batches of an update"  # of all processes, which may be more than the recipe's


@dataclass(frozen=True)
class Result:
    """The scores and learning curve of one run."""

    name: str
    group: str
    model: str
    seed: int
    scores: dict[str, float]
    signatures: dict[str, str]
    best: float  # value of the recipe's best_by
    best_nll: float
    curve: dict[str, list[tuple[int, float]]]  # validation metric -> (update, value)
    updates_to_baseline: int | None = None  # until as good as the baseline's best; None if never, or without a baseline


def read_result(run: Run) -> Result | None:
    """The result of a run, or None while it is unfinished."""
    directory = Path(run.recipe.output)
    if not (directory / "score.json").is_file():
        return None
    scores = json.loads((directory / "score.json").read_text(encoding="utf-8"))["scores"]
    lines = read_metrics(directory)
    curve = {
        name: [(int(line["step"]), line[f"valid/{name}"]) for line in lines if f"valid/{name}" in line]
        for name in dict.fromkeys(["nll", run.recipe.best_by])
    }
    return Result(
        name=run.name,
        group=run.group,
        model=run.model,
        seed=run.seed,
        scores={name: scores[name]["value"] for name in SCORES if name in scores},
        signatures={name: scores[name]["signature"] for name in SCORES if name in scores},
        best=best_of(curve[run.recipe.best_by], run.recipe.metrics()[run.recipe.best_by]),
        best_nll=min(value for _, value in curve["nll"]),
        curve=curve,
    )


def best_of(points: Sequence[tuple[int, float]], goal: str) -> float:
    """The best value of a metric; `goal` is "lowest" or "highest"."""
    values = [value for _, value in points]
    return min(values) if goal == "lowest" else max(values)


def updates_until(points: Sequence[tuple[int, float]], wanted: float, goal: str) -> int | None:
    """The update of the first validation that is at least as good as `wanted`; None if there is none."""
    sign = 1 if goal == "lowest" else -1
    return next((step for step, value in points if sign * value <= sign * wanted), None)


def with_baseline(results: Sequence[Result], runs: Sequence[Run], baseline: str | None) -> list[Result]:
    """The results with the updates each needed to be as good as the best of the baseline of its decoder and seed."""
    by_name = {result.name: result for result in results}
    found = []
    for run in runs:
        result = by_name.get(run.name)
        if result is None:
            continue
        twin = by_name.get(replace(run, model=baseline).name) if baseline else None
        if twin is not None:
            best_by = run.recipe.best_by
            updates = updates_until(result.curve[best_by], twin.best, run.recipe.metrics()[best_by])
            result = replace(result, updates_to_baseline=updates)
        found.append(result)
    return found


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each group, in the order of first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return groups


def table(results: Sequence[Result], comparison: Comparison, num_runs: int) -> str:
    """The results as a Markdown table: a row for each model and decoder, mean ± sd over seeds."""
    baseline = comparison.baseline
    shown = [name for name in SCORES if all(name in result.scores for result in results)]
    head = ["initialisation", "seeds", *(SCORES[name] for name in shown), "valid nll"]
    head += [f"updates to {baseline}'s best"] if baseline else []
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for group, members in grouped(results).items():
        cells = [group, ", ".join(str(member.seed) for member in members)]
        cells += [mean_and_deviation([member.scores[name] for member in members]) for name in shown]
        cells.append(mean_and_deviation([member.best_nll for member in members]))
        if baseline:
            updates = [member.updates_to_baseline for member in members]
            cells.append(", ".join("never" if update is None else f"{update:,}" for update in updates))
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{len(results)} of {num_runs} runs are done."] if len(results) < num_runs else []
    if results:
        notes.append("; ".join(f"{name}: `{results[0].signatures[name]}`" for name in shown))
    return "\n".join([*lines, "", *notes]) + "\n"


def write_report(results: Sequence[Result], comparison: Comparison, num_runs: int, output: Path) -> None:
    """Write table.md, results.json and learning_curves.png for the finished runs."""
    content = {"comparison": asdict(comparison), "results": [asdict(result) for result in results]}
    texts = {
        "table.md": table(results, comparison, num_runs),
        "results.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    }
    write_texts(output, texts)
    draw(grouped(results), output / "learning_curves.png")


def draw(groups: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Plot the validation metrics over updates: the mean over seeds, and their range as a band."""
    metrics = list(dict.fromkeys(name for members in groups.values() for member in members for name in member.curve))
    figure, axes = pyplot().subplots(1, len(metrics), figsize=(6 * len(metrics), 4), squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for group, members in groups.items():
            curves = [dict(member.curve[metric]) for member in members]
            # Runs that ended early lack later points: only the updates that all seeds have are comparable.
            steps = sorted(set.intersection(*map(set, curves)))
            values = [[curve[step] for curve in curves] for step in steps]
            (line,) = axis.plot(steps, [statistics.fmean(row) for row in values], marker="o", markersize=3, label=group)
            axis.fill_between(steps, list(map(min, values)), list(map(max, values)), alpha=0.2, color=line.get_color())
        axis.set(title=f"validation {metric}", xlabel="update", ylabel=metric)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    save(figure, [path], dpi=120)


def compare(path: Path, output: Path, parallel: int = 1) -> None:
    """Do all unfinished runs. Raises ValueError for mistakes in the comparison before the first, or for failed runs."""
    comparison = read_comparison(path)
    runs = runs_of(comparison, output)
    check_files(runs, comparison)
    steps = [Step(run.name, Path(run.recipe.output), tuple(stages_of(run, comparison))) for run in runs]

    def report() -> None:
        done = [result for result in map(read_result, runs) if result is not None]
        write_report(with_baseline(done, runs, comparison.baseline), comparison, len(runs), output)

    with held(output):
        settings = settings_of(runs, comparison)
        # What an update has is recorded since a later version: what was begun before is taken to have as much as now.
        defaults = {**TranslationRecipe.defaults(), MICRO_BATCHES: settings[runs[0].name][MICRO_BATCHES]}
        begun = [step.name for step in steps if step.has_written]
        check_unchanged(settings, output, begun, defaults)
        run_steps(steps, report, parallel, comparison.processes, own_logs=parallel > 1)
    print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}\n{output / 'learning_curves.png'}")


def check_files(runs: Sequence[Run], comparison: Comparison) -> None:
    """Raise ValueError or OSError for bad models and test files, which would otherwise be found hours later."""
    count_lines(comparison.test["source"], comparison.test["target"])
    check_same_tokenizers(run.recipe.init_from for run in runs)
    for run in runs:
        check_model(run.recipe)


def settings_of(runs: Sequence[Run], comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Name of each run -> its settings for training and testing."""
    testing = {"average": comparison.average, "generate": comparison.generate, "test": comparison.test}
    return {
        run.name: {
            **without_places(asdict(run.recipe)),
            MICRO_BATCHES: run.recipe.micro_batches_an_update(comparison.processes),
            **testing,
        }
        for run in runs
    }


def main() -> None:
    parser = steps_parser("finetune.mt.compare", f"{__doc__}\n{comparison_file.__doc__}", COMPARISONS)
    arguments = parse_steps(parser)
    compare(arguments.file, arguments.output, arguments.parallel)


if __name__ == "__main__":
    run_main(main)
