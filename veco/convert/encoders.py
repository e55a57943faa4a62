"""Conversion of encoders of BERT's family in transformers to VECO and back. Plugged out, both compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from veco.adapters.attach import adapter_of, check_without_adapters
from veco.config import SPECIAL_IDS, VecoConfig, position_of_padding
from veco.convert.families import FAMILIES, Family, family_of, named, of_modules
from veco.convert.weights import Conversion, check_complete, compared, fill, listed, open_strictly
from veco.masked_lm import VecoForMaskedLM
from veco.opening import open_config
from veco.pretraining import VecoForPreTraining
from veco.tokenizer import ends_of

# Fields of VecoConfig that mean the same in all families; some have another name there.
SHARED_CONFIG_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    *SPECIAL_IDS,
)
# theta_c, which no other encoder has.
PLUG_IN_MODULES = (
    "cross_attention.q_proj",
    "cross_attention.k_proj",
    "cross_attention.v_proj",
    "cross_attention.out_proj",
    "cross_attention_norm",
)
OUR_POSITIONS = "veco.embeddings.position_embeddings.weight"
CROSS_ATTENTION, LM_HEAD = ".cross_attention", "lm_head."
VECO_SECOND_NAMES = {"lm_head.decoder.weight": "veco.embeddings.word_embeddings.weight"}


@dataclass(frozen=True)
class Checkpoint:
    """The weights of an encoder by their names in a model with a head, whether or not it has one.

    `dropped` says what else there was, such as a pooler.
    """

    weights: dict[str, Tensor]
    has_head: bool
    dropped: list[str]


def veco_config(config: PreTrainedConfig, token_ids: Mapping[str, int] | None = None) -> VecoConfig:
    """Configuration of the VECO that an encoder is converted to.

    `token_ids` replace its `pad_token_id`, `bos_token_id` and `eos_token_id`. Raises ValueError for models of other
    kinds, decoders, and ids of padding that do not fit the positions.
    """
    family = family_of(config.model_type)
    theirs = config.to_dict()
    if theirs.get("is_decoder"):
        raise ValueError(f"expected a bidirectional {config.model_type}, found one with is_decoder set")
    position_type = theirs.get("position_embedding_type") or "absolute"
    if position_type != "absolute":
        raise ValueError(
            f"expected position_embedding_type absolute, found {position_type}: attention that depends on relative "
            "positions, which VECO does not have"
        )
    fields = {name: theirs[family.field_name(name)] for name in SHARED_CONFIG_FIELDS} | dict(token_ids or {})
    pad = fields["pad_token_id"]
    if family.positions_skip_padding and pad != theirs["pad_token_id"]:
        raise ValueError(
            f"the model finds positions by {theirs['pad_token_id']}, the id of its padding, its tokenizer pads with "
            f"{pad}: they are not of one model"
        )
    num_positions = theirs["max_position_embeddings"]
    return VecoConfig(
        **fields,
        max_position_embeddings=num_positions + (0 if family.positions_skip_padding else position_of_padding(pad) + 1),
        layer_norm_eps=family.layer_norm_eps or theirs["layer_norm_eps"],
        lm_head_act=family.head.activation or fields["hidden_act"],
    )


def token_ids_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """SPECIAL_IDS of VecoConfig, those that a tokenizer has."""
    ids = zip(SPECIAL_IDS, (tokenizer.pad_token_id, *ends_of(tokenizer)), strict=True)
    return {name: id_ for name, id_ in ids if id_ is not None}


def from_encoder(
    model_or_dir: PreTrainedModel | str | Path,
    model_type: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    draw_head: bool = False,
) -> VecoForMaskedLM:
    """VECO that equals the given encoder plugged out, in float32; its cross-attention is initialised at random.

    `model_or_dir` is a model of transformers with a masked-LM head, of one of FAMILIES, a directory with one, or its
    name on the Hub. With `model_type` it must be of that one. With `draw_head` it may lack the head, which is then
    initialised at random. The ids of padding and of the ends of a row are those of `tokenizer`, if one is given: BERT's
    configuration does not have all of them.

    Token type 0, which these models add to every token, is added to the position embeddings; others are dropped, like
    pooler and next-sentence head. Places that BERT counts from 0 become positions behind that of padding. Left of the
    text, padding would shift BERT's positions, but not VECO's.

    Raises ValueError for other models, such as pre-LayerNorm ones (see `family_of`), decoders, an untied head, weights
    missing or left over, and a tokenizer that pads with another id than the model.
    """
    return convert_encoder(model_or_dir, model_type, tokenizer, draw_head).model


def convert_encoder(
    model_or_dir: PreTrainedModel | str | Path,
    model_type: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
    draw_head: bool,
) -> Conversion[VecoForMaskedLM]:
    """The result of `from_encoder`, with notes."""
    is_directory = isinstance(model_or_dir, str | Path)
    theirs = config_in_directory(model_or_dir) if is_directory else config_of_model(model_or_dir, model_type)
    family = family_of(theirs.model_type, model_type)
    config = veco_config(theirs, None if tokenizer is None else token_ids_of(tokenizer))
    open_checkpoint = checkpoint_in_directory if is_directory else checkpoint_of_model
    checkpoint = open_checkpoint(model_or_dir, family, draw_head)

    left = without_duplicates(checkpoint.weights, family.second_names)
    names = family.body_names(config.num_hidden_layers) | (family.head_names() if checkpoint.has_head else {})
    weights: dict[str, Tensor] = {}
    for our_name, their_name in names.items():
        if their_name not in left:
            raise ValueError(f"{family.model_type} checkpoint lacks {their_name}")
        weights[our_name] = left.pop(their_name)
    token_types = left.pop(family.token_types) if family.num_token_types else None
    weights[OUR_POSITIONS] = our_positions(weights[OUR_POSITIONS], token_types, config)
    if left:
        raise ValueError(f"{family.model_type} checkpoint has weights that VECO does not have: {listed(left)}")

    model = VecoForMaskedLM(config)
    fill(model, weights, fresh=(CROSS_ATTENTION,) if checkpoint.has_head else (CROSS_ATTENTION, LM_HEAD))
    notes = notes_on(checkpoint, family, 0 if token_types is None else len(token_types))
    return Conversion(model, [*notes, *notes_on_ids(config, theirs)])


def our_positions(positions: Tensor, token_types: Tensor | None, config: VecoConfig) -> Tensor:
    """VECO's position embeddings, float32: the first token type is added, rows that no token has are put in front."""
    # In float32: their sum would be rounded in a model of half precision.
    rows = positions.float() if token_types is None else positions.float() + token_types[0].float()
    return torch.cat([rows.new_zeros(config.max_position_embeddings - len(rows), rows.shape[1]), rows])


