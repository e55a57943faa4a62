import math

import pytest

from training.lr_schedule import (
    SCHEDULES,
    linear_warmup_inverse_sqrt,
    linear_warmup_linear_decay,
    linear_warmup_polynomial_decay,
    lr_factor,
)


def test_each_step_of_a_short_run() -> None:
    # 4 updates of warm-up: 1/4 … 4/4; then 6 of decay over 6: (10 - step) / 6, so the peak is held once more.
    factors = [linear_warmup_linear_decay(step, 4, 10) for step in range(11)]
    assert factors == [1 / 4, 2 / 4, 3 / 4, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0]


def test_without_warmup_and_beyond_the_end() -> None:
    assert linear_warmup_linear_decay(0, 0, 2) == 1.0
    assert linear_warmup_linear_decay(5, 0, 2) == 0.0


def test_polynomial_of_power_two_down_to_a_tenth() -> None:
    # After 2 updates of warm-up 4 are left: 0.1 + 0.9 * (left / 4) ** 2 for left = 4, 3, 2, 1, then the end itself.
    factors = [linear_warmup_polynomial_decay(step, 2, 6, power=2.0, end=0.1) for step in range(8)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.60625, 0.325, 0.15625, 0.1, 0.1])
    for step in range(12):
        assert linear_warmup_polynomial_decay(step, 4, 10) == linear_warmup_linear_decay(step, 4, 10)


def test_inverse_sqrt() -> None:
    # Update number n = step + 1 after a warm-up of 4: sqrt(4 / n), so 4 times as many updates halve the rate.
    factors = [linear_warmup_inverse_sqrt(step, 4) for step in (0, 1, 2, 3, 4, 15, 63)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, math.sqrt(0.8), 0.5, 0.25])
    assert [linear_warmup_inverse_sqrt(step, 0) for step in (0, 3)] == [1.0, 0.5]


def test_by_name() -> None:
    found = {name: lr_factor(name, 15, 4, 20, power=2.0, end=0.0) for name in SCHEDULES}
    expected = {"linear": 5 / 16, "polynomial": (5 / 16) ** 2, "inverse_sqrt": 0.5, "constant": 1.0}
    expected |= {"cosine": (1 + math.cos(math.pi * 11 / 16)) / 2, "decay": 1 - math.sqrt(11 / 16)}
    assert found == pytest.approx(expected)
    assert {lr_factor(name, 1, 4, 20) for name in SCHEDULES} == {0.5}
    with pytest.raises(
        ValueError, match="'wsd' must be one of linear, polynomial, cosine, inverse_sqrt, constant, decay"
    ):
        lr_factor("wsd", 0, 1, 2)
