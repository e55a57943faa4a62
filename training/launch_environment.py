"""Environment variables of a recipe, on every node of a run that `deepspeed --hostfile` starts.

DeepSpeed starts all nodes, the first one too, by pdsh in a new shell, and gives them NCCL*, PYTHON* and the lines of
.deepspeed_env. What else the user's shell has set is still to be seen in the environment of the waiting pdsh, on the
machine where the run was started. The first rank tells what it knows to the other nodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from training.launch import command_line, launched_rank, launchers

if TYPE_CHECKING:
    from torch.distributed import TCPStore

TOLD = "veco/environment"
PATIENCE = timedelta(minutes=5)  # nodes import torch from file systems of different speed


def complete_environment(names: Sequence[str]) -> None:
    """Set those of the variables `names` that are not set on this node, if another place knows them.

    Every rank calls it with the same names. Nothing happens on a single node, and under launchers that leave the
    environment of each node to its user.
    """
    if not names or int(os.environ.get("CROSS_SIZE", "1")) == 1:
        return
    if unset := unset_of(names):
        for environment in environments_of_pdsh():
            os.environ.update({name: environment[name] for name in unset if name in environment})
    if launched_rank() == 0:
        known = {name: os.environ[name] for name in names if name in os.environ}
        first_rank_store().set(TOLD, json.dumps(known))
    elif os.environ["CROSS_RANK"] != "0" and (unset := unset_of(names)):
        known = json.loads(told_by_first_rank())
        os.environ.update({name: known[name] for name in unset if name in known})


def unset_of(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in os.environ]


def environments_of_pdsh() -> Iterator[dict[str, str]]:
    """The environments of this machine's processes that have our launcher's words in their command line.

    These are pdsh and its ssh, with the variables of the user's shell, where the run was started here.
    """
    ours = [command_line(process).split() for process in launchers()[:1]]
    marks = {word for words in ours for word in words if word.startswith(("--world_info=", "--master_port="))}
    for directory in Path("/proc").iterdir():
        if marks and directory.name.isdecimal() and marks.issubset(command_line(int(directory.name)).split()):
            try:
                content = (directory / "environ").read_bytes().decode(errors="surrogateescape")
            except OSError:  # it has ended, or is another user's
                continue
            yield dict(line.split("=", 1) for line in content.split("\0") if "=" in line)


@cache
def first_rank_store() -> TCPStore:
    """The store that the first rank serves at the address where all ranks will meet.

    The process keeps it: torch's own rendezvous then finds it there (`multi_tenant`), and no rank that is early loses
    its connection to one that is closed.
    """
    from torch.distributed import TCPStore  # takes seconds, which a recipe's mistakes on one node should not

    return TCPStore(*meeting_place(), is_master=True, wait_for_workers=False, multi_tenant=True)


def told_by_first_rank() -> str:
    """The note of the first rank. Raises ValueError if it does not come."""
    from torch.distributed import DistError, TCPStore

    try:
        store = TCPStore(*meeting_place(), is_master=False, wait_for_workers=False, timeout=PATIENCE)
        return store.get(TOLD).decode()
    except DistError as error:
        address = ":".join(map(str, meeting_place()))
        raise ValueError(f"{address}: the first rank does not answer ({str(error).splitlines()[0]})") from None


def meeting_place() -> tuple[str, int]:
    """Address and port of the first rank."""
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
