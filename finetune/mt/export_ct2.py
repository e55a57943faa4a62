"""Exports a translation model to CTranslate2, which translates several times as fast on CPU.

    python -m finetune.mt.export_ct2 MODEL --output DIR [--quantization int8] [--shortlist train.en train.de]
    python -m finetune.mt.generate DIR --engine ct2 --input FILE

With translated text for a shortlist, the search looks only at pieces that are likely translations of its batch's pieces
(finetune.mt.decoding.shortlist). That saves a small decoder a quarter of its time, and now and then finds another
translation.

CTranslate2 knows layers like VECO's: post-LayerNorm, positions that are learned, a LayerNorm behind the embeddings, and
in the decoder self-attention, cross-attention, feed-forward. What it does not know is XLM-R's head, LayerNorm(GELU(W x
+ b)) before the projection on the vocabulary. That becomes one more decoder layer (`add_head`), with the same
probabilities. Models with another activation than GELU and that head have no such form and are refused.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.text.lines import open_text
from finetune.flat_ids import Sentences, tokenizer_encoder
from finetune.models import model_directory
from finetune.mt.decoding.blocks import count_lines, is_pipe
from finetune.mt.decoding.ct2 import FRAME, MAX_TOKENS, SHORTLIST_FILE, START_TOKEN, import_ctranslate2, pieces_by_id
from finetune.mt.decoding.shortlist import Shortlist, make_shortlist
from finetune.mt.decoding.translator import check_model
from finetune.mt.frame import Frame
from training.launch import quiet_libraries
from training.runs.kinds import Kind
from veco import VecoConfig, VecoForConditionalGeneration
from veco.attention import MultiHeadAttention
from veco.config import FRAMES
from veco.layer import VecoLayer
from veco.masked_lm import VecoLMHead
from veco.model import VecoEmbeddings
from veco.tokenizer import save_tokenizer

QUANTIZATIONS = ("float32", "bfloat16", "int8", "int8_bfloat16")
SHORTLIST_PAIRS = 50_000  # of translated text, evenly spread over it, from which a shortlist is made
NUM_FREQUENT, NUM_TRANSLATIONS = 400, 100  # pieces that it always has, and that each piece of the source adds
ACTIVATIONS = {"gelu": "GELU", "gelu_new": "GELUTanh", "relu": "RELU", "silu": "SWISH"}  # ours -> CTranslate2's


def specification(model: VecoForConditionalGeneration, tokenizer: Any, start: int) -> Any:
    """CTranslate2's description of the model with all weights, ready to be saved.

    `start` is the tag that starts the decoder unless another is asked for. Raises ValueError naming what has no
    counterpart there.
    """
    from ctranslate2.specs import TransformerSpec, common_spec

    config = model.config
    check_layout(config)
    order = special_first(special_ids(tokenizer, config, start), config.vocab_size)
    spec = TransformerSpec.from_config(
        (config.num_hidden_layers, config.decoder_layers),
        config.num_attention_heads,
        pre_norm=False,
        activation=common_spec.Activation[ACTIVATIONS[config.hidden_act]],
        layernorm_embedding=True,
    )
    decoder_embeddings = (model.decoder if config.separate_decoder_embeddings else model.veco).embeddings
    set_embeddings(spec.encoder, spec.encoder.embeddings[0], model.veco.embeddings, order)
    set_embeddings(spec.decoder, spec.decoder.embeddings, decoder_embeddings, order)
    encoder_layers, decoder_layers = (cast(list[VecoLayer], side.layers) for side in (model.veco, model.decoder))
    for layer_spec, layer in zip(spec.encoder.layer, encoder_layers, strict=True):
        set_layer(layer_spec, layer)
    for layer_spec, layer in zip(spec.decoder.layer, decoder_layers, strict=True):
        set_layer(layer_spec, layer)
        set_attention(layer_spec.attention, layer.cross_attention)
        set_norm(layer_spec.attention.layer_norm, layer.cross_attention_norm)
    if config.lm_head_transform:
        add_head(spec.decoder, model.lm_head, config)
    projection = model.lm_head.decoder
    fill(spec.decoder.projection, projection.weight[order], projection.bias[order])

    spec.config.layer_norm_epsilon = config.layer_norm_eps
    pieces = pieces_by_id(tokenizer, config.vocab_size)
    spec.config.bos_token, spec.config.unk_token = tokenizer.bos_token, tokenizer.unk_token
    spec.config.eos_token = pieces[Frame.of(config, tokenizer).end]
    spec.config.decoder_start_token = None  # each sentence brings the tag of its target language
    frames = {name: config.to_dict()[name] for name in FRAMES}
    parts = {name: [pieces[i] for i in ids] for name, ids in frames.items() if ids is not None}
    spec.config.add_attribute(FRAME, parts)
    spec.config.add_attribute(START_TOKEN, pieces[start])
    spec.config.add_attribute(MAX_TOKENS, config.max_tokens)
    ordered = [pieces[i] for i in order]
    spec.register_source_vocabulary(ordered)
    spec.register_target_vocabulary(ordered)
    return spec


def special_ids(tokenizer: Any, config: VecoConfig, start: int) -> list[int]:
    """Special tokens and what else stands around sentences, in order."""
    framing = {i for name in FRAMES for i in config.to_dict()[name] or ()}
    return sorted({*tokenizer.all_special_ids, *framing, start})


def special_first(special: Sequence[int], vocab_size: int) -> list[int]:
    """All ids, those of special tokens in front.

    Of shortlists CTranslate2 4.8 keeps the places that tokens had in an earlier batch's (`update_output_layer` does not
    clear them). Special tokens, on every shortlist and in front of all others, have the same places in each; and it
    asks for no other token's.
    """
    return [*special, *sorted(set(range(vocab_size)) - set(special))]


def check_layout(config: VecoConfig) -> None:
    """Raise ValueError for a model that CTranslate2's layers cannot express."""
    if config.hidden_act not in ACTIVATIONS:
        raise ValueError(f"hidden_act {config.hidden_act!r} is none that CTranslate2 has: {', '.join(ACTIVATIONS)}")
    if config.lm_head_transform and config.hidden_act != "gelu":
        raise ValueError(
            f"hidden_act {config.hidden_act!r} with lm_head_transform: the head's GELU would need to be the activation "
            "of all layers; only 'gelu' can be exported"
        )


