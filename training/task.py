"""The task of a run, whatever it is: a model, what it learns from, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.utils.data import Dataset

from training.engine.interface import Engine, Ranks
from training.meters import Scalars, nothing_more
from training.recipe.base import Phase, TrainingRecipe
from training.step import Batch, count_tokens

RecipeT = TypeVar("RecipeT", bound=TrainingRecipe)


class Trainable(Protocol):
    """The part of a task that the loop sees: batches, and their losses."""

    fingerprint: str  # of the data: equal for a run and the run that resumes it

    def batches(self, rank: int, world_size: int) -> Dataset:
        """Micro-batch m of a rank, for every m >= 0; a pure function of m, and without end."""

    def kind_of(self, step: int) -> str:
        """The kind of batch of an update, from 0; losses are shown by kind."""
        return "train"

    def source_of(self, number: int, rank: int) -> str:
        """The samples of a rank's micro-batch, for messages."""
        return f"micro-batch {number}"

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The terms of a micro-batch's loss: sums over it / `num_items` of the whole update."""

    def count_items(self, batch: Batch) -> Tensor:
        """The items of a micro-batch, which `num_items` sums up: a small tensor (n,)."""

    def count_tokens(self, batch: Batch) -> Tensor:
        """The tokens (1,) of a micro-batch, for speeds: without padding, and none twice."""
        return count_tokens(batch)

    def after_update(self, engine: Engine) -> None:
        """Let what follows the weights do so, after each update, also a skipped one; every rank calls it."""
        return


class Validated(Protocol):
    """Validations of a task, and what follows from them. All ranks answer alike."""

    def validates(self) -> bool:
        """Whether there is anything to validate on."""
        return True

    def validate(self, engine: Engine) -> dict[str, float]:
        """Metrics over the whole validation set, equal on all ranks; every rank calls it."""

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Remember the validation after `step` updates; whether the run is over now."""
        return False

    def is_over(self) -> bool:
        """Whether the validations so far end the run before its last update."""
        return False

    def is_worth_keeping(self, step: int) -> bool:
        """Whether the validation after `step` updates asks for a checkpoint of its own."""
        return False


class Checkpointed(Protocol):
    """The contribution of a task to checkpoints, and its choice of those to keep.

    `kept` and `announce` are called on rank 0, perhaps while training continues.
    """

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint must hold for `load_state`."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the values that a checkpoint holds."""

    def add_files(self, engine: Engine, directory: Path) -> None:
        """Write what the task adds to a checkpoint into its directory; every rank calls it."""

    def kept(self, steps: Collection[int]) -> Collection[int]:
        """Those of the checkpoints at `steps` to keep beside those that the recipe keeps."""
        return ()

    def announce(self, run_dir: Path, checkpoints: Mapping[int, Path]) -> None:
        """Take note of the checkpoints that are kept, by step, before others are deleted."""


class Task(Trainable, Validated, Checkpointed, Protocol[RecipeT]):
    """A model and what it learns from, as `training.run` trains it.

    Every rank builds its own, with the same random state and before any rank waits for another one: whatever can be
    wrong with data and model is found there.
    """

    model: Any  # of transformers, which has a `config`

    @property
    def attention_dropout(self) -> float:
        """The dropout of attention weights, on which the fastest way to compute attention depends."""

    def resolved(self, recipe: RecipeT) -> RecipeT:
        """The recipe with what the data decide of it, such as the number of updates."""
        return recipe

    def compared(self, recipe: RecipeT) -> dict[str, Any]:
        """Facts beside the recipe that must be equal for a run and the run that resumes it."""
        return {"data_fingerprint": self.fingerprint}

    def build_model(self, checkpoint: Path | None) -> None:
        """Make `model`, one like that of `checkpoint` if there is one: for a new run, or a phase after another.

        Nothing to do for a task whose data depend on its model, and which has built it before.
        """

    def prepare(self, ranks: Ranks) -> None:
        """Do what takes long and the ranks share, before the first engine is built; every rank calls it."""

    def introduction(self, recipe: RecipeT) -> dict[str, Any]:
        """The task's part of the line at the start of a run."""

    def begin(self, run_dir: Path) -> None:
        """Put what belongs to the whole run into its directory; called on rank 0, before the first update."""
        return

    def enter(self, phase: Phase) -> None:
        """Choose which parameters of the model a phase trains: before an engine is built, and with each phase of it."""
        return

    def watch(self, engine: Engine) -> Callable[[float], Scalars]:
        """A function that gives a line of metrics more than its losses; called once for each phase."""
        return nothing_more

    def phase_report(self) -> str:
        """A line to print at the end of a phase; empty for none."""
        return ""

    def finish(self, run_dir: Path) -> None:
        """Tell the result of the run, and write what is only written at its end; called on rank 0."""
