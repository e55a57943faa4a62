"""The mean of a run's last or best checkpoints as one model directory, as VECO and most translation papers report.

    python -m finetune.mt.average RUN --last 10 --output MODEL
    python -m finetune.mt.average RUN --best 5 --output MODEL

Which are best is what the run's `best_by` said of its validations; training keeps as many as its `keep_best`.

Reads RUN/checkpoints/step-*/model/, directories of `save_pretrained`, piece by piece: ten checkpoints of a large model
need no more memory than one of a small one. The mean is float32, so that nothing of it is rounded away.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from finetune.model_directory import check_kind, model_directory
from finetune.selection import best_checkpoints
from training.checkpoints.averaging import WEIGHTS, WEIGHTS_INDEX, Source, write_weights
from training.checkpoints.deleting import was_in_turn
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of
from training.checkpoints.stored_tensors import read_safetensors
from training.recipe.parsing import read_yaml
from training.runs.kinds import MODEL_DIR, Kind, is_run
from veco import VecoConfig
from veco.tokenizer import note_max_tokens

FINETUNING = (Kind.TRANSLATION, Kind.TASK)
MOST_LAST = 10  # checkpoints of the paper's mean, where training keeps so many


def models_of(run: Path) -> list[Path]:
    """The model directories of the checkpoints that a run saves in turn and has still, by step, earliest first.

    Others were kept for being the best, and lie in between or far behind. Raises ValueError if the run has no directory
    of checkpoints.
    """
    root = run / "checkpoints"
    if not root.is_dir():
        raise ValueError(f"{root}: no such directory; expected a run of finetune/mt/train.py")
    found = {step: path for step, path in checkpoints_of(run).items() if weight_files(path / MODEL_DIR)}
    if not found:
        return []
    newest = max(found)
    recipe = read_yaml(found[newest] / RECIPE_FILE)
    in_turn = [step for step in sorted(found) if was_in_turn(found[step], step) or step == newest]
    if not recipe["keep_every"]:  # what is behind the newest ones is there for being the best
        in_turn = in_turn[-recipe["keep_checkpoints"] :]
    return [found[step] / MODEL_DIR for step in in_turn]


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


def last_models(run: Path, count: int | None = None) -> list[Path]:
    """The model directories of the last `count` checkpoints, earliest first; None means all, up to MOST_LAST.

    Raises ValueError if there are fewer, or none.
    """
    available = models_of(run)
    if not available:
        raise ValueError(f"{run / 'checkpoints'}: no checkpoint has a model; is the run at its first save?")
    if count is None:
        count = min(MOST_LAST, len(available))
    if count < 1:
        raise ValueError(f"--last must be at least 1, found {count}")
    if len(available) < count:
        raise ValueError(
            f"{run / 'checkpoints'} has the last {len(available)} checkpoints, but {count} were asked for: "
            f"use --last {len(available)} or keep more of them in training (keep_checkpoints)"
        )
    return available[-count:]


def best_models(run: Path, count: int) -> list[Path]:
    """The model directories of the best `count` checkpoints, best first. Raises ValueError if there are fewer."""
    if count < 1:
        raise ValueError(f"--best must be at least 1, found {count}")
    return [path / MODEL_DIR for path in best_checkpoints(run, count)]


def chosen_models(paths: Sequence[Path], last: int | None, best: int | None) -> list[Path]:
    """The models to average: those that the flags choose of a run, or the given ones, which may be of checkpoints.

    Raises ValueError for flags without a run, for a run among other things, for a model that is named twice, and for
    what has no such model.
    """
    if len(paths) == 1 and is_run(paths[0]):
        (run,) = paths
        check_kind(run, FINETUNING, average_of_pretraining)
        return last_models(run, last) if best is None else best_models(run, best)
    if last is not None or best is not None:
        raise ValueError(f"--last and --best choose among the checkpoints of one run, found {told(paths)}")
    if runs := [path for path in paths if is_run(path)]:
        raise ValueError(f"{runs[0]} is a run; name it alone, or its checkpoints beside the others")
    models: list[Path] = []
    named: dict[Path, Path] = {}
    for path in paths:
        model = model_directory(path, FINETUNING, average_of_pretraining)
        if (same := named.get(model.resolve())) is not None:
            raise ValueError(f"{same} and {path} are one model, {model.resolve()}; name it once")
        named[model.resolve()] = path
        models.append(model)
    return models


def average_of_pretraining(path: Path) -> str:
    """How the checkpoints of a run of pre-training are averaged, which are in parts."""
    run = path if is_run(path) else "RUN"
    return f"python -m pretrain.export {run} --average N --output MODEL averages its checkpoints"


def told(paths: Sequence[Path]) -> str:
    """Paths between commas."""
    return ", ".join(map(str, paths))


def average_models(models: Sequence[Path], output: Path) -> None:
    """Write the mean of model directories to `output`, which appears whole; an average there is replaced, nothing else.

    Configuration, generation configuration and tokenizer are those of the last one. Raises ValueError if they do not
    hold the same model.
    """
    with atomic_directory(output, made_by="finetune.mt.average", overwrite=True) as temporary:
        copy_all_but_weights(models[-1], temporary)
        note_max_tokens(temporary, VecoConfig.from_pretrained(temporary).max_tokens)
        write_weights(temporary, [stored_model(model) for model in models], dtype=None)


def copy_all_but_weights(model: Path, target: Path) -> None:
    """Nothing; copies the files of a model directory (configurations, tokenizer) without its weights."""
    weights = {path.name for path in weight_files(model)} | {WEIGHTS_INDEX}
    for path in model.iterdir():
        if path.is_file() and path.name not in weights:
            shutil.copyfile(path, target / path.name)


def main() -> None:
    parser = FlagParser(prog="python -m finetune.mt.average", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="RUN", help="run of finetune/mt/train.py; or models and checkpoints"
    )
    chosen_by = parser.add_mutually_exclusive_group()
    chosen_by.add_argument(
        "--last",
        type=int,
        metavar="N",
        help="the last N checkpoints of the run (default: those that training keeps, up to 10)",
    )
    chosen_by.add_argument("--best", type=int, metavar="K", help="the best K by the run's validations")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="MODEL",
        help="directory to write; replaced if this command made it",
    )
    arguments = parser.parse_args()
    chosen = chosen_models(arguments.paths, arguments.last, arguments.best)
    average_models(chosen, arguments.output)
    print(f"{arguments.output}: mean of {len(chosen)} model{'s' * (len(chosen) > 1)}: {told(chosen)}")


if __name__ == "__main__":
    run_main(main)