def set_embeddings(side: Any, spec: Any, embeddings: VecoEmbeddings, order: Sequence[int]) -> None:
    """Nothing; fills in what a side of the model reads, ids in that order. CTranslate2 counts positions from 0."""
    side.scale_embeddings = embeddings.scale or False
    spec.weight = embeddings.word_embeddings.weight[order]
    positions = embeddings.position_embeddings
    assert positions.padding_idx is not None, "VecoEmbeddings has one"
    side.position_encodings.encodings = positions.weight[positions.padding_idx + 1 :]
    set_norm(side.layernorm_embedding, embeddings.norm)


def set_layer(spec: Any, layer: VecoLayer) -> None:
    """Nothing; fills in all of a layer but its cross-attention."""
    set_attention(spec.self_attention, layer.self_attention)
    set_norm(spec.self_attention.layer_norm, layer.self_attention_norm)
    set_linear(spec.ffn.linear_0, layer.feed_forward.up_proj)
    set_linear(spec.ffn.linear_1, layer.feed_forward.down_proj)
    set_norm(spec.ffn.layer_norm, layer.feed_forward_norm)


def set_attention(spec: Any, attention: MultiHeadAttention) -> None:
    """Nothing; fills in the projections: query, key and value together, or in cross-attention key and value."""
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    is_cross_attention = len(spec.linear) == 3
    groups = [projections[:1], projections[1:]] if is_cross_attention else [projections]
    for linear, group in zip(spec.linear, groups, strict=False):  # the last is that of the output
        linear.weight = torch.cat([projection.weight for projection in group])
        linear.bias = torch.cat([projection.bias for projection in group])
    set_linear(spec.linear[-1], attention.out_proj)


def set_linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight, spec.bias = linear.weight, linear.bias


def set_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight, norm.bias


