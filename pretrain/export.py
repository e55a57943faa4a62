"""Turn a checkpoint into a directory that transformers opens: `python -m pretrain.export RUN --output MODEL`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from data_tools.cli import run_main
from data_tools.files import atomic_directory
from pretrain.checkpoints import checkpoints_of, load_weights
from veco import VecoConfig, VecoForMaskedLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export(run_dir: Path, output: Path, step: int | None, dtype: str) -> Path:
    """`output`: config.json, model.safetensors and the tokenizer, from checkpoint `step` (None: the newest).

    Raises ValueError when there is no such checkpoint, weights are missing or empty, or `output` exists.
    """
    found = checkpoints_of(run_dir)
    if not found:
        raise ValueError(f"{run_dir}: no complete checkpoint below {run_dir / 'checkpoints'}")
    if step is not None and step not in found:
        raise ValueError(f"{run_dir}: no checkpoint of step {step}; there are: {', '.join(map(str, found))}")
    checkpoint = found[max(found) if step is None else step]
    model = VecoForMaskedLM(VecoConfig.from_pretrained(checkpoint))
    load_weights(model, checkpoint)
    model = model.to(DTYPES[dtype])
    empty = [name for name, parameter in model.named_parameters() if not parameter.numel()]
    if empty:
        raise ValueError(f"{checkpoint}: empty weights {', '.join(empty)}")
    with atomic_directory(output) as temporary:
        model.save_pretrained(temporary)
        for file in (run_dir / "tokenizer").iterdir():
            shutil.copy(file, temporary / file.name)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a pre-training run")
    parser.add_argument(
        "--output", type=Path, required=True, help="directory to make; AutoModel.from_pretrained opens it"
    )
    parser.add_argument("--step", type=int, help="checkpoint to export (the newest by default)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="type of the weights")
    arguments = parser.parse_args()
    print(export(arguments.run, arguments.output, arguments.step, arguments.dtype))


if __name__ == "__main__":
    run_main(main)
