"""Fine-tune VECO for translation: `deepspeed finetune/mt/train.py --config RECIPE.yaml [--any_field value]`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.launch import launched_rank, launched_ranks, quiet_libraries, relaunch_on_cpu, run_on_ranks
from pretrain.recipe import TrainingRecipe, option, parse_recipe


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe(TrainingRecipe):
    """Fine-tune a pre-trained VECO for translation. Values of the paper: VECO (ACL 2021), section 3."""

    init_from: str = option("", "directory of a pre-trained VECO (pretrain.export makes it); its tokenizer is used too")
    init: str = option(
        "pretrained", "pretrained, or random: init_from's shape and tokenizer with fresh weights, to compare"
    )
    decoder_layers: int | None = option(None, "layers of the decoder; null = as many as the encoder")
    decoder_layers_from: str = option("last", "which pre-trained layers become the decoder: last or first (table 4)")
    target_language: str = option("", "code such as de; its tag __de__ starts the decoder")
    train_source: str = option("", "training text, a sentence a line; plain or compressed")
    train_target: str = option("", "its translation, line by line")
    valid_source: str = option("", "validation text")
    valid_target: str = option("", "its translation")
    max_tokens: int = option(4096, "largest micro-batch on each rank, in tokens with padding (fairseq's meaning)")
    max_length: int = option(128, "longest sentence in tokens with special ones; longer ones are cut and counted")
    label_smoothing: float = option(0.1, "probability taken from the right token (fairseq's meaning); the paper: 0.2")
    dropout: float = option(0.1, "dropout behind every module and the embeddings; the paper: 0.3 en-de, 0.1 en-fr")
    attention_dropout: float = option(0.1, "dropout of attention weights")

    def problems(self) -> list[str]:
        found = super().problems()
        for name in ("init_from", "target_language", "train_source", "train_target", "valid_source", "valid_target"):
            if not self.__dict__[name]:
                found.append(f"{name} is not set")
        if self.init not in ("pretrained", "random"):
            found.append(f"init {self.init!r} must be 'pretrained' or 'random'")
        if self.decoder_layers_from not in ("last", "first"):
            found.append(f"decoder_layers_from {self.decoder_layers_from!r} must be 'last' or 'first'")
        for name in ("dropout", "attention_dropout", "label_smoothing"):
            if not 0 <= self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 0 and below 1")
        if self.max_length < 4 or self.max_tokens < self.max_length:
            found.append(
                f"max_tokens {self.max_tokens} must be at least max_length {self.max_length}, and that at least 4"
            )
        return found


class RankBatches:
    """This rank's micro-batches of the endless sequence that all ranks share, by number."""

    def __init__(self, batches: Any, rank: int, world_size: int) -> None:
        self.batches, self.rank, self.world_size = batches, rank, world_size

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.batches[number * self.world_size + self.rank]


def main() -> None:
    recipe = parse_recipe(TranslationRecipe, sys.argv[1:])
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)
    finetune(recipe, Path(recipe.output))


def finetune(recipe: TranslationRecipe, run_dir: Path) -> None:
    """Read the bitext, build the model from pre-trained layers, train, validate and save."""
    from finetune.mt.batches import TranslationBatches
    from pretrain.checkpoints import find_checkpoint, read_state
    from pretrain.engine import build_engine, read_ds_config, shut_down
    from pretrain.loop import describe_run, fit, seed_everything
    from pretrain.lr_schedule import linear_warmup_linear_decay
    from pretrain.meters import Meters
    from pretrain.plot import plot_curves

    quiet_libraries()
    read_ds_config(recipe.ds_config)
    found = find_checkpoint(run_dir, recipe.resume)
    if found is not None and (ranks := read_state(found[1])["world_size"]) != launched_ranks():
        raise ValueError(f"{found[1]} was written by {ranks} ranks, now there are {launched_ranks()}")
    seed_everything(recipe.seed)
    tokenizer, model = build_model(recipe)
    bitexts = read_bitexts(recipe, tokenizer, model)
    special = special_ids(tokenizer)
    train, valid = (TranslationBatches(bitext, recipe.max_tokens, recipe.seed, special) for bitext in bitexts)

    is_first = launched_rank() == 0
    start = 0 if found is None else found[0]
    if is_first:
        run_dir.mkdir(parents=True, exist_ok=True)
        facts = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "init": recipe.init,
            "layers": f"{model.config.num_hidden_layers}+{model.config.decoder_layers}",
            "training": f"{bitexts[0].report}, {train.padding_share:.1%} padding",
            "validation": str(bitexts[1].report),
            "updates an epoch": max(1, len(train) // (launched_ranks() * recipe.accumulation_steps)),
            "ranks": launched_ranks(),
            "from": start,
        }
        print(describe_run(facts), file=sys.stderr)
    meters = Meters(run_dir, recipe.log_every, start, recipe.steps, enabled=is_first)

    def lr_factor(step: int) -> float:
        return linear_warmup_linear_decay(step, min(recipe.warmup_steps, recipe.steps), recipe.steps)

    engine = build_engine(model, recipe, lr_factor, run_dir / "logs")
    if found is not None:
        engine.load(found[1], weights_only=False)
    fit(
        engine,
        recipe,
        RankBatches(train, engine.rank, engine.world_size),  # type: ignore[arg-type]
        kind_of=lambda step: "train",
        loss_function=lambda module, batch, num_items: translation_loss(
            module, batch, num_items, recipe.label_smoothing
        ),
        count_items=count_predicted,
        meters=meters,
        start_step=start,
        end_step=recipe.steps,
        save=saver(engine, recipe, run_dir, model, tokenizer),
        validate=lambda step: validation(engine, valid),
    )
    meters.close()
    if is_first:
        print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    engine.destroy()
    shut_down()


