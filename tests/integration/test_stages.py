"""A staged run that changes its number of ranks at a border, against one process of the plain engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from launching import launch, run_script

from training.checkpoints.finding import checkpoints_of

TOLERANCE = 1e-5  # relative, float32; sums are taken in another order
RECIPE = """\
ds_config: zero3_fp32.json
num_hidden_layers: 2
hidden_size: 32
num_attention_heads: 2
intermediate_size: 48
max_position_embeddings: 66
dropout: 0
attention_dropout: 0
mono_max_length: 24
bilingual_max_length: 18
mono_batch_pairs: 8
bilingual_batch_pairs: 12
warmup_steps: 2
learning_rate: 5.0e-3
log_every: 1
save_every: 3
keep_checkpoints: 9
loader_workers: 1
cpu_processes: 1
stages:
  - {steps: 3, alpha: 0.9, mono_mask_rate: {from: 0.3, to: 0.1}}
  - {steps: 2, mono_batch_pairs: 16, bilingual_max_length: 12}
  - {steps: 2, schedule: decay, objective: mlm+tlm}                 # another engine: the cross-attention stays
"""


def losses(run_dir: Path) -> list[dict[str, float]]:
    """Every loss term, the rate and the digest of the samples of each update."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "/" in name or name in ("lr", "samples")} for line in lines]


@pytest.mark.slow  # tests/pretrain/test_staged_runs.py resumes at every border; here ranks change there, under ZeRO
def test_two_ranks_go_on_at_a_border_where_one_ended(random_data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "stages.yaml"
    recipe.write_text(RECIPE)
    arguments = ("--config", str(recipe), "--data", str(random_data))
    alone, resumed = tmp_path / "alone", tmp_path / "resumed"
    result = run_script("pretrain/train.py", *arguments, "--output", str(alone), "--engine", "plain")
    assert result.returncode == 0, result.stderr[-3000:]
    shutil.copytree(alone, resumed)
    for step, checkpoint in checkpoints_of(resumed).items():
        if step > 3:
            shutil.rmtree(checkpoint)
    result = launch("pretrain/train.py", *arguments, "--output", str(resumed), "--accumulation_steps", "2", "--resume")
    assert result.returncode == 0, result.stderr[-3000:]
    expected, found = losses(alone), losses(resumed)
    assert len(found) == len(expected) == 7
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.pop("samples") == other.pop("samples"), step
        assert one == pytest.approx(other, rel=TOLERANCE), step
