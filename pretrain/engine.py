"""DeepSpeed behind a few calls, and a plain twin for one process that is the reference for it.

The only module that imports deepspeed. Losses handed to `backward` are shares of a sum over ranks and accumulation
steps; DeepSpeed's own averaging is undone here and nowhere else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

from data_tools.cli import one_line
from data_tools.files import named_errors
from pretrain.ds_config import asks_for_bf16, in_float32, read_ds_config
from pretrain.launch import free_port, launched_rank, launched_ranks, launchers, quiet_libraries
from pretrain.recipe import TrainingRecipe
from pretrain.resharding import MOMENTS, WEIGHTS, StoredTraining, read_training
from pretrain.zero_shards import checkpoint_weights
from veco.attention import use_in_training


class Ranks(Protocol):
    """The processes of a run, seen from one of them."""

    rank: int
    world_size: int
    device: torch.device

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small tensor over all ranks."""


class Engine(Ranks, Protocol):
    """One model in training, on one process or many."""

    model: nn.Module
    layout: dict[str, Any]

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Context (autocast, if any) in which the forward pass runs."""

    def backward(self, loss: Tensor) -> None:
        """Add gradients of `loss`, this rank's share of the global loss in this accumulation step."""

    def step(self) -> None:
        """Close an accumulation step; after the last one, clip, update the weights, advance the learning rate.

        Raises FloatingPointError when the gradient norm is not finite; the weights keep their values then.
        """

    def skip(self, loss: Tensor) -> None:
        """In place of the last `backward` and `step` of an update: no weight and no moment of Adam changes.

        All gradients are thrown away, the learning rate advances. Every rank calls it.
        """

    def grad_norm(self) -> float | None:
        """Global gradient norm of the last update, before clipping; None where the ZeRO stage does not tell."""

    def learning_rate(self) -> float:
        """Learning rate of the last update."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def save(self, directory: Path) -> None:
        """Write what `load` needs to go on exactly; every rank calls it."""

    def load(self, directory: Path) -> None:
        """Go on, exactly, from what `save` wrote with the same layout: weights and the optimizer's moments."""

    def load_other_layout(self, directory: Path) -> None:
        """Go on from what was saved with any layout; the model got its weights before it was given to the engine."""

    def full_state_dict(self) -> dict[str, Tensor]:
        """All weights on rank 0, an empty dict elsewhere; every rank calls it."""

    def destroy(self) -> None:
        """Free what the engine holds; the model can then be given to another engine."""


def check_engine(recipe: TrainingRecipe) -> None:
    """Raise ValueError when the launcher started more processes than the recipe's engine can be."""
    if recipe.engine == "plain" and launched_ranks() > 1:
        raise ValueError(f"engine 'plain' is for one process, the launcher started {launched_ranks()}")


def build_engine(
    model: nn.Module, recipe: TrainingRecipe, lr_factor: Callable[[int], float], log_dir: Path, start_step: int = 0
) -> Engine:
    """An engine that trains those parameters of `model` which require a gradient, from update `start_step` on.

    `lr_factor` maps an update's number, from 0, to a factor of the recipe's peak learning rate: the rate is a function
    of these alone, whatever a checkpoint that the engine loads was trained with. DeepSpeed's messages go to
    `log_dir`/deepspeed-rank<n>.log.
    """
    use_in_training(model, recipe.attention)
    ds_config = engine_settings(recipe)
    if recipe.engine == "plain":
        return PlainEngine(model, recipe, lr_factor, ds_config, start_step)
    return DeepSpeedEngine(model, recipe, lr_factor, ds_config, log_dir, start_step)


def engine_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """DeepSpeed's settings as the recipe has them: on CPU `cpu_precision` "float32" takes bfloat16 out."""
    config = read_ds_config(recipe.ds_config)
    is_float32 = recipe.cpu_precision == "float32" and not torch.cuda.is_available()
    return in_float32(config) if is_float32 and asks_for_bf16(config) else config


def layout_of(recipe: TrainingRecipe) -> dict[str, Any]:
    """How a checkpoint of this recipe lies in files: another layout needs `Engine.load_other_layout`."""
    if recipe.engine == "plain":
        return {"zero_stage": "none", "precision": "float32", "parts": 1}
    config = engine_settings(recipe)
    stage = config.get("zero_optimization", {}).get("stage", 0)
    halves = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    # At stage 0 every rank has everything, and one writes it.
    return {
        "zero_stage": stage,
        "precision": halves[0] if halves else "float32",
        "parts": launched_ranks() if stage else 1,
    }


