"""The checkpoints of a run that are exported, and their weights where they lie in files."""

from __future__ import annotations

from pathlib import Path

from pretrain.recipe import PretrainRecipe
from pretrain.stages import stage_of
from training.checkpoints.averaging import Source
from training.checkpoints.finding import checkpoints_of, damage, read_state
from training.checkpoints.zero_shards import checkpoint_weights
from training.run_directory.kinds import Kind, is_checkpoint, is_run, kind_of, what_is
from training.run_directory.resuming import recipe_of
from veco.pretraining import OWN_PARAMETERS


def run_and_step(path: Path, step: int | None) -> tuple[Path, int | None]:
    """The run and the step that a path and `--step` name: a run, or one of its checkpoints, which is a step already.

    Raises ValueError for a run of fine-tuning, for a model, and for anything else.
    """
    if not is_run(path) and not is_checkpoint(path):
        done = "; there is nothing to export" if what_is(path) == "a model" else ""
        raise ValueError(f"{path}: expected a run of pre-training or a checkpoint of one, found {what_is(path)}{done}")
    if kind_of(path) not in (Kind.PRETRAINING, Kind.UNKNOWN):
        raise ValueError(
            f"{path}: expected pre-training, found {what_is(path)}, whose checkpoints hold models as they are: "
            "RUN/best, RUN/last, RUN/checkpoints/*/model"
        )
    if is_run(path):
        return path, step
    if step is not None:
        raise ValueError(f"{path} is a checkpoint already; --step chooses one of a run")
    run_dir, number = path.resolve().parent.parent, int(read_state(path)["step"])
    if checkpoints_of(run_dir).get(number) != path.resolve():
        raise ValueError(f"{path}: lies outside its run, which has its tokenizer; expected RUN/checkpoints/{path.name}")
    return run_dir, number


def chosen_checkpoints(run_dir: Path, step: int | None, average: int | str) -> dict[int, Path]:
    """Step -> directory of the last `average` checkpoints up to `step`, or of those of its stage, oldest first."""
    found = checkpoints_of(run_dir)
    if not found:
        raise ValueError(f"{run_dir}: no complete checkpoint below {run_dir / 'checkpoints'}")
    there = f"there are: {', '.join(map(str, found))}"
    if step is not None and step not in found:
        raise ValueError(f"{run_dir}: no checkpoint of step {step}; {there}")
    steps = [number for number in found if step is None or number <= step]
    if isinstance(average, str):
        begin = stage_begin(found[steps[-1]], steps[-1])
        average = sum(number > begin for number in steps)
    if average < 1:
        raise ValueError(f"--average must be at least 1, found {average}")
    if len(steps) < average:
        raise ValueError(f"{run_dir}: --average {average} asks for more checkpoints than the run has; {there}")
    chosen = {number: found[number] for number in steps[-average:]}
    for checkpoint in chosen.values():
        if reason := damage(checkpoint):
            raise ValueError(f"{checkpoint} is damaged: {reason}; choose another --step")
    return chosen


def stage_begin(checkpoint: Path, step: int) -> int:
    """The update with which the stage began whose checkpoint this is, after `step` updates."""
    recipe = PretrainRecipe(**recipe_of(checkpoint, PretrainRecipe))
    return stage_of(recipe.stages_in_turn(), step - 1).begin


def weights_of_model(checkpoint: Path) -> Source:
    """The weights of a checkpoint, without the parameters that objectives have of their own."""
    weights = checkpoint_weights(checkpoint)
    return Source(checkpoint, {name: found for name, found in weights.items() if not name.startswith(OWN_PARAMETERS)})