def notes_on(checkpoint: Checkpoint, family: Family, num_token_types: int) -> list[str]:
    """What is new and what was dropped, one line each."""
    notes = [f"{named(family.model_type)} has no cross-attention: it is initialised at random"]
    if not checkpoint.has_head:
        notes.append("the checkpoint has no masked-LM head: it is initialised at random, too")
    if checkpoint.dropped:
        notes.append(f"dropped: {', '.join(checkpoint.dropped)}")
    if num_token_types > 1:
        notes.append(
            f"of {num_token_types} token types the first was added to the positions, the others were dropped: texts of "
            "a pair differ by the separator between them alone"
        )
    return notes


def notes_on_ids(config: VecoConfig, theirs: PreTrainedConfig) -> list[str]:
    """The token ids that the encoder's configuration lacks, or has otherwise."""
    ours, before = vars(config), theirs.to_dict()
    changed = [f"{name} {ours[name]}" for name in SPECIAL_IDS if ours[name] != before[name]]
    return [f"from the tokenizer: {', '.join(changed)}"] if changed else []


def config_in_directory(directory: str | Path) -> PreTrainedConfig:
    """The configuration in a directory or on the Hub."""
    if Path(directory).is_dir() and not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    return open_config(directory)


def config_of_model(model: PreTrainedModel, model_type: str | None) -> PreTrainedConfig:
    """The configuration of a model; ValueError for what is no model of transformers."""
    if not isinstance(model, PreTrainedModel):
        expected = FAMILIES[model_type].masked_lm.__name__ if model_type else "PreTrainedModel"
        raise ValueError(f"expected {named(expected)} or its directory, found {type(model).__name__}")
    return model.config


def checkpoint_in_directory(directory: str | Path, family: Family, may_lack_head: bool) -> Checkpoint:
    """The encoder in a directory or on the Hub. Raises ValueError for missing weights and for others."""
    model, missing, others = compared(family.masked_lm, directory)
    head = set(family.head_names().values())
    has_head = not (may_lack_head and head <= missing <= head | family.second_names.keys())
    unused = family.unused(others)
    check_complete(family.masked_lm, directory, missing if has_head else set(), others - unused.keys())
    weights = model.state_dict()
    if not has_head:
        weights = {name: weight for name, weight in weights.items() if name.startswith(family.prefix)}
    return Checkpoint(weights, has_head, sorted({*unused.values()}))


