"""The commands of a report, each in a process of its own with a log of its own, and none twice.

OUTPUT/report.json has for each the command, the sizes and times of what it read, and how it ended. A command is run
again where one of these has changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from analysis.reporting.analyses import Analysis, Job
from data_tools.files.atomic import write_texts
from finetune.command_stages import Stage, command_line, run_stage

RECORD = "report.json"
NUM_LOG_LINES = 12  # of a command that failed, shown in the page


@dataclass(frozen=True)
class Task:
    """A job of an analysis, the whole command, and where its results and its log are."""

    analysis: Analysis
    job: Job
    command: tuple[str, ...]  # the module and its arguments
    results: Path
    log: Path

    @property
    def stage(self) -> Stage:
        """The command as a stage; it has finished when its JSON is there."""
        return Stage(self.job.name, self.command, self.results / f"{self.analysis.name}.json")

    @property
    def typed(self) -> str:
        """The command as a user types it."""
        return command_line(self.stage, 1)

    def stamp(self) -> dict[str, Any]:
        """What the results depend on: the command, and size and time of each file that it reads."""
        models = (self.job.model, *self.job.other_models)
        files = [*self.job.reads, *(path for model in models for path in sorted(model.iterdir()) if path.is_file())]
        read = {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
        return {"command": list(self.command), "read": read}


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `error` is empty after success."""

    seconds: float
    error: str = ""


def task_of(analysis: Analysis, job: Job, shared_flags: Sequence[str], output: Path) -> Task:
    """The task of a job, with the flags that all commands have."""
    results = output / job.name
    command = (analysis.command, str(job.model), *job.flags, *shared_flags, "--output", str(results))
    return Task(analysis, job, command, results, output / f"{job.name}.log")


def run_tasks(tasks: Sequence[Task], output: Path) -> dict[str, Outcome]:
    """Run all commands, whatever becomes of the others, and return how each ended, by name."""
    record = read_record(output)
    outcomes = {}
    with tqdm(tasks, unit=" analyses", disable=None) as progress:
        for task in progress:
            progress.set_description(task.job.name)
            stamp = task.stamp()
            known = record.get(task.job.name, {})
            if known.get("stamp") == stamp and not known["outcome"]["error"] and task.stage.result.is_file():
                outcome = Outcome(**known["outcome"])
                progress.write(f"{task.job.name}: done before")
            else:
                outcome = run_task(task)
                progress.write(f"{task.job.name}: {outcome.error or f'done in {outcome.seconds:.0f} s'}")
            outcomes[task.job.name] = outcome
            record[task.job.name] = {"stamp": stamp, "outcome": asdict(outcome)}
            write_texts(output, {RECORD: json.dumps(record, indent=1, ensure_ascii=False) + "\n"})
    return outcomes


def run_task(task: Task) -> Outcome:
    """Run one command anew."""
    task.stage.result.unlink(missing_ok=True)  # else it would count as done
    start = time.perf_counter()
    with task.log.open("w", encoding="utf-8") as log:
        try:
            run_stage(task.stage, 1, log=log)
        except ValueError as error:
            return Outcome(time.perf_counter() - start, error_of(task.log) or str(error))
    return Outcome(time.perf_counter() - start)


def error_of(log: Path) -> str:
    """The last line `error: …` of a log, empty without one."""
    lines = last_lines(log)
    return next((line for line in reversed(lines) if line.startswith("error: ")), "")


def last_lines(log: Path) -> list[str]:
    """The last lines of a log."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-NUM_LOG_LINES:]


def read_record(output: Path) -> dict[str, Mapping[str, Any]]:
    """What an earlier call has recorded, empty without one. Raises ValueError for another file of that name."""
    path = output / RECORD
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path}: not what analysis.report wrote; remove it, and all analyses are run anew") from None
