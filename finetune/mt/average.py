"""The mean of a run's last checkpoints as one model directory, as VECO and most translation papers report.

    python -m finetune.mt.average RUN --last 10 --output MODEL

Reads RUN/checkpoints/step-*/model/, directories of `save_pretrained`, piece by piece: ten checkpoints of a large model
need no more memory than one of a small one. The mean is float32, so that nothing of it is rounded away.
"""

import argparse
import json
import shutil
from pathlib import Path

from data_tools.cli import run_main
from data_tools.files import atomic_directory
from pretrain.averaging import WEIGHTS, WEIGHTS_INDEX, Source, write_weights
from pretrain.checkpoints import checkpoints_of
from pretrain.stored_tensors import read_safetensors


def models_of(run: Path) -> list[Path]:
    """The model directories of all complete checkpoints of a run, by step, earliest first.

    Raises ValueError if the run has no checkpoint directory.
    """
    root = run / "checkpoints"
    if not root.is_dir():
        raise ValueError(f"{root}: no such directory; expected a run of finetune/mt/train.py")
    return [path / "model" for path in checkpoints_of(run).values() if weight_files(path / "model")]


def weight_files(model: Path) -> list[Path]:
    """The safetensors files of a model directory, one or those its index names; empty if it has neither."""
    if (model / WEIGHTS).is_file():
        return [model / WEIGHTS]
    if (model / WEIGHTS_INDEX).is_file():
        weight_map: dict[str, str] = json.loads((model / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"]
        return [model / name for name in sorted(set(weight_map.values()))]
    return []


def stored_model(model: Path) -> Source:
    """The tensors of a model directory, not yet read. Raises ValueError for a file that is not safetensors."""
    return Source(
        model, {name: tensor for path in weight_files(model) for name, tensor in read_safetensors(path).items()}
    )


def average_run(run: Path, last: int, output: Path) -> list[Path]:
    """The model directories averaged into `output`, which appears whole; an `output` that is there already is replaced.

    Configuration, generation configuration and tokenizer are those of the last checkpoint. Raises ValueError if the run
    has fewer than `last` checkpoints, or if they do not hold the same model.
    """
    if last < 1:
        raise ValueError(f"--last must be at least 1, found {last}")
    available = models_of(run)
    if len(available) < last:
        raise ValueError(
            f"{run / 'checkpoints'} has {len(available)} complete checkpoints, but {last} were asked for: "
            f"use --last {len(available)} or keep more of them in training"
        )
    chosen = available[-last:]
    if output.exists() and not (output / "config.json").is_file():
        raise ValueError(f"{output}: exists and is no model directory; choose another --output")
    with atomic_directory(output, overwrite=True) as temporary:
        copy_all_but_weights(chosen[-1], temporary)
        write_weights(temporary, [stored_model(model) for model in chosen], dtype=None)
    return chosen


def copy_all_but_weights(model: Path, target: Path) -> None:
    """Nothing; copies the files of a model directory (configurations, tokenizer) without its weights."""
    weights = {path.name for path in weight_files(model)} | {WEIGHTS_INDEX}
    for path in model.iterdir():
        if path.is_file() and path.name not in weights:
            shutil.copyfile(path, target / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m finetune.mt.average", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a run of finetune/mt/train.py")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="how many checkpoints (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="MODEL", help="model directory to write")
    arguments = parser.parse_args()
    chosen = average_run(arguments.run, arguments.last, arguments.output)
    steps = ", ".join(path.parent.name for path in chosen)
    print(f"{arguments.output}: mean of {len(chosen)} checkpoints ({steps})")


if __name__ == "__main__":
    run_main(main)