def build_model(recipe: TranslationRecipe) -> tuple[Any, Any]:
    """(tokenizer with the target language's tag, model whose decoder starts with it).

    Raises ValueError when `init_from` is not a VECO with its tokenizer, or the two do not fit.
    """
    from transformers import AutoConfig, AutoTokenizer

    import veco
    from veco.heads import VecoForMaskedLM

    directory = Path(recipe.init_from)
    if not (directory / "config.json").is_file() or not (directory / "tokenizer_config.json").is_file():
        raise ValueError(f"init_from {directory}: expected a model directory with config.json and a tokenizer")
    config = AutoConfig.from_pretrained(directory)
    if not isinstance(config, veco.VecoConfig):
        raise ValueError(f"init_from {directory}: expected a veco, found a {config.model_type}")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"init_from {directory}: its tokenizer has {len(tokenizer):,} pieces, the model only {config.vocab_size:,}"
        )
    source = VecoForMaskedLM.from_pretrained(directory) if recipe.init == "pretrained" else VecoForMaskedLM(config)
    shape = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    model = veco.VecoForConditionalGeneration.from_veco(
        source, recipe.decoder_layers, recipe.decoder_layers_from, **shape
    )
    tag = f"__{recipe.target_language}__"
    tokenizer.add_special_tokens({"additional_special_tokens": [tag]}, replace_extra_special_tokens=False)
    if len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    start = tokenizer.convert_tokens_to_ids(tag)
    model.config.decoder_start_token_id = start
    model.generation_config.decoder_start_token_id = start
    return tokenizer, model


def special_ids(tokenizer: Any) -> Any:
    from finetune.mt.batches import SpecialIds

    return SpecialIds(bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)


def read_bitexts(recipe: TranslationRecipe, tokenizer: Any, model: Any) -> list[Any]:
    """Training and validation pairs as ids."""
    from finetune.mt.batches import Bitext, tokenizer_encoder

    if recipe.max_length > model.config.max_tokens:
        raise ValueError(f"max_length {recipe.max_length} exceeds the {model.config.max_tokens} tokens the model takes")
    files = ((recipe.train_source, recipe.train_target), (recipe.valid_source, recipe.valid_target))
    return [
        Bitext.from_files(
            source,
            target,
            tokenizer_encoder(tokenizer),
            decoder_start_token_id=model.config.decoder_start_token_id,
            max_length=recipe.max_length,
        )
        for source, target in files
    ]


def translation_loss(model: Any, batch: dict[str, Any], num_items: Any, smoothing: float) -> dict[str, Any]:
    """The label-smoothed loss of a micro-batch, normalised by the global batch's target tokens."""
    from finetune.mt.losses import label_smoothed_cross_entropy

    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    logits = model(**inputs, use_cache=False).logits
    loss_sum, _, _ = label_smoothed_cross_entropy(logits, batch["labels"], smoothing)
    return {"smoothed": loss_sum / num_items[0]}


def count_predicted(batch: dict[str, Any]) -> Any:
    """Target tokens (1,) of a micro-batch."""
    from finetune.mt.losses import IGNORE_INDEX

    return batch["labels"].ne(IGNORE_INDEX).sum().reshape(1)


def validation(engine: Any, batches: Any) -> dict[str, float]:
    """Negative log-likelihood in nats a target token, and perplexity, over the whole validation set."""
    import math

    import torch

    from finetune.mt.batches import evaluation_indices
    from finetune.mt.losses import label_smoothed_cross_entropy

    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    engine.model.eval()
    with torch.no_grad():
        for number, counts in evaluation_indices(len(batches), engine.rank, engine.world_size):
            batch = {name: tensor.to(engine.device) for name, tensor in batches[number].items()}
            labels = batch.pop("labels")
            with engine.forward_context():
                logits = engine.model(**batch, use_cache=False).logits
            _, nll_sum, num_tokens = label_smoothed_cross_entropy(logits, labels, 0.0)
            if counts:
                sums += torch.stack([nll_sum.double(), num_tokens.double()])
    engine.model.train()
    nll_sum, num_tokens = engine.sum_over_ranks(sums).tolist()
    nll = nll_sum / num_tokens
    return {"nll": nll, "perplexity": math.exp(min(nll, 100.0))}


def saver(engine: Any, recipe: TranslationRecipe, run_dir: Path, model: Any, tokenizer: Any) -> Any:
    """A function of the step that writes a checkpoint: what resuming needs, and `model/` as transformers opens it."""
    from pretrain.checkpoints import save_checkpoint

    def add_model(directory: Path) -> None:
        weights = engine.full_state_dict()
        if engine.rank == 0:
            # The tied projection is written under the embedding's name alone.
            weights.pop("lm_head.decoder.weight", None)
            model.save_pretrained(directory / "model", state_dict=weights)
            tokenizer.save_pretrained(directory / "model")

    def save(step: int) -> None:
        state = {"world_size": engine.world_size, "engine": recipe.engine}
        save_checkpoint(engine, run_dir, step, recipe, state, extra=add_model)

    return save


if __name__ == "__main__":
    run_on_ranks(main)
