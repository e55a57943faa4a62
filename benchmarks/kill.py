"""Kill a pre-training run again and again, also during saves, and compare it with an undisturbed one.

    python benchmarks/kill.py [--kills 50] [--engine plain|deepspeed] [--ranks 2] [--output DIR]

Each SIGKILL comes at a random moment: half of them between or during updates, half while a checkpoint is written. Under
`deepspeed` it hits all processes at once, or one random rank, whose death must end the others. The run is then started
again with `--resume auto`. The report says whether every line of metrics.jsonl (losses of every kind, language and
pair, gradient norm, learning rate, digest of the samples) equals that of the undisturbed run, bit for bit; how many
updates after the newest complete checkpoint were lost; how many starts failed. Exit code 1 unless all is perfect.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from data_tools.cli import FlagParser, progress_bar, run_main
from data_tools.files.directories import claim
from pretrain.embedded import embedded_data
from training.checkpoints.finding import checkpoints_of, damage
from training.launch import launcher_command

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (
    *("--num_hidden_layers", "2", "--hidden_size", "64", "--num_attention_heads", "2", "--intermediate_size", "128"),
    *("--max_position_embeddings", "66", "--mono_max_length", "32", "--bilingual_max_length", "24"),
    *("--mono_batch_pairs", "8", "--bilingual_batch_pairs", "8", "--dropout", "0.1", "--attention_dropout", "0.1"),
    *("--warmup_steps", "10", "--learning_rate", "1e-3", "--cpu_processes", "1"),
)
RUNS = ("undisturbed", "killed")
UPDATES_BETWEEN_KILLS = 6  # at most, beyond those that a start repeats
SAVE_EVERY = 4
START_SECONDS = 300  # after which a start counts as failed
WATCH_SECONDS = 0.001
EXACT = ("step", "lr", "grad_norm", "samples")  # and everything with a "/": losses and accuracies by kind and group


@dataclass
class Tally:
    """Counts of kills and their consequences."""

    kills: int = 0
    in_saves: int = 0  # kills while a checkpoint was partly written
    single_ranks: int = 0  # kills of a single rank
    lost_updates: int = 0  # updates of a complete checkpoint that a start did not resume from
    failed_starts: int = 0
    wrong_lines: set[int] = field(default_factory=set)


def command(options: argparse.Namespace, data: Path, run_dir: Path) -> list[str]:
    arguments = (
        *("--data", str(data), "--output", str(run_dir), "--engine", options.engine, "--ds_config", options.ds_config),
        *("--steps", str(options.updates), "--save_every", str(SAVE_EVERY), "--log_every", "1", "--resume", "auto"),
        *("--loader_workers", str(options.loader_workers), "--keep_checkpoints", "2", *SHAPE),
    )
    script = str(ROOT / "pretrain" / "train.py")
    if options.engine == "plain":
        return [sys.executable, script, *arguments]
    return launcher_command(options.ranks, script, *arguments)


def start(options: argparse.Namespace, data: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    """Start the run in its own process group, which can be killed as a whole; its output goes to DIR/kill.log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(run_dir.parent / f"{run_dir.name}.log", "ab") as log:
        return subprocess.Popen(
            command(options, data, run_dir), cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def lines(run_dir: Path) -> dict[int, dict[str, Any]]:
    """The complete lines of metrics.jsonl by update, without values in seconds or bytes."""
    path = run_dir / "metrics.jsonl"
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # being written
        found[line["step"]] = {name: value for name, value in line.items() if "/" in name or name in EXACT}
    return found


def newest_whole(run_dir: Path) -> int:
    """Step of the newest checkpoint that a start should resume from, 0 if there is none."""
    return max((step for step, path in checkpoints_of(run_dir).items() if damage(path) is None), default=0)


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The launcher's training processes."""
    tree = psutil.Process(process.pid).children(recursive=True)
    return [child for child in tree if any(word.startswith("--local_rank=") for word in child.cmdline()[:5])]


def wait_for_update(process: subprocess.Popen[bytes], run_dir: Path, update: int) -> bool:
    """Whether the run reached `update` before it ended or timed out."""
    deadline = time.monotonic() + START_SECONDS
    while max(lines(run_dir), default=0) < update:
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_for_save(process: subprocess.Popen[bytes], run_dir: Path) -> bool:
    """Whether the run starts to write a checkpoint before it ends."""
    while process.poll() is None:
        if any((run_dir / "checkpoints").glob("*.partial")):
            return True
        time.sleep(WATCH_SECONDS)
    return False


def kill(process: subprocess.Popen[bytes], one_rank: bool) -> None:
    """Send SIGKILL to all processes of a run, or to one rank, and wait until none is left."""
    tree = psutil.Process(process.pid).children(recursive=True)
    if one_rank:
        random.choice(ranks_of(process)).kill()
        psutil.wait_procs(tree, timeout=60)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in tree:
        if child.is_running():
            child.kill()
    psutil.wait_procs(tree, timeout=60)


def disturb(options: argparse.Namespace, data: Path, run_dir: Path, tally: Tally) -> bool:
    """Start the run and kill it at a random moment; return False if it finished before."""
    expected = newest_whole(run_dir)
    process = start(options, data, run_dir)
    # With its first line a start drops the lines beyond its checkpoint; until then the old ones are there.
    while process.poll() is None and max(lines(run_dir), default=0) > expected:
        time.sleep(0.02)
    if not wait_for_update(process, run_dir, expected + 1):
        tally.failed_starts += process.poll() != 0
        if process.poll() is None:
            kill(process, one_rank=False)
        return process.returncode != 0
    began_after = min(step for step in lines(run_dir) if step > expected) - 1
    tally.lost_updates += began_after - expected
    wait_for_update(process, run_dir, expected + 1 + random.randrange(UPDATES_BETWEEN_KILLS))
    if random.random() < 0.5 and wait_for_save(process, run_dir):
        time.sleep(random.random() * options.save_seconds)
    else:
        time.sleep(random.random() * options.update_seconds)
    if process.poll() is not None:
        return False
    one_rank = options.engine == "deepspeed" and random.random() < 0.5
    kill(process, one_rank)
    tally.kills += 1
    tally.single_ranks += one_rank
    tally.in_saves += any((run_dir / "checkpoints").glob("*.partial"))
    return True


def wrong_lines(run_dir: Path, reference: dict[int, dict[str, Any]]) -> set[int]:
    """Updates whose line differs from the undisturbed run's."""
    return {step for step, line in lines(run_dir).items() if line != reference.get(step)}


def measure(options: argparse.Namespace, directory: Path) -> Tally:
    """Run undisturbed, then with the requested number of kills, then to the end."""
    claim(directory, ["embedded", *RUNS, *(f"{name}.log" for name in RUNS)], "benchmarks.kill")
    data = embedded_data(directory / "embedded")
    undisturbed, run_dir = (directory / name for name in RUNS)
    for old in (undisturbed, run_dir):
        shutil.rmtree(old, ignore_errors=True)
    if start(options, data, undisturbed).wait():
        raise ValueError(f"the undisturbed run failed; see {undisturbed}.log")
    reference = lines(undisturbed)
    tally = Tally()
    with progress_bar() as bar:
        task = bar.add_task("killing", total=options.kills, unit="kills")
        while tally.kills < options.kills and tally.failed_starts <= options.kills:
            if not disturb(options, data, run_dir, tally):
                # The run is finished: a new one takes the remaining kills.
                tally.wrong_lines |= wrong_lines(run_dir, reference)
                shutil.rmtree(run_dir)
            tally.wrong_lines |= wrong_lines(run_dir, reference)
            bar.update(task, completed=tally.kills)
    if start(options, data, run_dir).wait():
        tally.failed_starts += 1
    tally.wrong_lines |= wrong_lines(run_dir, reference) | (reference.keys() - lines(run_dir).keys())
    return tally


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: %(default)s)")
    parser.add_argument("--engine", choices=("plain", "deepspeed"), default="plain", help="(default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="processes under deepspeed (default: %(default)s)")
    parser.add_argument("--ds_config", default="zero3_bf16.json", help="(default: %(default)s)")
    parser.add_argument("--updates", type=int, help="length of the run (default: enough for all kills)")
    parser.add_argument("--loader_workers", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--update_seconds", type=float, default=0.3, help="longest wait before a kill between saves")
    parser.add_argument("--save_seconds", type=float, default=0.15, help="longest wait before a kill in a save")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random moments (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="directory for the runs (default: a temporary one)")
    options = parser.parse_args()
    random.seed(options.seed)
    options.updates = options.updates or (UPDATES_BETWEEN_KILLS + SAVE_EVERY) * options.kills
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        tally = measure(options, options.output)
    else:
        with tempfile.TemporaryDirectory() as directory:
            tally = measure(options, Path(directory))
    print(
        f"{options.engine}: {tally.kills} kills, {tally.in_saves} of them inside a save, {tally.single_ranks} of one "
        f"rank alone\nupdates lost behind the newest checkpoint: {tally.lost_updates}\nstarts that failed: "
        f"{tally.failed_starts}\nlines that differ from the undisturbed run: {len(tally.wrong_lines)}"
    )
    if tally.lost_updates or tally.failed_starts or tally.wrong_lines:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
