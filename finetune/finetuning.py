"""The fine-tuning run that all tasks share: what differs between them is a `Task`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from finetune.recipe import FinetuningRecipe
from finetune.selection import Selection
from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of, find_checkpoint, read_state
from training.checkpoints.saving import Ahead, save_checkpoint, together
from training.cpu_timing import with_timed_choices
from training.engine.build import build_engine, check_engine, connect
from training.engine.interface import Engine
from training.engine.processes import shut_down
from training.guards import Guards
from training.launch import launched_ranks, quiet_libraries, tell
from training.loop import check_ranks_agree, describe_run, fit, seed_everything
from training.meters import Meters
from training.plot import plot_curves
from training.runs.directory import check_run_directory
from training.runs.kinds import BEST, LAST, MODEL_DIR, link_model, own_model
from training.runs.ownership import Ownership
from training.runs.resuming import begin, nothing_to_train
from training.step import Batch
from veco.rust_errors import rust_errors_as_oserrors
from veco.tokenizer import save_tokenizer

RecipeT = TypeVar("RecipeT", bound=FinetuningRecipe)


class Task(Protocol):
    """A model and what it learns from. The ranks take turns: batch m * world_size + rank is a rank's micro-batch m."""

    model: PreTrainedModel
    tokenizer: Any
    fingerprint: str  # of the data: equal for a run and the run that resumes it

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch, over all ranks."""

    def batches(self, rank: int, world_size: int) -> Dataset:
        """Micro-batch m of a rank, for every m >= 0; a pure function of m, and without end."""

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The terms of a micro-batch's loss: sums over it / `num_items` of the whole update."""

    def count_items(self, batch: Batch) -> Tensor:
        """What a micro-batch adds to `num_items`, a small tensor (n,)."""

    def validate(self, engine: Engine) -> dict[str, float]:
        """Metrics over the whole validation set, equal on all ranks; every rank calls it. It holds `recipe.best_by`."""

    def facts(self) -> dict[str, Any]:
        """What the line at the start of a run says of the task."""


def finetune(recipe: RecipeT, run_dir: Path, build_task: Callable[[RecipeT], Task]) -> bool:
    """Train, validate and save; whether the run is over, rather than stopped by a signal or the end of its time.

    `build_task` reads data and builds the model; it is called on every rank with the same random state. Everything that
    can be wrong is looked at before the first collective. A run that goes on has its model and tokenizer from its
    checkpoint: `init_from` is not read again.
    """
    guards = Guards(recipe)
    with Ownership(run_dir) as ownership:
        is_done = finetune_owned(recipe, run_dir, build_task, guards, ownership)
    shut_down()
    return is_done


