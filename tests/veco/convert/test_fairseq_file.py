"""Contents of foreign files: objects of fairseq's trainer, which are read as inert, and code, which never runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from veco.convert.fairseq_file import read_checkpoint

WEIGHTS = {"encoder.weight": torch.arange(6.0).view(2, 3)}


@pytest.fixture
def foreign_classes() -> Iterator[dict[str, type]]:
    """Classes, by full name, of packages that exist only until the files are written."""
    classes = {}
    modules: dict[str, ModuleType] = {}
    for full_name in (
        "fairseq.meters.AverageMeter",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.nodes.AnyNode",
        "stranger.things.Thing",
    ):
        module_name, _, name = full_name.rpartition(".")
        for depth in range(1, len(module_name.split(".")) + 1):
            part = ".".join(module_name.split(".")[:depth])
            sys.modules[part] = modules.setdefault(part, ModuleType(part))
        classes[full_name] = type(name, (), {"__module__": module_name})
        setattr(sys.modules[module_name], name, classes[full_name])
    yield classes
    for name in modules:
        sys.modules.pop(name, None)


def forget_modules() -> None:
    """Remove the foreign packages, as on a machine without them."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("fairseq", "omegaconf", "stranger")]:
        del sys.modules[name]


def instance(kind: type, **state: Any) -> Any:
    """An object of that class with those attributes."""
    made = kind()
    made.__dict__.update(state)
    return made


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
def test_trainers_objects_are_read_as_inert(foreign_classes, tmp_path: Path, zipped: bool) -> None:
    state = {
        "args": Namespace(encoder_attention_heads=16, arch="veco_large"),
        "model": WEIGHTS,
        "extra_state": {
            "train_meters": {"loss": instance(foreign_classes["fairseq.meters.AverageMeter"], sum=1.5, count=3)},
            "best": np.float64(3.5),
            "array": np.arange(3),
            "cache": defaultdict(dict, a={"b": 1}),
            "path": PosixPath("/data"),
            "kinds": [int, str, dict],
        },
    }
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    forget_modules()
    checkpoint = read_checkpoint(tmp_path / "model.pt")
    assert checkpoint.settings == {"encoder_attention_heads": 16, "arch": "veco_large"}
    assert set(checkpoint.weights) == set(WEIGHTS)
    assert torch.equal(checkpoint.weights["encoder.weight"], WEIGHTS["encoder.weight"])


def test_settings_of_newer_files(foreign_classes, tmp_path: Path) -> None:
    """`cfg` is a dictionary, with a Namespace for the model, or nodes of omegaconf."""
    node = foreign_classes["omegaconf.nodes.AnyNode"]
    config = foreign_classes["omegaconf.dictconfig.DictConfig"]
    plain = {"task": {"_name": "masked_lm", "seed": 1}, "model": Namespace(dropout=0.1)}
    task = instance(config, _content={"_name": instance(node, _val="masked_lm"), "seed": instance(node, _val=1)})
    model = instance(config, _content={"dropout": instance(node, _val=0.1)})
    nodes = instance(config, _content={"task": task, "model": model})
    for number, cfg in enumerate((plain, nodes)):
        torch.save({"args": None, "cfg": cfg, "model": WEIGHTS}, tmp_path / f"{number}.pt")
    forget_modules()
    for number in range(2):
        settings = read_checkpoint(tmp_path / f"{number}.pt").settings
        assert settings == {"_name": "masked_lm", "task": "masked_lm", "seed": 1, "dropout": 0.1}


def test_bare_state_dict_has_no_settings(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "bare.pt")
    checkpoint = read_checkpoint(tmp_path / "bare.pt")
    assert set(checkpoint.weights) == set(WEIGHTS)
    assert not checkpoint.settings


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["posix.system", "builtins.exec", "subprocess.Popen", "torch.hub.load"])
def test_code_is_refused_by_name_and_never_run(tmp_path: Path, name: str, zipped: bool) -> None:
    module, _, attribute = name.rpartition(".")
    function = getattr(__import__(module, fromlist=[attribute]), attribute)
    trace = tmp_path / "trace"
    argument = f"open({str(trace)!r}, 'w')" if name == "builtins.exec" else f"touch {trace}"
    torch.save(
        {"args": Runs(function, argument), "model": WEIGHTS}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(ValueError, match=rf"m\.pt: refused: it names {name}, which .*no code in it was run"):
        read_checkpoint(tmp_path / "m.pt")
    assert not trace.exists()


def test_functions_of_known_packages_are_not_called(tmp_path: Path) -> None:
    state = {"args": Namespace(a=1), "extra_state": Runs(np.save, str(tmp_path / "trace.npy"), 1), "model": WEIGHTS}
    torch.save(state, tmp_path / "model.pt")
    assert read_checkpoint(tmp_path / "model.pt").settings == {"a": 1}
    assert not (tmp_path / "trace.npy").exists()


def test_unknown_class_is_named(foreign_classes, tmp_path: Path) -> None:
    thing = foreign_classes["stranger.things.Thing"]()
    torch.save({"args": Namespace(user=thing), "model": WEIGHTS}, tmp_path / "model.pt")
    forget_modules()
    with pytest.raises(ValueError, match=r"refused: it names stranger\.things\.Thing, which no checkpoint of fairseq"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"args": Namespace()}, "expected a fairseq checkpoint, a mapping whose 'model' has weights by name"),
        ({"model": {"a": "text"}}, "expected a fairseq checkpoint"),
        ({"model": {"a": Namespace()}}, "expected a fairseq checkpoint"),
        ([1, 2], "expected a fairseq checkpoint"),
    ],
)
def test_files_without_weights_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"args": Namespace(a=1), "model": {"w": torch.zeros(1000)}}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (0, 1, 20, 300, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"model\.pt: not a"):
            read_checkpoint(path)
    path.write_text("# not a checkpoint\n")
    with pytest.raises(ValueError, match=r"model\.pt: not a"):
        read_checkpoint(path)
