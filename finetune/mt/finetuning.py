"""Translation as a task of the shared fine-tuning loop: bitext, encoder-decoder, loss, validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from data_tools.shards.manifest import Manifest
from data_tools.text.lines import open_prose
from finetune.finetuning import FinetuningTask
from finetune.flat_ids import tokenizer_encoder
from finetune.mt.bitext import Bitext, digest_of
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import tag_of
from finetune.mt.frame import Frame
from finetune.mt.recipe import Direction, TranslationRecipe, distinct, listed
from finetune.mt.token_batches import RankBatches, TranslationBatches
from finetune.mt.validation import HeldOut, bleu_scores, likelihoods
from finetune.pretrained import VECO, XLM_ROBERTA, is_translation_model, open_pretrained, pretrained_masked_lm
from training.engine.interface import Engine
from training.step import Batch
from training.vocabularies import check_data_pieces
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.heads import IGNORED


class TranslationTask(FinetuningTask[TranslationRecipe]):
    """Bitext and an encoder-decoder made of pre-trained layers."""

    def __init__(self, recipe: TranslationRecipe) -> None:
        self.recipe = recipe
        self.tokenizer, self.model = build_model(recipe)
        reader = BitextReader(recipe, self.tokenizer, self.model.config)
        bitext = reader.train()
        self.train = reader.batches(bitext)
        self.held_out = reader.held_out()
        held_out = (held.batches.bitext.fingerprint for held in self.held_out.values())
        self.fingerprint = digest_of(*(one.encode() for one in (bitext.fingerprint, *held_out)))

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch, over all ranks."""
        return len(self.train)

    def batches(self, rank: int, world_size: int) -> Dataset:
        """Micro-batch m of a rank, for every m >= 0."""
        return RankBatches(self.train, rank, world_size)

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The label-smoothed loss of a micro-batch, normalised by the global batch's target tokens."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids", "labels")}
        loss_sum = model(**inputs, use_cache=False, label_smoothing=self.recipe.label_smoothing).loss
        return {"smoothed": loss_sum / num_items[0]}

    def count_items(self, batch: Batch) -> Tensor:
        """Target tokens (1,) of a micro-batch."""
        return batch["labels"].ne(IGNORED).sum().reshape(1)

    def validate(self, engine: Engine) -> dict[str, float]:
        """`nll` and `perplexity` of all target tokens and, if the recipe asks for it, `bleu`; and by direction."""
        found = likelihoods(engine, self.held_out)
        if self.recipe.bleu_beam:
            options = SearchOptions(beam=self.recipe.bleu_beam)
            found |= bleu_scores(engine, self.model, self.tokenizer, self.held_out, options)
        return found

    def facts(self) -> dict[str, Any]:
        """What the line at the start of a run says."""
        return {
            "layers": f"{self.model.config.num_hidden_layers}+{self.model.config.decoder_layers}",
            "training": f"{self.train.bitext.report}, {self.train.padding_share:.1%} padding",
            **{f"validation {name}": str(held.batches.bitext.report) for name, held in self.held_out.items()},
        }


