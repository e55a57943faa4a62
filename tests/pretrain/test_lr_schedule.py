from pretrain.lr_schedule import linear_warmup_linear_decay


def test_each_step_of_a_short_run() -> None:
    # 4 updates of warm-up: 1/4 … 4/4; then 6 of decay over 6: (10 - step) / 6, so the peak is held once more.
    factors = [linear_warmup_linear_decay(step, 4, 10) for step in range(11)]
    assert factors == [1 / 4, 2 / 4, 3 / 4, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0]


def test_without_warmup_and_beyond_the_end() -> None:
    assert linear_warmup_linear_decay(0, 0, 2) == 1.0
    assert linear_warmup_linear_decay(5, 0, 2) == 0.0
