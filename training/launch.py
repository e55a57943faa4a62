"""The start of entry points under the deepspeed launcher, before any collective."""

from __future__ import annotations

import atexit
import base64
import json
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from data_tools.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, one_line, run_main

EXIT_STOPPED = 75  # of a run that ended before its end because it was asked to: EX_TEMPFAIL, "come again"
PATIENCE = 10.0  # seconds by which ranks of a busy machine may meet the same mistake apart
LAUNCHERS = ("deepspeed.launcher", "bin/deepspeed ", "torch.distributed.run", "bin/torchrun ")


def launched_ranks() -> int:
    """Processes that the launcher (deepspeed, torchrun) started in all, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """This process's number among them, 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def tell(line: str) -> None:
    """Print a line on stderr, once for all ranks."""
    if launched_rank() == 0:
        print(line, file=sys.stderr, flush=True)


def launchers() -> list[int]:
    """Process ids of the launcher above this process, nearest first: `deepspeed` is two; none without one.

    A killed launcher is no longer an ancestor: what it started continues without it.
    """
    found = []
    process = os.getppid()
    while any(name in command_line(process) for name in LAUNCHERS):
        found.append(process)
        process = parent_of(process)
    return found


def parent_of(process: int) -> int:
    """The process that started another; 0 where this cannot be known, as of one that has just ended."""
    facts = facts_of(process)
    return int(facts[1]) if facts else 0


def start_of(process: int) -> str:
    """Start time of a process, in clock ticks since boot; empty for one that has ended.

    A number alone does not name a process: it may have been given to another one since.
    """
    facts = facts_of(process)
    has_ended = not facts or facts[0] in "ZX"  # nobody has asked yet how it ended
    return "" if has_ended else facts[19]


def facts_of(process: int) -> list[str]:
    """State, parent and so on of a process, as proc(5) lists them behind its name; empty if there is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    # "pid (name) state parent …", where a name may hold spaces and brackets.
    return stat.rpartition(")")[2].split()


def command_line(process: int) -> str:
    """A process's words joined by spaces; empty where this cannot be known."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def run_on_ranks(main: Callable[[], None]) -> None:
    """Do what `run_main` does for a program that runs on several ranks: bad input is reported once on each machine.

    The process ends here, with exit code 0 if all went well. DS_ACCELERATOR=cpu hides all accelerators from it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a script's shell starts what it does not wait for. Who sends the signal to a run by its number means it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        hide_cards()
    code = 0
    try:
        _run_and_tell(main)
    except SystemExit as exit_:
        if exit_.code is not None and not isinstance(exit_.code, int):
            raise
        code = exit_.code or 0
    leave(code)


def hide_cards() -> None:
    """Let torch, DeepSpeed and the processes that this one starts see no accelerator."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the launcher numbers cores there, which torch takes for devices


def leave(code: int) -> NoReturn:
    """End the process. With DeepSpeed in it, Python does not take its objects down one by one.

    DeepSpeed keeps process groups for good, so that their threads still run when Python goes; one that then lets go
    of a tensor ends the process with SIGABRT ("terminate called without an active exception") after a good run.
    """
    if "deepspeed" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run_and_tell(main: Callable[[], None]) -> None:
    def checked() -> None:
        try:
            main()
        except FloatingPointError as error:  # a loss or a gradient: the message says all there is to say
            raise ValueError(error) from error

    if os.environ.get("LOCAL_RANK", "0") == "0":
        run_main(checked)
        return
    try:
        checked()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        # Bad input meets all ranks alike. The launcher ends the others when one leaves, so this one waits while the
        # first rank of the machine reports it, and prints only if it is still there: then it alone is in trouble. Of
        # ranks that are gone the second one speaks, too: the first may be among them.
        if not (isinstance(error, ConnectionError) and os.environ["LOCAL_RANK"] == "1"):
            time.sleep(PATIENCE)
        sys.stderr.write(f"error: rank {launched_rank()}: {one_line(error)}\n")
        sys.exit(EXIT_BAD_INPUT)


def quiet_libraries() -> None:
    """Keep what DeepSpeed and transformers would say about themselves off the terminal; call it before using them."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed guesses the same, with a warning
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    disable_progress_bar()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launcher_command(
    num_processes: int, *script_and_arguments: str, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """The command that starts a script as `num_processes` on a free port of this machine: several runs may share it.

    It is what `deepspeed` starts on one machine, without `deepspeed` itself, which ends at a SIGTERM without passing it
    on, and forgets which devices are visible. They take the first devices of those that `environment` makes visible.
    Where it hides all (CUDA_VISIBLE_DEVICES is empty or -1, which DeepSpeed takes for a device) they run on the CPU.
    """
    setting = environment.get("CUDA_VISIBLE_DEVICES")
    on_cpu = ["env", "-u", "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR=cpu"] if setting in ("", "-1") else []
    visible = (setting or "").split(",")[:num_processes]
    devices = [*map(int, visible)] if visible[0].isdecimal() else [*range(num_processes)]
    world = base64.urlsafe_b64encode(json.dumps({"localhost": devices}).encode()).decode()
    address = ("--master_addr", "127.0.0.1", "--master_port", str(free_port()))
    return [
        *(*on_cpu, sys.executable, "-u", "-m", "deepspeed.launcher.launch", "--world_info", world, *address),
        *("--log_level", "warning", *script_and_arguments),
    ]


def relaunch_on_cpu(num_processes: int) -> None:
    """Start this program again as `num_processes` on a machine without accelerators; returns where that is not wanted.

    `deepspeed script.py` counts one accelerator for each NUMA node, so a laptop gets one process. Nothing happens when
    the launcher started several, without the launcher, and with an accelerator.
    """
    started_alone = os.environ.get("CROSS_SIZE") == "1" and launched_ranks() == 1
    if num_processes == 1 or not started_alone:
        return
    import torch  # here, because a recipe's mistakes should not wait for it

    if torch.cuda.is_available():
        return
    arguments = [argument for argument in sys.argv if not argument.startswith("--local_rank")]
    print(f"no accelerator: starting {num_processes} processes (cpu_processes)", file=sys.stderr, flush=True)
    # What the launcher that is left behind set says nothing of devices: on a CPU it counts one, whatever is started.
    command = launcher_command(num_processes, *arguments, environment={"CUDA_VISIBLE_DEVICES": ""})
    sys.stdout.flush()
    os.execvp(command[0], command)
