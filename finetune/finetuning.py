"""Fine-tuning as a task of `training.run`: the best checkpoints by validation, and a model in each checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from torch import Tensor

from finetune.recipe import FinetuningRecipe
from finetune.selection import Selection
from training.checkpoints.finding import checkpoints_of
from training.engine.interface import Engine
from training.launch import launched_ranks, tell
from training.run_directory.kinds import BEST, LAST, MODEL_DIR, link_model, own_model
from training.task import Task
from veco.rust_errors import rust_errors_as_oserrors
from veco.tokenizer import save_tokenizer

RecipeT = TypeVar("RecipeT", bound=FinetuningRecipe)


class FinetuningTask(Task[RecipeT]):
    """A pre-trained model and the data of a task. `validate` returns `recipe.best_by` among its metrics.

    The ranks take turns: batch m * world_size + rank is a rank's micro-batch m.
    """

    recipe: RecipeT
    tokenizer: Any

    def __init__(self, recipe: RecipeT) -> None:
        """Read the data and build the model, which the data may depend on."""

    @classmethod
    def of_run(cls, recipe: RecipeT, checkpoint: Path | None) -> Self:
        """The task of a run; a resumed one has its model and tokenizer from its checkpoint, not from `init_from`."""
        return cls(recipe if checkpoint is None else recipe.continued(checkpoint / MODEL_DIR))

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch, over all ranks."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The facts about data and model for the line at the start of a run."""
        raise NotImplementedError

    @property
    def max_tokens(self) -> int:
        """The tokens of the longest sequence that the model takes."""
        return int(self.model.config.max_tokens)

    @property
    def attention_dropout(self) -> float:
        return self.recipe.attention_dropout

    @cached_property
    def selection(self) -> Selection:
        """The validations so far."""
        recipe = self.recipe
        return Selection(recipe.best_by, recipe.metrics()[recipe.best_by], recipe.patience, recipe.keep_best)

    def resolved(self, recipe: RecipeT) -> RecipeT:
        return recipe.resolved(self.num_batches, launched_ranks())

    def compared(self, recipe: RecipeT) -> dict[str, Any]:
        return {
            "data_fingerprint": self.fingerprint,
            # The ranks take turns in the order of batches, so this, not the number of ranks, decides what an update
            # sees.
            "micro_batches_an_update": recipe.micro_batches_an_update(launched_ranks()),
        }

    def introduction(self, recipe: RecipeT) -> dict[str, Any]:
        micro_batches = recipe.micro_batches_an_update(launched_ranks())
        return {
            "init": recipe.init,
            **self.facts(),
            "updates an epoch": max(1, self.num_batches // micro_batches),
            "micro-batches an update": micro_batches,
        }

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        return self.selection.note(step, metrics)

    def is_over(self) -> bool:
        return self.selection.is_over()

    def is_worth_keeping(self, step: int) -> bool:
        return self.selection.is_among_best(step)

    def state(self) -> dict[str, Any]:
        return self.selection.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.selection.load_state(state)

    def add_files(self, engine: Engine, directory: Path) -> None:
        """Write `model/`, as transformers opens it."""
        weights = engine.full_state_dict()
        if engine.rank == 0:
            self.write_model(weights, directory)

    def whole_model(self, weights: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """The model of a checkpoint, of transformers, and its weights, from those that the engine has."""
        return self.model, weights

    def write_model(self, weights: dict[str, Tensor], directory: Path) -> None:
        """Write `model/` of a checkpoint, on rank 0, from the weights that the engine has."""
        model, weights = self.whole_model(weights)
        for name in model.all_tied_weights_keys:  # written under the name they are tied to
            weights.pop(name, None)
        with rust_errors_as_oserrors(directory / MODEL_DIR):
            model.save_pretrained(directory / MODEL_DIR, state_dict=weights)
        # What the run started from may have moved, and the checkpoint that it resumes from may be deleted by now.
        before = checkpoints_of(Path(self.recipe.output))
        tokenizer_dir = before[max(before)] / MODEL_DIR if before else Path(self.recipe.init_from)
        save_tokenizer(self.tokenizer, tokenizer_dir, directory / MODEL_DIR, max_tokens=self.max_tokens)

    def kept(self, steps: Collection[int]) -> list[int]:
        return self.selection.kept(steps)

    def announce(self, run_dir: Path, checkpoints: Mapping[int, Path]) -> None:
        link_models(run_dir, checkpoints, self.selection)

    def finish(self, run_dir: Path) -> None:
        tell(outcome(self.selection, run_dir))


def link_models(run_dir: Path, checkpoints: Mapping[int, Path], selection: Selection) -> None:
    """Make RUN/last and RUN/best lead to models: the newest, and the best of the checkpoints that are kept."""
    best = selection.best_of(checkpoints, 1)
    link_model(run_dir / LAST, checkpoints[max(checkpoints)] / MODEL_DIR)
    link_model(run_dir / BEST, checkpoints[best[0]] / MODEL_DIR if best else None)


def outcome(selection: Selection, run_dir: Path) -> str:
    """The result of a run, in one line, and where its model is, if a file system without links has a name for it."""
    model = own_model(run_dir)
    where = f"; model in {model}" if model else ""
    ranked = selection.ranked()
    if not ranked:
        return f"done; no validation gave a {selection.best_by}{where}"
    best = selection.validations[ranked[0]][selection.best_by]
    early = f"; ended after {selection.patience} validations without a better one" if selection.is_over() else ""
    return f"{selection.goal} {selection.best_by} {best:.4f} after update {ranked[0]}{early}{where}"
