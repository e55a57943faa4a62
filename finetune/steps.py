"""Steps of a study or a comparison: commands in a directory of their own, run as soon as the steps they need are done.

What is finished is skipped, so a stopped graph of steps goes on where it was; a failed step leaves the others alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

from data_tools.cli import FlagParser
from data_tools.files.atomic import write_texts
from finetune.command_stages import Stage, run_stage
from finetune.parallel_runs import run_side_by_side
from training.recipe.shipped import shipped_file, shipped_names


def nothing() -> None:
    """What most steps do at their end."""


@dataclass(frozen=True)
class Step:
    """Commands that are run one after the other, once the steps named in `needs` are finished.

    `settle` is called after the last command, and again if that was interrupted.
    """

    name: str
    directory: Path
    stages: tuple[Stage, ...]
    needs: tuple[str, ...] = ()
    settle: Callable[[], object] = nothing

    @property
    def is_done(self) -> bool:
        """Whether the last result is there."""
        return self.stages[-1].result.exists()

    @property
    def has_begun(self) -> bool:
        """Whether one of the results is there."""
        return any(stage.result.exists() for stage in self.stages)

    @property
    def has_written(self) -> bool:
        """Whether the commands have written something, more than to the log."""
        return self.directory.is_dir() and any(path != self.log for path in self.directory.iterdir())

    @property
    def log(self) -> Path:
        """The file for the output of the commands, where they have one of their own."""
        return self.directory / "log.txt"


def run_steps(
    steps: Sequence[Step],
    report: Callable[[], None],
    parallel: int,
    processes: int,
    own_logs: bool,
) -> None:
    """Run the steps, `parallel` at once, each with its share of the machine; report after each.

    They begin in their order, except that none begins before what it needs; a need that is not among the steps counts
    as finished. Raises ValueError, after all others, with the steps that failed and those that were left out for it.
    The caller holds the directory that they write below (`held`).
    """
    writing = Lock()

    def work(step: Step, share: dict[str, str]) -> None:
        run_step(step, processes, share, own_logs)
        with writing:
            report()

    places = {step.name: place for place, step in enumerate(steps)}
    needs = [{places[name] for name in step.needs if name in places} for step in steps]
    run_side_by_side(steps, work, parallel, processes, needs, name=lambda step: step.name)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep other calls on this machine out of a directory, which is made. Raises ValueError where one is at work."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        except BlockingIOError:
            told = f"{directory}: another call is at work in it; wait for it, or choose another --output"
            raise ValueError(told) from None
        yield
    finally:
        os.close(handle)


def run_step(step: Step, processes: int, share: Mapping[str, str], own_log: bool) -> None:
    """Run the commands of a step in turn; with `own_log` their output goes to its log. Raises ValueError for a failure.

    `share` are the environment variables that give it its devices.
    """
    step.directory.mkdir(parents=True, exist_ok=True)
    print(f"\n##### {step.name}: see {step.log}" if own_log else f"\n##### {step.name}", flush=True)
    with step.log.open("a", encoding="utf-8") if own_log else contextlib.nullcontext() as file:
        for stage in step.stages:
            try:
                run_stage(stage, processes, share, file)
            except ValueError as error:
                raise ValueError(f"{error} ({step.log})" if own_log else str(error)) from None
    step.settle()


def check_unchanged(
    ours: Mapping[str, Mapping[str, Any]],
    output: Path,
    begun: Collection[str] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Record in DIR/runs.json how each run, by its name, is trained and tested.

    `begun` are the runs that have begun, by default all that are recorded; the others may change. A setting that is not
    recorded, since it did not exist then, was its value of `defaults`. Raises ValueError when an earlier call had other
    settings: finished stages are skipped, so a changed comparison would mix two kinds of runs. Also raises it when DIR
    holds files that no earlier call has written.
    """
    recorded = output / "runs.json"
    if recorded.is_file():
        before = json.loads(recorded.read_text(encoding="utf-8"))
    else:
        before = None if output.exists() and any(output.iterdir()) else {}
    if not isinstance(before, dict):
        raise ValueError(f"{output}: holds files, and no runs.json of an earlier call; choose another --output")
    kept = before.keys() if begun is None else before.keys() & set(begun)
    for name in (name for name in ours if name in kept):  # the first, on which others may depend, is named
        known = {**defaults, **before[name]}
        changed = [field for field, value in ours[name].items() if known.get(field) != value]
        if changed:
            raise ValueError(
                f"{output}: run {name} was begun with other {', '.join(changed)}; choose another --output, or undo that"
            )
    write_texts(output, {recorded.name: json.dumps({**before, **ours}, indent=1)})


def steps_parser(program: str, description: str, directory: Path, metavar: str = "COMPARE.yaml") -> FlagParser:
    """A parser of a `file`, `output` and `parallel`, for `parse_steps`.

    The file may be named by the name of one in `directory`, of those that come with the package.
    """
    parser = FlagParser(
        prog=f"python -m {program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file",
        type=lambda name: shipped_file(name, directory),
        metavar=metavar,
        help=f"see above; or the name of one that comes with the package: {', '.join(shipped_names(directory))}",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory for runs and results")
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="runs at once, each with its share of the cores or of CUDA_VISIBLE_DEVICES (default %(default)s); with "
        "small models, two runs on one core each are faster than one after the other on two",
    )
    return parser


def parse_steps(parser: FlagParser) -> argparse.Namespace:
    """The command line by a `steps_parser`. Raises ValueError for parallel below 1."""
    options = parser.parse_args()
    if options.parallel < 1:
        raise ValueError(f"--parallel {options.parallel}: expected at least 1")
    return options
