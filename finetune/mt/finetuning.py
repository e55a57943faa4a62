"""A fine-tuning run for translation: bitext, model from pre-trained layers, training, validation, checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer

from finetune.mt.batches import (
    Bitext,
    RankBatches,
    SpecialIds,
    TranslationBatches,
    tokenizer_encoder,
)
from finetune.mt.losses import IGNORE_INDEX, label_smoothed_cross_entropy
from finetune.mt.recipe import TranslationRecipe
from pretrain.checkpoints import (
    check_same_run,
    clean_up,
    find_checkpoint,
    has_other_layout,
    load_weights,
    read_state,
    restore,
    save_checkpoint,
    tell,
)
from pretrain.engine import Engine, build_engine, check_engine, shut_down
from pretrain.guards import Guards
from pretrain.launch import launched_rank, launched_ranks, quiet_libraries
from pretrain.loop import describe_run, fit, seed_everything
from pretrain.lr_schedule import linear_warmup_linear_decay
from pretrain.meters import Meters
from pretrain.plot import plot_curves
from pretrain.sampling import evaluation_indices
from pretrain.step import Batch
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM

SENTENCEPIECE_MODEL = "sentencepiece.bpe.model"


def finetune(recipe: TranslationRecipe, run_dir: Path) -> None:
    """Train, validate and save. Everything that can be wrong is looked at first."""
    guards = Guards(recipe)
    quiet_libraries()
    check_engine(recipe)
    found = find_checkpoint(run_dir, recipe.resume)
    seed_everything(recipe.seed)
    tokenizer, model = build_model(recipe)
    bitext, valid_bitext = read_bitexts(recipe, tokenizer, model)
    state: dict[str, Any] = {
        "data_fingerprint": fingerprint(bitext),
        # The ranks take turns in the order of batches, so this, not the number of ranks, decides what an update sees.
        "micro_batches_an_update": launched_ranks() * recipe.accumulation_steps,
    }
    if found is not None:
        check_same_run(found[1], recipe, state)
    special = SpecialIds(bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    train, valid = (
        TranslationBatches(pairs, recipe.max_tokens, recipe.seed, special) for pairs in (bitext, valid_bitext)
    )

    is_first = launched_rank() == 0
    start = 0 if found is None else found[0]
    if is_first:
        run_dir.mkdir(parents=True, exist_ok=True)
        print(introduction(recipe, model, train, valid, start), file=sys.stderr)
    meters = Meters(
        run_dir,
        recipe.log_every,
        start,
        recipe.steps,
        enabled=is_first,
        wandb_project=recipe.wandb_project,
        settings=dataclasses.asdict(recipe),
    )
    warmup_steps = min(recipe.warmup_steps, recipe.steps)
    if found is not None and has_other_layout(found[1], recipe):
        load_weights(model, found[1])
    engine = build_engine(
        model, recipe, lambda step: linear_warmup_linear_decay(step, warmup_steps, recipe.steps), run_dir / "logs"
    )
    with guards:
        if found is not None:
            restore(engine, found[1])
            guards.load_state(read_state(found[1]))
        clean_up(engine, run_dir, start)
        is_done = fit(
            engine,
            recipe,
            RankBatches(train, engine.rank, engine.world_size),
            state["data_fingerprint"],
            kind_of=lambda step: "train",
            loss_function=lambda module, batch, num_items: translation_loss(
                module, batch, num_items, recipe.label_smoothing
            ),
            count_items=count_predicted,
            meters=meters,
            guards=guards,
            start_step=start,
            end_step=recipe.steps,
            save=saver(engine, recipe, run_dir, model, tokenizer, state, guards),
            validate=lambda: validation(engine, valid),
        )
    meters.close()
    if not is_done:
        tell("ended early, as asked; --resume auto goes on")
    elif is_first:
        print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    engine.destroy()
    shut_down()


def build_model(recipe: TranslationRecipe) -> tuple[Any, VecoForConditionalGeneration]:
    """(tokenizer with the target language's tag, float32 model whose decoder starts with it).

    Raises ValueError when `init_from` is not a VECO with its tokenizer, or the two do not fit.
    """
    directory = Path(recipe.init_from)
    if not (directory / "config.json").is_file() or not (directory / "tokenizer_config.json").is_file():
        raise ValueError(f"init_from {directory}: expected a model directory with config.json and a tokenizer")
    config = AutoConfig.from_pretrained(directory)
    if not isinstance(config, VecoConfig):
        raise ValueError(f"init_from {directory}: expected a veco, found a {config.model_type}")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"init_from {directory}: its tokenizer has {len(tokenizer):,} pieces, the model only {config.vocab_size:,}"
        )
    if recipe.init == "pretrained":
        source = VecoForMaskedLM.from_pretrained(directory, dtype=torch.float32)
    else:
        source = VecoForMaskedLM(config)
    shape = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    model = VecoForConditionalGeneration.from_veco(source, recipe.decoder_layers, recipe.decoder_layers_from, **shape)
    tag = f"__{recipe.target_language}__"
    tokenizer.add_special_tokens({"additional_special_tokens": [tag]}, replace_extra_special_tokens=False)
    if len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    start = tokenizer.convert_tokens_to_ids(tag)
    model.config.decoder_start_token_id = start
    model.generation_config.decoder_start_token_id = start
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return tokenizer, model


def read_bitexts(recipe: TranslationRecipe, tokenizer: Any, model: VecoForConditionalGeneration) -> list[Bitext]:
    """Training and validation pairs as ids. Raises ValueError for files that are no pair."""
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


def fingerprint(bitext: Bitext) -> str:
    """SHA-256 of the ids, hexadecimal: what a resumed run must have in common with the one before."""
    digest = hashlib.sha256()
    for array in (*bitext.source.__dict__.values(), *bitext.target.__dict__.values(), bitext.decoder_start_ids):
        digest.update(array.tobytes())
    return digest.hexdigest()


def introduction(
    recipe: TranslationRecipe,
    model: VecoForConditionalGeneration,
    train: TranslationBatches,
    valid: TranslationBatches,
    start: int,
) -> str:
    """What is going to happen, in one line."""
    return describe_run(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "init": recipe.init,
            "layers": f"{model.config.num_hidden_layers}+{model.config.decoder_layers}",
            "training": f"{train.bitext.report}, {train.padding_share:.1%} padding",
            "validation": str(valid.bitext.report),
            "updates an epoch": max(1, len(train) // (launched_ranks() * recipe.accumulation_steps)),
            "ranks": launched_ranks(),
            "from": start,
        }
    )


def translation_loss(model: nn.Module, batch: Batch, num_items: Tensor, smoothing: float) -> dict[str, Tensor]:
    """The label-smoothed loss of a micro-batch, normalised by the global batch's target tokens."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    logits = model(**inputs, use_cache=False).logits
    loss_sum, _, _ = label_smoothed_cross_entropy(logits, batch["labels"], smoothing)
    return {"smoothed": loss_sum / num_items[0]}


def count_predicted(batch: Batch) -> Tensor:
    """Target tokens (1,) of a micro-batch."""
    return batch["labels"].ne(IGNORE_INDEX).sum().reshape(1)


def validation(engine: Engine, batches: TranslationBatches) -> dict[str, float]:
    """Negative log-likelihood in nats a target token, and perplexity, over the whole validation set."""
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


def saver(
    engine: Engine,
    recipe: TranslationRecipe,
    run_dir: Path,
    model: VecoForConditionalGeneration,
    tokenizer: Any,
    state: Mapping[str, Any],
    guards: Guards,
) -> Callable[[int], None]:
    """A function of the step that writes a checkpoint: what resuming needs, and `model/` as transformers opens it."""

    def add_model(directory: Path) -> None:
        weights = engine.full_state_dict()
        if engine.rank == 0:
            # The tied projection is written under the embedding's name alone.
            weights.pop("lm_head.decoder.weight", None)
            model.save_pretrained(directory / "model", state_dict=weights)
            tokenizer.save_pretrained(directory / "model")
            pieces = Path(recipe.init_from) / SENTENCEPIECE_MODEL
            if pieces.is_file():  # save_pretrained leaves it out
                shutil.copy(pieces, directory / "model" / SENTENCEPIECE_MODEL)

    def save(step: int) -> None:
        save_checkpoint(engine, run_dir, step, recipe, {**state, **guards.state()}, add_model)

    return save
