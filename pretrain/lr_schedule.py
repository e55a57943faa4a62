"""Learning-rate schedules as pure functions from a step to a factor of the peak rate."""

from __future__ import annotations


def linear_warmup_linear_decay(step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor of the peak rate for update number `step` (from 0): up to 1 over the warm-up, then linearly down to 0.

    VECO (ACL 2021), table 8. The first update already moves: it has factor 1 / warmup_steps; the last has
    1 / (total_steps - warmup_steps), and what would follow it 0.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
