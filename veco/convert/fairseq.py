"""Conversion of published fairseq checkpoints, `model.pt` of VECO and of XLM-R, to VECO models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from veco.config import FRAMES, VecoConfig
from veco.convert.fairseq_file import read_checkpoint
from veco.convert.fairseq_settings import check_settings
from veco.convert.weights import Conversion, fill, listed
from veco.masked_lm import VecoForMaskedLM
from veco.seq2seq import VecoForConditionalGeneration
from veco.vocabulary_loss import NEVER

# VECO's module -> fairseq's; each has a weight and a bias.
SHARED_MODULES = {
    "self_attention.q_proj": "self_attn.q_proj",
    "self_attention.k_proj": "self_attn.k_proj",
    "self_attention.v_proj": "self_attn.v_proj",
    "self_attention.out_proj": "self_attn.out_proj",
    "self_attention_norm": "self_attn_layer_norm",
    "feed_forward.up_proj": "fc1",
    "feed_forward.down_proj": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
CROSS_MODULES = {
    "cross_attention.q_proj": "encoder_attn.q_proj",
    "cross_attention.k_proj": "encoder_attn.k_proj",
    "cross_attention.v_proj": "encoder_attn.v_proj",
    "cross_attention.out_proj": "encoder_attn.out_proj",
    "cross_attention_norm": "encoder_attn_layer_norm",
}
EMBEDDING_WEIGHTS = {
    "embeddings.position_embeddings.weight": "embed_positions.weight",
    "embeddings.norm.weight": "layernorm_embedding.weight",
    "embeddings.norm.bias": "layernorm_embedding.bias",
}
HEAD_WEIGHTS = {
    "lm_head.dense.weight": "lm_head.dense.weight",
    "lm_head.dense.bias": "lm_head.dense.bias",
    "lm_head.norm.weight": "lm_head.layer_norm.weight",
    "lm_head.norm.bias": "lm_head.layer_norm.bias",
    "lm_head.decoder.bias": "lm_head.bias",
}
TOKENS = "encoder.embed_tokens.weight"
# Second names of the token embeddings, which encoder, decoder and output projection share in VECO.
TOKEN_COPIES = (
    "decoder.embed_tokens.weight",
    "decoder.output_projection.weight",
    "encoder.output_projection.weight",
    "lm_head.weight",
)
NO_WEIGHTS = ("encoder.version", "decoder.version")  # version numbers of fairseq's modules
OLDER_NAMES = (
    (r"^(encoder|decoder)\.sentence_encoder\.", "encoder."),
    (r"^(encoder|decoder)\.lm_head\.", "lm_head."),
    (r"\.emb_layer_norm\.", ".layernorm_embedding."),
)
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_accurate": "gelu_new", "gelu_fast": "gelu_new"}

# fairseq's ids: <s> 0, <pad> 1, </s> 2, <unk> 3, then the lines of dict.txt.
EOS_ID, UNK_ID, FIRST_PIECE_ID = 2, 3, 4
NO_CROSS_ATTENTION = "XLM-R has no cross-attention: it is initialised at random"
PLAIN_TASK = "translation"
TAGGED_TASKS = ("translation_from_pretrained_veco", "translation_from_pretrained_bart")
# Copies that an encoder layer of fairseq 0.12 has beside its modules for a faster forward pass, made when it was built
# and never updated.
STALE_COPIES = re.compile(r"\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)")


class Weights:
    """fairseq's weights under its newest names, each to be used once. Errors name the file and the weight."""

    def __init__(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        self.path = path
        self.weights = newest_names(weights)
        for name in NO_WEIGHTS:
            self.weights.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self.weights

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.weights:
            raise ValueError(f"{self.path}: lacks {name}")
        return self.weights[name]

    def num_layers(self, part: str) -> int:
        """Number of layers of `part`, encoder or decoder."""
        found = (re.match(rf"{part}\.layers\.(\d+)\.", name) for name in self.weights)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    def are_copies(self, first_names: Mapping[str, str]) -> bool:
        """Whether each weight named by a key equals the one named by its value, bit by bit."""
        return all(torch.equal(self[name], self[first]) for name, first in first_names.items())

    def drop(self, names: Mapping[str, str]) -> None:
        """Drop the weights named by the keys."""
        for name in names:
            del self.weights[name]

    def take(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        """All weights, in float32: those named by the values, under the names of the keys.

        Raises ValueError for weights that are missing or left over.
        """
        taken = {ours: self[theirs].float() for ours, theirs in names.items()}
        if left := self.weights.keys() - set(names.values()):
            raise ValueError(f"{self.path}: has weights that VECO does not have: {listed(left)}")
        return taken


def from_fairseq(
    path: str | Path, dictionary: str | Path | None = None, settings: Mapping[str, Any] | None = None
) -> VecoForMaskedLM | VecoForConditionalGeneration:
    """The model in a fairseq checkpoint of VECO or XLM-R, in float32; no code in the file is run (see `checkpoint`).

    - XLM-R becomes a `VecoForMaskedLM` whose cross-attention is initialised at random.
    - VECO's encoder and decoder, as long as they share their weights, are the paths H and S of one `VecoForMaskedLM`.
      fairseq's translation models have no head: the output projection follows the last layer (`lm_head_transform` is
      false, and the logits are fairseq's).
    - After fine-tuning they differ, or the decoder has fewer layers: the result is a `VecoForConditionalGeneration`,
      whose configuration has the ids around sentences. fairseq's translation models read `x </s>`; their decoder starts
      and ends with `</s>`. Fine-tuned as published, VECO reads `x </s> [en]`, starts with the tag `[de]` of the target
      language and ends with `</s> [de]`; fairseq uses `<unk>` for tags that are not in the dictionary. All of that
      stays unset if it needs a dictionary and none is given.

    `dictionary` is fairseq's dict.txt. It checks the number of rows, and `<mask>`, which fine-tuned translation models
    lack, gets a last row: the mean of all others, with a bias that makes its probability 0. `settings` add to the
    file's, or replace them, under fairseq's names (`encoder_attention_heads`, `activation_fn`, `no_scale_embedding`);
    only a bare state dict needs them.

    Raises ValueError for files that are no such checkpoint or name foreign classes, pre-LayerNorm models, sinusoidal
    positions, untied embeddings, settings that are missing, unknown or of another type, and weights missing or left
    over.
    """
    return convert(Path(path), None if dictionary is None else Path(dictionary), settings or {}).model


def convert(
    path: Path, dictionary: Path | None, settings: Mapping[str, Any]
) -> Conversion[VecoForMaskedLM] | Conversion[VecoForConditionalGeneration]:
    """The result of `from_fairseq`, with notes."""
    check_settings(settings)
    checkpoint = read_checkpoint(path)
    weights = Weights(path, checkpoint.weights)
    refuse_other_architectures(weights)
    num_layers, num_decoder_layers = weights.num_layers("encoder"), weights.num_layers("decoder")
    # fairseq's XLM-R never scales its embeddings; its translation models have a setting for it.
    defaults = {} if num_decoder_layers else {"no_scale_embedding": True}
    known = {**defaults, **checkpoint.settings, **settings}
    fields = config_fields(weights, known)
    # Imported here: `import veco` alone loads the model and nothing else.
    from data_tools.tokenizers.dictionary import read_dictionary

    pieces = None if dictionary is None else read_dictionary(dictionary)
    lacks_mask = pieces is not None and rows_lack_mask(pieces, fields["vocab_size"], path)
    notes = ["<mask> had no row: it got the mean of all rows, and probability 0"] if lacks_mask else []
    fields["vocab_size"] += lacks_mask

    drop_token_copies(weights)
    names = body_names("veco", "encoder", num_layers)
    names["veco.embeddings.word_embeddings.weight"] = TOKENS
    if fields["lm_head_transform"]:
        names |= HEAD_WEIGHTS
    copies = encoder_names_of(body_names("decoder", "decoder", num_decoder_layers)) if num_decoder_layers else {}
    if num_decoder_layers in (0, num_layers) and weights.are_copies(copies):
        weights.drop(copies)
        names |= layer_names("veco", "decoder", num_decoder_layers, CROSS_MODULES)
    else:
        names |= layer_names("decoder", "decoder", num_decoder_layers, SHARED_MODULES | CROSS_MODULES)
        embedding_copies = encoder_names_of(embedding_names("decoder", "decoder"))
        fields["separate_decoder_embeddings"] = not weights.are_copies(embedding_copies)
        if fields["separate_decoder_embeddings"]:
            names |= embedding_names("decoder", "decoder")
        else:
            weights.drop(embedding_copies)
        fields["decoder_layers"] = num_decoder_layers
        form = form_of_sentences(known, pieces, path)
        fields |= form
        notes += [] if form else [unknown_form(known, pieces)]

    taken = weights.take(names)
    if not fields["lm_head_transform"]:
        taken["lm_head.decoder.bias"] = torch.zeros(len(taken["veco.embeddings.word_embeddings.weight"]))
    if lacks_mask:
        tokens, bias = taken["veco.embeddings.word_embeddings.weight"], taken["lm_head.decoder.bias"]
        taken["veco.embeddings.word_embeddings.weight"] = torch.cat([tokens, tokens.mean(dim=0, keepdim=True)])
        taken["lm_head.decoder.bias"] = torch.cat([bias, torch.tensor([NEVER])])
    model_class = VecoForConditionalGeneration if "decoder_layers" in fields else VecoForMaskedLM
    model = model_class(VecoConfig(**fields))
    if num_decoder_layers:
        fill(model, taken)
    else:
        fill(model, taken, fresh=(".cross_attention",))
        notes.append(NO_CROSS_ATTENTION)
    return Conversion(model, notes)


def newest_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of fairseq 0.12, XLM-R's body under those of an encoder, without `STALE_COPIES`.

    Older versions had one matrix for the three projections of attention, and called XLM-R's encoder a decoder.
    """
    newest: dict[str, Tensor] = {}
    for name, weight in weights.items():
        for pattern, replacement in OLDER_NAMES:
            name = re.sub(pattern, replacement, name)
        if STALE_COPIES.search(name):
            continue
        before, joined, kind = name.partition(".in_proj_")
        if joined:
            parts = zip("qkv", weight.chunk(3), strict=True)
            renamed = {f"{before}.{letter}_proj.{kind}": part for letter, part in parts}
        else:
            renamed = {name: weight}
        if twice := newest.keys() & renamed.keys():
            raise ValueError(f"expected each weight once, found {listed(twice)} twice under old and new names")
        newest |= renamed
    return newest


def refuse_other_architectures(weights: Weights) -> None:
    """Raise ValueError for fairseq models whose weights VECO cannot express."""
    for part in ("encoder", "decoder"):
        if f"{part}.layer_norm.weight" in weights:
            raise ValueError(
                f"{weights.path}: {part}.layer_norm.weight belongs to a pre-LayerNorm model, such as XLM-R XL and XXL; "
                "VECO is post-LayerNorm: these weights cannot be converted"
            )
        if f"{part}.embed_positions._float_tensor" in weights:
            raise ValueError(f"{weights.path}: {part} has sinusoidal positions, VECO has learned ones")


def drop_token_copies(weights: Weights) -> None:
    """Drop the second names of the token embeddings. Raises ValueError if they are other weights."""
    copies = {name: TOKENS for name in TOKEN_COPIES if name in weights}
    for name in copies:
        if not weights.are_copies({name: TOKENS}):
            raise ValueError(f"{weights.path}: {name} differs from {TOKENS}: VECO ties the two")
    weights.drop(copies)


def config_fields(weights: Weights, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of VecoConfig from weights and settings; ValueError for settings that are missing or not VECO's."""
    check_told(settings, weights.path, encoder_attention_heads=16, activation_fn="gelu", no_scale_embedding="false")
    heads, activation = settings["encoder_attention_heads"], settings["activation_fn"]
    # XLM-R must have a head; published VECO has none.
    has_head = not weights.num_layers("decoder") or "lm_head.dense.weight" in weights
    if settings.get("decoder_attention_heads", heads) != heads:
        raise ValueError(f"{weights.path}: encoder and decoder have different numbers of attention heads")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{weights.path}: activation_fn {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if has_head and activation != "gelu":
        raise ValueError(f"{weights.path}: a language-modelling head with {activation!r}, VECO's has 'gelu'")
    vocab_size, hidden_size = weights[TOKENS].shape
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": weights.num_layers("encoder"),
        "num_attention_heads": heads,
        "intermediate_size": len(weights["encoder.layers.0.fc1.weight"]),
        "max_position_embeddings": len(weights["encoder.embed_positions.weight"]),
        "hidden_act": ACTIVATIONS[activation],
        "scale_embedding": not settings["no_scale_embedding"],
        "lm_head_transform": has_head,
        # For training only; if fairseq's are missing, the paper's.
        "hidden_dropout_prob": settings.get("dropout", 0.1),
        "attention_probs_dropout_prob": settings.get("attention_dropout", 0.1),
    }


def check_told(settings: Mapping[str, Any], path: Path, **examples: str | int) -> None:
    """Raise ValueError for settings that are missing or None; the examples show how to pass them."""
    if absent := {name: example for name, example in examples.items() if settings.get(name) is None}:
        flags = " ".join(f"{name}={example}" for name, example in absent.items())
        raise ValueError(
            f"{path}: lacks the settings {', '.join(absent)}; pass those of its training, as in --set {flags}"
        )


def body_names(ours: str, theirs: str, num_layers: int) -> dict[str, str]:
    """VECO's name -> fairseq's, of the weights that H and S share: positions, embedding LayerNorm, layers."""
    return embedding_names(ours, theirs) | layer_names(ours, theirs, num_layers, SHARED_MODULES)


def embedding_names(ours: str, theirs: str) -> dict[str, str]:
    """VECO's name -> fairseq's, of positions and embedding LayerNorm."""
    return {f"{ours}.{our_name}": f"{theirs}.{their_name}" for our_name, their_name in EMBEDDING_WEIGHTS.items()}


def layer_names(ours: str, theirs: str, num_layers: int, modules: Mapping[str, str]) -> dict[str, str]:
    """VECO's name -> fairseq's, of these modules in all layers."""
    return {
        f"{ours}.layers.{i}.{our_name}.{kind}": f"{theirs}.layers.{i}.{their_name}.{kind}"
        for i in range(num_layers)
        for our_name, their_name in modules.items()
        for kind in ("weight", "bias")
    }


def encoder_names_of(decoder_names: Mapping[str, str]) -> dict[str, str]:
    """fairseq's name in the decoder -> name of the same weight in the encoder."""
    return {name: name.replace("decoder.", "encoder.", 1) for name in decoder_names.values()}


def rows_lack_mask(pieces: list[str], num_rows: int, path: Path) -> bool:
    """Whether only `<mask>` has no row; raises ValueError if dictionary and embeddings do not match."""
    from data_tools.tokenizers.dictionary import MASK  # as above

    num_ids = FIRST_PIECE_ID + len(pieces)
    has_mask = pieces[-1:] == [MASK]
    if num_rows not in ((num_ids,) if has_mask else (num_ids, num_ids + 1)):
        raise ValueError(
            f"{path}: {num_rows:,} rows of embeddings, but the dictionary has {len(pieces):,} lines: expected "
            f"{num_ids:,}" + ("" if has_mask else f", or {num_ids + 1:,} with {MASK}")
        )
    return num_rows == num_ids and not has_mask


def form_of_sentences(settings: Mapping[str, Any], pieces: list[str] | None, path: Path) -> dict[str, Any]:
    """Start token of a translation model's decoder, ids around its sentences and languages, as fields of VecoConfig.

    Languages are included if known. Empty if settings and dictionary do not determine the form. Raises ValueError for a
    form that VecoConfig cannot express, and for tags of unknown languages.
    """
    task = settings.get("task")
    source, target = (settings.get(name) for name in ("source_lang", "target_lang"))
    if task == PLAIN_TASK:
        start, source_end, target_end = EOS_ID, [EOS_ID], [EOS_ID]
    elif task in TAGGED_TASKS and pieces is not None:
        if settings.get("prepend_bos"):
            raise ValueError(
                f"{path}: trained with --prepend-bos, so targets begin with <s>, which VECO cannot express; some "
                "versions of fairseq ignored that flag: if yours was one, pass --set prepend_bos=false"
            )
        check_told(settings, path, source_lang="en", target_lang="de")
        source_tag, start = tag_id(str(source), pieces), tag_id(str(target), pieces)
        source_end, target_end = [EOS_ID, source_tag], [EOS_ID, start]
    else:
        return {}
    return {
        "decoder_start_token_id": start,
        "source_prefix_ids": [],
        "source_suffix_ids": source_end,
        "target_suffix_ids": target_end,
        "source_language": None if source is None else str(source),
        "target_language": None if target is None else str(target),
    }


def unknown_form(settings: Mapping[str, Any], pieces: list[str] | None) -> str:
    """Explain why `form_of_sentences` is empty, and what to do."""
    task = settings.get("task")
    missing = [] if pieces is not None else ["--dictionary dict.txt"]
    if task in TAGGED_TASKS:
        reason = "the tags of its languages are in the dictionary"
    else:
        found = "is not known" if task is None else f"is {task}"
        reason = f"its task {found}, expected one of {', '.join((PLAIN_TASK, *TAGGED_TASKS))}"
        missing.append("--set task=… source_lang=… target_lang=…")
    return (
        f"the special tokens around sentences are not known: {reason}; convert again with {' '.join(missing)}, or set "
        f"{', '.join(('decoder_start_token_id', *FRAMES))} in config.json"
    )


def tag_id(language: str, pieces: list[str]) -> int:
    """Id of a language's tag, or of `<unk>` if the dictionary has none."""
    tag = f"[{language}]"
    return FIRST_PIECE_ID + pieces.index(tag) if tag in pieces else UNK_ID
