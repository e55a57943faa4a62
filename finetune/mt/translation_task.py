"""Translation as a task of the shared fine-tuning run: bitext, encoder-decoder, loss, validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from data_tools.shards.manifest import Manifest
from data_tools.text.lines import open_prose
from finetune.encoded_text import tokenizer_encoder
from finetune.finetuning import FinetuningTask
from finetune.mt.bitext import Bitext, digest_of
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import tag_of
from finetune.mt.recipe import Direction, TranslationRecipe, distinct, listed
from finetune.mt.special_tokens import Frame
from finetune.mt.token_batches import RankBatches, TranslationBatches
from finetune.mt.validation import HeldOut, bleu_scores, likelihoods
from finetune.pretrained import VECO, XLM_ROBERTA, is_translation_model, open_pretrained, pretrained_masked_lm
from training.engine.interface import Engine
from training.step import Batch
from training.tokenizer_checks import check_data_pieces
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert.weights import open_strictly
from veco.labels import IGNORED


class TranslationTask(FinetuningTask[TranslationRecipe]):
    """Bitext and an encoder-decoder made of pre-trained layers."""

    def __init__(self, recipe: TranslationRecipe) -> None:
        self.recipe = recipe
        self.tokenizer, self.model = build_model(recipe)
        reader = BitextReader(recipe, self.tokenizer, self.model.config)
        bitext = reader.train()
        self.train = reader.batches(bitext)
        self.held_out = reader.held_out()
        fingerprints = [bitext.fingerprint, *(held.batches.bitext.fingerprint for held in self.held_out.values())]
        self.fingerprint = digest_of(*(fingerprint.encode() for fingerprint in fingerprints))

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
        """`nll` and `perplexity` over all target tokens and, if the recipe asks for it, `bleu`; also per direction."""
        found = likelihoods(engine, self.held_out)
        if self.recipe.bleu_beam:
            options = SearchOptions(beam=self.recipe.bleu_beam)
            found |= bleu_scores(engine, self.model, self.tokenizer, self.held_out, options)
        return found

    def facts(self) -> dict[str, str]:
        """Facts for the line printed at the start of a run."""
        return {
            "layers": f"{self.model.config.num_hidden_layers}+{self.model.config.decoder_layers}",
            "training": f"{self.train.bitext.report}, {self.train.padding_share:.1%} padding",
            **{f"validation {name}": str(held.batches.bitext.report) for name, held in self.held_out.items()},
        }


class BitextReader:
    """A reader of a recipe's bitexts with a model's tokenizer, whose ids must be those of prepared shards."""

    def __init__(self, recipe: TranslationRecipe, tokenizer: PreTrainedTokenizerBase, config: VecoConfig) -> None:
        """Raises ValueError when sentences may exceed the model's maximum length, or shards have other ids."""
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
            parts += [self._from_files(source, target, direction) for source, target, direction in files]
        return joined(parts)

    def held_out(self) -> dict[str, HeldOut]:
        """The validation set of each direction, by its name."""
        directions = distinct(self.recipe.all_directions())
        if not self.recipe.valid_source:
            return {str(direction): self._held_out_of_shards(direction) for direction in directions}
        files = zip(listed(self.recipe.valid_source), listed(self.recipe.valid_target), directions, strict=True)
        return {
            str(direction): self._held_out_of_files(source, target, direction) for source, target, direction in files
        }

    def batches(self, bitext: Bitext) -> TranslationBatches:
        """A bitext in batches of the recipe's size."""
        return TranslationBatches(bitext, self.recipe.max_tokens, self.recipe.seed, self.frame)

    @property
    def _num_bleu_lines(self) -> int | None:
        """First lines of each direction that are translated for BLEU; None means all."""
        if not self.recipe.bleu_beam:
            return 0
        return self.recipe.bleu_lines or None

    def _held_out_of_files(self, source: str, target: str, direction: Direction) -> HeldOut:
        bitext = self._from_files(source, target, direction)
        sources, references = (lines_of(Path(file), self._num_bleu_lines) for file in (source, target))
        return self._held_out(bitext, direction, sources, references)

    def _held_out_of_shards(self, direction: Direction) -> HeldOut:
        """Shards hold no text: it is decoded from their ids, and normalised, so BLEU may differ slightly."""
        bitext = self._from_shards("valid", direction)
        numbers = range(len(bitext))[: self._num_bleu_lines]
        sources, references = (
            [self.tokenizer.decode(side[i]) for i in numbers] for side in (bitext.source, bitext.target)
        )
        return self._held_out(bitext, direction, sources, references)

    def _held_out(self, bitext: Bitext, direction: Direction, sources: list[str], references: list[str]) -> HeldOut:
        return HeldOut(
            batches=self.batches(bitext),
            target_language=direction.target,
            decoder_start_id=self._start_id(direction),
            sources=sources,
            references=references,
        )

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
    """All bitexts as one."""
    return bitexts[0] if len(bitexts) == 1 else Bitext.concatenate(bitexts)


def lines_of(path: Path, count: int | None) -> list[str]:
    """The first `count` lines of a text file; None means all."""
    with open_prose(path) as lines:
        return list(itertools.islice(lines, count))


