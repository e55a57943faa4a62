"""What a run shows: a progress line, metrics.jsonl, TensorBoard, and the curves as PNG at its end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from pretrain.step import StepMetrics


class Meters:
    """Writes and shows metrics on rank 0; on other ranks every call does nothing."""

    def __init__(self, run_dir: Path, log_every: int, start_step: int, end_step: int, enabled: bool) -> None:
        self.enabled = enabled
        self.log_every = log_every
        self.kind_tokens = 0
        self.kind_steps = 0
        self.last_time = time.perf_counter()
        self.latest: dict[str, float] = {}
        if not enabled:
            return
        self.metrics_path = run_dir / "metrics.jsonl"
        drop_lines_after(self.metrics_path, start_step)
        self.metrics_file = self.metrics_path.open("a", encoding="utf-8")
        # Purging hides what a killed run wrote beyond its last checkpoint.
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start_step + 1)
        self.bar = tqdm(
            total=end_step, initial=start_step, unit="step", file=sys.stderr, dynamic_ncols=True, mininterval=1.0,
            disable=None if sys.stderr.isatty() else False, miniters=None if sys.stderr.isatty() else log_every,
        )  # fmt: skip

    def record(self, step: int, kind: str, metrics: StepMetrics, extra: dict[str, float] | None = None) -> None:
        """Note update number `step` (from 1). Lines are written for every update of the first ten and each
        `log_every`-th pair of kinds after that, so that each kind of batch shows."""
        if not self.enabled:
            return
        self.kind_tokens += metrics.num_tokens
        self.kind_steps += 1
        self.bar.update(1)
        self.latest[kind] = metrics.loss
        if step > 10 and step % self.log_every > 1:
            return
        now = time.perf_counter()
        tokens_per_second = self.kind_tokens / (now - self.last_time)
        self.kind_tokens, self.kind_steps, self.last_time = 0, 0, now
        scalars = {f"{kind}/{name}": value for name, value in metrics.losses.items()}
        scalars |= {
            f"{kind}/loss": metrics.loss,
            "lr": metrics.learning_rate,
            "grad_norm": metrics.grad_norm,
            "tokens_per_second": tokens_per_second,
            **(extra or {}),
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.metrics_file.write(json.dumps({"step": step, "kind": kind, **scalars}) + "\n")
        self.metrics_file.flush()
        losses = " ".join(f"{name}:{value:.3f}" for name, value in self.latest.items())
        self.bar.set_postfix_str(
            f"{losses} lr:{metrics.learning_rate:.2e} norm:{metrics.grad_norm:.2f} tok/s:{tokens_per_second:,.0f}"
        )

    def event(self, step: int, kind: str, scalars: dict[str, float]) -> None:
        """Note something that is not an update, such as a validation."""
        if not self.enabled:
            return
        for name, value in scalars.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)
        line = {"step": step, "kind": kind, **{f"{kind}/{name}": value for name, value in scalars.items()}}
        self.metrics_file.write(json.dumps(line) + "\n")
        self.metrics_file.flush()
        self.bar.write(f"step {step}: {kind} " + " ".join(f"{k} {v:.4f}" for k, v in scalars.items()), file=sys.stderr)

    def pause(self) -> None:
        """Restart the clock after something that is not training, such as a checkpoint."""
        self.kind_tokens, self.kind_steps, self.last_time = 0, 0, time.perf_counter()

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
    path.write_text("".join(kept), encoding="utf-8")


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl. Raises ValueError when the run has none."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {run_dir} the directory of a run?")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
