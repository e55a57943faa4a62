"""Pre-train VECO: `deepspeed pretrain/train.py --config RECIPE.yaml [--any_field value]`.

Without arguments it trains the tiny recipe on the embedded corpus.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.shards import Manifest
from pretrain.embedded import embedded_data
from pretrain.launch import launched_rank, launched_ranks, quiet_libraries, relaunch_on_cpu, run_on_ranks
from pretrain.recipe import TrainingRecipe, option, parse_recipe

TINY = Path(__file__).resolve().parent / "recipes" / "tiny.yaml"


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(TrainingRecipe):
    """Pre-train VECO on prepared shards. Values of the paper: VECO (ACL 2021), table 8."""

    data: str = option("embedded", "directory that data_tools.prepare made; 'embedded' = the corpus that ships with us")
    init_from: str | None = option(None, "directory of an XLM-R or a VECO to start from; null = random weights")
    num_hidden_layers: int = option(
        4, "layers of a new model (the following shape fields, too, are for init_from: null)"
    )
    hidden_size: int = option(128, "width")
    num_attention_heads: int = option(4, "attention heads")
    intermediate_size: int = option(512, "width of the feed-forward module")
    max_position_embeddings: int = option(514, "positions: the longest sequence + 2")
    dropout: float = option(0.1, "dropout behind every module and the embeddings")
    attention_dropout: float = option(0.1, "dropout of attention weights")
    cross_attention_steps: int = option(
        0, "updates of a first phase that trains the cross-attention alone (from XLM-R)"
    )
    alpha: float = option(0.5, "languages and pairs are drawn in proportion to (number of sentences) ^ alpha")
    mono_batch_pairs: int = option(64, "pairs of adjacent segments in a global monolingual batch")
    bilingual_batch_pairs: int = option(64, "sentence pairs in a global bilingual batch")
    mono_max_length: int = option(128, "longest segment of a monolingual batch, in tokens with <s> and </s>")
    bilingual_max_length: int = option(64, "longest sentence of a bilingual batch, in tokens with <s> and </s>")
    mono_mask_rate: float = option(0.15, "share of tokens to predict in monolingual batches")
    bilingual_mask_rate: float = option(0.25, "share of tokens to predict in bilingual batches")

    @property
    def total_steps(self) -> int:
        """Updates of both phases."""
        return self.cross_attention_steps + self.steps

    def problems(self) -> list[str]:
        found = super().problems()
        for name in ("mono_mask_rate", "bilingual_mask_rate", "dropout", "attention_dropout"):
            if not 0 <= self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 0 and below 1")
        if not 0 <= self.alpha <= 1:
            found.append(f"alpha {self.alpha} must lie between 0 and 1")
        if self.cross_attention_steps < 0:
            found.append(f"cross_attention_steps {self.cross_attention_steps} must not be negative")
        if self.cross_attention_steps and not self.init_from:
            found.append("cross_attention_steps needs init_from: a random encoder gives the cross-attention nothing")
        for name in ("mono_batch_pairs", "bilingual_batch_pairs"):
            if self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 1")
        longest = max(self.mono_max_length, 2 * self.bilingual_max_length)
        if min(self.mono_max_length, self.bilingual_max_length) < 4:
            found.append("mono_max_length and bilingual_max_length must be at least 4")
        if not self.init_from and longest > self.max_position_embeddings - 2:
            found.append(
                f"max_position_embeddings {self.max_position_embeddings} must be at least {longest + 2}: "
                "mono_max_length, or both sentences of a bilingual pair, + 2"
            )
        return found


def main() -> None:
    recipe = parse_recipe(PretrainRecipe, sys.argv[1:], default_config=TINY)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)
    run_dir = Path(recipe.output)
    data_dir = embedded_data(run_dir.parent / "embedded") if recipe.data == "embedded" else Path(recipe.data)
    pretrain(recipe, data_dir, run_dir)


def pretrain(recipe: PretrainRecipe, data_dir: Path, run_dir: Path) -> None:
    """Both phases of a run, from its newest checkpoint if the recipe says so."""
    from pretrain.batches import PretrainingBatches, PretrainingOptions
    from pretrain.checkpoints import find_checkpoint
    from pretrain.engine import read_ds_config, shut_down
    from pretrain.meters import Meters
    from pretrain.plot import plot_curves

    quiet_libraries()
    read_ds_config(recipe.ds_config)
    manifest = Manifest.load(data_dir)
    options = PretrainingOptions(
        **{field.name: recipe.__dict__[field.name] for field in dataclasses.fields(PretrainingOptions)}
    )
    dataset = PretrainingBatches(
        data_dir, manifest, options, launched_rank(), launched_ranks(), recipe.accumulation_steps
    )
    model = build_model(recipe, manifest)
    found = find_checkpoint(run_dir, recipe.resume)
    start = 0 if found is None else found[0]
    if found is not None:
        check_same_run(found[1], manifest)
    is_first = launched_rank() == 0
    if is_first:
        shutil.copytree(data_dir / "tokenizer", run_dir / "tokenizer", dirs_exist_ok=True)
        print(introduction(recipe, model, dataset, manifest, start), file=sys.stderr)
    meters = Meters(run_dir, recipe.log_every, start, recipe.total_steps, enabled=is_first)
    for begin, end, only_cross_attention in phases(recipe):
        if start < end:
            checkpoint = None if found is None else found[1]
            train_phase(
                recipe, model, dataset, manifest, run_dir, meters, begin, start, end, only_cross_attention, checkpoint
            )
            start, found = end, None
    meters.close()
    if is_first:
        print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    shut_down()


def phases(recipe: PretrainRecipe) -> list[tuple[int, int, bool]]:
    """(first update, last + 1, cross-attention alone?) of each phase (paper, section 4.1)."""
    first = [(0, recipe.cross_attention_steps, True)] if recipe.cross_attention_steps else []
    return [*first, (recipe.cross_attention_steps, recipe.total_steps, False)]


def train_phase(
    recipe: PretrainRecipe,
    model: Any,
    dataset: Any,
    manifest: Manifest,
    run_dir: Path,
    meters: Any,
    begin: int,
    start: int,
    end: int,
    only_cross_attention: bool,
    checkpoint: Path | None,
) -> None:
    """Updates `start` to `end` of the phase that begins at `begin`, each phase with its own engine and schedule.

    A live DeepSpeed engine cannot change what it trains, so the next phase builds another on the same weights. Only
    the weights are taken from a checkpoint that the phase before made at its end.
    """
    from pretrain.checkpoints import save_checkpoint
    from pretrain.engine import build_engine
    from pretrain.loop import fit
    from pretrain.lr_schedule import linear_warmup_linear_decay

    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not only_cross_attention or ".cross_attention" in name)
    total_steps = end - begin

    def lr_factor(step: int) -> float:
        return linear_warmup_linear_decay(step, min(recipe.warmup_steps, total_steps), total_steps)

    engine = build_engine(model, recipe, lr_factor, run_dir / "logs")
    if checkpoint is not None:
        engine.load(checkpoint, weights_only=start == begin)
    state = {"data_fingerprint": manifest.fingerprint, "world_size": engine.world_size, "engine": recipe.engine}

    def save(step: int) -> None:
        def add_config(directory: Path) -> None:
            if engine.rank == 0:
                model.config.save_pretrained(directory)

        save_checkpoint(engine, run_dir, step, recipe, state, extra=add_config)

    fit(engine, recipe, dataset, dataset.kind_of, pretraining_losses, count_predicted, meters, start, end, save)
    engine.destroy()


def build_model(recipe: PretrainRecipe, manifest: Manifest) -> Any:
    """A new model of the recipe's shape, or the XLM-R or VECO that it names."""
    from transformers import AutoConfig

    from pretrain.loop import seed_everything
    from veco import VecoConfig, VecoForPreTraining
    from veco.convert import from_xlm_roberta

    seed_everything(recipe.seed)
    if recipe.init_from is None:
        config = VecoConfig(
            vocab_size=manifest.vocab_size,
            hidden_dropout_prob=recipe.dropout,
            attention_probs_dropout_prob=recipe.attention_dropout,
            **{
                name: recipe.__dict__[name]
                for name in (
                    "num_hidden_layers",
                    "hidden_size",
                    "num_attention_heads",
                    "intermediate_size",
                    "max_position_embeddings",
                )
            },
        )
        model = VecoForPreTraining(config)
    else:
        if not (Path(recipe.init_from) / "config.json").is_file():
            raise ValueError(f"init_from {recipe.init_from}: expected a model directory with a config.json")
        kind = AutoConfig.from_pretrained(recipe.init_from).model_type
        if kind == "xlm-roberta":
            converted = from_xlm_roberta(recipe.init_from)
            model = VecoForPreTraining(converted.config)
            model.load_state_dict(converted.state_dict())
        elif kind == "veco":
            model = VecoForPreTraining.from_pretrained(recipe.init_from)
        else:
            raise ValueError(f"init_from {recipe.init_from}: expected an xlm-roberta or a veco, found a {kind}")
    if manifest.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the data's vocabulary has {manifest.vocab_size:,} pieces, the model's only {model.config.vocab_size:,}; "
            "prepare the data with the model's tokenizer"
        )
    longest = max(recipe.mono_max_length, 2 * recipe.bilingual_max_length)
    if longest > model.config.max_tokens:
        raise ValueError(f"batches may have {longest} tokens a row, the model only takes {model.config.max_tokens}")
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def check_same_run(checkpoint: Path, manifest: Manifest) -> None:
    """Raise ValueError when a checkpoint belongs to other data or another number of ranks."""
    from pretrain.checkpoints import read_state

    state = read_state(checkpoint)
    if state["data_fingerprint"] != manifest.fingerprint:
        raise ValueError(f"{checkpoint} was trained on other data; resume with the same, or start with init_from")
    if state["world_size"] != launched_ranks():
        raise ValueError(f"{checkpoint} was written by {state['world_size']} ranks, now there are {launched_ranks()}")


def introduction(recipe: PretrainRecipe, model: Any, dataset: Any, manifest: Manifest, start: int) -> str:
    """What is going to happen, in one line."""
    from pretrain.loop import describe_run

    return describe_run(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": manifest.vocab_size,
            "languages": len(manifest.mono),
            "pairs": len(manifest.parallel),
            "batches": "/".join(dataset.kinds),
            "ranks": launched_ranks(),
            "engine": f"{recipe.engine} {recipe.ds_config}",
            "updates": recipe.total_steps,
            "from": start,
        }
    )


def pretraining_losses(model: Any, batch: dict[str, Any], num_items: Any) -> dict[str, Any]:
    """The terms of CA-MLM and TLM, each normalised by the global batch's predicted tokens."""
    return model(**batch, num_items_in_batch=num_items).losses


def count_predicted(batch: dict[str, Any]) -> Any:
    """Predicted tokens (3,) of x, y and TLM in a micro-batch."""
    import torch

    from pretrain.masking import IGNORED

    names = ("labels", "pair_labels", "tlm_labels")
    return torch.stack([batch[name].ne(IGNORED).sum() if name in batch else torch.tensor(0) for name in names])


if __name__ == "__main__":
    run_on_ranks(main)
