from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from training import guards as guards_module
from training import launch
from training.guards import STOP_SIGNALS, Guards, ignore_stop_signals
from training.launch import command_line, launchers
from training.recipe.base import TrainingRecipe, seconds_of
from training.recipe.parsing import build_recipe


def guards_of(**fields: object) -> Guards:
    return Guards(TrainingRecipe(output="x", **fields))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signal_is_noted_inside_and_ends_the_process_outside(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with guards_of() as guards:
        assert not guards.wants_to_stop()
        os.kill(os.getpid(), number)
        assert guards.wants_to_stop() and guards.reason == number.name
    told = f"ended early: received {number.name} (exit code 75); continue with --resume auto"
    assert guards.ended_early() == told
    assert signal.getsignal(number) is before


TWICE = """
import os, signal, sys
from training.guards import Guards
from training.recipe.base import TrainingRecipe

with Guards(TrainingRecipe(output="x")) as guards:
    os.kill(os.getpid(), signal.SIGINT)
    print(guards.wants_to_stop(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still there")
"""


def test_second_ctrl_c_leaves_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "True\n")
    assert "ending after this update, with a checkpoint; Ctrl-C again leaves at once, without" in ended.stderr


def test_workers_take_no_notice() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        ignore_stop_signals(0)
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_time_is_kept_for_two_updates_and_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(guards_module.time, "monotonic", lambda: clock[0])
    guards = guards_of(max_time="00:10:00")
    guards.note_duration("update", 20.0)
    # 600 s; 40 for two updates, and 5 % as long as no save was timed.
    clock[0] += 600 - 40 - 30
    assert not guards.wants_to_stop()
    clock[0] += 1
    assert guards.wants_to_stop() and guards.reason == "max_time"
    assert "ended early: max_time leaves no time for another update and a save (" in guards.ended_early()

    timed = guards_of(max_time="10m")
    timed.note_duration("save", 7.0)
    timed.note_duration("save", 5.0)
    clock[0] += 600 - 2 * 7
    assert not timed.wants_to_stop()
    clock[0] += 1
    assert timed.wants_to_stop()
    clock[0] += 10**9
    assert not guards_of().wants_to_stop()


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:05", 5), ("1:30:00", 5400), ("168:00:00", 604800), ("90m", 5400), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["90", "1:30", "1:60:00", "-5m", "soon"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"max_time .* must be HH:MM:SS"):
        build_recipe(TrainingRecipe, {"output": "x", "max_time": text}, None)


def test_spike_is_far_above_its_own_kind() -> None:
    guards = guards_of(skip_sigma=3.0, skip_window=8)
    for number in range(8):
        assert not guards.is_spike("mono", 5.0 + 0.1 * (number % 2))
        assert not guards.is_spike("bilingual", 9.0 + 0.1 * (number % 2))
    # Mean 5.05, deviation 0.0535 (of a sample): the border is 5.21.
    assert not guards.is_spike("mono", 5.20)
    assert guards.is_spike("mono", 9.0)
    assert not guards.is_spike("mono", 4.0), "a low loss is none"
    assert not guards.is_spike("bilingual", 9.1)


def test_nothing_is_a_spike_before_half_a_window_nor_without_the_option() -> None:
    guards = guards_of(skip_sigma=3.0, skip_window=8)
    assert not any(guards.is_spike("mono", loss) for loss in (1.0, 1.1, 1.0, 500.0))
    off = guards_of()
    assert not any(off.is_spike("mono", loss) for loss in (1.0, 1.1) * 100 + (1e9,))


def test_lasting_change_of_level_is_accepted() -> None:
    guards = guards_of(skip_sigma=3.0, skip_window=8)
    seen = [guards.is_spike("mono", loss) for loss in [1.0, 1.1] * 4 + [5.0] * 8]
    assert seen[8] and not seen[-1]


def test_state_of_spikes_comes_back() -> None:
    guards, other = (guards_of(skip_sigma=3.0, skip_window=4) for _ in range(2))
    losses = [1.0, 1.1, 0.9, 1.0, 1.05]
    for loss in losses:
        guards.is_spike("mono", loss)
    other.load_state(guards.state())
    assert guards.state() == other.state() == {"recent_losses": {"mono": losses[1:]}}
    assert guards.is_spike("mono", 3.0) and other.is_spike("mono", 3.0)


def test_run_whose_launcher_is_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards_module, "launchers", lambda: [11, 10])
    guards = guards_of()
    assert not guards.wants_to_stop()
    monkeypatch.setattr(guards_module, "launchers", lambda: [11])
    assert guards.wants_to_stop() and guards.reason == "the launcher is gone"
    assert guards.ended_early().startswith("ended early: the launcher is gone (")
    assert guards_of().ended_early().startswith("ended early: another rank ")
    signalled = guards_of()
    monkeypatch.setattr(guards_module, "launchers", lambda: [])
    signalled.reason = "SIGTERM"
    assert signalled.wants_to_stop() and signalled.reason == "SIGTERM", "the first reason is the one"


def test_launcher_that_ends_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lines = iter(["python -m deepspeed.launcher.launch"])
    monkeypatch.setattr(launch, "command_line", lambda process: next(lines, ""))
    monkeypatch.setattr("os.getppid", lambda: ended.pid)
    assert launch.launchers() == [ended.pid]


def test_only_launchers_count_among_the_processes_above() -> None:
    """Of three nested processes the middle one calls itself deepspeed's."""
    inner = "import os; from training.launch import launchers; print(os.getppid(), *launchers())"
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[2]])"
    command = [sys.executable, "-c", outer, "deepspeed.launcher.launch", inner]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told[1:] == told[:1]
    assert "pytest" not in " ".join(command_line(process) for process in launchers())
    assert command_line(2**22 + 1) == ""
