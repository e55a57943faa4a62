"""Steps that need one another, with python -m json.tool, which copies JSON, in place of commands that take hours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.command_stages import Stage
from finetune.steps import Step, held, run_steps

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_steps import diamond
from finetune.steps import run_steps
root = Path(sys.argv[1])
steps = diamond(root)
run_steps(steps, lambda: (root / "report").write_text(str([step.is_done for step in steps])), 2, 1, own_logs=True)
"""


def copy(name: str, source: Path, root: Path, *needs: str) -> Step:
    """A step that copies a file."""
    made = root / name / "copy.json"
    return Step(name, root / name, (Stage(name, ("json.tool", f"{source}", f"{made}"), made),), needs)


def diamond(root: Path) -> list[Step]:
    """d needs b and c, which need a; e stands alone. They are not in the order of their needs."""
    return [
        copy("d", root / "b" / "copy.json", root, "b", "c"),
        copy("b", root / "a" / "copy.json", root, "a"),
        copy("c", root / "slow.json", root, "a"),
        copy("a", root / "source.json", root),
        copy("e", root / "source.json", root),
    ]


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_steps_run_once_in_the_order_of_their_needs_with_own_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("source.json", "slow.json"):
        write(tmp_path / name, [1, 2])
    steps = diamond(tmp_path)
    reports: list[list[str]] = []

    def report() -> None:
        reports.append([step.name for step in steps if step.is_done])

    run_steps(steps, report, parallel=1, processes=1, own_logs=True)
    assert reports == [["a"], ["b", "a"], ["b", "c", "a"], ["d", "b", "c", "a"], ["d", "b", "c", "a", "e"]]
    assert json.loads((tmp_path / "d" / "copy.json").read_text()) == [1, 2]
    assert "python -m json.tool" in steps[0].log.read_text() and "json.tool" not in capsys.readouterr().out
    before = (tmp_path / "d" / "copy.json").stat().st_mtime_ns
    run_steps(steps, report, parallel=2, processes=1, own_logs=True)
    assert "done before" in steps[0].log.read_text()
    assert (tmp_path / "d" / "copy.json").stat().st_mtime_ns == before


def test_a_failed_step_is_named_with_its_log_and_what_does_not_need_it_is_done(tmp_path: Path) -> None:
    write(tmp_path / "source.json", 1)  # slow.json is missing, so c fails, and d cannot begin
    with pytest.raises(ValueError, match=r"^1 of 5 runs failed: c: exit code .*c/log.txt\); left out for that: d$"):
        run_steps(diamond(tmp_path), lambda: None, parallel=2, processes=1, own_logs=True)
    assert [step.name for step in diamond(tmp_path) if step.is_done] == ["b", "a", "e"]


def test_killed_steps_go_on_to_the_same_results(tmp_path: Path) -> None:
    """c reads from a pipe that nobody writes to, until all is killed."""
    write(tmp_path / "source.json", {"x": 1})
    os.mkfifo(tmp_path / "slow.json")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = [tmp_path / name / "copy.json" for name in "abe"]
    try:
        wait_until(lambda: all(path.exists() for path in done), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not any((tmp_path / name / "copy.json").exists() for name in "cd")
    kept = [path.stat().st_mtime_ns for path in done]
    (tmp_path / "slow.json").unlink()
    write(tmp_path / "slow.json", {"y": 2})
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert [path.stat().st_mtime_ns for path in done] == kept
    assert json.loads((tmp_path / "d" / "copy.json").read_text()) == {"x": 1}
    assert (tmp_path / "report").read_text() == str([True] * 5)


def test_one_call_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    with (
        held(tmp_path / "new"),
        pytest.raises(ValueError, match="another call is at work in it; wait for it"),
        held(tmp_path / "new"),
    ):
        pass
    with held(tmp_path / "new"):
        pass


def test_commands_end_with_the_process_that_runs_them(tmp_path: Path) -> None:
    """Whoever ends it, and however: here it is killed alone, not its group."""
    os.mkfifo(tmp_path / "source.json")
    script = """
import sys
from pathlib import Path
from finetune.command_stages import Stage, run_stage
source, log = sys.argv[1:]
with open(log, "w") as file:
    run_stage(Stage("a", ("json.tool", source, source + ".copy"), Path(source + ".copy")), 1, log=file)
"""
    paths = [str(tmp_path / name) for name in ("source.json", "log")]
    process = subprocess.Popen([sys.executable, "-c", script, *paths], stdout=subprocess.DEVNULL)

    def reading() -> list[int]:
        found = subprocess.run(["pgrep", "-f", f"json.tool {paths[0]}"], capture_output=True, check=False, text=True)
        return [int(line) for line in found.stdout.split()]

    wait_until(lambda: len(reading()) == 1, process)
    process.kill()
    process.wait()
    wait_until(lambda: not reading())


def test_the_last_line_of_a_failed_command_is_told(tmp_path: Path) -> None:
    made = tmp_path / "b.json"
    step = Step("b", tmp_path, (Stage("b", ("data_tools.describe", str(tmp_path / "none")), made),))
    with pytest.raises(ValueError, match=r"exit code 2 of python -m data_tools.describe \S+: \S+none.*log.txt\)"):
        run_steps([step], lambda: None, parallel=1, processes=1, own_logs=True)


def test_an_earlier_error_is_not_told_again(tmp_path: Path) -> None:
    commands = (("data_tools.describe", str(tmp_path / "none")), ("timeit", "1/0"))
    for number, command in enumerate(commands):
        step = Step("b", tmp_path, (Stage("b", command, tmp_path / "b.json"),))
        with pytest.raises(ValueError, match="runs failed") as failed:
            run_steps([step], lambda: None, parallel=1, processes=1, own_logs=True)
        assert ("no such file" in str(failed.value)) == (number == 0)


def wait_until(happens: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for something, as long as a process lives."""
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.05)