@dataclasses.dataclass
class ConnectedRanks:
    """The processes of a run whose process group, if there are several, is up."""

    rank: int
    world_size: int
    device: torch.device

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        total = values.clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return total


def plain_device() -> torch.device:
    """Where the plain engine computes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def connect(recipe: TrainingRecipe, log_dir: Path) -> Ranks:
    """All ranks, before any of them has an engine: to look whether an engine can be built together."""
    if recipe.engine == "plain":
        return ConnectedRanks(0, 1, plain_device())
    deepspeed = start_deepspeed(log_dir)
    check_deepspeed_config(deepspeed, recipe)
    device = deepspeed.get_accelerator().device_name(int(os.environ["LOCAL_RANK"]))
    return ConnectedRanks(dist.get_rank(), dist.get_world_size(), torch.device(device))


@contextlib.contextmanager
def lost_ranks_named(where: str) -> Iterator[None]:
    """Nothing; a failure to reach other ranks becomes a ConnectionError of one line."""
    try:
        yield
    except RuntimeError as error:
        told = str(error)
        if isinstance(error, dist.DistError) or re.search("gloo|NCCL|Connection (closed|reset)", told):
            reason = told.strip().splitlines()[0].partition(". ")[0]
            raise ConnectionError(
                f"{where}: another rank is gone; --resume auto goes on from the last checkpoint ({reason})"
            ) from error
        raise


def share_cores() -> None:
    """Give each process of this machine its share of the cores: together they must not have more threads.

    OMP_NUM_THREADS, which torch has followed already, stands: runs side by side share a machine by it.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    processes_here = int(os.environ.get("LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or "1")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes_here))


def adam_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """What Adam is told, as torch and DeepSpeed call it; at the peak learning rate."""
    return {
        "lr": recipe.learning_rate,
        "betas": (recipe.adam_beta1, recipe.adam_beta2),
        "eps": recipe.adam_epsilon,
        "weight_decay": recipe.weight_decay,
    }


class Schedule:
    """Which update comes next, and its learning rate: a function of the update's number and the recipe."""

    def __init__(self, recipe: TrainingRecipe, lr_factor: Callable[[int], float], start_step: int) -> None:
        self.settings = adam_settings(recipe)
        self.lr_factor = lr_factor
        self.step = start_step
        self.last_rate = 0.0  # of the update before

    def begin_update(self, optimizer: torch.optim.Optimizer) -> None:
        """Give Adam the rate of the next update, and what the recipe says now: a checkpoint's groups may differ."""
        self.last_rate = self.settings["lr"] * self.lr_factor(self.step)
        for group in optimizer.param_groups:
            group.update(self.settings, lr=self.last_rate)
        self.step += 1


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of all that has a gradient; of tied ones the first."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def set_torch_state(model: nn.Module, optimizer: torch.optim.Optimizer, stored: StoredTraining) -> None:
    """Give torch's own AdamW, whose state only its first update would make, the stored one."""
    for name, parameter in trained_parameters(model):
        moments = {kind: stored.tensors[kind][name].read().to(parameter.device) for kind in MOMENTS}
        optimizer.state[parameter] = {"step": torch.tensor(float(stored.adam_step)), **moments}


def write_state(state: Any, path: str | Path) -> None:
    """`torch.save`, which of a full disk would only say that it found itself at an unexpected position in the file."""
    with named_errors(path):
        try:
            with open(path, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def check_norm(norm: float | None) -> None:
    """Raise FloatingPointError for a gradient norm that is not finite."""
    if norm is not None and not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm}; the weights were not changed")


class PlainEngine:
    """One process, torch alone. float32 weights; with bf16 in the DeepSpeed config, autocast around the forward."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingRecipe,
        lr_factor: Callable[[int], float],
        ds_config: Mapping[str, Any],
        start_step: int = 0,
    ) -> None:
        share_cores()
        self.rank, self.world_size = 0, 1
        self.device = plain_device()
        self.model = model.to(self.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, **adam_settings(recipe))
        self.schedule = Schedule(recipe, lr_factor, start_step)
        self.clip_norm = recipe.clip_norm or float("inf")
        self.accumulation_steps = recipe.accumulation_steps
        self.micro_steps = 0
        self.layout = layout_of(recipe)
        self.last_norm = 0.0
        self.bf16 = asks_for_bf16(ds_config)

    def forward_context(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        self.micro_steps += 1
        if self.micro_steps % self.accumulation_steps:
            return
        self.last_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        check_norm(self.last_norm)
        self.schedule.begin_update(self.optimizer)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def skip(self, loss: Tensor) -> None:
        self.micro_steps += 1
        self.schedule.begin_update(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def grad_norm(self) -> float:
        return self.last_norm

    def learning_rate(self) -> float:
        return self.schedule.last_rate

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return values

    def barrier(self) -> None:
        pass

    def save(self, directory: Path) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        directory.mkdir(parents=True, exist_ok=True)
        write_state(state, directory / "plain_engine.pt")

    def load(self, directory: Path) -> None:
        path = directory / "plain_engine.pt"
        if not path.is_file():
            raise ValueError(f"{path}: no such file; this checkpoint was written by the DeepSpeed engine")
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def load_other_layout(self, directory: Path) -> None:
        stored = read_training(directory, [name for name, _ in trained_parameters(self.model)])
        set_torch_state(self.model, self.optimizer, stored)

    def full_state_dict(self) -> dict[str, Tensor]:
        return {name: weight.detach().cpu() for name, weight in self.model.state_dict().items()}

    def destroy(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


def complete_config(ds_config: Mapping[str, Any], recipe: TrainingRecipe) -> dict[str, Any]:
    """DeepSpeed's settings with what the recipe says."""
    offloads = "offload_optimizer" in ds_config.get("zero_optimization", {})
    adam = {
        **adam_settings(recipe),
        # torch's own kernel on CPU: DeepSpeed would compile one for a minute and a half.
        "torch_adam": not torch.cuda.is_available() and not offloads,
        "adam_w_mode": True,
    }
    return {
        **ds_config,
        "optimizer": {"type": "AdamW", "params": adam},
        # DeepSpeed wants a number of samples; ours vary by kind of batch, and nothing but its logs reads it.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": recipe.accumulation_steps,
        "gradient_clipping": recipe.clip_norm,
    }


def check_deepspeed_config(deepspeed: Any, recipe: TrainingRecipe) -> None:
    """Raise ValueError for what DeepSpeed refuses in a ds_config, on this device too, before anything is built."""
    config = read_ds_config(recipe.ds_config)
    if config.get("fp16", {}).get("enabled") and not deepspeed.get_accelerator().is_fp16_supported():
        raise ValueError(
            f"ds_config {recipe.ds_config}: fp16.enabled: this device does not compute in float16 for DeepSpeed; take "
            "a file with bf16, or in float32"
        )
    try:
        deepspeed.DeepSpeedConfig(complete_config(config, recipe))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise ValueError(f"ds_config {recipe.ds_config}: {'; '.join(told)}") from None
    except (AssertionError, ValueError, TypeError) as error:
        raise ValueError(f"ds_config {recipe.ds_config}: {one_line(error)}") from None


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
        self.schedule = Schedule(recipe, lr_factor, start_step)
        # DeepSpeed would leave a script beside the checkpoints with each save; pretrain.export does its work.
        self.engine._copy_recovery_script = lambda save_path: None
        self.model = self.engine
        self.device = self.engine.device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.gradient_scale = self.world_size * recipe.accumulation_steps
        self.layout = layout_of(recipe)
        self.is_fp16 = self.layout["precision"] == "fp16"
        # Stage 0 in float32 is torch's own optimizer, without DeepSpeed's looking at the gradients.
        self.is_bare = self.layout["zero_stage"] == 0 and self.layout["precision"] == "float32"
        self.last_norm: float | None = None

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """What DeepSpeed prints goes to its log."""
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
            # DeepSpeed leaves such an update out and says nothing. Under fp16 that is how it finds its loss scale.
            if not self.is_fp16:
                check_norm(self.last_norm)

    def skip(self, loss: Tensor) -> None:
        self.schedule.begin_update(self.engine.basic_optimizer)
        if self.is_bare:
            self.engine.zero_grad()
            self.engine.micro_steps += 1
        else:
            # All of DeepSpeed's optimizers leave an update out, gradients and all, whose norm is not a number.
            self.engine.backward(loss * math.nan)
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

        write = self.engine.checkpoint_engine.save
        self.engine.checkpoint_engine.save = write_or_note
        with self._quiet():
            # DeepSpeed would write its pointer `latest` before all ranks are done; our directory's name is the pointer.
            self.engine.save_checkpoint(str(directory.parent), tag=directory.name, save_latest=False)
        self.engine.checkpoint_engine.save = write
        if errors:
            raise OSError(one_line(errors[0])) from errors[0]

    def load(self, directory: Path) -> None:
        with self._quiet():
            path, _ = self.engine.load_checkpoint(str(directory.parent), tag=directory.name)
        if path is None:
            raise ValueError(f"{directory}: DeepSpeed finds no checkpoint there for {self.world_size} ranks")

    def load_other_layout(self, directory: Path) -> None:
        module = self.engine.module
        stored = read_training(directory, [name for name, _ in trained_parameters(module)])
        if self.is_bare:
            set_torch_state(module, self.engine.basic_optimizer, stored)
        else:
            self._set_sharded_state(module, stored)
        self.engine.global_steps = self.schedule.step

    def _set_sharded_state(self, module: nn.Module, stored: StoredTraining) -> None:
        """The float32 weights and Adam's state of this rank's parts; the model's own weights are right already."""
        optimizer, adam = self.engine.optimizer, self.engine.basic_optimizer
        is_partitioned = self.engine.zero_optimization_partition_weights()
        # This rank's numbers, flat, which Adam takes for its parameters; its first update would make their state.
        rows = [row for group in adam.param_groups for row in group["params"]]
        for row in optimizer.fp32_partitioned_groups_flat if is_partitioned else rows:
            is_torch = type(adam).__module__.startswith("torch.")  # DeepSpeed's own kernels count with an int
            step = torch.tensor(float(stored.adam_step)) if is_torch else stored.adam_step
            adam.state[row] = {"step": step, **{kind: torch.zeros_like(row) for kind in MOMENTS}}
        if not is_partitioned:
            optimizer._lazy_init_hp_params_optimizer_state()
        for group in adam.param_groups:
            if "step" in group:
                group["step"] = stored.adam_step
        parameter: Any  # DeepSpeed adds attributes
        for name, parameter in trained_parameters(module):
            for kind, tensors in stored.tensors.items():
                key = None if kind == WEIGHTS else kind
                if not is_partitioned:
                    parameter.set_full_hp_param(tensors[name].read(), key)
                    continue
                # Under stage 3 each rank has an equal part, the last ones padded with zeros.
                size = parameter.ds_tensor.numel()
                start, stop = (min((self.rank + end) * size, tensors[name].count) for end in (0, 1))
                part = torch.zeros(size)
                if start < stop:
                    part[: stop - start] = tensors[name].read_flat(start, stop)
                optimizer.set_local_hp_param(part, parameter, key)

    def full_state_dict(self) -> dict[str, Tensor]:
        if self.engine.zero_optimization_partition_weights():
            state = self.engine._zero3_consolidated_16bit_state_dict()
        else:
            state = self.engine.module.state_dict()
        return {} if self.rank else {name: weight.detach().cpu() for name, weight in state.items()}

    def destroy(self) -> None:
        self.engine.destroy()


def log_file(log_dir: Path) -> Path:
    """Where this rank's DeepSpeed writes its messages."""
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
        # A shared-memory collective that DeepSpeed would compile for half a minute; training goes through gloo.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        try:
            deepspeed.init_distributed(verbose=False)
        except dist.DistNetworkError as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            alone = "set MASTER_PORT to another port, or unset it: a free one is taken then"
            advice = "give the launcher another --master_port" if launchers() else alone
            raise ValueError(f"{address}: {error}; {advice}") from None
    return deepspeed


def shut_down() -> None:
    """Leave the process group, if there is one, when every rank has come so far.

    Together, because launchers end the other ranks once one has left with another exit code than 0.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def consolidated_weights(checkpoint_dir: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint that an engine's `save` wrote, in memory; of tied ones only the one that is trained.

    Trained ones are float32, those that a phase left alone have the type they were used in.
    """
    return {name: tensor.read() for name, tensor in checkpoint_weights(checkpoint_dir).items()}
