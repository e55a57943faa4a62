"""Engines: threads, full disks, settings that DeepSpeed refuses, ports. What they compute is tested by training."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.cli import one_line
from pretrain.recipe import PretrainRecipe
from training.checkpoints import stored_tensors
from training.checkpoints.stored_tensors import write_state
from training.engine import deepspeed_engine
from training.engine.deepspeed_engine import check_deepspeed_config, start_deepspeed
from training.engine.processes import share_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for name in ("OMP_NUM_THREADS", "LOCAL_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("variable", "expected"), [({}, 8), ({"LOCAL_SIZE": "2"}, 4), ({"LOCAL_WORLD_SIZE": "16"}, 1)])
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], expected: int) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    share_cores()
    assert torch.get_num_threads() == expected


def test_what_the_environment_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs side by side, each told to take a core, must not take all of them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # as torch does at its start
    share_cores()
    assert torch.get_num_threads() == 1


def test_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch itself would say that it found itself at an unexpected position."""

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.room = 1000

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, data: Any) -> int:
            self.room -= len(memoryview(data).cast("B"))
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data)

    monkeypatch.setattr(stored_tensors, "open", Full, raising=False)
    with pytest.raises(OSError) as error:
        write_state({"weight": torch.zeros(10_000)}, tmp_path / "x.pt")
    assert one_line(error.value) == f"{tmp_path / 'x.pt'}: No space left on device"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"zero_optimization": {"stage": 2, "reduce_bucket_size": "large"}},
            "ds.json: reduce_bucket_size: Input should",
        ),
        ({"zero_optimization": {"stage": 2, "bukkets": 1}}, "ds.json: bukkets: Extra inputs are not permitted"),
        ({"bf16": {"enabled": True, "bf16_optimizer_states": True}}, "ds.json: bf16_optimizer_states is only"),
        (
            {"fp16": {"enabled": True, "loss_scale": "high"}},
            "ds.json: loss_scale: Value error, fp16.loss_scale must be a",
        ),
    ],
)
def test_settings_that_deepspeed_refuses_are_named(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepspeed

    monkeypatch.setattr(deepspeed.get_accelerator(), "is_fp16_supported", lambda: True)
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message) as error:
        check_deepspeed_config(deepspeed, PretrainRecipe(output="x", ds_config=str(path)))
    assert "\n" not in str(error.value)


def test_float16_where_the_device_has_none_is_told_with_what_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed

    monkeypatch.setattr(deepspeed.get_accelerator(), "is_fp16_supported", lambda: False)
    with pytest.raises(ValueError, match="zero3_fp16.json: fp16.enabled: this device does not .* take a file with"):
        check_deepspeed_config(deepspeed, PretrainRecipe(output="x", ds_config="zero3_fp16.json"))
    check_deepspeed_config(deepspeed, PretrainRecipe(output="x", ds_config="zero3_bf16.json"))


@pytest.mark.parametrize(("above", "advice"), [([], "set MASTER_PORT to another port"), ([1], "another --master_port")])
def test_port_in_use(above: list[int], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no launcher is, there is no flag of its to change."""
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(deepspeed_engine, "launchers", lambda: above)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ValueError, match=advice) as error:
            start_deepspeed(tmp_path)
    assert f"127.0.0.1:{os.environ['MASTER_PORT']}: " in str(error.value) and "\n" not in one_line(error.value)
