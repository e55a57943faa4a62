"""DeepSpeed behind a few calls, and the only module that imports it.

Losses handed to `backward` are shares of a sum over ranks and accumulation steps; DeepSpeed's own averaging is undone
here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

from data_tools.cli import one_line
from training.checkpoints.resharding import read_training
from training.checkpoints.stored_tensors import write_state
from training.engine.adam import RateSchedule, check_norm, set_torch_state, settle_adam, trained_parameters
from training.engine.deepspeed_config import complete_config, layout_of
from training.engine.deepspeed_internals import DeepSpeedInternals, give_up_after, without_shared_memory_op
from training.engine.processes import share_cores
from training.launch import free_port, launched_rank, launchers, quiet_libraries
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import read_ds_config

STAGE_0_SUMS = (("bf16", "bf16"), ("fp16", "fp16"), ("float32", "fp32"))  # DeepSpeed's names of the second


def check_deepspeed_config(deepspeed: Any, recipe: TrainingRecipe) -> None:
    """Raise ValueError for what DeepSpeed refuses in a ds_config, on this device too, before anything is built."""
    config = read_ds_config(recipe.ds_config)
    if config.get("fp16", {}).get("enabled") and not deepspeed.get_accelerator().is_fp16_supported():
        raise ValueError(
            f"ds_config {recipe.ds_config}: fp16.enabled: this device does not compute in float16 for DeepSpeed; use "
            "a bf16 or float32 ds_config"
        )
    try:
        deepspeed.DeepSpeedConfig(complete_config(config, recipe))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise ValueError(f"ds_config {recipe.ds_config}: {'; '.join(told)}") from None
    except (AssertionError, ValueError, TypeError) as error:
        raise ValueError(f"ds_config {recipe.ds_config}: {one_line(error)}") from None
    precision, sums = layout_of(recipe)["precision"], config.get("data_types", {}).get("grad_accum_dtype")
    if not layout_of(recipe)["zero_stage"] and sums is not None and (precision, sums) not in STAGE_0_SUMS:
        raise ValueError(
            f"ds_config {recipe.ds_config}: data_types.grad_accum_dtype {sums}: without ZeRO DeepSpeed sums gradients "
            "in the type of the weights; leave it out, or take stage 1"
        )


class DeepSpeedEngine:
    """DeepSpeed with the ZeRO stage and the precision of its config, on any number of processes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingRecipe,
        lr_factor: Callable[[int], float],
        ds_config: Mapping[str, Any],
        log_dir: Path,
        start_step: int = 0,
    ) -> None:
        deepspeed = start_deepspeed(log_dir)
        self.log_path = log_file(log_dir)
        config = complete_config(ds_config, recipe)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with self._quiet():
            self.engine, *_ = deepspeed.initialize(model=model, config=config, model_parameters=parameters)
        give_up_after(recipe.lost_rank_seconds)
        self.schedule = RateSchedule(recipe, lr_factor, start_step)
        self.internals = DeepSpeedInternals(self.engine)
        self.model = self.engine
        self.device = self.engine.device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.gradient_scale = self.world_size * recipe.accumulation_steps
        self.layout = layout_of(recipe)
        self.is_fp16 = self.layout["precision"] == "fp16"
        # At stage 0 in float32 torch's own optimizer is used, and DeepSpeed does not look at the gradients.
        self.is_bare = self.layout["zero_stage"] == 0 and self.layout["precision"] == "float32"
        self.last_norm: float | None = None

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Send what DeepSpeed prints to its log."""
        with (
            open(self.log_path, "a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield

    def forward_context(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed divides by the accumulation steps here and averages over the ranks later; the loss is already a
        # share of the global mean, so both are undone: sum_r sum_a g_ra = 1/(RA) * sum_r sum_a (RA * g_ra).
        self.engine.backward(loss * self.gradient_scale)

    def step(self) -> None:
        is_update = self.engine.is_gradient_accumulation_boundary()
        if is_update:
            if self.is_bare:
                self.last_norm = self._norm_of_gradients()
                check_norm(self.last_norm)
            self.schedule.begin_update(self.engine.basic_optimizer)
        self.engine.step()
        if is_update and not self.is_bare:
            norm = self.engine.get_global_grad_norm()
            self.last_norm = None if norm is None else float(norm)
            # DeepSpeed skips such an update silently. Under fp16 that is how it finds its loss scale.
            if not self.is_fp16:
                check_norm(self.last_norm)

    def skip(self, loss: Tensor) -> None:
        self.schedule.begin_update(self.engine.basic_optimizer)
        if self.is_bare:
            self.engine.zero_grad()
            self.internals.count_skipped_micro_step()
        else:
            # All of DeepSpeed's optimizers skip an update whose norm is NaN, and throw its gradients away. Under fp16
            # they would halve the loss scale for it, which did nothing wrong.
            self.engine.backward(loss * math.nan)
            with self.internals.loss_scale_kept() if self.is_fp16 else contextlib.nullcontext():
                self.engine.step()

    def _norm_of_gradients(self) -> float:
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    def grad_norm(self) -> float | None:
        return self.last_norm

    def learning_rate(self) -> float:
        return self.schedule.last_rate

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        dist.barrier()

    def save(self, directory: Path) -> None:
        errors: list[Exception] = []

        def write_or_note(state_dict: Any, path: str) -> None:
            """DeepSpeed's ranks wait for one another while they save: one that fails must stay to the end."""
            try:
                write_state(state_dict, path)
            except (OSError, RuntimeError) as error:
                errors.append(error)

        with self._quiet(), self.internals.files_written_by(write_or_note):
            # DeepSpeed would write its pointer `latest` before all ranks are done; our directory's name is the pointer.
            self.engine.save_checkpoint(str(directory.parent), tag=directory.name, save_latest=False)
        if errors:
            raise OSError(one_line(errors[0])) from errors[0]

    def load(self, directory: Path) -> None:
        with self._quiet():
            path, _ = self.engine.load_checkpoint(str(directory.parent), tag=directory.name)
        if path is None:
            raise ValueError(f"{directory}: DeepSpeed finds no checkpoint there for {self.world_size} ranks")
        settle_adam(self.engine.basic_optimizer)

    def load_other_layout(self, directory: Path) -> None:
        module = self.engine.module
        stored = read_training(directory, [name for name, _ in trained_parameters(module)])
        if self.is_bare:
            set_torch_state(module, self.engine.basic_optimizer, stored)
        else:
            self.internals.set_sharded_state(module, stored, self.rank)
        self.internals.set_updates_made(self.schedule.step)

    def full_state_dict(self) -> dict[str, Tensor]:
        state = self.internals.full_state_dict()
        return {} if self.rank else {name: weight.detach().cpu() for name, weight in state.items()}

    def destroy(self) -> None:
        with self._quiet():
            self.engine.destroy()
        self.internals.free()


def log_file(log_dir: Path) -> Path:
    """The file for the messages of this rank's DeepSpeed."""
    return log_dir / f"deepspeed-rank{launched_rank()}.log"


def start_deepspeed(log_dir: Path) -> Any:
    """The deepspeed module with the process group up, its messages in `log_dir`/deepspeed-rank<n>.log."""
    quiet_libraries()
    log_dir.mkdir(parents=True, exist_ok=True)
    with open(log_file(log_dir), "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        import deepspeed

    logger = logging.getLogger("DeepSpeed")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.addHandler(logging.FileHandler(log_file(log_dir)))
    logger.propagate = False
    share_cores()
    if not dist.is_initialized():
        for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
            os.environ.setdefault(name, value)
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(free_port()))  # a launcher sets it; alone any will do
        try:
            with without_shared_memory_op(deepspeed):
                deepspeed.init_distributed(verbose=False)
        except dist.DistNetworkError as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            alone = "set MASTER_PORT to another port, or unset it: a free one is taken then"
            advice = "give the launcher another --master_port" if launchers() else alone
            raise ValueError(f"{address}: {error}; {advice}") from None
    return deepspeed
