"""A pre-training run: data, model, the two phases, checkpoints."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from data_tools.files import sha256_of
from data_tools.manifest import Manifest
from pretrain.batches import PretrainingBatches, PretrainingOptions
from pretrain.checkpoints import (
    check_same_run,
    drop_checkpoints_after,
    find_checkpoint,
    load_weights,
    run_state,
    save_checkpoint,
)
from pretrain.engine import build_engine, check_engine, shut_down
from pretrain.launch import launched_rank, launched_ranks, quiet_libraries
from pretrain.loop import describe_run, fit, seed_everything
from pretrain.lr_schedule import linear_warmup_linear_decay
from pretrain.masking import IGNORED
from pretrain.meters import Meters
from pretrain.plot import plot_curves
from pretrain.recipe import PretrainRecipe
from pretrain.step import Batch
from veco import VecoConfig, VecoForPreTraining
from veco.convert import from_xlm_roberta

SHAPE_FIELDS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "initializer_range",
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """Updates `begin` to `end` of a run, trained by one engine with one learning-rate schedule."""

    begin: int
    end: int
    only_cross_attention: bool

    def lr_factor(self, step: int, warmup_steps: int) -> float:
        """Factor of the peak learning rate for the phase's own update number `step`."""
        length = self.end - self.begin
        return linear_warmup_linear_decay(step, min(warmup_steps, length), length)


def phases(recipe: PretrainRecipe) -> list[Phase]:
    """The cross-attention alone, if the recipe says so, then everything (paper, section 4.1)."""
    border = recipe.cross_attention_steps
    first = [Phase(0, border, only_cross_attention=True)] if border else []
    return [*first, Phase(border, recipe.total_steps, only_cross_attention=False)]


def pretrain(recipe: PretrainRecipe, data_dir: Path, run_dir: Path) -> None:
    """Train both phases, from a checkpoint if the recipe says so. Everything that can be wrong is looked at first."""
    quiet_libraries()
    check_engine(recipe)
    manifest = Manifest.load(data_dir)
    options = PretrainingOptions(
        **{field.name: recipe.__dict__[field.name] for field in dataclasses.fields(PretrainingOptions)}
    )
    batches = PretrainingBatches(
        data_dir, manifest, options, launched_rank(), launched_ranks(), recipe.accumulation_steps
    )
    found = find_checkpoint(run_dir, recipe.resume)
    if found is not None:
        check_same_run(found[1], recipe, run_state(manifest.fingerprint))
    model = build_model(recipe, data_dir, manifest)

    start = 0 if found is None else found[0]
    is_first = launched_rank() == 0
    if is_first:
        shutil.copytree(data_dir / "tokenizer", run_dir / "tokenizer", dirs_exist_ok=True)
        print(introduction(recipe, model, batches, manifest, start), file=sys.stderr)
    meters = Meters(run_dir, recipe.log_every, start, recipe.total_steps, enabled=is_first)
    checkpoint = None if found is None else found[1]
    for phase in phases(recipe):
        if start < phase.end:
            train_phase(recipe, phase, model, batches, manifest.fingerprint, run_dir, meters, start, checkpoint)
            start, checkpoint = phase.end, None
    meters.close()
    if is_first:
        print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    shut_down()


