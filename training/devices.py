"""The devices of a run: the cards that torch can use, or the CPU where there are none or the recipe says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.launch import hide_cards

if TYPE_CHECKING:
    from training.engine.interface import Ranks

GIB = 2**30


def use_device(device: str) -> None:
    """Follow a recipe's `device`, before torch looks at the cards: "cpu" hides them all.

    Raises ValueError where "auto" finds a card that torch cannot use, which would train on the CPU for weeks without
    a word, and where "cuda" finds none. Torch is imported only if there is a card or one is asked for.
    """
    if device == "cpu":
        hide_cards()
    elif device == "cuda" or (not cards_are_hidden() and machine_has_card()):
        import torch

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            is_usable = torch.cuda.is_available()
        if not is_usable:
            raise ValueError(why_no_card(torch.__version__, torch.version.cuda, [str(one.message) for one in told]))


def use_kernels(is_deterministic: bool) -> None:
    """Let torch use only kernels that give the same bits each time, or any: call it before the first on a card.

    An operation that has no such kernel then raises a RuntimeError that names it.
    """
    import torch

    if is_deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for, before it starts
    torch.use_deterministic_algorithms(is_deterministic)


def cards_are_hidden() -> bool:
    """Whether the environment keeps a program from all cards: somebody wants it on the CPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or os.environ.get("DS_ACCELERATOR") == "cpu"


def machine_has_card() -> bool:
    """Whether this machine has an NVIDIA card, whatever torch makes of it.

    A container that was not given the card shows the driver under /proc, but not the device. WSL has only nvidia-smi.
    """
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and listed.stdout.startswith("GPU ")


def why_no_card(version: str, cuda: str | None, warned: Sequence[str]) -> str:
    """A line on a card that torch, of this version and for that CUDA (None: for none), cannot use."""
    if cards_are_hidden():
        reason = "CUDA_VISIBLE_DEVICES or DS_ACCELERATOR hides all cards"
    elif cuda is None:
        reason = f"torch {version} is built for the CPU alone; install one for CUDA (docs/installation.md)"
    else:
        first = f" ({warned[0].partition('. ')[0].removeprefix('CUDA initialization: ')})" if warned else ""
        reason = (
            f"torch {version} is built for CUDA {cuda}, which the driver may be too old for{first}; update the driver, "
            "or install torch for its CUDA (docs/installation.md)"
        )
    return f"device: torch cannot use this machine's card: {reason}; --device cpu trains on the CPU"


def device_told(ranks: Ranks) -> str:
    """The devices of all ranks in words, such as "8 x NVIDIA H100 80GB HBM3 (79.2 GiB)"; every rank calls it."""
    if ranks.device.type != "cuda":
        return ranks.device.type
    import torch

    card = torch.cuda.get_device_properties(ranks.device)
    sizes = torch.zeros(ranks.world_size, dtype=torch.float64, device=ranks.device)
    sizes[ranks.rank] = card.total_memory
    return cards_told(card.name, ranks.sum_over_ranks(sizes).tolist())


def cards_told(name: str, sizes: Sequence[float]) -> str:
    """Count, name and memory of cards; `sizes` are in bytes, one of each card."""
    counts = Counter(f"{size / GIB:.1f} GiB" for size in sizes)
    (most, count), *others = counts.most_common()
    return ", ".join([f"{count} x {name} ({most})", *(f"{count} with {size}" for size, count in others)])
