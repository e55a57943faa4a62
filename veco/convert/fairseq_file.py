"""Read fairseq's `model.pt` without running any code in it.

Such a file is a pickle. Beside the weights it has the settings of the run, as an argparse.Namespace or as omegaconf's
nodes, and the state of the trainer: meters, numpy numbers, enumerations of fairseq. `torch.load(weights_only=True)`
refuses all of these, so by itself it opens no real file. Here each of them becomes an `Inert` object, which keeps its
state and has no behaviour; the class named in the file is never imported, let alone called. Names outside the packages
that fairseq's own checkpoints use are refused, although they would be inert too.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

INERT_PACKAGES = ("argparse", "fairseq", "omegaconf", "numpy", "typing")
INERT_NAMES = (
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "object", "str", "tuple")),
    "_operator.getitem",  # omegaconf's list[str] and the like
    "pathlib.PosixPath",
)
PLAIN_DICT = "collections.defaultdict"
# Names that torch.save itself writes.
OF_WEIGHTS = re.compile(r"collections\.OrderedDict|torch\.(\w+Storage|_utils\._rebuild_\w+|nn\.parameter\.Parameter)")
# Before torch 1.6 a file was a sequence of pickles: a magic number, a version, the system, then the saved object.
LEGACY_PICKLES = 4


class Inert:
    """Stand-in for an object of a foreign class: its `state`, as pickled, and no behaviour."""

    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        inert = object.__new__(cls)
        inert.state = None
        return inert

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def plain_dict(*args: Any) -> dict[Any, Any]:
    """An empty dictionary in place of a defaultdict; the unpickler then sets its items."""
    return {}


@dataclass(frozen=True)
class FairseqCheckpoint:
    """A fairseq checkpoint: weights by name, and fairseq's settings by name (empty if the file has none)."""

    weights: dict[str, Tensor]
    settings: dict[str, Any]


def read_checkpoint(path: Path) -> FairseqCheckpoint:
    """Weights, on the CPU in the file's precision, and settings of a fairseq checkpoint or a bare state dict.

    Raises ValueError for a file that names foreign classes (they are listed), is not a checkpoint or is damaged;
    OSError if it cannot be opened.
    """
    names = class_names(path)
    inert: dict[str, Callable[..., Any]] = {name: Inert for name in names if is_inert(name)}
    if PLAIN_DICT in names:
        inert[PLAIN_DICT] = plain_dict
    try:
        with only_safe_globals(inert):
            # With memory mapping, the optimizer's state, twice as large as the weights, is never read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever error a foreign file causes is its own fault
        foreign = [name for name in names if name not in inert and not OF_WEIGHTS.fullmatch(name)]
        if foreign:
            raise ValueError(
                f"{path}: refused: it names {', '.join(sorted(foreign))}, which no checkpoint of fairseq needs; "
                "no code in it was run"
            ) from None
        raise ValueError(f"{path}: not a fairseq checkpoint, or damaged ({str(error).splitlines()[0]})") from None
    weights = content["model"] if isinstance(content, dict) and "model" in content else content
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"{path}: expected a fairseq checkpoint, a mapping whose 'model' has weights by name")
    return FairseqCheckpoint(dict(weights), {} if weights is content else settings_of(content))


@contextmanager
def only_safe_globals(stand_ins: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Let unpickling use these stand-ins, by full name, and none of the classes that other packages have allowed.

    For example, Megatron-core, once imported, allows argparse.Namespace itself.
    """
    allowed_before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed_before)


def is_inert(name: str) -> bool:
    """Whether objects of the class of that full name may be read as `Inert`."""
    return name in INERT_NAMES or name.split(".")[0] in INERT_PACKAGES


def class_names(path: Path) -> set[str]:
    """Full names of all classes and functions in a file of `torch.save`; none is built or run.

    Raises ValueError if the file has no pickle.
    """
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                return set().union(*(_names_in_pickle(file) for _ in range(LEGACY_PICKLES)))
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(name) as member:
                return _names_in_pickle(member)
    except (ValueError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a file of torch.save, or damaged ({error})") from None


def _names_in_pickle(stream: IO[bytes]) -> set[str]:
    names = set()
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL":
            # torch.save writes Python 2's names of modules, and the unpickler translates them like this.
            module, name = str(argument).split(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            names.add(f"{module}.{name}")
    return names


def settings_of(content: dict[str, Any]) -> dict[str, Any]:
    """fairseq's settings by name, from `args` (up to 0.10) or from the model and the task in `cfg` (later)."""
    settings = members(content.get("args"))
    if not settings:
        cfg = members(content.get("cfg"))
        task = members(cfg.get("task"))
        settings = {**task, **members(cfg.get("model")), "task": task.get("_name")}
    return {name: members(value).get("_val", value) for name, value in settings.items()}


def members(value: Any) -> dict[str, Any]:
    """Items of a dictionary, a Namespace or a node of omegaconf by name; empty for anything else."""
    state = value.state if isinstance(value, Inert) else value
    if not isinstance(state, dict):
        return {}
    return members(state["_content"]) if "_content" in state else state
