"""Search the hyper-parameters of a task: a grid of learning rates, epochs and batch sizes, with several seeds.

    python -m finetune.understanding.search --config RECIPE.yaml --task TASK --output DIR [--any_field value]

The default grid is the paper's (VECO, ACL 2021, appendix C). Each run is the public command,
finetune/understanding/train.py, in a process of its own; other fields of its recipe can be given here, too. Points of
the grid are ranked by the best average score over the languages of dev, averaged over seeds. The same command again
resumes interrupted runs and skips finished ones. DIR/search.md has the table, DIR/search.json the same for programs.
The runs are below DIR/runs, each with its log and its best model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path, write_texts
from finetune.comparison import without_places
from finetune.parallel_runs import run_side_by_side
from finetune.selection import Selection, best_checkpoints
from finetune.steps import check_unchanged, held
from finetune.understanding.flags import numbers
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.settings import WITH_TRANSLATIONS, Setting
from finetune.understanding.tasks.catalogues import task_file_content
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of
from training.commands import run_command
from training.launch import EXIT_STOPPED, launcher_command
from training.recipe.parsing import parse_recipe, read_yaml
from training.run_directory.kinds import BEST, LAST, MODEL_DIR, link_model

TRAIN = Path(__file__).resolve().parent / "train.py"
OUTCOME = "outcome.json"
GRID_FLAGS = {"learning_rate": "learning-rates", "batch_size": "batch-sizes", "seed": "seeds"}  # field -> flag
TASK_FILE = "task file"  # its content among the settings
# The paper's; those with translations are for so many more updates.
RATES = dict.fromkeys(Setting, "5e-6,8e-6,1e-5,2e-5,3e-5") | dict.fromkeys(
    WITH_TRANSLATIONS, "5e-6,6e-6,7e-6,8e-6,9e-6"
)


@dataclass(frozen=True, order=True)
class GridPoint:
    """A point of the grid."""

    learning_rate: float
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class GridRun:
    """A run of the search: a point of the grid with a seed."""

    point: GridPoint
    seed: int

    @property
    def name(self) -> str:
        point = self.point
        return f"lr{point.learning_rate:g}-epochs{point.epochs}-batch{point.batch_size}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: its best validation."""

    step: int
    average: float
    scores: dict[str, float]


@dataclass(frozen=True)
class GridScore:
    """A point with the mean and the standard deviation over its seeds (0 for one seed)."""

    point: GridPoint
    mean: float
    deviation: float
    averages: list[float]  # of the seeds