class BitextReader:
    """Reads the bitexts of a recipe with a model's tokenizer, whose ids must be those of prepared shards."""

    def __init__(self, recipe: TranslationRecipe, tokenizer: Any, config: VecoConfig) -> None:
        """Raises ValueError when sentences may be longer than the model takes, or shards have other ids."""
        self.recipe, self.tokenizer = recipe, tokenizer
        if recipe.max_length > config.max_tokens:
            raise ValueError(f"max_length {recipe.max_length} exceeds the {config.max_tokens} tokens the model takes")
        if recipe.data:
            data_dir = Path(recipe.data)
            check_data_pieces(data_dir, Manifest.load(data_dir), tokenizer, recipe.init_from)
        self.encode = tokenizer_encoder(tokenizer)
        self.frame = Frame.of(config, tokenizer)
        self.start = config.decoder_start_token_id if config.has_frame else None

    def train(self) -> Bitext:
        """The training pairs of all directions, from shards, files, or both."""
        directions, parts = self.recipe.all_directions(), []
        if self.recipe.data:
            parts += [self._from_shards("train", direction) for direction in distinct(directions)]
        if self.recipe.train_source:
            files = zip(listed(self.recipe.train_source), listed(self.recipe.train_target), directions, strict=True)
            parts += [self._from_files(*one) for one in files]
        return joined(parts)

    def held_out(self) -> dict[str, HeldOut]:
        """The validation set of each direction, by its name."""
        directions = distinct(self.recipe.all_directions())
        num_lines = (self.recipe.bleu_lines or None) if self.recipe.bleu_beam else 0
        found = {}
        if self.recipe.valid_source:
            files = zip(listed(self.recipe.valid_source), listed(self.recipe.valid_target), directions, strict=True)
            for source, target, direction in files:
                bitext = self._from_files(source, target, direction)
                texts = [lines_of(Path(file), num_lines) for file in (source, target)]
                found[str(direction)] = self._held_out(bitext, direction, *texts)
            return found
        for direction in directions:
            bitext = self._from_shards("valid", direction)
            # Shards hold no text. What their ids say is normalised text, so BLEU on it may differ by a little.
            numbers = range(len(bitext))[:num_lines]
            texts = [[self.tokenizer.decode(side[i]) for i in numbers] for side in (bitext.source, bitext.target)]
            found[str(direction)] = self._held_out(bitext, direction, *texts)
        return found

    def batches(self, bitext: Bitext) -> TranslationBatches:
        """A bitext in batches of the recipe's size."""
        return TranslationBatches(bitext, self.recipe.max_tokens, self.recipe.seed, self.frame)

    def _held_out(self, bitext: Bitext, direction: Direction, sources: list[str], references: list[str]) -> HeldOut:
        return HeldOut(self.batches(bitext), direction.target, self._start_id(direction), sources, references)

    def _start_id(self, direction: Direction) -> int:
        if self.start is not None:
            return self.start
        return int(self.tokenizer.convert_tokens_to_ids(tag_of(self.tokenizer, direction.target)))

    def _from_files(self, source: str, target: str, direction: Direction) -> Bitext:
        return Bitext.from_files(
            source,
            target,
            self.encode,
            decoder_start_token_id=self._start_id(direction),
            max_length=self.recipe.max_length,
            frame=self.frame,
            source_tags={tag: self.tokenizer.convert_tokens_to_ids(tag) for tag in listed(self.recipe.source_tags)},
        )

    def _from_shards(self, split: str, direction: Direction) -> Bitext:
        return Bitext.from_shards(
            Path(self.recipe.data),
            split,
            direction.source,
            direction.target,
            decoder_start_token_id=self._start_id(direction),
            max_length=self.recipe.max_length,
            frame=self.frame,
        )


def joined(bitexts: list[Bitext]) -> Bitext:
    """One bitext of all."""
    return bitexts[0] if len(bitexts) == 1 else Bitext.concatenate(bitexts)


def lines_of(path: Path, count: int | None) -> list[str]:
    """The first `count` lines of a text file, None meaning all."""
    with open_prose(path) as lines:
        return [line for line, _ in zip(lines, range(count), strict=False)] if count is not None else list(lines)


