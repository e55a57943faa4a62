"""DeepSpeed behind a few calls, and a plain twin for one process that is the reference for it.

The only module that imports deepspeed. Losses handed to `backward` are shares of a sum over ranks and accumulation
steps; DeepSpeed's own averaging is undone here and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pretrain.launch import launched_ranks, quiet_libraries
from pretrain.recipe import TrainingRecipe

DS_CONFIGS = Path(__file__).resolve().parent.parent / "ds_configs"
# What the recipe decides; a DeepSpeed config that also names one of these contradicts "one place for each value".
RECIPE_OWNED = (
    "optimizer",
    "scheduler",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
# What DeepSpeed reads at the top level of its config. It ignores what it does not know, so a misspelt key would.
DEEPSPEED_KEYS = (
    "bf16",
    "fp16",
    "torch_autocast",
    "zero_optimization",
    "comms_logger",
    "flops_profiler",
    "checkpoint",
    "communication_data_type",
    "wall_clock_breakdown",
    "data_types",
    "zero_allow_untested_optimizer",
)


class Engine(Protocol):
    """One model in training, on one process or many."""

    model: nn.Module
    rank: int
    world_size: int
    device: torch.device

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Context (autocast, if any) in which the forward pass runs."""

    def backward(self, loss: Tensor) -> None:
        """Add gradients of `loss`, this rank's share of the global loss in this accumulation step."""

    def step(self) -> None:
        """Close an accumulation step; after the last one, clip, update the weights, advance the learning rate.

        Raises RuntimeError when the gradient norm is not finite; the weights keep their values then.
        """

    def grad_norm(self) -> float | None:
        """Global gradient norm of the last update, before clipping; None where the ZeRO stage does not tell."""

    def learning_rate(self) -> float:
        """Learning rate of the last update."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small tensor over all ranks."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def save(self, directory: Path) -> None:
        """Write what `load` needs to go on exactly; every rank calls it."""

    def load(self, directory: Path) -> None:
        """Go on from what `save` wrote: weights, optimizer, schedule."""

    def full_state_dict(self) -> dict[str, Tensor]:
        """All weights on rank 0, an empty dict elsewhere; every rank calls it."""

    def destroy(self) -> None:
        """Free what the engine holds; the model can then be given to another engine."""


def read_ds_config(name: str) -> dict[str, Any]:
    """DeepSpeed's settings from a file, or from ds_configs/ by name.

    Raises ValueError for a missing file, unknown keys, values that belong to the recipe, and "auto", which only
    transformers' Trainer would replace.
    """
    path = Path(name) if Path(name).is_file() else DS_CONFIGS / name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in DS_CONFIGS.glob("*.json")))
        raise ValueError(f"ds_config {name!r}: no such file; ds_configs/ has {known}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    problems = [f"{key} belongs into the recipe" for key in config if key in RECIPE_OWNED]
    problems += [f"unknown key {key}" for key in config if key not in (*RECIPE_OWNED, *DEEPSPEED_KEYS)]
    if '"auto"' in json.dumps(config):
        problems.append('"auto" is not understood by DeepSpeed itself: give the value')
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return config


def check_engine(recipe: TrainingRecipe) -> None:
    """Raise ValueError when no engine can be built from the recipe; looks at files and environment only."""
    read_ds_config(recipe.ds_config)
    if recipe.engine == "plain" and launched_ranks() > 1:
        raise ValueError(f"engine 'plain' is for one process, the launcher started {launched_ranks()}")


def build_engine(model: nn.Module, recipe: TrainingRecipe, lr_factor: Callable[[int], float], log_dir: Path) -> Engine:
    """An engine that trains those parameters of `model` which require a gradient.

    `lr_factor` maps an update's number, from 0, to a factor of the recipe's peak learning rate. DeepSpeed's messages
    go to `log_dir`/deepspeed-rank<n>.log.
    """
    ds_config = read_ds_config(recipe.ds_config)
    if recipe.engine == "plain":
        return PlainEngine(model, recipe, lr_factor, ds_config)
    return DeepSpeedEngine(model, recipe, lr_factor, ds_config, log_dir)


def share_cores() -> None:
    """Give each process of this machine its share of the cores: together they must not have more threads."""
    processes_here = int(os.environ.get("LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or "1")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes_here))


def adamw(parameters: list[nn.Parameter], recipe: TrainingRecipe) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters,
        lr=recipe.learning_rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
    )


def check_norm(norm: float | None) -> None:
    """Raise RuntimeError for a gradient norm that is not finite."""
    if norm is not None and not math.isfinite(norm):
        raise RuntimeError(f"the gradient norm is {norm}; the weights were not changed")


class PlainEngine:
    """One process, torch alone. float32 weights; with bf16 in the DeepSpeed config, autocast around the forward."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingRecipe,
        lr_factor: Callable[[int], float],
        ds_config: Mapping[str, Any],
    ) -> None:
        share_cores()
        self.rank, self.world_size = 0, 1
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = adamw(self.parameters, recipe)
        self.scheduler = LambdaLR(self.optimizer, lr_factor)
        self.clip_norm = recipe.clip_norm or float("inf")
        self.accumulation_steps = recipe.accumulation_steps
        self.micro_steps = 0
        self.last_norm = 0.0
        self.last_rate = 0.0
        self.bf16 = bool(ds_config.get("bf16", {}).get("enabled"))

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
        self.last_rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)

    def grad_norm(self) -> float:
        return self.last_norm

    def learning_rate(self) -> float:
        return self.last_rate

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return values

    def barrier(self) -> None:
        pass

    def save(self, directory: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "micro_steps": self.micro_steps,
        }
        directory.mkdir(parents=True, exist_ok=True)
        torch.save(state, directory / "plain_engine.pt")

    def load(self, directory: Path) -> None:
        path = directory / "plain_engine.pt"
        if not path.is_file():
            raise ValueError(f"{path}: no such file; this checkpoint was written by the DeepSpeed engine")
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.micro_steps = state["micro_steps"]

    def full_state_dict(self) -> dict[str, Tensor]:
        return {name: weight.detach().cpu() for name, weight in self.model.state_dict().items()}

    def destroy(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


class DeepSpeedEngine:
    """DeepSpeed with the ZeRO stage and the precision of its config, on any number of processes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingRecipe,
        lr_factor: Callable[[int], float],
        ds_config: Mapping[str, Any],
        log_dir: Path,
    ) -> None:
        deepspeed = start_deepspeed(log_dir)
        config = self._complete_config(ds_config, recipe)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with self._quiet():
            self.engine, _, _, self.scheduler = deepspeed.initialize(
                model=model,
                config=config,
                model_parameters=parameters,
                lr_scheduler=lambda optimizer: LambdaLR(optimizer, lr_factor),
            )
        self.model = self.engine
        self.device = self.engine.device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.gradient_scale = self.world_size * recipe.accumulation_steps
        self.is_fp16 = bool(ds_config.get("fp16", {}).get("enabled"))
        self.last_rate = 0.0

    @staticmethod
    def _complete_config(ds_config: Mapping[str, Any], recipe: TrainingRecipe) -> dict[str, Any]:
        offloads = "offload_optimizer" in ds_config.get("zero_optimization", {})
        adam = {
            "lr": recipe.learning_rate,
            "betas": [recipe.adam_beta1, recipe.adam_beta2],
            "eps": recipe.adam_epsilon,
            "weight_decay": recipe.weight_decay,
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

    @staticmethod
    @contextlib.contextmanager
    def _quiet() -> Iterator[None]:
        with warnings.catch_warnings():
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
            self.last_rate = self.engine.get_lr()[0]
        self.engine.step()
        # DeepSpeed leaves such an update out and says nothing. Under fp16 that is how it finds its loss scale.
        if is_update and not self.is_fp16:
            check_norm(self.grad_norm())

    def grad_norm(self) -> float | None:
        norm = self.engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def learning_rate(self) -> float:
        return self.last_rate

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        dist.barrier()

    def save(self, directory: Path) -> None:
        with self._quiet():
            # DeepSpeed would write its pointer `latest` before all ranks are done; our directory's name is the pointer.
            self.engine.save_checkpoint(str(directory.parent), tag=directory.name, save_latest=False)

    def load(self, directory: Path) -> None:
        with self._quiet():
            path, _ = self.engine.load_checkpoint(str(directory.parent), tag=directory.name)
        if path is None:
            raise ValueError(f"{directory}: DeepSpeed finds no checkpoint there for {self.world_size} ranks")

    def full_state_dict(self) -> dict[str, Tensor]:
        if self.engine.zero_optimization_partition_weights():
            state = self.engine._zero3_consolidated_16bit_state_dict()
        else:
            state = self.engine.module.state_dict()
        return {} if self.rank else {name: weight.detach().cpu() for name, weight in state.items()}

    def destroy(self) -> None:
        self.engine.destroy()


def start_deepspeed(log_dir: Path) -> Any:
    """The deepspeed module with the process group up, its messages in `log_dir`/deepspeed-rank<n>.log."""
    quiet_libraries()
    rank = int(os.environ.get("RANK", "0"))
    log_dir.mkdir(parents=True, exist_ok=True)
    with open(log_dir / f"deepspeed-rank{rank}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        import deepspeed

    logger = logging.getLogger("DeepSpeed")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.addHandler(logging.FileHandler(log_dir / f"deepspeed-rank{rank}.log"))
    logger.propagate = False
    share_cores()
    if not dist.is_initialized():
        for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
            os.environ.setdefault(name, value)
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        # A shared-memory collective that DeepSpeed would compile for half a minute; training goes through gloo.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        try:
            deepspeed.init_distributed(verbose=False)
        except dist.DistNetworkError as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ValueError(f"{address}: {error}; give the launcher another --master_port") from None
    return deepspeed


def shut_down() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def consolidated_weights(checkpoint_dir: Path) -> dict[str, Tensor]:
    """All float32 weights of a checkpoint that `DeepSpeedEngine.save` or `PlainEngine.save` wrote, on one process."""
    plain = checkpoint_dir / "plain_engine.pt"
    if plain.is_file():
        return torch.load(plain, map_location="cpu", weights_only=True)["model"]
    if not list(checkpoint_dir.glob("*_optim_states.pt")):  # ZeRO stage 0: every rank has all weights
        path = checkpoint_dir / "mp_rank_00_model_states.pt"
        # Our own file, which DeepSpeed pickles.
        return torch.load(path, map_location="cpu", weights_only=False)["module"]
    quiet_libraries()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        # Our own files: DeepSpeed's reader unpickles them.
        return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint_dir.parent), tag=checkpoint_dir.name)
