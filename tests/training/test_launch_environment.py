"""Variables of a recipe that only the shell has set in which `deepspeed --hostfile` was typed."""

from __future__ import annotations

import os
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from launching import ROOT, run

from training.launch import free_port
from training.launch_environment import complete_environment

NODE = """
import os, sys
from training.launch_environment import complete_environment
complete_environment(["RUNS", "OWN", "NOWHERE"])
from torch.distributed import init_process_group, get_world_size
init_process_group("gloo")  # at the same address
print(os.environ["RUNS"], os.environ["OWN"], os.environ.get("NOWHERE"), get_world_size())
"""
# Runs the command once for every host in an environment that knows nothing, as ssh would.
PDSH = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
hosts = words[words.index("-w") + 1].split(",")
command = " ".join(words[words.index("-w") + 2 :])
clean = ["env", "-i", "HOME=/nowhere", "PATH=/usr/bin:/bin", "DS_ACCELERATOR=cpu", "OMP_NUM_THREADS=1", "bash", "-c"]
nodes = [subprocess.Popen([*clean, command.replace("%n", str(number))]) for number in range(len(hosts))]
sys.exit(max(node.wait() for node in nodes))
"""
SCRIPT = """
import os, sys
from pretrain.recipe import PretrainRecipe
from training.launch import run_on_ranks
from training.recipe.parsing import parse_recipe
def main():
    recipe = parse_recipe(PretrainRecipe, sys.argv[1:])
    sys.stdout.write(f"node {os.environ['CROSS_RANK']}: {recipe.output}, {recipe.data}\\n")
run_on_ranks(main)
"""


def test_other_nodes_get_what_is_set_on_the_first() -> None:
    """And keep what they have themselves; the process group then comes up at the same address."""
    shared = {"CROSS_SIZE": 2, "WORLD_SIZE": 2, "LOCAL_SIZE": 1, "LOCAL_RANK": 0}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [
        {**shared, "CROSS_RANK": 0, "RANK": 0, "RUNS": "/shared/my runs", "OWN": "first"},
        {**shared, "CROSS_RANK": 1, "RANK": 1, "OWN": "second"},
    ]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda variables: run([sys.executable, "-c", NODE], variables), nodes))
    assert [result.stdout.split("\n")[0] for result in ended] == [
        "/shared/my runs first None 2",
        "/shared/my runs second None 2",
    ], [result.stderr[-2000:] for result in ended]


def test_shell_of_the_launcher_is_enough_for_all_nodes(tmp_path: Path) -> None:
    """`deepspeed --hostfile`, with a pdsh that gives every node a clean environment, and the recipe as shipped."""
    pdsh = tmp_path / "bin" / "pdsh"
    pdsh.parent.mkdir()
    pdsh.write_text(PDSH.format(python=sys.executable))
    pdsh.chmod(0o755)
    (tmp_path / "hosts.txt").write_text("worker-1 slots=1\nworker-2 slots=1\n")
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(tmp_path / "hosts.txt")),
        *("--no_ssh_check", "--master_addr", "127.0.0.1", "--master_port", str(free_port()), "--log_level", "warning"),
        *(str(tmp_path / "script.py"), "--config", "pretrain/recipes/large.yaml"),
    ]
    path = f"{pdsh.parent}:{os.environ['PATH']}"
    ended = run(command, {"PATH": path, "VECO_RUNS": "/shared/runs", "PYTHONPATH": ROOT})
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert {line for line in ended.stdout.splitlines() if line.startswith("node")} == {
        f"node {number}: /shared/runs/large, /shared/runs/data" for number in range(2)
    }


def test_one_node_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSS_SIZE", "1")
    complete_environment(["VECO_NOWHERE"])
    assert "VECO_NOWHERE" not in os.environ
