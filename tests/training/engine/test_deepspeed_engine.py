"""Settings that DeepSpeed refuses, ports in use, skipped updates. The numbers it computes are tested by training."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import run, start_ranks

from data_tools.cli import one_line
from training.engine import deepspeed_engine
from training.engine.deepspeed_engine import check_deepspeed_config, start_deepspeed
from training.recipe.base import TrainingRecipe


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
        (
            {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}},
            "ds.json: data_types.grad_accum_dtype fp32: without ZeRO .* leave it out, or take stage 1",
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
        check_deepspeed_config(deepspeed, TrainingRecipe(output="x", ds_config=str(path), cpu_precision="bf16"))
    assert "\n" not in str(error.value)


def test_float16_is_refused_on_a_device_without_it_naming_files_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed

    monkeypatch.setattr(deepspeed.get_accelerator(), "is_fp16_supported", lambda: False)
    with pytest.raises(ValueError, match="zero3_fp16.json: fp16.enabled: .* use a bf16 or float32 ds_config"):
        check_deepspeed_config(deepspeed, TrainingRecipe(output="x", ds_config="zero3_fp16.json"))
    check_deepspeed_config(deepspeed, TrainingRecipe(output="x", ds_config="zero3_bf16.json"))


@pytest.mark.parametrize(("above", "advice"), [([], "set MASTER_PORT to another port"), ([1], "another --master_port")])
def test_port_in_use_is_told_with_the_way_out(
    above: list[int], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a launcher there is no flag of a launcher to change."""
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


SKIP = """
import sys
from pathlib import Path
import deepspeed, torch
deepspeed.get_accelerator().is_fp16_supported = lambda: True
deepspeed.get_accelerator().supported_dtypes = lambda: [torch.float, torch.float16]
from training.engine.deepspeed_engine import DeepSpeedEngine
from training.engine.deepspeed_config import engine_settings
from training.recipe.base import TrainingRecipe

torch.manual_seed(0)
model = torch.nn.Linear(4, 4)
recipe = TrainingRecipe(output="x", ds_config=sys.argv[2])
engine = DeepSpeedEngine(model, recipe, lambda step: 1.0, engine_settings(recipe), Path(sys.argv[1]))
data = torch.ones(1, 4, dtype=torch.float16)
for update in range(4):
    loss = engine.model(data).float().square().mean() * 1e-3
    before = {name: weight.clone() for name, weight in engine.full_state_dict().items()}
    if update % 2:
        engine.skip(loss)
    else:
        engine.backward(loss)
        engine.step()
    after = engine.full_state_dict()
    changed = any(not torch.equal(after[name], before[name]) for name in before)
    print(f"scale {engine.engine.optimizer.loss_scaler.cur_scale:.0f} changed {changed}")
"""


@pytest.mark.parametrize("name", ["zero1_fp16.json", "zero3_fp16.json"])
def test_skipped_update_of_float16_leaves_weights_and_loss_scale(name: str, tmp_path: Path) -> None:
    """DeepSpeed's own way of skipping would halve the scale."""
    ended = run([sys.executable, "-c", SKIP, str(tmp_path), name])
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = [line for line in ended.stdout.splitlines() if line.startswith("scale")]
    assert lines == [f"scale 65536 changed {not update % 2}" for update in range(4)]


LOST = """
import sys, time
from pathlib import Path
import torch
from training.engine.build import build_engine
from training.engine.processes import lost_ranks_named
from training.recipe.base import TrainingRecipe

recipe = TrainingRecipe(output="x", ds_config="zero1_bf16.json", lost_rank_seconds=8)
engine = build_engine(torch.nn.Linear(4, 4), recipe, lambda step: 1.0, Path(sys.argv[1]))
engine.barrier()
if engine.rank == 1:
    time.sleep(40)  # alive, but hanging
    raise SystemExit
begun = time.monotonic()
try:
    with lost_ranks_named("update 1"):
        loss = engine.model(torch.ones(1, 4, dtype=torch.bfloat16)).float().sum()
        engine.backward(loss)
        engine.step()
except ConnectionError as error:
    print(f"{time.monotonic() - begun:.0f} s: {error}", flush=True)
"""


def test_rank_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    """In a reduction of gradients, which goes through a process group of DeepSpeed's own."""
    script = tmp_path / "lost.py"
    script.write_text(LOST)
    first, _ = start_ranks(2, str(script), str(tmp_path))
    (line,) = [line for line in first.stdout.splitlines() if "another rank is gone" in line] or [first.stderr[-2000:]]
    assert 6 <= int(line.split()[0]) <= 24, line
