"""Average a run's last or best checkpoints into one model directory, as VECO and most translation papers do.

    python -m finetune.mt.average RUN --last 10 --output MODEL
    python -m finetune.mt.average RUN --best 5 --output MODEL

The best are those with the best `best_by` in validation; training keeps `keep_best` of them.

Reads RUN/checkpoints/step-*/model/, written by `save_pretrained`, tensor by tensor: ten checkpoints of a large model
need no more memory than one of a small one. The mean is stored in float32, so that no precision is lost.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.files.outputs import check_output_directory
from finetune.model_directory import check_kind, model_directory
from finetune.selection import best_checkpoints
from training.checkpoints.averaging import WEIGHTS, WEIGHTS_INDEX, Source, write_weights
from training.checkpoints.deleting import was_in_turn
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of
from training.checkpoints.stored_tensors import read_safetensors
from training.recipe.parsing import read_yaml
from training.run_directory.kinds import MODEL_DIR, Kind, is_run
from veco import VecoConfig
from veco.opening import open_config
from veco.tokenizer import note_max_tokens

FINETUNING = (Kind.TRANSLATION, Kind.TASK)
MOST_LAST = 10  # checkpoints that the paper averages


def models_of(run: Path) -> list[Path]:
    """Model directories of a run's regularly saved checkpoints that still exist, earliest first.

    Checkpoints kept only because they are the best are left out: they lie in between or far behind. Raises ValueError
    if the run has no directory of checkpoints.
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
    if not recipe["keep_every"]:  # any before the newest ones were kept for being the best
        in_turn = in_turn[-recipe["keep_checkpoints"] :]
    return [found[step] / MODEL_DIR for step in in_turn]


def weight_files(model: Path) -> list[Path]:
    """The safetensors files of a model directory: the single one or those in its index; empty if it has neither."""
    if (model / WEIGHTS).is_file():
        return [model / WEIGHTS]
    if (model / WEIGHTS_INDEX).is_file():
        weight_map: dict[str, str] = json.loads((model / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"]
        return [model / name for name in sorted(set(weight_map.values()))]
    return []


def stored_model(model: Path) -> Source:
    """The tensors of a model directory, not yet loaded.

    Raises ValueError for a directory without safetensors, and for a file that is not what its name says.
    """
    files = weight_files(model)
    if not files:
        raise ValueError(f"{model}: no {WEIGHTS} and no {WEIGHTS_INDEX}; expected weights that save_pretrained wrote")
    return Source(model, {name: tensor for path in files for name, tensor in read_safetensors(path).items()})


def last_models(run: Path, count: int | None = None) -> list[Path]:
    """Model directories of the last `count` checkpoints, earliest first; by default all, up to MOST_LAST.

    Raises ValueError if there are fewer, or none.
    """
    available = models_of(run)
    if not available:
        raise ValueError(f"{run / 'checkpoints'}: no checkpoint has a model; has the run saved its first one yet?")
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
    """Model directories of the best `count` checkpoints, best first. Raises ValueError if there are fewer."""
    if count < 1:
        raise ValueError(f"--best must be at least 1, found {count}")
    return [path / MODEL_DIR for path in best_checkpoints(run, count)]


def chosen_models(paths: Sequence[Path], last: int | None, best: int | None) -> list[Path]:
    """The models to average: those of one run that the flags select, or those given, as models or checkpoints.

    Raises ValueError for flags without a run, for a run beside other paths, for a model given twice, and for a path
    without a fine-tuned model.
    """
    if len(paths) == 1 and is_run(paths[0]):
        (run,) = paths
        check_kind(run, FINETUNING, average_of_pretraining)
        return last_models(run, last) if best is None else best_models(run, best)
    if last is not None or best is not None:
        raise ValueError(f"--last and --best choose among the checkpoints of one run, found {comma_separated(paths)}")
    if runs := [path for path in paths if is_run(path)]:
        raise ValueError(f"{runs[0]} is a run; name it alone, or its checkpoints beside the others")
    models: list[Path] = []
    given_as: dict[Path, Path] = {}  # model -> the path that led to it
    for path in paths:
        model = model_directory(path, FINETUNING, average_of_pretraining)
        if (same := given_as.get(model.resolve())) is not None:
            raise ValueError(f"{same} and {path} are one model, {model.resolve()}; name it once")
        given_as[model.resolve()] = path
        models.append(model)
    return models


def average_of_pretraining(path: Path) -> str:
    """Advice on averaging a pre-training run, whose checkpoints are sharded."""
    run = path if is_run(path) else "RUN"
    return f"python -m pretrain.export {run} --average N --output MODEL averages its checkpoints"


def comma_separated(paths: Sequence[Path]) -> str:
    """Paths with commas between them."""
    return ", ".join(map(str, paths))


def average_models(models: Sequence[Path], output: Path) -> None:
    """Write the mean of several models to `output` atomically, replacing only an earlier average.

    Configuration, generation configuration and tokenizer are copied from the last one. Raises ValueError if the models
    do not have the same tensors.
    """
    with atomic_directory(output, made_by="finetune.mt.average", overwrite=True) as temporary:
        copy_all_but_weights(models[-1], temporary)
        config = open_config(temporary)
        if isinstance(config, VecoConfig):  # other encoders' tokenizers know it
            note_max_tokens(temporary, config.max_tokens)
        write_weights(temporary, [stored_model(model) for model in models], dtype=None)


def copy_all_but_weights(model: Path, target: Path) -> None:
    """Copy the files of a model directory (configurations, tokenizer) except its weights."""
    weights = {path.name for path in weight_files(model)} | {WEIGHTS_INDEX}
    for path in model.iterdir():
        if path.is_file() and path.name not in weights:
            shutil.copyfile(path, target / path.name)


def main() -> None:
    parser = FlagParser(prog="python -m finetune.mt.average", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="RUN", help="a run of finetune/mt/train.py, or models and checkpoints"
    )
    chosen_by = parser.add_mutually_exclusive_group()
    chosen_by.add_argument(
        "--last",
        type=int,
        metavar="N",
        help="average the run's last N checkpoints (default: all that training kept, up to 10)",
    )
    chosen_by.add_argument("--best", type=int, metavar="K", help="average the K checkpoints best in validation")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="MODEL",
        help="directory to write; replaced if it was made by this command",
    )
    arguments = parser.parse_args()
    chosen = chosen_models(arguments.paths, arguments.last, arguments.best)
    check_output_directory(arguments.output, chosen)
    average_models(chosen, arguments.output)
    models = "model" if len(chosen) == 1 else "models"
    print(f"{arguments.output}: mean of {len(chosen)} {models}: {comma_separated(chosen)}")


if __name__ == "__main__":
    run_main(main)