def outcome_of(run_dir: Path) -> Outcome | None:
    """The outcome of a run that is finished and settled; None for one that is not there or not finished."""
    path = run_dir / OUTCOME
    return Outcome(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def settle(run_dir: Path) -> bool:
    """Whether a run is finished; if so, reduce it to its best model, in `run_dir`/model, and its outcome.

    The checkpoints of a whole grid would fill disks. If it is interrupted, call it again to continue.
    """
    checkpoints = run_dir / "checkpoints"
    if outcome_of(run_dir) is None:
        outcome = best_validation(run_dir)
        if outcome is None:
            return False
        with atomic_path(run_dir / OUTCOME) as temporary:
            temporary.write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    if checkpoints.is_dir():
        if not (run_dir / MODEL_DIR).is_dir():
            os.replace(best_checkpoints(run_dir, 1)[0] / MODEL_DIR, run_dir / MODEL_DIR)
        link_model(run_dir / BEST, run_dir / MODEL_DIR)
        link_model(run_dir / LAST, None)
        shutil.rmtree(checkpoints)
    return True


def best_validation(run_dir: Path) -> Outcome | None:
    """The best validation of a run that is over; None for any other."""
    found = checkpoints_of(run_dir)
    if not found:
        return None
    newest = found[max(found)]
    selection, recipe = Selection.read(newest), read_yaml(newest / RECIPE_FILE)
    selection.patience = recipe["patience"]
    if max(found) < recipe["steps"] and not selection.is_over():
        return None
    step = selection.ranked()[0]
    scores = selection.validations[step]
    return Outcome(step, scores[selection.best_by], scores)


def command_of(
    run: GridRun,
    run_dir: Path,
    ranks: int,
    recipe_arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """The command that starts or resumes a run; `ranks` 0 is for one process without the launcher."""
    arguments = [*recipe_arguments, *flags_of_run(run, run_dir)]
    if not ranks:
        return [sys.executable, str(TRAIN), *arguments]
    return launcher_command(ranks, str(TRAIN), *arguments, environment=environment)


def do_run(run: GridRun, directory: Path, ranks: int, share: dict[str, str], recipe_arguments: Sequence[str]) -> None:
    """Train, unless the run is finished. Raises ValueError with the log's last line when training fails."""
    run_dir = directory / "runs" / run.name
    if settle(run_dir):
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **share}
    log = run_dir / "log.txt"
    with log.open("a", encoding="utf-8") as file:
        command = command_of(run, run_dir, ranks, recipe_arguments, environment)
        code = run_command(command, environment, file)
    if code == EXIT_STOPPED:
        raise ValueError(f"{run.name} ended early (see {log} for the reason); run the same command again to continue")
    if code or not settle(run_dir):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        errors = [line for line in lines if line.startswith("error: ")]
        raise ValueError(f"{run.name} did not finish: {(errors or lines)[-1].removeprefix('error: ')} (see {log})")


def run_all(
    runs: Sequence[GridRun], directory: Path, parallel: int, ranks: int, recipe_arguments: Sequence[str]
) -> None:
    """Run all that is not finished, `parallel` at once. Raises ValueError that names the runs that failed."""
    run_side_by_side(
        runs,
        lambda run, share: do_run(run, directory, ranks, share, recipe_arguments),
        parallel,
        max(1, ranks),
        name=lambda run: run.name,
    )


def grid_scores(runs: Sequence[GridRun], directory: Path) -> list[GridScore]:
    """The points whose seeds are all finished, best mean first; ties in the order of the grid."""
    outcomes: dict[GridPoint, list[Outcome | None]] = {}
    for run in runs:
        outcomes.setdefault(run.point, []).append(outcome_of(directory / "runs" / run.name))
    scores = []
    for point, of_seeds in outcomes.items():
        found = [outcome.average for outcome in of_seeds if outcome is not None]
        if len(found) == len(of_seeds):
            deviation = statistics.stdev(found) if len(found) > 1 else 0.0
            scores.append(GridScore(point, statistics.fmean(found), deviation, found))
    return sorted(scores, key=lambda score: -score.mean)


def table_of(scores: Sequence[GridScore]) -> str:
    """The points as a Markdown table."""
    lines = ["| learning rate | epochs | batch | dev average | seeds |", "|---|---|---|---|---|"]
    lines += [
        f"| {score.point.learning_rate:g} | {score.point.epochs} | {score.point.batch_size} | "
        f"{score.mean:.2f} ± {score.deviation:.2f} | {', '.join(f'{average:.2f}' for average in score.averages)} |"
        for score in scores
    ]
    return "\n".join(lines) + "\n"


def grid(options: argparse.Namespace, setting: str) -> list[GridRun]:
    """All runs of the grid, the seeds of a point one after the other."""
    rates = numbers("learning-rates", options.learning_rates or RATES[Setting(setting)], float)
    epochs = numbers("epochs", options.epochs, int)
    batch_sizes = numbers("batch-sizes", options.batch_sizes, int)
    seeds = numbers("seeds", options.seeds, int)
    points = itertools.starmap(GridPoint, itertools.product(rates, epochs, batch_sizes))
    return [GridRun(point, seed) for point in points for seed in seeds]


def check_runs(runs: Sequence[GridRun], recipe_arguments: Sequence[str]) -> None:
    """Raise ValueError for a point of the grid that the recipe does not allow, before the first run."""
    for run in runs:
        parse_recipe(UnderstandingRecipe, [*recipe_arguments, *flags_of_run(run, Path(run.name))])


def flags_of_run(run: GridRun, run_dir: Path) -> list[str]:
    """The fields in which the recipe of a run differs from the others', as arguments."""
    own = {**asdict(run.point), "seed": run.seed, "output": run_dir, "resume": "auto"}
    return [word for name, value in own.items() for word in (f"--{name}", str(value))]


def settings_of(
    runs: Sequence[GridRun], recipe: UnderstandingRecipe, task_file: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The settings of each run, by its name, which must not change once it has begun."""
    common = without_places(asdict(recipe))
    common |= {} if task_file is None else {TASK_FILE: task_file}
    return {run.name: {**common, **asdict(run.point), "seed": run.seed} for run in runs}


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """(options of the search, arguments for the recipe of its runs)."""
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="RECIPE.yaml", help="recipe of finetune/understanding/train.py")
    parser.add_argument("--task", help="task, if not the recipe's")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the search")
    parser.add_argument("--learning-rates", default="", help="default: the paper's five for the recipe's setting")
    parser.add_argument("--epochs", default="3,5,10", help="default %(default)s")
    parser.add_argument("--batch-sizes", default="16,32,64", help="rows in an update (default %(default)s)")
    parser.add_argument("--seeds", default="1", help="such as 1,2,3 (default %(default)s)")
    parser.add_argument("--parallel", type=int, default=1, help="runs at once (default %(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="processes of each run (default %(default)s)")
    parser.add_argument("--resume", nargs="?", help="not needed: interrupted runs are always resumed")
    options, others = parser.parse_known_args()
    given = {word.split("=")[0].replace("-", "_") for word in others}
    if of_grid := [name for name in GRID_FLAGS if f"__{name}" in given]:
        raise ValueError(f"--{of_grid[0]} is not a flag of the search; its grid has --{GRID_FLAGS[of_grid[0]]}")
    shared = {"--config": options.config, "--task": options.task}
    return options, [*(word for name, value in shared.items() if value for word in (name, value)), *others]


def main() -> None:
    options, recipe_arguments = parse_arguments()
    recipe = parse_recipe(UnderstandingRecipe, [*recipe_arguments, "--output", str(options.output)])
    runs = grid(options, recipe.setting)
    check_runs(runs, recipe_arguments)
    ranks = options.ranks if recipe.engine == "deepspeed" else 0
    task_file = task_file_content(recipe.task)
    # Earlier searches did not record the file.
    defaults = {**recipe.defaults(), TASK_FILE: task_file}
    with held(options.output):
        check_unchanged(settings_of(runs, recipe, task_file), options.output, defaults=defaults)
        try:
            run_all(runs, options.output, options.parallel, ranks, recipe_arguments)
        finally:
            # Report the finished runs even if others failed or the search was stopped.
            report(grid_scores(runs, options.output), options.output)


def report(scores: Sequence[GridScore], directory: Path) -> None:
    """Write and print the table, unless it is empty."""
    if not scores:
        return
    content = {"best": asdict(scores[0].point), "points": [asdict(score) for score in scores]}
    write_texts(directory, {"search.md": table_of(scores), "search.json": json.dumps(content, indent=1) + "\n"})
    print(table_of(scores), end="")


if __name__ == "__main__":
    run_main(main)
