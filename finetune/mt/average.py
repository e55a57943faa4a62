"""The mean of a run's last checkpoints as one model directory, as VECO and most translation papers report.

    python -m finetune.mt.average RUN --last 10 --output MODEL

Reads RUN/checkpoints/step-*/model/, directories of `save_pretrained`. Beside the result, only one running sum and one
tensor are in memory at a time: ten checkpoints of a large model cost no more than one.
"""

import argparse
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from data_tools.cli import progress_bar, run_main
from data_tools.files import sync_directory, sync_file, temporary_path

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"  # where save_pretrained has split the weights over several files
CHECKPOINT_NAME = re.compile(r"step-(\d+)")


def checkpoints_of(run: Path) -> list[Path]:
    """The model directories of all complete checkpoints of a run, by step, earliest first.

    Raises ValueError if the run has no checkpoint directory.
    """
    root = run / "checkpoints"
    if not root.is_dir():
        raise ValueError(f"{root}: no such directory; expected a run of finetune/mt/train.py")
    found = []
    for directory in root.iterdir():
        match = CHECKPOINT_NAME.fullmatch(directory.name)
        if match and weight_files(directory / "model"):
            found.append((int(match[1]), directory / "model"))
    return [path for _, path in sorted(found)]


def weight_files(model: Path) -> list[Path]:
    """The safetensors files of a model directory, one or those its index names; empty if it has neither."""
    if (model / WEIGHTS).is_file():
        return [model / WEIGHTS]
    if (model / WEIGHTS_INDEX).is_file():
        weight_map: dict[str, str] = json.loads((model / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"]
        return [model / name for name in sorted(set(weight_map.values()))]
    return []


class Weights:
    """The tensors of a model directory, read one at a time. Raises ValueError for a file that is not safetensors."""

    def __init__(self, model: Path, stack: ExitStack) -> None:
        self.model = model
        self._files: dict[str, Any] = {}
        for path in weight_files(model):
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
            except SafetensorError as error:
                raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
            self._files.update(dict.fromkeys(file.keys(), file))

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and stored type of each tensor by name; reads headers only."""
        slices = {name: file.get_slice(name) for name, file in self._files.items()}
        return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._files[name].get_tensor(name)


def check_same_layout(checkpoints: Sequence[Weights]) -> None:
    """Nothing; raises ValueError naming a tensor that a checkpoint lacks, or has in another shape or type."""
    first = checkpoints[0]
    expected = first.layout()
    for other in checkpoints[1:]:
        layout = other.layout()
        for name in sorted(expected.keys() ^ layout.keys()):
            has, lacks = (first, other) if name in expected else (other, first)
            raise ValueError(f"{lacks.model} has no tensor {name}, which {has.model} has: not the same model")
        for name, description in expected.items():
            if layout[name] != description:
                found, wanted = described(layout[name]), described(description)
                raise ValueError(f"{name} is {wanted} in {first.model} but {found} in {other.model}")


def described(layout: tuple[tuple[int, ...], str]) -> str:
    return f"{layout[1]} {list(layout[0])}"


def mean_weights(models: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of each tensor over model directories, in the type it is stored in; sums are float64.

    Floating types are averaged; tensors of other types must agree. A tied weight is stored once, under one name, by
    `save_pretrained`, so it is averaged once and tied again when the result is loaded. Raises ValueError naming the
    tensor and the directories if they do not hold the same model.
    """
    with ExitStack() as stack, progress_bar() as bar:
        checkpoints = [Weights(model, stack) for model in models]
        check_same_layout(checkpoints)
        names = list(checkpoints[0].layout())
        task = bar.add_task("averaging", total=len(names), unit="tensors")
        result = {}
        for name in names:
            result[name] = mean_tensor(name, checkpoints)
            bar.advance(task)
        return result


def mean_tensor(name: str, checkpoints: Sequence[Weights]) -> torch.Tensor:
    """The mean of one tensor over checkpoints, float32 or wider: bfloat16 would round small differences away."""
    first = checkpoints[0][name]
    if not first.is_floating_point():
        for other in checkpoints[1:]:
            if not torch.equal(first, other[name]):
                raise ValueError(f"{name} holds integers that differ between {checkpoints[0].model} and {other.model}")
        return first
    total = first.double()
    for other in checkpoints[1:]:
        total += other[name]
    return total.div_(len(checkpoints)).to(torch.promote_types(first.dtype, torch.float32))


def average_run(run: Path, last: int, output: Path) -> list[Path]:
    """The model directories averaged into `output`, which appears whole; an `output` that is there already is replaced.

    Configuration, generation configuration and tokenizer are those of the last checkpoint. Raises ValueError if the run
    has fewer than `last` checkpoints, or if they do not hold the same model.
    """
    if last < 1:
        raise ValueError(f"--last must be at least 1, found {last}")
    available = checkpoints_of(run)
    if len(available) < last:
        raise ValueError(
            f"{run / 'checkpoints'} has {len(available)} complete checkpoints, but {last} were asked for: "
            f"use --last {len(available)} or keep more of them in training"
        )
    chosen = available[-last:]
    if output.exists() and not (output / "config.json").is_file():
        raise ValueError(f"{output}: exists and is no model directory; choose another --output")
    temporary = temporary_path(output)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        copy_all_but_weights(chosen[-1], temporary)
        save_file(mean_weights(chosen), temporary / WEIGHTS, metadata={"format": "pt"})
        for path in temporary.iterdir():
            sync_file(path)
        replace_directory(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return chosen


def copy_all_but_weights(model: Path, target: Path) -> None:
    """Nothing; copies the files of a model directory (configurations, tokenizer) without its weights."""
    weights = {path.name for path in weight_files(model)} | {WEIGHTS_INDEX}
    for path in model.iterdir():
        if path.is_file() and path.name not in weights:
            shutil.copyfile(path, target / path.name)


def replace_directory(temporary: Path, final: Path) -> None:
    """Nothing; `temporary` takes the name `final`. A directory cannot be replaced, so an old one steps aside first."""
    if final.exists():
        old = temporary.with_name(temporary.name + ".old")
        os.replace(final, old)
        os.replace(temporary, final)
        shutil.rmtree(old)
    else:
        os.replace(temporary, final)
    sync_directory(final.parent)


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