def train_phase(
    recipe: PretrainRecipe,
    phase: Phase,
    model: VecoForPreTraining,
    batches: PretrainingBatches,
    data_fingerprint: str,
    run_dir: Path,
    meters: Meters,
    start: int,
    checkpoint: Path | None,
) -> None:
    """Updates `start` to the end of a phase, going on from `checkpoint` if there is one.

    A live DeepSpeed engine cannot change what it trains, so each phase builds its own on the same weights. From a
    checkpoint that the phase before made at its end only the weights are taken, before the engine exists.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not phase.only_cross_attention or ".cross_attention" in name)
    if checkpoint is not None and start == phase.begin:
        load_weights(model, checkpoint)
        checkpoint = None
    engine = build_engine(model, recipe, lambda step: phase.lr_factor(step, recipe.warmup_steps), run_dir / "logs")
    if checkpoint is not None:
        engine.load(checkpoint)
    drop_checkpoints_after(engine, run_dir, start)

    def add_config(directory: Path) -> None:
        if engine.rank == 0:
            model.config.save_pretrained(directory)

    def save(step: int) -> None:
        save_checkpoint(engine, run_dir, step, recipe, run_state(data_fingerprint), add_config)

    fit(
        engine,
        recipe,
        batches,
        data_fingerprint,
        batches.kind_of,
        pretraining_losses,
        count_predicted,
        meters,
        start,
        phase.end,
        save,
    )
    engine.destroy()


def build_model(recipe: PretrainRecipe, data_dir: Path, manifest: Manifest) -> VecoForPreTraining:
    """A new model of the recipe's shape, or the XLM-R or VECO that it names, in float32.

    Raises ValueError when there is none, or it does not fit the data or the recipe.
    """
    seed_everything(recipe.seed)
    dropouts = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if recipe.init_from is None:
        shape = {name: recipe.__dict__[name] for name in SHAPE_FIELDS}
        model = VecoForPreTraining(VecoConfig(vocab_size=manifest.vocab_size, **shape, **dropouts))
    else:
        model = pretrained_model(Path(recipe.init_from), dropouts)
        check_vocabulary(model.config.vocab_size, Path(recipe.init_from), data_dir, manifest)
    longest = max(recipe.mono_max_length, 2 * recipe.bilingual_max_length)
    if longest > model.config.max_tokens:
        raise ValueError(f"batches may have {longest} tokens a row, the model only takes {model.config.max_tokens}")
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def pretrained_model(directory: Path, dropouts: dict[str, float]) -> VecoForPreTraining:
    """The XLM-R or VECO in a transformers directory, as a VECO to go on with."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"init_from {directory}: expected a model directory with a config.json")
    kind = AutoConfig.from_pretrained(directory).model_type
    if kind == "veco":
        return VecoForPreTraining.from_pretrained(directory, dtype=torch.float32, **dropouts)
    if kind == "xlm-roberta":
        converted = from_xlm_roberta(directory)
        for name, value in dropouts.items():
            setattr(converted.config, name, value)
        model = VecoForPreTraining(converted.config)
        model.load_state_dict(converted.state_dict())
        return model
    raise ValueError(f"init_from {directory}: expected an xlm-roberta or a veco, found a {kind}")


def check_vocabulary(model_size: int, model_dir: Path, data_dir: Path, manifest: Manifest) -> None:
    """Raise ValueError when data were prepared with another tokenizer than the model's."""
    advice = f"prepare the data with the tokenizer of {model_dir}"
    if manifest.vocab_size > model_size:
        raise ValueError(
            f"the data's vocabulary has {manifest.vocab_size:,} pieces, the model's only {model_size:,}; {advice}"
        )
    pieces = model_dir / "sentencepiece.bpe.model"
    if manifest.vocab_size < model_size or (pieces.is_file() and sha256_of(pieces) != manifest.tokenizer_sha256):
        raise ValueError(f"{data_dir} was prepared with another tokenizer than the model's; {advice}")


def introduction(
    recipe: PretrainRecipe, model: nn.Module, batches: PretrainingBatches, manifest: Manifest, start: int
) -> str:
    """What is going to happen, in one line."""
    return describe_run(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": manifest.vocab_size,
            "languages": len(manifest.mono),
            "pairs": len(manifest.parallel),
            "batches": "/".join(batches.kinds),
            "ranks": launched_ranks(),
            "engine": f"{recipe.engine} {recipe.ds_config}",
            "updates": recipe.total_steps,
            "from": start,
        }
    )


def pretraining_losses(model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
    """The terms of CA-MLM and TLM, each normalised by the global batch's predicted tokens."""
    return model(**batch, num_items_in_batch=num_items).losses


def count_predicted(batch: Batch) -> Tensor:
    """Predicted tokens (3,) of x, y and TLM in a micro-batch."""
    names = ("labels", "pair_labels", "tlm_labels")
    return torch.stack([batch[name].ne(IGNORED).sum() if name in batch else torch.tensor(0) for name in names])
