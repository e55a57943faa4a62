"""prepare --executor slurm against stand-ins for sbatch, srun and scontrol that run the jobs on this machine."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# A job array: the script runs once for each index of its `--array`. Dependencies hold because jobs run when submitted.
SBATCH = """#!/bin/bash
script="${@: -1}"
number=$(($(ls "$JOBS" | wc -l) + 1))
cp "$script" "$JOBS/$number.slurm"
echo "$@" > "$JOBS/$number.arguments"
echo "Submitted batch job $number"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
export SLURM_JOB_ID=$number SLURM_NODELIST=localhost RUN_OFFSET=0
for ((i = 0; i <= ${last:-0}; i++)); do
    SLURM_ARRAY_TASK_ID=$i bash "$script" > "$JOBS/$number.$i.log" 2>&1
done
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done
exec "$@"
"""
SCONTROL = "#!/bin/bash\necho localhost\n"


@pytest.fixture
def slurm(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment with the stand-ins; scripts and logs of the jobs are kept in the directory $JOBS."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (tmp_path / "jobs").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(stat.S_IRWXU)
    return {**environment, "PATH": f"{commands}:{os.environ['PATH']}", "JOBS": str(tmp_path / "jobs")}


def _prepare(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_tools.prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_the_jobs_make_the_data_directory(tmp_path: Path, corpus_file: Path, slurm: dict[str, str]) -> None:
    corpus_file.write_text(corpus_file.read_text() + "\n        deduplicate: {minhash: {num_buckets: 2}}\n")
    arguments = [corpus_file, "--shard-tokens", "1500", "--workers", "2"]
    process = _prepare(slurm, *arguments, "--output", tmp_path / "local")
    assert process.returncode == 0, process.stderr
    process = _prepare(
        slurm,
        *[*arguments, "--output", tmp_path / "data", "--executor", "slurm", "--slurm-partition", "cpu"],
        *["--slurm-time", "02:00:00", "--slurm-memory-gb", "3", "--slurm-argument", "account=nlp"],
    )
    assert process.returncode == 0, process.stderr
    jobs = tmp_path / "jobs"
    logs = "\n".join(path.read_text() for path in sorted(jobs.glob("*.log")))
    assert (tmp_path / "data" / "manifest.json").exists(), logs
    for path in (path for path in (tmp_path / "local").rglob("*") if path.is_file()):
        name = path.relative_to(tmp_path / "local")
        assert (tmp_path / "data" / name).read_bytes() == path.read_bytes(), name

    script = (jobs / "1.slurm").read_text()
    expected = ("partition=cpu", "time=02:00:00", "mem-per-cpu=3G", "array=0-2%2", "account=nlp", "requeue")
    for directive in (*expected, "job-name=veco-encode"):
        assert f"#SBATCH --{directive}\n" in script, script
    assert f"export PATH={Path(sys.executable).parent}" in script
    assert "launch_pickled_pipeline" in script
    finish = next(path for path in jobs.glob("*.slurm") if "job-name=veco-finish" in path.read_text())
    # The last job of the stage before; each stage also has one that adds up its statistics.
    assert "--dependency=afterok:" in finish.with_suffix(".arguments").read_text()

    again = _prepare(slurm, *arguments, "--output", tmp_path / "data")
    assert "nothing to do" in again.stdout, again.stderr
    assert not (tmp_path / "data" / ".work").exists()


@pytest.mark.slow
def test_a_failed_task_is_run_again(tmp_path: Path, corpus_file: Path, slurm: dict[str, str]) -> None:
    broken = tmp_path / "text" / "pair2.ru"
    whole = broken.read_bytes()
    broken.write_bytes(whole + b"\xff\n")
    arguments = [corpus_file, "--output", tmp_path / "data", "--executor", "slurm"]
    arguments += ["--slurm-partition", "cpu", "--slurm-time", "1:00"]
    _prepare(slurm, *arguments)
    assert not (tmp_path / "data" / "manifest.json").exists()
    notes = [path.read_text() for path in (tmp_path / "data").rglob("errors/*")]
    assert any("pair2.ru: line 101 is not UTF-8" in note for note in notes), notes
    broken.write_bytes(whole)
    _prepare(slurm, *arguments)
    assert (tmp_path / "data" / "manifest.json").exists()


def test_missing_flags_are_named(
    tmp_path: Path, corpus_file: Path, slurm: dict[str, str], assert_one_line_error: Callable
) -> None:
    arguments = [corpus_file, "--output", tmp_path / "data", "--executor", "slurm"]
    assert_one_line_error(_prepare(slurm, *arguments), "--slurm-partition")
    arguments += ["--slurm-partition", "cpu", "--slurm-time", "1:00"]
    assert_one_line_error(_prepare(slurm, *arguments, "--slurm-argument", "account"), "expected NAME=VALUE")
    without = {**slurm, "PATH": "/nowhere"}
    assert_one_line_error(_prepare(without, *arguments), "no command sbatch")
