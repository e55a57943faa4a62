"""Ways to adapt under ZeRO on two ranks: against the plain engine, saved, resumed, and moved to another layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import launch, run_script
from safetensors.torch import load_file
from small_adapters import write_adapters
from xtreme_files import write_model, write_xtreme

from training.checkpoints.finding import checkpoints_of

SCRIPT = "finetune/understanding/train.py"
ARGUMENTS = (
    *("--task", "pawsx", "--max_length", "24", "--epochs", "2", "--batch_size", "8", "--learning_rate", "5e-3"),
    *("--dropout", "0", "--attention_dropout", "0", "--log_every", "1", "--loader_workers", "0"),
    *("--keep_checkpoints", "2", "--cpu_precision", "float32", "--micro_batch_size", "4"),
)
WAYS = {
    "head": ("--freeze", "encoder"),
    "layers": ("--freeze_layers", "1"),
    "lora": ("--lora_rank", "4"),
    "adapter": ("--adapter", "houlsby", "--adapter_reduction", "4"),
    "stack": ("--adapter", "pfeiffer", "--adapter_reduction", "4"),  # above a language's adapter
}
STAGES = {"1": "zero1_bf16.json", "2": "zero2_bf16.json", "3": "zero3_fp32.json"}
CASES = [("head", "3"), ("layers", "3"), *((way, stage) for way in ("lora", "adapter", "stack") for stage in STAGES)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Flags that name data, model and language adapter, for each of WAYS."""
    root = tmp_path_factory.mktemp("adaptation")
    write_xtreme(root / "data", num_train=40, num_test=6)
    write_model(root / "model")
    language = write_adapters(root / "model", root / "languages", ("en",))["en"]
    own = {"stack": ("--language_adapter", str(language))}
    shared = ("--data", str(root / "data"), "--init_from", str(root / "model"))
    return {way: (*shared, *own.get(way, ())) for way in WAYS}


def lines(run_dir: Path) -> list[dict[str, float]]:
    kept = ("train/pawsx", "valid/average", "step")
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in kept if name in line} for line in read]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints_of(run_dir)[max(checkpoints_of(run_dir))] / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "stage"), CASES)
def test_two_ranks_equal_the_plain_run(
    way: str, stage: str, places: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    two, plain, resumed, moved = (tmp_path / name for name in ("two", "plain", "resumed", "moved"))
    alone = (*ARGUMENTS, *WAYS[way], *places[way], "--engine", "plain")
    shared = (*ARGUMENTS, *WAYS[way], *places[way], "--ds_config", STAGES[stage])
    for result in (launch(SCRIPT, *shared, "--output", str(two)), run_script(SCRIPT, *alone, "--output", str(plain))):
        assert result.returncode == 0, result.stderr[-3000:]
    found, expected = lines(two), lines(plain)
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    ours, theirs = weights(two), weights(plain)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    for directory in (resumed, moved):
        shutil.copytree(two, directory)
        shutil.rmtree(checkpoints_of(directory)[max(checkpoints_of(directory))])
    result = launch(SCRIPT, *shared, "--output", str(resumed), "--resume")
    assert result.returncode == 0, result.stderr[-3000:]
    assert lines(resumed) == found
    result = run_script(
        SCRIPT, *alone, "--output", str(moved), "--resume", "auto", "--change", "micro_batches_an_update"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for one, other in zip(lines(moved), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
