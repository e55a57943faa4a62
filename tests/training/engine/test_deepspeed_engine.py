"""Settings that DeepSpeed refuses, and ports in use. The numbers that the engine computes are tested by training."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

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
        check_deepspeed_config(deepspeed, TrainingRecipe(output="x", ds_config=str(path)))
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
