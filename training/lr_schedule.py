"""Learning-rate schedules as pure functions from a step to a factor of the peak rate.

`step` is the number of an update, from 0. Over the warm-up the factor rises linearly: the first update already moves,
it has factor 1 / warmup_steps. The `lr_factor` of a recipe (training/recipe/base.py, finetune/recipe.py) subtracts the
beginning of its phase and chooses the warm-up; training/engine/adam.py applies the rate.
"""

from __future__ import annotations

import math

INVERSE_SQRT = "inverse_sqrt"
SCHEDULES = ("linear", "polynomial", "cosine", INVERSE_SQRT, "constant", "decay")


def linear_warmup_linear_decay(step: int, warmup_steps: int, total_steps: int) -> float:
    """Up to 1 over the warm-up, then linearly down to 0. VECO (ACL 2021), table 8.

    The last update has factor 1 / (total_steps - warmup_steps), and what would follow it 0.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def linear_warmup_polynomial_decay(
    step: int, warmup_steps: int, total_steps: int, power: float = 1.0, end: float = 0.0
) -> float:
    """Up to 1 over the warm-up, then down to `end` by what is left of the way to the power of `power`.

    fairseq's `polynomial_decay`; with power 1 and end 0 it is linear.
    """
    linear = linear_warmup_linear_decay(step, warmup_steps, total_steps)
    return linear if step < warmup_steps else end + (1.0 - end) * linear**power


def linear_warmup_cosine_decay(step: int, warmup_steps: int, total_steps: int) -> float:
    """Up to 1 over the warm-up, then down to 0 along half a cosine. Loshchilov and Hutter (2017), eq. 5, one period."""
    linear = linear_warmup_linear_decay(step, warmup_steps, total_steps)
    return linear if step < warmup_steps else (1.0 - math.cos(math.pi * linear)) / 2


def linear_warmup_square_root_decay(step: int, warmup_steps: int, total_steps: int) -> float:
    """Up to 1 over the warm-up, then down to 0 as 1 - sqrt(share of the way made).

    The end of warm-up, stable, decay: Hägele et al. (2024), section 3.2, "1-sqrt".
    """
    linear = linear_warmup_linear_decay(step, warmup_steps, total_steps)
    return linear if step < warmup_steps else 1.0 - math.sqrt(1.0 - linear)


def linear_warmup_inverse_sqrt(step: int, warmup_steps: int) -> float:
    """Up to 1 over the warm-up, then in proportion to 1 / sqrt(number of the update).

    Vaswani et al. (2017), section 5.3; fairseq's `inverse_sqrt` with a warm-up from 0. Update number n, from 1, has
    sqrt(warmup_steps / n), so the last one of the warm-up joins on at 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return math.sqrt(max(1, warmup_steps) / (step + 1))


def lr_factor(
    schedule: str, step: int, warmup_steps: int, total_steps: int, *, power: float = 1.0, end: float = 0.0
) -> float:
    """The factor by the schedule's name, one of SCHEDULES; `power` and `end` are for "polynomial"."""
    if schedule == "linear":
        return linear_warmup_linear_decay(step, warmup_steps, total_steps)
    if schedule == "polynomial":
        return linear_warmup_polynomial_decay(step, warmup_steps, total_steps, power, end)
    if schedule == "cosine":
        return linear_warmup_cosine_decay(step, warmup_steps, total_steps)
    if schedule == "decay":
        return linear_warmup_square_root_decay(step, warmup_steps, total_steps)
    if schedule == INVERSE_SQRT:
        return linear_warmup_inverse_sqrt(step, warmup_steps)
    if schedule == "constant":
        return (step + 1) / warmup_steps if step < warmup_steps else 1.0
    raise ValueError(f"lr schedule {schedule!r} must be one of {', '.join(SCHEDULES)}")
