"""One run of a task, from its directory to its curves: the same for pre-training and fine-tuning."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Generic

from torch import nn

from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import RECIPE_FILE, checkpoint_path, find_checkpoint, read_state
from training.checkpoints.saving import Background, Contents, LaterCheckpoints, Retention, save_checkpoint, together
from training.cpu_timing import with_timed_choices
from training.devices import device_told, use_kernels
from training.engine.build import build_engine, check_engine, connect
from training.engine.interface import Engine
from training.engine.processes import shut_down
from training.guards import Guards
from training.launch import launched_ranks, quiet_libraries, tell
from training.loop import Hooks, check_ranks_agree, fit, seed_everything
from training.meters import Meters, WandbProject
from training.metrics_lines import PARAMETERS, TRAINED_PARAMETERS
from training.plot import plot_curves
from training.recipe.base import Phase
from training.run_directory.checks import check_run_directory
from training.run_directory.ownership import Ownership
from training.run_directory.resuming import Start, begin, nothing_to_train
from training.task import RecipeT, Task


def train_run(recipe: RecipeT, build_task: Callable[[RecipeT, Path | None], Task[RecipeT]]) -> bool:
    """Train a task, from a checkpoint if the recipe says so. Returns whether it finished, rather than being stopped.

    `build_task` reads the data of a recipe and builds what it can of the model; of a resumed run it gets the
    checkpoint. Everything that can be wrong is looked at before the ranks first wait for each other.
    """
    run_dir, guards = Path(recipe.output), Guards(recipe)
    with Ownership(run_dir) as ownership:
        # The directory, and the checkpoint to resume from.
        quiet_libraries()
        use_kernels(recipe.deterministic)
        check_engine(recipe)
        check_run_directory(run_dir, recipe.inputs())
        found = find_checkpoint(run_dir, recipe.resume)

        # Data and model.
        seed_everything(recipe.seed)
        task = build_task(recipe, None if found is None else found[1])
        recipe = task.resolved(recipe)
        start = begin(found, recipe, task.compared(recipe))
        recipe = start.settled(recipe)
        task.build_model(start.checkpoint)

        # The ranks, which must agree.
        later = LaterCheckpoints(run_dir, start.step)
        ranks = connect(recipe, run_dir / "logs")
        device = device_told(ranks)
        recipe_before = None if start.checkpoint is None else start.checkpoint / RECIPE_FILE
        recipe, choices = with_timed_choices(recipe, task.attention_dropout, ranks, recipe_before)
        config = task.model.config.to_dict()
        check_ranks_agree(ranks, checkpoint=start, recipe=recipe, data=task.fingerprint, model=config)

        # Engine and updates.
        is_first = ranks.rank == 0
        if is_first:
            task.begin(run_dir)
            print(introduction(recipe, task, start, {"device": device, **choices}), file=sys.stderr)
        task.prepare(ranks)
        meters = Meters(
            run_dir,
            recipe.log_every,
            start.step,
            recipe.total_steps,
            enabled=is_first,
            wandb=WandbProject(recipe.wandb_project, dataclasses.asdict(recipe)) if recipe.wandb_project else None,
            is_held=bool(later.steps),
        )
        run = Run(
            recipe=recipe, task=task, run_dir=run_dir, ownership=ownership, later=later, meters=meters, guards=guards
        )
        is_done = run.train(start)
        if is_done:
            shut_down()  # the other ranks have nothing to wait for
            if is_first:
                task.finish(run_dir)
                print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    shut_down()
    return is_done


def introduction(recipe: RecipeT, task: Task[RecipeT], start: Start, choices: Mapping[str, str]) -> str:
    """One line about the run that begins; `choices` are the device, and those that were timed."""
    facts = {
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        **task.introduction(recipe),
        "ranks": launched_ranks(),
        **choices,
        "updates": recipe.total_steps,
        "from": start.step,
    }
    return " | ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items()
    )


def numbers_of_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters a model has, and how many of these learn, as metrics.jsonl has it."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    return {PARAMETERS: sum(size for size, _ in sizes), TRAINED_PARAMETERS: learning}


def names_of_trained(model: nn.Module) -> list[str]:
    """The names of the parameters that learn."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Generic[RecipeT]):
    """A run whose ranks agree on what to do, ready to train."""

    recipe: RecipeT
    task: Task[RecipeT]
    run_dir: Path
    ownership: Ownership
    later: LaterCheckpoints
    meters: Meters
    guards: Guards

    def train(self, start: Start) -> bool:
        """Train the phases that are left. Returns whether it finished all of them."""
        if start.step >= self.recipe.total_steps:
            tell(nothing_to_train(start.step, self.recipe.total_steps, self.later))
        with self.meters, self.guards:
            if start.checkpoint is not None:
                state = read_state(start.checkpoint)
                self.guards.load_state(state)
                self.task.load_state(state)
            for phases in self.recipe.phases_by_engine():
                if start.step >= phases[-1].end or self.task.is_over():
                    continue
                if 0 < start.step == phases[0].begin:
                    start = self.after_other_parameters(start)
                if not self.train_phases(phases, start):
                    tell(self.guards.ended_early())
                    return False
                start = dataclasses.replace(start, step=phases[-1].end)
        return True

    def after_other_parameters(self, start: Start) -> Start:
        """The start of a phase after one that trained other parameters, whether that is just over or was long ago.

        A live DeepSpeed engine cannot change what it trains, so the phase builds its own, on the weights that the
        phase before left in a checkpoint. Only these are taken from it: another set of parameters has other moments.
        """
        # Named, not looked for: another node may see an older list of the directory's files for a minute.
        checkpoint = checkpoint_path(self.run_dir, start.step)
        self.task.build_model(checkpoint)
        gc.collect()  # the model before, and what its hooks refer to
        return dataclasses.replace(start, checkpoint=checkpoint, takes_only_weights=True)

    def train_phases(self, phases: Sequence[Phase], start: Start) -> bool:
        """Train from `start` to the end of phases that share an engine. Returns whether it finished, was not stopped.

        Each phase ends with a checkpoint.
        """
        recipe, task = self.recipe, self.task
        left = [phase for phase in phases if start.step < phase.end]
        task.enter(left[0])
        start.prepare(task.model, recipe)
        if start.step == phases[0].begin:  # a run that is resumed has the line already
            self.meters.note(numbers_of_parameters(task.model))  # before ZeRO-3 cuts them into parts

        def lr_factor(step: int) -> float:
            return recipe.lr_factor(step, start.schedule_start)

        engine = build_engine(task.model, recipe, lr_factor, self.run_dir / "logs", start.step)
        start.restore(engine)
        clean_up(engine, self.run_dir)
        is_done = True
        with Background(engine) as background:
            hooks = Hooks(
                save=partial(self.save, engine, background, start),
                validate=partial(task.validate, engine) if task.validates() else None,
                is_over=task.note,
                is_worth_keeping=task.is_worth_keeping,
            )
            for phase in left:
                if not is_done or task.is_over():
                    break
                trained = names_of_trained(task.model)
                task.enter(phase)
                assert names_of_trained(task.model) == trained, "phases that share an engine train the same"
                if start.step <= phase.begin:
                    self.guards.forget_losses()
                self.meters.watch(task.watch(engine), until=phase.end)
                updates = range(max(start.step, phase.begin), phase.end)
                is_done = fit(engine, recipe, task, updates, hooks=hooks, meters=self.meters, guards=self.guards)
                if report := task.phase_report():
                    tell(report)
        engine.destroy()
        return is_done

    def save(self, engine: Engine, background: Background, start: Start, step: int) -> None:
        """Save checkpoint `step`; every rank calls it."""
        task, recipe = self.task, self.recipe
        state = {**task.compared(recipe), **start.state(), **self.guards.state(), **task.state()}
        contents = Contents(recipe=recipe, state=state, add_files=partial(task.add_files, engine))
        retention = Retention(keep=task.kept, announce=partial(task.announce, self.run_dir), later=self.later)
        together(engine, self.ownership.check)
        save_checkpoint(engine, self.run_dir, step, contents, retention=retention, background=background)
        self.meters.settle()
        self.guards.note_duration("save", background.seconds)
