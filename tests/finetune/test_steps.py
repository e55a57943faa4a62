"""Steps that need one another, with python -m json.tool, which copies JSON, in place of commands that take hours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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
run_steps(steps, root, lambda: (root / "report").write_text(str([step.is_done for step in steps])), 2, 1, own_logs=True)
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

    run_steps(steps, tmp_path, report, parallel=1, processes=1, own_logs=True)
    assert reports == [["a"], ["b", "a"], ["b", "c", "a"], ["d", "b", "c", "a"], ["d", "b", "c", "a", "e"]]
    assert json.loads((tmp_path / "d" / "copy.json").read_text()) == [1, 2]
    assert "python -m json.tool" in steps[0].log.read_text() and "json.tool" not in capsys.readouterr().out
    before = (tmp_path / "d" / "copy.json").stat().st_mtime_ns
    run_steps(steps, tmp_path, report, parallel=2, processes=1, own_logs=True)
    assert "done before" in steps[0].log.read_text()
    assert (tmp_path / "d" / "copy.json").stat().st_mtime_ns == before


def test_a_failed_step_is_named_with_its_log_and_what_does_not_need_it_is_done(tmp_path: Path) -> None:
    write(tmp_path / "source.json", 1)  # slow.json is missing, so c fails, and d cannot begin
    with pytest.raises(ValueError, match=r"^1 of 5 runs failed: c: exit code .*c/log.txt\); left out for that: d$"):
        run_steps(diamond(tmp_path), tmp_path, lambda: None, parallel=2, processes=1, own_logs=True)
    assert [step.name for step in diamond(tmp_path) if step.is_done] == ["b", "a", "e"]


def test_killed_steps_go_on_to_the_same_results(tmp_path: Path) -> None:
    """c reads from a pipe that nobody writes to, until all is killed."""
    write(tmp_path / "source.json", {"x": 1})
    os.mkfifo(tmp_path / "slow.json")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = [tmp_path / name / "copy.json" for name in "abe"]
    try:
        deadline = time.monotonic() + 60
        while not all(path.exists() for path in done):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
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
    write(tmp_path / "source.json", [1, 2])
    steps = [copy("a", tmp_path / "source.json", tmp_path)]
    with held(tmp_path), pytest.raises(ValueError, match="another call is at work in it; wait for it"):
        run_steps(steps, tmp_path, lambda: None, parallel=1, processes=1, own_logs=True)
    assert not steps[0].has_begun
    run_steps(steps, tmp_path, lambda: None, parallel=1, processes=1, own_logs=True)
    assert steps[0].is_done