def add_head(decoder: Any, head: VecoLMHead, config: VecoConfig) -> None:
    """Nothing; adds the head up to its projection as one more layer, LayerNorm(x + F(x)) with F its feed-forward.

    GELU(z) - GELU(-z) = z, so a feed-forward of three times the width computes F(x) = GELU(W x + b) - GELU(x) +
    GELU(-x) = GELU(W x + b) - x, and LayerNorm(x + F(x)) is the head's. Before it, a layer has attention, whose weights
    are zero here (and whose heads have width 1, to cost nothing), and the LayerNorm behind each. To normalise what is
    normalised changes nothing, so the gain and bias of the layer below move to the last of them, and the others have
    none. Strictly, a second LayerNorm divides by the root of 1 + epsilon, which its gain takes back; what remains is
    epsilon over twice the variance, 1e-6 of the states.
    """
    from ctranslate2.specs.transformer_spec import TransformerDecoderLayerSpec

    width, heads = config.hidden_size, config.num_attention_heads
    one, eye = torch.ones(width), torch.eye(width)
    again = one * math.sqrt(1 + config.layer_norm_eps)
    layer = TransformerDecoderLayerSpec(head_dim=1)
    inputs = {"self_attention": (3 * heads,), "attention": (heads, 2 * heads)}
    for name, sizes in inputs.items():
        *projections, output = layer.__dict__[name].linear
        for linear, size in zip(projections, sizes, strict=True):
            fill(linear, torch.zeros(size, width), torch.zeros(size))
        fill(output, torch.zeros(width, heads), torch.zeros(width))
    below = decoder.layer[-1].ffn.layer_norm
    last = layer.attention.layer_norm
    last.gamma, last.beta = again * below.gamma, below.beta
    for norm, gain in ((below, one), (layer.self_attention.layer_norm, again)):
        norm.gamma, norm.beta = gain, torch.zeros(width)
    fill(
        layer.ffn.linear_0,
        torch.cat([head.dense.weight, eye, -eye]),
        torch.cat([head.dense.bias, torch.zeros(2 * width)]),
    )
    fill(layer.ffn.linear_1, torch.cat([eye, -eye, eye], dim=1), torch.zeros(width))
    set_norm(layer.ffn.layer_norm, head.norm)
    decoder.layer.append(layer)


def fill(spec: Any, weight: Tensor, bias: Tensor) -> None:
    spec.weight, spec.bias = weight, bias


def shortlist_of(source: Path, target: Path, tokenizer: Any) -> Shortlist:
    """The shortlist of two files that translate each other line by line. Raises ValueError if they do not."""
    if pipes := [path for path in map(str, (source, target)) if is_pipe(path)]:
        raise ValueError(f"--shortlist {pipes[0]}: expected a file, which is read more than once")
    number = count_lines(str(source), str(target))
    step = math.ceil((number or 0) / SHORTLIST_PAIRS)
    encode = tokenizer_encoder(tokenizer)

    def sampled(path: Path) -> Sentences:
        with open_text(path) as lines:
            return Sentences.of(encode(list(itertools.islice(lines, 0, None, step))))

    return make_shortlist(sampled(source), sampled(target), len(tokenizer), NUM_FREQUENT, NUM_TRANSLATIONS)


def vocabulary_map(shortlist: Shortlist, pieces: Sequence[str], special: Sequence[int]) -> Iterator[str]:
    """The lines of CTranslate2's file: a source piece, a tab, pieces of the target; those without a source always."""
    yield "\t" + " ".join(pieces[i] for i in dict.fromkeys([*special, *shortlist.frequent]))
    for piece, translations in shortlist.translations.items():
        yield f"{pieces[piece]}\t{' '.join(pieces[i] for i in translations)}"


def export(
    model_dir: Path,
    output: Path,
    quantization: str,
    target_language: str | None = None,
    shortlist_text: tuple[Path, Path] | None = None,
) -> None:
    """Write the directory `output`, with the tokenizer in it. Raises ValueError if it cannot be done."""
    import_ctranslate2()
    tokenizer, start = check_model(model_dir, target_language)
    with atomic_directory(output) as temporary:
        shortlist = None if shortlist_text is None else shortlist_of(*shortlist_text, tokenizer)
        model = VecoForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32).eval()
        with torch.no_grad():
            spec = specification(model, tokenizer, start)
            spec.validate()
            spec.optimize(quantization)
        save_tokenizer(tokenizer, model_dir, temporary, max_tokens=model.config.max_tokens)
        spec.save(str(temporary))
        if shortlist is not None:
            pieces = pieces_by_id(tokenizer, len(tokenizer))
            lines = vocabulary_map(shortlist, pieces, special_ids(tokenizer, model.config, start))
            (temporary / SHORTLIST_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m finetune.mt.export_ct2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="model, checkpoint or run of finetune.mt (train or average)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, default="int8", help="type of the weights, default: %(default)s"
    )
    parser.add_argument(
        "--target-language", metavar="LANG", help="what to translate into if generate names none (default: the model's)"
    )
    parser.add_argument(
        "--shortlist",
        type=Path,
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="text and its translation, line by line, such as the training text (plain or compressed): the search then "
        "looks only at likely translations; of one target language",
    )
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    shortlist = tuple(arguments.shortlist) if arguments.shortlist else None
    model = model_directory(arguments.model, [Kind.TRANSLATION])
    export(model, arguments.output, arguments.quantization, arguments.target_language, shortlist)
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {arguments.quantization}, {size / 1e6:,.1f} MB, for finetune.mt.generate --engine ct2")


if __name__ == "__main__":
    run_main(main)