def build_model(recipe: TranslationRecipe) -> tuple[PreTrainedTokenizerBase, VecoForConditionalGeneration]:
    """(tokenizer with the tags of target languages, float32 model).

    With one target language its tag is the model's `decoder_start_token_id`; with several there is none, and whoever
    translates names the language. A translation model keeps all its weights, those of the decoder too; one converted
    from fairseq also keeps its form of sentences and its start token, and gets no tag. Raises ValueError when
    `init_from` is not a VECO or XLM-R with its tokenizer, the two do not fit, or a translation model has a decoder
    other than the one asked for.
    """
    tokenizer, config = check_model(recipe)
    model = initial_model(recipe, config)
    directions, source_tags = recipe.all_directions(), listed(recipe.source_tags)
    if model.config.has_frame:
        add_tokens(model, tokenizer, source_tags, recipe.init_from)
        model.config.source_language = only(direction.source for direction in directions)
        model.config.target_language = only(direction.target for direction in directions)
    else:
        tags = list(dict.fromkeys(tag_of(tokenizer, direction.target) for direction in directions))
        add_tokens(model, tokenizer, [*tags, *source_tags], recipe.init_from)
        start = tokenizer.convert_tokens_to_ids(tags[0]) if len(tags) == 1 else None
        model.config.decoder_start_token_id = start
        model.generation_config.decoder_start_token_id = start
        model.config.source_language = model.config.target_language = None  # its tags name them
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return tokenizer, model


def initial_model(recipe: TranslationRecipe, config: VecoConfig) -> VecoForConditionalGeneration:
    """The translation model in `init_from`, or one made of the layers that are there; float32, without new tags."""
    dropout = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if is_translation_model(config):
        return open_strictly(VecoForConditionalGeneration, recipe.init_from, dtype=torch.float32, **dropout)
    model = VecoForConditionalGeneration.from_veco(
        initial_weights(recipe, config),
        recipe.decoder_layers,
        recipe.decoder_layers_from,
        tie_self_attention=recipe.tie_self_attention,
        **dropout,
    )
    if recipe.init == "random":  # copies of the encoder's random layers would not be an independent draw
        model.decoder.layers.apply(model._init_weights)
    return model


def add_tokens(
    model: VecoForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, tokens: list[str], init_from: str
) -> None:
    """Add special tokens to a tokenizer, and rows to its model's embeddings where they are missing.

    Raises ValueError for new tokens of a model with two tables of embeddings.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": tokens}, replace_extra_special_tokens=False)
    if len(tokenizer) <= model.config.vocab_size:
        return
    if model.config.separate_decoder_embeddings:
        raise ValueError(
            f"init_from {init_from}: has no {', '.join(tokens)}, and two tables of embeddings to add them to; do "
            "that first: python -m veco.vocabulary extend SRC DST --tokens …"
        )
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def only(languages: Iterable[str]) -> str | None:
    """The language that all of these are, or None if they differ."""
    different = set(languages)
    return different.pop() if len(different) == 1 else None


def check_model(recipe: TranslationRecipe) -> tuple[PreTrainedTokenizerBase, VecoConfig]:
    """(tokenizer, configuration) of `init_from`. Raises ValueError as `build_model` does, without reading weights."""
    directory = Path(recipe.init_from)
    tokenizer, config = open_pretrained(directory, kinds=(VECO, XLM_ROBERTA), takes_translation=True)
    if is_translation_model(config):
        check_same_decoder(recipe, config)
    else:
        check_decoder(recipe, config)
    return tokenizer, config


def check_decoder(recipe: TranslationRecipe, config: VecoConfig) -> None:
    """Raise ValueError when the decoder is to have more layers than the pre-trained model."""
    if recipe.decoder_layers is not None and not 1 <= recipe.decoder_layers <= config.num_hidden_layers:
        raise ValueError(
            f"decoder_layers {recipe.decoder_layers} must lie between 1 and the {config.num_hidden_layers} of "
            f"{recipe.init_from}"
        )


def check_same_decoder(recipe: TranslationRecipe, config: VecoConfig) -> None:
    """Raise ValueError when a recipe asks for weights or a decoder that differ from a translation model's."""
    if config.has_frame and (config.decoder_start_token_id is None or not recipe.is_one_target()):
        raise ValueError(
            f"init_from {recipe.init_from}: a model converted from fairseq keeps its own start token: expected one "
            f"target language and decoder_start_token_id in its config.json, found directions {recipe.directions} and "
            f"{config.decoder_start_token_id}"
        )
    wanted = {  # field -> (the model's value, the recipe's)
        "init": ("pretrained", recipe.init),
        "cross_attention": ("pretrained", recipe.cross_attention),
        "decoder_layers": (config.decoder_layers, recipe.decoder_layers or config.decoder_layers),
        "tie_self_attention": (config.tie_self_attention, recipe.tie_self_attention),
    }
    if wrong := [f"{name} {asked} must be {own}" for name, (own, asked) in wanted.items() if own != asked]:
        raise ValueError(f"init_from {recipe.init_from}: a translation model keeps its decoder: {', '.join(wrong)}")


def initial_weights(recipe: TranslationRecipe, config: VecoConfig) -> VecoForMaskedLM:
    """The layers that encoder and decoder are built from, as `init` and `cross_attention` say; float32.

    `cross_attention` "random" is how XLM and XLM-R initialise a translation model, "leaving the encoder-to-decoder
    attention un-initialized" (VECO, ACL 2021, section 6.1), with all else pre-trained.
    """
    if recipe.init == "random":
        return VecoForMaskedLM(config)
    draws_cross_attention = recipe.cross_attention == "random"
    pretrained = pretrained_masked_lm(Path(recipe.init_from), needs_cross_attention=not draws_cross_attention)
    if draws_cross_attention:
        random = VecoForMaskedLM(pretrained.config).state_dict()
        cross_attention = {name: weight for name, weight in random.items() if ".cross_attention" in name}
        pretrained.load_state_dict(cross_attention, strict=False)
    return pretrained