def finetune_owned(
    recipe: RecipeT, run_dir: Path, build_task: Callable[[RecipeT], Task], guards: Guards, ownership: Ownership
) -> bool:
    """Do what `finetune` does, in a directory that is owned."""
    quiet_libraries()
    check_engine(recipe)
    check_run_directory(run_dir, [Path(recipe.init_from)])
    found = find_checkpoint(run_dir, recipe.resume)
    seed_everything(recipe.seed)
    task = build_task(recipe if found is None else recipe.continued(found[1] / MODEL_DIR))
    recipe = recipe.resolved(task.num_batches, launched_ranks())
    state: dict[str, Any] = {
        "data_fingerprint": task.fingerprint,
        # The ranks take turns in the order of batches, so this, not the number of ranks, decides what an update sees.
        "micro_batches_an_update": recipe.micro_batches_an_update(launched_ranks()),
    }
    start = begin(found, recipe, state)
    recipe = start.settled(recipe)
    selection = Selection(recipe.best_by, recipe.metrics()[recipe.best_by], recipe.patience, recipe.keep_best)
    ahead = Ahead(run_dir, start.step)
    ranks = connect(recipe, run_dir / "logs")
    recipe_before = None if start.checkpoint is None else start.checkpoint / RECIPE_FILE
    recipe, choices = with_timed_choices(recipe, recipe.attention_dropout, ranks, recipe_before)
    config = task.model.config.to_dict()
    check_ranks_agree(ranks, checkpoint=start, recipe=recipe, data=task.fingerprint, model=config)
    is_first = ranks.rank == 0
    if is_first:
        run_dir.mkdir(parents=True, exist_ok=True)
        print(introduction(recipe, task, start.step, choices), file=sys.stderr)
    meters = Meters(
        run_dir,
        recipe.log_every,
        start.step,
        recipe.steps,
        enabled=is_first,
        wandb_project=recipe.wandb_project,
        settings=dataclasses.asdict(recipe),
        is_held=bool(ahead.steps),
    )
    if start.step >= recipe.steps:
        tell(nothing_to_train(start.step, recipe.steps, ahead))
    start.prepare(task.model, recipe)

    def lr_factor(step: int) -> float:
        return recipe.lr_factor(step, start.schedule_start)

    engine = build_engine(task.model, recipe, lr_factor, run_dir / "logs", start.step)

    def save(step: int) -> None:
        noted = {**state, **start.state(), **guards.state(), **selection.state()}
        # What the run started from may have moved, and the checkpoint that it goes on from may be deleted by now.
        before = checkpoints_of(run_dir)
        tokenizer_dir = before[max(before)] / MODEL_DIR if before else Path(recipe.init_from)
        add_model = model_writer(engine, task, tokenizer_dir)
        together(engine, ownership.check)
        save_checkpoint(
            engine,
            run_dir,
            step,
            recipe,
            noted,
            add_model,
            keep=selection.kept,
            ahead=ahead,
            announce=lambda kept: link_models(run_dir, kept, selection),
        )
        meters.settle()

    with meters, guards:
        start.restore(engine)
        if start.checkpoint is not None:
            guards.load_state(read_state(start.checkpoint))
            selection.load_state(read_state(start.checkpoint))
        clean_up(engine, run_dir)
        is_done = selection.is_over() or fit(
            engine,
            recipe,
            task.batches(engine.rank, engine.world_size),
            task.fingerprint,
            kind_of=lambda step: "train",
            loss_function=task.loss,
            count_items=task.count_items,
            meters=meters,
            guards=guards,
            start_step=start.step,
            end_step=recipe.steps,
            save=save,
            validate=lambda: task.validate(engine),
            is_over=selection.note,
            is_worth_keeping=selection.is_among_best,
        )
    if is_done:
        tell(outcome(selection, run_dir))
    else:
        tell(guards.ended_early())
    if is_done and is_first:
        print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    engine.destroy()
    return is_done


def link_models(run_dir: Path, checkpoints: Mapping[int, Path], selection: Selection) -> None:
    """Make RUN/last and RUN/best lead to models: the newest, and the best of the checkpoints that are kept."""
    best = selection.best_of(checkpoints, 1)
    link_model(run_dir / LAST, checkpoints[max(checkpoints)] / MODEL_DIR)
    link_model(run_dir / BEST, checkpoints[best[0]] / MODEL_DIR if best else None)


def introduction(recipe: FinetuningRecipe, task: Task, start: int, choices: dict[str, str]) -> str:
    """What is going to happen, in one line; `choices` are those that were timed."""
    micro_batches = recipe.micro_batches_an_update(launched_ranks())
    return describe_run(
        {
            "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
            "init": recipe.init,
            **task.facts(),
            "updates an epoch": max(1, task.num_batches // micro_batches),
            "ranks": launched_ranks(),
            **choices,
            "micro-batches an update": micro_batches,
            "updates": recipe.steps,
            "from": start,
        }
    )


def outcome(selection: Selection, run_dir: Path) -> str:
    """What came of a run, in one line, and where its model is, if a file system without links has a name for it."""
    model = own_model(run_dir)
    where = f"; model in {model}" if model else ""
    ranked = selection.ranked()
    if not ranked:
        return f"done; no validation gave a {selection.best_by}{where}"
    best = selection.validations[ranked[0]][selection.best_by]
    early = f"; ended after {selection.patience} validations without a better one" if selection.is_over() else ""
    return f"{selection.goal} {selection.best_by} {best:.4f} after update {ranked[0]}{early}{where}"


def model_writer(engine: Engine, task: Task, tokenizer_dir: Path) -> Callable[[Path], None]:
    """A function that writes `model/`, as transformers opens it, into the directory of a checkpoint."""

    def add_model(directory: Path) -> None:
        weights = engine.full_state_dict()
        if engine.rank == 0:
            for name in task.model.all_tied_weights_keys:  # written under the name they are tied to
                weights.pop(name, None)
            with rust_errors_as_oserrors(directory / MODEL_DIR):
                task.model.save_pretrained(directory / MODEL_DIR, state_dict=weights)
            max_tokens = task.model.config.max_tokens
            save_tokenizer(task.tokenizer, tokenizer_dir, directory / MODEL_DIR, max_tokens=max_tokens)

    return add_model