def build_model(recipe: TranslationRecipe) -> tuple[Any, VecoForConditionalGeneration]:
    """(tokenizer with the tags of target languages, float32 model).

    With one target language its tag is the model's `decoder_start_token_id`; with several there is none, and whoever
    translates says which. A translation model goes on as it is, decoder and all; one converted from fairseq keeps its
    form of sentences and its start token, too, and gets no tag. Raises ValueError when `init_from` is no VECO or XLM-R
    with its tokenizer, the two do not fit, or a translation model has another decoder than asked for.
    """
    directory = Path(recipe.init_from)
    tokenizer, config = check_model(recipe)
    dropout = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if is_translation_model(config):
        model = VecoForConditionalGeneration.from_pretrained(directory, dtype=torch.float32, **dropout)
    else:
        model = VecoForConditionalGeneration.from_veco(
            initial_weights(recipe, config),
            recipe.decoder_layers,
            recipe.decoder_layers_from,
            tie_self_attention=recipe.tie_self_attention,
            **dropout,
        )
        if recipe.init == "random":  # copies of the encoder's random layers would be no independent draw
            model.decoder.layers.apply(model._init_weights)
    is_converted = model.config.has_frame
    targets = [] if is_converted else [direction.target for direction in recipe.all_directions()]
    tags = list(dict.fromkeys(tag_of(tokenizer, target) for target in targets))
    added = [*tags, *listed(recipe.source_tags)]
    tokenizer.add_special_tokens({"additional_special_tokens": added}, replace_extra_special_tokens=False)
    if len(tokenizer) > config.vocab_size:
        if model.config.separate_decoder_embeddings:
            raise ValueError(
                f"init_from {directory}: has no {', '.join(added)}, and two tables of embeddings to add them to; do "
                "that first: python -m veco.vocabulary extend SRC DST --tokens …"
            )
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if not is_converted:
        start = tokenizer.convert_tokens_to_ids(tags[0]) if len(tags) == 1 else None
        model.config.decoder_start_token_id = start
        model.generation_config.decoder_start_token_id = start
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return tokenizer, model


def check_model(recipe: TranslationRecipe) -> tuple[Any, VecoConfig]:
    """(tokenizer, configuration) of `init_from`. Raises ValueError as `build_model` does, without reading weights."""
    directory = Path(recipe.init_from)
    tokenizer, config = open_pretrained(directory, kinds=(VECO, XLM_ROBERTA), takes_translation=True)
    (check_same_decoder if is_translation_model(config) else check_decoder)(recipe, config)
    return tokenizer, config


def check_decoder(recipe: TranslationRecipe, config: VecoConfig) -> None:
    """Raise ValueError when a pre-trained model has not as many layers as the decoder is to have."""
    if recipe.decoder_layers is not None and not 1 <= recipe.decoder_layers <= config.num_hidden_layers:
        raise ValueError(
            f"decoder_layers {recipe.decoder_layers} must lie between 1 and the {config.num_hidden_layers} of "
            f"{recipe.init_from}"
        )


def check_same_decoder(recipe: TranslationRecipe, config: VecoConfig) -> None:
    """Raise ValueError when a recipe asks for other weights or another decoder than a translation model has."""
    wanted = {
        "init": ("pretrained", recipe.init),
        "cross_attention": ("pretrained", recipe.cross_attention),
        "decoder_layers": (config.decoder_layers, recipe.decoder_layers or config.decoder_layers),
        "tie_self_attention": (config.tie_self_attention, recipe.tie_self_attention),
    }
    if config.has_frame and (config.decoder_start_token_id is None or not recipe.is_one_target()):
        raise ValueError(
            f"init_from {recipe.init_from}: a model converted from fairseq, which goes on with its own start token: "
            f"expected one target language and decoder_start_token_id in its config.json, found directions "
            f"{recipe.directions} and {config.decoder_start_token_id}"
        )
    if wrong := [f"{name} {asked} must be {own}" for name, (own, asked) in wanted.items() if own != asked]:
        raise ValueError(
            f"init_from {recipe.init_from}: a translation model, which goes on as it is: {', '.join(wrong)}"
        )


def initial_weights(recipe: TranslationRecipe, config: VecoConfig) -> VecoForMaskedLM:
    """The layers that encoder and decoder are made of, as `init` and `cross_attention` say; float32.

    `cross_attention` "random" is how XLM and XLM-R start a translation model, "leaving the encoder-to-decoder attention
    un-initialized" (VECO, ACL 2021, section 6.1), while all else is pre-trained.
    """
    if recipe.init == "random":
        return VecoForMaskedLM(config)
    pretrained = pretrained_masked_lm(Path(recipe.init_from))
    if recipe.cross_attention == "random":
        fresh = VecoForMaskedLM(pretrained.config).state_dict()
        drawn = {name: weight for name, weight in fresh.items() if ".cross_attention" in name}
        pretrained.load_state_dict(drawn, strict=False)
    return pretrained
