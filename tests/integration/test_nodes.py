"""Two nodes of one process each, started in the ways of docs/multinode.md: the losses of one node with two ranks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from launching import LAUNCHER_VARIABLES, ROOT, launch

from training.checkpoints.finding import checkpoints_of
from training.launch import EXIT_STOPPED
from training.meters import read_metrics

pytestmark = pytest.mark.slow
SHAPE = (
    *("--num_hidden_layers", "2", "--hidden_size", "32", "--num_attention_heads", "2", "--intermediate_size", "48"),
    *("--max_position_embeddings", "66", "--mono_max_length", "24", "--bilingual_max_length", "18"),
    *("--mono_batch_pairs", "8", "--bilingual_batch_pairs", "12", "--warmup_steps", "2", "--learning_rate", "5e-3"),
    *("--log_every", "1", "--ds_config", "zero3_fp32.json", "--loader_workers", "0", "--cpu_processes", "1"),
)
SPACES = ("veco-node-0", "veco-node-1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def train(data: Path, output: Path, steps: int = 4) -> list[str]:
    return ["pretrain/train.py", "--data", str(data), "--output", str(output), *SHAPE, "--steps", str(steps)]


def losses(run: Path) -> list[dict[str, float]]:
    found = [{name: value for name, value in line.items() if "/" in name} for line in read_metrics(run)]
    assert found
    return found


def check_same(ours: list[dict[str, float]], reference: list[dict[str, float]]) -> None:
    """A process that has a machine to itself has more threads, which take sums in another order."""
    assert len(ours) == len(reference) == 4
    for one, other in zip(ours, reference, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def at_once(commands: Sequence[list[str]], variables: Sequence[dict[str, str]]) -> None:
    """Run commands together; each must succeed."""

    def run(command: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=clean(more), capture_output=True, text=True, timeout=300, check=False
        )

    with ThreadPoolExecutor(len(commands)) as pool:
        for result in pool.map(run, commands, variables):
            assert result.returncode == 0, result.stderr[-3000:]


def clean(variables: dict[str, str]) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return {**environment, "PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **variables}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def one_node(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    run = tmp_path_factory.mktemp("one_node") / "run"
    result = launch(*train(random_data, run))
    assert result.returncode == 0, result.stderr[-3000:]
    return losses(run)


@pytest.fixture
def namespaces() -> Iterator[None]:
    """Two network namespaces with a cable between them: machines that see nothing of each other but a network."""

    def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)

    if shutil.which("ip") is None:
        pytest.skip("needs iproute2's ip")
    for space in SPACES:
        ip("netns", "delete", space)
    steps = [("netns", "add", space) for space in SPACES]
    steps += [("link", "add", "veco0", "netns", SPACES[0], "type", "veth", "peer", "veco1", "netns", SPACES[1])]
    for number, (space, address) in enumerate(zip(SPACES, ADDRESSES, strict=True)):
        steps += [("-n", space, "address", "add", f"{address}/24", "dev", f"veco{number}")]
        steps += [("-n", space, "link", "set", device, "up") for device in (f"veco{number}", "lo")]
    try:
        for step in steps:
            result = ip(*step)
            if result.returncode:
                pytest.skip(f"no network namespaces here: ip {' '.join(step)}: {result.stderr.strip()}")
        yield
    finally:
        for space in SPACES:
            ip("netns", "delete", space)


def test_two_network_namespaces(
    namespaces: None, random_data: Path, tmp_path: Path, one_node: list[dict[str, float]]
) -> None:
    """DeepSpeed's launcher on each machine, --no_ssh."""
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    flags = ["--hostfile", str(hosts), "--no_ssh", "--master_addr", ADDRESSES[0], "--master_port", "29511"]
    commands = [
        [
            "ip",
            "netns",
            "exec",
            space,
            "deepspeed",
            *flags,
            "--node_rank",
            str(number),
            *train(random_data, tmp_path / "run"),
        ]
        for number, space in enumerate(SPACES)
    ]
    at_once(commands, [{"GLOO_SOCKET_IFNAME": f"veco{number}"} for number in (0, 1)])
    check_same(losses(tmp_path / "run"), one_node)


def test_torchrun(random_data: Path, tmp_path: Path, one_node: list[dict[str, float]]) -> None:
    """Two agents on this machine."""
    flags = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    commands = [
        ["torchrun", *flags, "--node-rank", str(number), *train(random_data, tmp_path / "run")] for number in (0, 1)
    ]
    at_once(commands, [{}, {}])
    check_same(losses(tmp_path / "run"), one_node)


FAKE_SRUN = """#!/bin/bash
# As srun: two nodes of one task each; a signal is handed on to the tasks.
trap 'kill -USR1 ${tasks[@]}' USR1
for number in 0 1; do
    SLURM_PROCID=$number SLURM_LOCALID=0 SLURM_NTASKS=2 SLURM_NNODES=2 "$@" & tasks+=($!)
done
code=0
for task in ${tasks[@]}; do
    wait $task; status=$?
    while kill -0 $task 2>/dev/null; do wait $task; status=$?; done
    [ $status = 0 ] || code=$status
done
exit $code
"""
FAKE_SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$SCONTROL_LOG"; fi
"""


def test_slurm_script_of_the_documentation(random_data: Path, tmp_path: Path, one_node: list[dict[str, float]]) -> None:
    """Its signal saves and puts the job back, and the second start goes on to the end, as if never stopped."""
    text = (ROOT / "docs" / "multinode.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", text, re.S)
    script, run = tmp_path / "veco.sbatch", tmp_path / "run"
    arguments = train(random_data, run, steps=40)
    assert block.count("--config pretrain/recipes/large.yaml") == 1
    script.write_text(block.replace("--config pretrain/recipes/large.yaml", " ".join(arguments[1:])))
    for name, content in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "scontrol.log"
    variables = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(free_port() % 10000),
        "SLURM_JOB_NODELIST": "node",
        "SLURM_CPUS_PER_TASK": "1",
        "SCONTROL_LOG": str(log),
    }

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(script)], cwd=ROOT, env=clean(variables), stderr=subprocess.PIPE, text=True
        )

    job = start()
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file() or len((run / "metrics.jsonl").read_text().splitlines()) < 2:
        assert time.monotonic() < deadline and job.poll() is None, job.communicate()[1][-3000:]
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == EXIT_STOPPED, errors[-3000:]
    (stopped,) = checkpoints_of(run)
    assert stopped < 40
    assert log.read_text() == f"requeue {variables['SLURM_JOB_ID']}\n"
    again = start()
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors[-3000:]
    assert max(checkpoints_of(run)) == 40 and log.read_text().count("\n") == 1
    assert [line["step"] for line in read_metrics(run)] == list(range(1, 41))
