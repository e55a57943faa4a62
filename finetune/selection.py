"""The best checkpoints of a run by its validations, and whether it is worth continuing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

from training.checkpoints.finding import checkpoints_of, read_state


class Selection:
    """The validations of a run so far. Every rank has the same ones, since their sums are taken over all ranks."""

    def __init__(self, best_by: str, goal: str, patience: int = 0, keep_best: int = 0) -> None:
        """`best_by` names the metric whose `goal` ("lowest" or "highest") value is best; the rest as in the recipe."""
        if goal not in ("lowest", "highest"):
            raise ValueError(f"goal {goal!r} must be 'lowest' or 'highest'")
        self.best_by, self.goal = best_by, goal
        self.patience, self.keep_best = patience, keep_best
        self.validations: Mapping[int, dict[str, float]] = {}

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Remember a validation; whether the run is over now."""
        # A new mapping each time: the save of an earlier checkpoint may still be reading the old one in the background.
        self.validations = {**self.validations, step: dict(metrics)}
        return self.is_over()

    def ranked(self) -> list[int]:
        """Steps of the validations, best first, earlier ones before their equals; without those that are NaN."""
        sign = 1 if self.goal == "lowest" else -1
        values = {step: metrics[self.best_by] for step, metrics in self.validations.items() if self.best_by in metrics}
        return sorted(
            (step for step, value in values.items() if not math.isnan(value)),
            key=lambda step: (sign * values[step], step),
        )

    def is_over(self) -> bool:
        """Whether `patience` validations in a row, the last ones, were not better than the best before them."""
        ranked = self.ranked()
        best = ranked[0] if ranked else -1
        return 0 < self.patience <= sum(step > best for step in self.validations)

    def best_of(self, steps: Collection[int], count: int) -> list[int]:
        """The best `count` of those `steps` that were validated, best first."""
        return [step for step in self.ranked() if step in steps][:count]

    def is_among_best(self, step: int) -> bool:
        """Whether the checkpoint of a validation would be kept for being among the best."""
        return step in self.ranked()[: self.keep_best]

    def kept(self, steps: Collection[int]) -> list[int]:
        """Those of the checkpoints at `steps` to keep for being among the best."""
        return self.best_of(steps, self.keep_best)

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint must hold for `load_state` and `read`."""
        return {"selection": {"best_by": self.best_by, "goal": self.goal, "validations": self.validations}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the validations that a checkpoint holds; JSON turns integer keys into strings."""
        self.validations = {int(step): metrics for step, metrics in state["selection"]["validations"].items()}

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        """The validations up to a checkpoint of a fine-tuning run. Raises ValueError when it notes none."""
        state = read_state(checkpoint)
        if "selection" not in state:
            raise ValueError(f"{checkpoint}: notes no validations; expected a checkpoint of a fine-tuning run")
        selection = cls(state["selection"]["best_by"], state["selection"]["goal"])
        selection.load_state(state)
        return selection


def best_checkpoints(run_dir: Path, count: int) -> list[Path]:
    """The best `count` checkpoints of a fine-tuning run that are still there, best first.

    Raises ValueError when there are fewer that were validated.
    """
    found = checkpoints_of(run_dir)
    if not found:
        raise ValueError(f"{run_dir}: has no complete checkpoint; expected the directory of a fine-tuning run")
    best = Selection.read(found[max(found)]).best_of(found, count)
    if len(best) < count:
        raise ValueError(
            f"{run_dir / 'checkpoints'} has {len(best)} validated checkpoints, but the best {count} were asked for: "
            "keep more of them in training (keep_best)"
        )
    return [found[step] for step in best]
