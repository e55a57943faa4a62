"""What a run shows: a progress line, metrics.jsonl, TensorBoard, and the curves as PNG at its end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data_tools.files import atomic_path
from pretrain.step import StepMetrics


class Meters:
    """Writes and shows metrics on rank 0; on other ranks every call does nothing."""

    def __init__(self, run_dir: Path, log_every: int, start_step: int, end_step: int, enabled: bool) -> None:
        self.enabled = enabled
        self.log_every = log_every
        self.end_step = end_step
        self.tokens = 0
        self.losses: dict[str, list[float]] = {}
        self.last_time = time.perf_counter()
        if not enabled:
            return
        self.metrics_path = run_dir / "metrics.jsonl"
        drop_lines_after(self.metrics_path, start_step)
        self.metrics_file = self.metrics_path.open("a", encoding="utf-8")
        # Purging hides what a killed run wrote beyond its last checkpoint.
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start_step + 1)
        # On a terminal a bar; in a log a line for each line of metrics.
        self.bar = tqdm(total=end_step, initial=start_step, unit="step", disable=not sys.stderr.isatty())

    def record(self, step: int, kind: str, metrics: StepMetrics) -> None:
        """Note update number `step` (from 1).

        A line for every `log_every` updates, for each of the first two and for the last one holds the means of each
        kind's losses since the line before, the throughput over that time, and the last learning rate and norm.
        """
        if not self.enabled:
            return
        self.tokens += metrics.num_tokens
        self.bar.update(1)
        for name, value in {**metrics.losses, "loss": metrics.loss}.items():
            self.losses.setdefault(f"{kind}/{name}", []).append(value)
        if step > 2 and step % self.log_every and step != self.end_step:
            return
        scalars = {name: sum(values) / len(values) for name, values in self.losses.items()}
        scalars["lr"] = metrics.learning_rate
        if metrics.grad_norm is not None:
            scalars["grad_norm"] = metrics.grad_norm
        scalars["tokens_per_second"] = self.tokens / (time.perf_counter() - self.last_time)
        self._write(step, scalars)
        shown = {name.removesuffix("/loss"): value for name, value in scalars.items() if name.endswith("/loss")}
        shown |= {"norm": scalars["grad_norm"]} if "grad_norm" in scalars else {}
        told = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
        told += f" lr {scalars['lr']:.1e} tok/s {scalars['tokens_per_second']:,.0f}"
        if self.bar.disable:
            print(f"update {step}/{self.end_step}: {told}", file=sys.stderr, flush=True)
        else:
            self.bar.set_postfix_str(told)
        self.restart_clock()

    def event(self, step: int, kind: str, scalars: dict[str, float]) -> None:
        """Note something that is not an update, such as a validation."""
        if self.enabled:
            self._write(step, {f"{kind}/{name}": value for name, value in scalars.items()})
            told = " ".join(f"{name} {value:.4f}" for name, value in scalars.items())
            self.bar.write(f"update {step}: {kind} {told}", file=sys.stderr)

    def restart_clock(self) -> None:
        """Begin to count tokens and losses anew, for instance behind a checkpoint, which is not training."""
        self.tokens, self.losses, self.last_time = 0, {}, time.perf_counter()

    def _write(self, step: int, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.metrics_file.write(json.dumps({"step": step, **scalars}) + "\n")
        self.metrics_file.flush()

    def close(self) -> None:
        if self.enabled:
            self.bar.close()
            self.writer.close()
            self.metrics_file.close()


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of updates after `step`, which a resumed run will write again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue  # the last line of a killed run may be cut short
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl. Raises ValueError when the run has none."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {run_dir} the directory of a run?")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