def checkpoint_of_model(model: PreTrainedModel, family: Family, may_lack_head: bool) -> Checkpoint:
    """The encoder that a model is; ValueError for other models."""
    if isinstance(model, family.masked_lm):
        return Checkpoint(model.state_dict(), True, [])
    if not (may_lack_head and isinstance(model, family.encoder)):
        expected = named(family.masked_lm.__name__)
        raise ValueError(f"expected {expected} or its directory, found {type(model).__name__}")
    weights = model.state_dict()
    unused = family.unused(weights)
    prefixed = {f"{family.prefix}{name}": weight for name, weight in weights.items() if name not in unused}
    return Checkpoint(prefixed, False, sorted({*unused.values()}))


def encoder_config(config: VecoConfig, family: Family) -> PreTrainedConfig:
    """Configuration of the encoder that a VECO is converted to. Raises ValueError for what it cannot express."""
    check_without_adapters(config, named(family.model_type))
    expected = {
        "scale_embedding": False,
        "lm_head_transform": True,
        "lm_head_act": family.head.activation or config.hidden_act,
        "layer_norm_eps": family.layer_norm_eps or config.layer_norm_eps,
    }
    ours = vars(config)
    if wrong := [name for name, value in expected.items() if ours[name] != value]:
        raise ValueError(
            f"{named(family.model_type)} cannot express {' and '.join(f'{name} {ours[name]}' for name in wrong)}; "
            f"expected {' and '.join(str(expected[name]) for name in wrong)}"
        )
    if family.positions_skip_padding and config.pad_token_id is None:
        raise ValueError(f"{named(family.model_type)} finds positions by pad_token_id, which is not set")
    if family.positions_skip_padding and config.padding_position not in (None, config.pad_token_id):
        raise ValueError(
            f"{named(family.model_type)} finds positions by pad_token_id {config.pad_token_id}, but the model's begin "
            f"behind padding_position {config.padding_position}"
        )
    fields = {family.field_name(name): ours[name] for name in SHARED_CONFIG_FIELDS}
    if family.layer_norm_eps is None:
        fields["layer_norm_eps"] = config.layer_norm_eps
    if family.num_token_types:
        fields["type_vocab_size"] = family.num_token_types
    num_positions = config.max_position_embeddings if family.positions_skip_padding else config.max_tokens
    return family.masked_lm.config_class(**fields, max_position_embeddings=num_positions)


def to_encoder(veco_model: VecoForMaskedLM | VecoForPreTraining | str | Path, model_type: str) -> PreTrainedModel:
    """The encoder of transformers that equals the given VECO plugged out: the same states, logits and gradients.

    `veco_model` is a VECO with the masked-LM head, or a directory with one; `model_type` is one of FAMILIES. The
    weights of `plug_in_names` are dropped; token types, which VECO does not have, are zero. Raises ValueError for other
    models, for what the encoder cannot express (see `encoder_config`), an untied head, and weights missing or left
    over.
    """
    source = open_strictly(VecoForMaskedLM, veco_model) if isinstance(veco_model, str | Path) else veco_model
    if not isinstance(source, VecoForMaskedLM | VecoForPreTraining):
        expected = "a VecoForMaskedLM, a VecoForPreTraining or a directory"
        raise ValueError(f"expected {expected}, found {type(source).__name__}")
    config, family = source.config, family_of(model_type)
    model = family.masked_lm(encoder_config(config, family)).to(source.dtype)
    ours = without_duplicates(source.state_dict(), VECO_SECOND_NAMES)
    for name in (*plug_in_names(config.num_hidden_layers), *filter(adapter_of, [*ours])):
        del ours[name]  # what adapters there are does not work
    names = family.weight_names(config.num_hidden_layers)
    weights = {their_name: ours.pop(our_name) for our_name, their_name in names.items()}
    if ours:
        raise ValueError(f"VECO has weights that {named(family.model_type)} does not have: {listed(ours)}")

    if not family.positions_skip_padding:
        weights[family.positions] = weights[family.positions][config.pad_position + 1 :]
    if family.num_token_types:
        weights[family.token_types] = torch.zeros(family.num_token_types, config.hidden_size, dtype=source.dtype)
    if family.head.second_bias is not None:
        weights[family.head.second_bias] = weights[family.head.output_bias]
    fill(model, weights)
    return model


def plug_in_names(num_layers: int) -> list[str]:
    """Names of VECO's parameters that only path S uses, in all layers."""
    return [f"veco.layers.{i}.{name}" for i in range(num_layers) for name in of_modules(PLUG_IN_MODULES)]


def without_duplicates(weights: dict[str, Tensor], duplicates: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights without second names; ValueError if one differs from the first."""
    for second, first in duplicates.items():
        if second in weights and first in weights and not torch.equal(weights[second], weights[first]):
            raise ValueError(f"{second} differs from {first}: VECO ties the two")
    return {name: weight for name, weight in weights.items() if name not in duplicates}
