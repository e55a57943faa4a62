"""The display of a run: a progress line, metrics.jsonl, TensorBoard, W&B if wanted, and curves as PNG at its end."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from data_tools.files.atomic import named_errors
from training.metrics_lines import HELD_FILE, METRICS_FILE, drop_lines_after, settle_lines, whole_lines
from training.step import StepMetrics

Scalars = Mapping[str, float | str]
KIND_LOSS = "_loss"  # ends the name of a loss over all terms of a kind of batch, in nats a predicted token
MOST_SHOWN = 12  # values of an event that are printed in full


def nothing_more(seconds: float) -> Scalars:
    """The additional values of a line of metrics where nothing is watched: none."""
    return {}


@dataclass(frozen=True)
class WandbProject:
    """A project of W&B, and what it notes about a run."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Meters:
    """Writer of metrics on rank 0. Every rank makes every call: watched values are summed over ranks."""

    def __init__(
        self,
        run_dir: Path,
        log_every: int,
        start_step: int,
        end_step: int,
        enabled: bool,
        wandb: WandbProject | None = None,
        is_held: bool = False,
    ) -> None:
        """Begin to write. Raises ValueError when W&B is wanted and not installed.

        The run's lines of updates after `start_step` are deleted when the first new one is written. If they belong to
        checkpoints that may yet be needed (`is_held`), `settle` deletes them; until then the new ones are kept in a
        file beside them.
        """
        if wandb and importlib.util.find_spec("wandb") is None:
            raise ValueError(f"wandb_project {wandb.name!r} needs wandb: pip install wandb, or leave the field null")
        self.enabled = enabled
        self.log_every = log_every
        self.end_step = end_step
        self.watched: Callable[[float], Scalars] = nothing_more
        self.noted: Scalars = {}
        self.until = end_step
        self._begin_line()
        self.last_time = time.perf_counter()
        if not enabled:
            return
        self.run_dir, self.start_step = run_dir, start_step
        self.held: list[tuple[int, Scalars]] | None = [] if is_held else None
        self.metrics_file: TextIO | None = None  # open from the first line on
        self.writer: SummaryWriter | None = None
        self.wandb = start_wandb(wandb, run_dir) if wandb else None
        # On a terminal a bar; in a log a line for each line of metrics.
        self.progress = Progress(
            *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            refresh_per_second=2,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.progress.add_task("", total=end_step, completed=start_step)
        self.progress.start()

    def watch(self, source: Callable[[float], Scalars], until: int) -> None:
        """Ask `source` for more at each line, on every rank at once; it gets the seconds since the line before.

        Update `until`, the last that `source` sees, has a line.
        """
        self.watched, self.until = source, until

    def note(self, values: Scalars) -> None:
        """Add values to the next line of an update: what holds from there on, such as how many parameters learn."""
        self.noted = {**self.noted, **values}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time inside is spent waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def record(self, step: int, kind: str, metrics: StepMetrics) -> None:
        """Note update number `step` (from 1).

        A line for every `log_every` updates, for each of the first two and for the last one of a phase holds the means
        of each kind's losses over the `updates` since the line before, the last learning rate and norm, and over the
        `seconds` of these (without saves and validations) the throughput and the share of rank 0's time spent waiting
        for data.
        """
        now = time.perf_counter()
        self.seconds += now - self.last_time
        self.last_time = now
        self.tokens += metrics.num_tokens
        for name, value in {**metrics.losses, "loss": metrics.loss}.items():
            self.losses.setdefault(f"{kind}/{name}", []).append(value)
        if self.enabled:
            self.progress.update(self.task, completed=step)
        self.steps += 1
        if step > 2 and step % self.log_every and step not in (self.until, self.end_step):
            return
        watched = self.watched(self.seconds)
        if self.enabled:
            scalars = self._line(metrics)
            self._write(step, {**scalars, **watched, **self.noted})
            self._tell(step, scalars, watched)
        self.noted = {}
        self._begin_line()

    def _begin_line(self) -> None:
        self.tokens, self.steps, self.seconds, self.waited = 0, 0, 0.0, 0.0
        self.losses: dict[str, list[float]] = {}

    def _line(self, metrics: StepMetrics) -> dict[str, float]:
        scalars = {name: sum(values) / len(values) for name, values in self.losses.items()}
        scalars["lr"] = metrics.learning_rate
        if metrics.grad_norm is not None:
            scalars["grad_norm"] = metrics.grad_norm
        scalars["updates"] = self.steps
        scalars["seconds"] = self.seconds
        scalars["tokens_per_second"] = self.tokens / self.seconds
        scalars["data_wait"] = self.waited / self.seconds
        scalars["memory_gib"] = peak_memory_bytes() / 2**30
        return scalars

    def _tell(self, step: int, scalars: dict[str, float], watched: Scalars) -> None:
        of_tokens = told_by_kind({name.removeprefix("train/"): value for name, value in watched.items()})
        losses = [f"{name.removesuffix('/loss')} {scalars[name]:.3f}" for name in scalars if name.endswith("/loss")]
        norm = [f"norm {scalars['grad_norm']:.3f}"] if "grad_norm" in scalars else []
        told = " ".join([*(of_tokens or losses), *norm])
        told += f" lr {scalars['lr']:.1e} tok/s {scalars['tokens_per_second']:,.0f}"
        if self.progress.disable:
            left = timedelta(seconds=round((self.end_step - step) * self.seconds / self.steps))
            print(f"update {step}/{self.end_step}: {told}, {left} left", file=sys.stderr, flush=True)
        else:
            self.progress.update(self.task, description=told)

    def event(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        """Note an event other than an update, such as a validation.

        Print one loss for each kind of batch, over all its terms; of other values, where there are many, only those
        whose name has no `/`.
        """
        if not self.enabled:
            return
        self._write(step, {f"{kind}/{name}": value for name, value in scalars.items()})
        told = told_by_kind(scalars) or [
            f"{name} {value:.4f}" for name, value in scalars.items() if len(scalars) <= MOST_SHOWN or "/" not in name
        ]
        self.progress.console.print(
            f"update {step}: {kind} {' '.join(told)}", markup=False, highlight=False, soft_wrap=True
        )

    def restart_clock(self) -> None:
        """Exclude the time since the last update, for instance that of a checkpoint, which is not training."""
        self.last_time = time.perf_counter()

    def settle(self) -> None:
        """Put the lines that were held back in place of those of the same and later updates."""
        if not self.enabled or self.held is None:
            return
        held, self.held = self.held, None
        if self.metrics_file is not None:
            self.metrics_file.close()
            self.metrics_file = None
        if held:
            settle_lines(self.run_dir, self.start_step)
            self.metrics_file = self.metrics_path.open("a", encoding="utf-8")
        for step, values in held:
            self._show(step, values)

    def _write(self, step: int, values: Scalars) -> None:
        if self.metrics_file is None:
            self.metrics_file = self._open()
        with named_errors(self.metrics_path):
            line = json.dumps({"step": step, **without_infinities(values)}, allow_nan=False)
            self.metrics_file.write(f"{line}\n")
            self.metrics_file.flush()
        if self.held is not None:
            self.held.append((step, values))
        else:
            self._show(step, values)

    def _show(self, step: int, values: Scalars) -> None:
        """Give TensorBoard and W&B their numbers."""
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        if self.writer is None:
            # Purging hides what a killed run wrote beyond its last checkpoint.
            self.writer = SummaryWriter(str(self.run_dir / "tensorboard"), purge_step=self.start_step + 1)
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(numbers, step=step)

    @property
    def metrics_path(self) -> Path:
        """The file of the lines."""
        return self.run_dir / (METRICS_FILE if self.held is None else HELD_FILE)

    def _open(self) -> TextIO:
        """Open the file of the lines, without those that new ones will replace."""
        if self.held is not None:
            return self.metrics_path.open("w", encoding="utf-8")
        drop_lines_after(self.metrics_path, self.start_step)
        return self.metrics_path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_disk_failing = isinstance(error, OSError) and not isinstance(error, ConnectionError)
        if self.enabled and is_disk_failing:
            self.writer = None  # its thread would flush, fail as well, and tell so by a traceback
        self.close()

    def close(self) -> None:
        """Flush the buffers and restore the cursor of the terminal; also after an error."""
        if self.enabled:
            self.progress.stop()
            if self.writer is not None:
                self.writer.close()
            if self.metrics_file is not None:
                self.metrics_file.close()
            if self.wandb is not None:
                self.wandb.finish()


def without_infinities(values: Scalars) -> dict[str, float | str | None]:
    """Metrics as JSON can hold them: null for a number that is not finite, as a norm that overflowed under fp16."""
    return {name: value if isinstance(value, str) or math.isfinite(value) else None for name, value in values.items()}


def told_by_kind(scalars: Scalars) -> list[str]:
    """Loss a predicted token and perplexity of each kind of batch among the values, in words; none without a kind."""
    kinds = [name.removesuffix(KIND_LOSS) for name in scalars if name.endswith(KIND_LOSS) and "/" not in name]
    return [f"{kind} {scalars[f'{kind}_loss']:.3f} (perplexity {scalars[f'{kind}_perplexity']:.1f})" for kind in kinds]


def start_wandb(project: WandbProject, run_dir: Path) -> Any:
    """The W&B run of a run directory: the same one when it is resumed."""
    run_id = hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()[:16]
    wandb = importlib.import_module("wandb")
    return wandb.init(
        project=project.name,
        id=run_id,
        name=run_dir.name,
        dir=str(run_dir),
        config=dict(project.settings),
        resume="allow",
    )


def peak_memory_bytes() -> int:
    """Most memory that this process has used so far: on its accelerator, or of the machine where it has none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what was not finite. Raises ValueError when the run has none."""
    path = run_dir / METRICS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {run_dir} the directory of a run?")
    lines = [values for _, values in whole_lines(path)]
    return [{name: value for name, value in values.items() if value is not None} for values in lines]
