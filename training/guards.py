"""Reasons to end a run early, or to skip an update: signals, the end of the allotted time, spikes of the loss."""

from __future__ import annotations

import math
import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Mapping
from types import FrameType
from typing import Any, Self

from training.launch import EXIT_STOPPED, launched_rank, launchers
from training.recipe.base import TrainingRecipe, seconds_of

# Slurm, the launcher and people send them to end a run; SIGINT is Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SHOW_CURSOR = b"\x1b[?25h"  # the progress bar hid it, and a process that a second Ctrl-C ends cannot show it any more
ASKED_TO_END = SHOW_CURSOR + b"\nending after this update, with a checkpoint; Ctrl-C again leaves at once, without\n"
MAX_TIME = "max_time"
ENDED_BY = {
    MAX_TIME: "max_time leaves no time for another update and a save",
    **{number.name: f"received {number.name}" for number in STOP_SIGNALS},
}  # in words, for reasons that do not speak for themselves
UNKNOWN_SAVE_SHARE = 0.05  # of the allotted time, kept for a save as long as none was timed


class Guards:
    """Stop conditions and spike detection of a run, per rank, from its first update to its last, over all phases.

    Inside `with` the signals of STOP_SIGNALS are noted instead of ending the process, but for a second Ctrl-C. All
    ranks learn of a wish to stop in the next update's own reduction, so there is no message between them that could
    come at a wrong time.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self.reason = ""
        self.launchers = launchers()
        self.started = time.monotonic()
        self.limit_seconds = seconds_of(recipe.max_time) if recipe.max_time else math.inf
        self.longest = {"update": 0.0, "save": 0.0}
        self.sigma = recipe.skip_sigma
        self.window = recipe.skip_window
        self.losses: dict[str, deque[float]] = {}
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._earlier = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.reason = signal.Signals(number).name
        if number == signal.SIGINT:
            # Not by an exception, which would wait for a disk or for another rank on its way out.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if launched_rank() == 0:
                # Past Python's buffers, in whose middle this may have come.
                os.write(2, ASKED_TO_END if os.isatty(2) else ASKED_TO_END.removeprefix(SHOW_CURSOR))

    def wants_to_stop(self) -> bool:
        """Whether this rank got a signal, lost its launcher, or has no time left for two more updates and a save.

        Without its launcher a run would continue unseen, and could collide with the restarted job in its directory.
        """
        if not self.reason and self.launchers != launchers():
            self.reason = "the launcher is gone"
        if not self.reason and self.seconds_left() < 2 * self.longest["update"] + self._seconds_of_save():
            self.reason = MAX_TIME
        return bool(self.reason)

    def ended_early(self) -> str:
        """A line about a run that was ended early: one rank that wants to stop ends all."""
        reason = ENDED_BY.get(self.reason, self.reason) or "another rank got a signal, lost its launcher or had no time"
        return f"ended early: {reason} (exit code {EXIT_STOPPED}); continue with --resume auto"

    def seconds_left(self) -> float:
        """Seconds left of max_time since construction."""
        return self.limit_seconds - (time.monotonic() - self.started)

    def _seconds_of_save(self) -> float:
        if math.isinf(self.limit_seconds):
            return 0.0
        # The next one may meet a busier file system than those before.
        return 2 * self.longest["save"] or UNKNOWN_SAVE_SHARE * self.limit_seconds

    def note_duration(self, of: str, seconds: float) -> None:
        """Remember how long an `update` or a `save` took at most."""
        self.longest[of] = max(self.longest[of], seconds)

    def is_spike(self, kind: str, loss: float) -> bool:
        """Whether a loss lies more than `skip_sigma` standard deviations above the mean of its kind's last ones.

        OLMo-core's SkipStepOptimizer: the loss is remembered in any case, so a lasting change of level is soon
        accepted, and nothing is a spike before half a window is known. The kinds differ in level, so each has its own
        window. Gradient norms are left to clipping: under ZeRO they are only known with the update.
        """
        if not self.sigma:
            return False
        known = self.losses.setdefault(kind, deque(maxlen=self.window))
        enough = len(known) >= max(2, self.window // 2)
        is_spike = enough and loss > statistics.fmean(known) + self.sigma * statistics.stdev(known)
        known.append(loss)
        return is_spike

    def forget_losses(self) -> None:
        """Begin with no losses known, as a phase does whose loss may have another level."""
        self.losses.clear()

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint must hold for `load_state`."""
        return {"recent_losses": {kind: list(losses) for kind, losses in self.losses.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for kind, losses in state["recent_losses"].items():
            self.losses[kind] = deque(losses, maxlen=self.window)


def ignore_stop_signals(worker: int = 0) -> None:
    """Ignore the signals to stop: launcher and terminal send them to loader processes, too, but the rank decides."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
