"""Export a translation model to CTranslate2, which translates several times as fast on CPUs.

    python -m finetune.mt.export_ct2 MODEL --output DIR [--quantization int8] [--shortlist train.en train.de]
    python -m finetune.mt.generate DIR --engine ct2 --input FILE

With a parallel text for a shortlist, the search considers only pieces that are likely translations of the batch's
source pieces (finetune.mt.decoding.shortlist). That saves a small decoder a quarter of its time, and occasionally finds
another translation.

CTranslate2 has layers like VECO's: post-LayerNorm, learned positions, a LayerNorm after the embeddings, and in the
decoder self-attention, cross-attention and feed-forward. It does not have XLM-R's head, LayerNorm(GELU(W x + b)) before
the projection to the vocabulary. That becomes one more decoder layer (`add_head`), with the same probabilities. A model
whose head has another activation than its layers cannot be expressed this way and is refused.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.text.lines import open_text
from finetune.ctranslate2_library import import_ctranslate2, unknown_token
from finetune.encoded_text import Sentences, tokenizer_encoder
from finetune.model_directory import model_directory
from finetune.mt.decoding.ct2 import (
    FRAME,
    MAX_TOKENS,
    SHORTLIST_FILE,
    START_TOKEN,
    TARGET_LANGUAGE,
    pieces_by_id,
)
from finetune.mt.decoding.input_lines import count_lines, is_pipe
from finetune.mt.decoding.shortlist import Shortlist, make_shortlist
from finetune.mt.decoding.translator import check_model
from finetune.mt.special_tokens import Frame, known_ends
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind
from veco import VecoConfig, VecoForConditionalGeneration
from veco.adapters.attach import check_without_adapters
from veco.convert.ctranslate2_layers import (
    ACTIVATIONS,
    check_activation,
    fill,
    set_attention,
    set_embeddings,
    set_layer,
    set_norm,
)
from veco.convert.weights import open_strictly
from veco.layer import VecoLayer
from veco.masked_lm import VecoLMHead
from veco.tokenizer import save_tokenizer

QUANTIZATIONS = ("float32", "bfloat16", "int8", "int8_bfloat16")
SHORTLIST_PAIRS = 50_000  # sampled evenly from the parallel text to make a shortlist
NUM_FREQUENT, NUM_TRANSLATIONS = 400, 100  # pieces that are always on it, and those that each source piece adds


def specification(model: VecoForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, start: int) -> Any:
    """CTranslate2's `TransformerSpec` of the model with all weights, ready to be saved.

    `start` is the id that starts the decoder unless another is asked for. Raises ValueError naming what CTranslate2
    cannot express.
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
    pieces = pieces_by_id(tokenizer, config.vocab_size)
    write_settings(spec.config, config, tokenizer, pieces, start)
    ordered = [pieces[i] for i in order]
    spec.register_source_vocabulary(ordered)
    spec.register_target_vocabulary(ordered)
    return spec


def write_settings(
    settings: Any, config: VecoConfig, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], start: int
) -> None:
    """Fill in the config.json that lies beside CTranslate2's model: its own settings and those that we add."""
    settings.layer_norm_epsilon = config.layer_norm_eps
    settings.bos_token, settings.unk_token = pieces[known_ends(tokenizer)[0]], unknown_token(tokenizer)
    settings.eos_token = pieces[Frame.of(config, tokenizer).end]
    settings.decoder_start_token = None  # each sentence brings the tag of its target language
    parts = {name: [pieces[i] for i in ids] for name, ids in own_frame(config).items()}
    settings.add_attribute(FRAME, parts)
    settings.add_attribute(START_TOKEN, pieces[start])
    settings.add_attribute(MAX_TOKENS, config.max_tokens)
    settings.add_attribute(TARGET_LANGUAGE, config.target_language)


def own_frame(config: VecoConfig) -> dict[str, list[int]]:
    """The ids around sentences that a configuration sets, by field; those it leaves open are the usual ones."""
    frame = {
        "source_prefix_ids": config.source_prefix_ids,
        "source_suffix_ids": config.source_suffix_ids,
        "target_suffix_ids": config.target_suffix_ids,
    }
    return {name: ids for name, ids in frame.items() if ids is not None}


def special_ids(tokenizer: PreTrainedTokenizerBase, config: VecoConfig, start: int) -> list[int]:
    """Ids of special tokens, of the tokens around sentences and of the start token, in ascending order."""
    framing = itertools.chain.from_iterable(own_frame(config).values())
    return sorted({*tokenizer.all_special_ids, *framing, start})


def special_first(special: Sequence[int], vocab_size: int) -> list[int]:
    """All ids, those of special tokens first.

    CTranslate2 4.8 remembers the positions of tokens in an earlier batch's shortlist (`update_output_layer` does not
    clear them). Special tokens, which are first on every shortlist, keep their positions, and CTranslate2 looks up no
    others.
    """
    return [*special, *sorted(set(range(vocab_size)) - set(special))]


def check_layout(config: VecoConfig) -> None:
    """Raise ValueError for a model that CTranslate2's layers cannot express."""
    check_without_adapters(config, "CTranslate2")
    check_activation(config)
    if config.lm_head_transform and config.lm_head_act != config.hidden_act:
        raise ValueError(
            f"hidden_act {config.hidden_act!r} and lm_head_act {config.lm_head_act!r}: the head becomes a layer, and "
            "CTranslate2 has one activation for all layers; only models with equal ones can be exported"
        )


def add_head(decoder: Any, head: VecoLMHead, config: VecoConfig) -> None:
    """Append the head without its projection as one more decoder layer, LayerNorm(x + F(x)) with F its feed-forward.

    GELU(z) - GELU(-z) = z, which holds for all of ACTIVATIONS, so a feed-forward of three times the width computes
    F(x) = GELU(W x + b) - GELU(x) + GELU(-x) = GELU(W x + b) - x, and LayerNorm(x + F(x)) is the head's. Before the
    feed-forward, a layer has two attentions, whose weights are zero here (and whose heads have width 1, to cost
    nothing), each followed by a LayerNorm. Normalising twice changes nothing, so the gain and bias of the layer below
    move to the last of these LayerNorms, and the others get gain 1 and bias 0. Strictly, a second LayerNorm divides by
    sqrt(1 + epsilon), which its gain undoes; what remains is epsilon over twice the variance, 1e-6 of the states.
    """
    from ctranslate2.specs.transformer_spec import TransformerDecoderLayerSpec

    width, heads = config.hidden_size, config.num_attention_heads
    one, zero, eye = torch.ones(width), torch.zeros(width), torch.eye(width)
    again = one * math.sqrt(1 + config.layer_norm_eps)
    layer = TransformerDecoderLayerSpec(head_dim=1)
    for attention, sizes in ((layer.self_attention, [3 * heads]), (layer.attention, [heads, 2 * heads])):
        *projections, output = attention.linear
        for linear, size in zip(projections, sizes, strict=True):
            fill(linear, torch.zeros(size, width), torch.zeros(size))
        fill(output, torch.zeros(width, heads), zero)
    below = decoder.layer[-1].ffn.layer_norm
    after_self_attention, after_attention = layer.self_attention.layer_norm, layer.attention.layer_norm
    after_attention.gamma, after_attention.beta = again * below.gamma, below.beta
    after_self_attention.gamma, after_self_attention.beta = again, zero
    below.gamma, below.beta = one, zero
    fill(
        layer.ffn.linear_0,
        torch.cat([head.dense.weight, eye, -eye]),
        torch.cat([head.dense.bias, torch.zeros(2 * width)]),
    )
    fill(layer.ffn.linear_1, torch.cat([eye, -eye, eye], dim=1), zero)
    set_norm(layer.ffn.layer_norm, head.norm)
    decoder.layer.append(layer)


def shortlist_of(source: Path, target: Path, tokenizer: PreTrainedTokenizerBase) -> Shortlist:
    """The shortlist from a text and its line-by-line translation. Raises ValueError for unequal numbers of lines."""
    if pipes := [path for path in map(str, (source, target)) if is_pipe(path)]:
        raise ValueError(f"--shortlist {pipes[0]}: expected a regular file, which is read more than once")
    num_lines = count_lines(str(source), str(target))
    assert num_lines is not None, "neither is a pipe"
    step = math.ceil(num_lines / SHORTLIST_PAIRS)
    encode = tokenizer_encoder(tokenizer)

    def sampled(path: Path) -> Sentences:
        with open_text(path) as lines:
            return Sentences.of(encode(list(itertools.islice(lines, 0, None, step))))

    return make_shortlist(sampled(source), sampled(target), len(tokenizer), NUM_FREQUENT, NUM_TRANSLATIONS)


def vocabulary_map(shortlist: Shortlist, pieces: Sequence[str], special: Sequence[int]) -> Iterator[str]:
    """Lines of CTranslate2's vmap.txt: a source piece, a tab, target pieces; without a source, those always on."""
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
    """Write the exported model and its tokenizer to the directory `output`. Raises ValueError if it is impossible."""
    import_ctranslate2()
    tokenizer, start = check_model(model_dir, target_language)
    with atomic_directory(output) as temporary:
        shortlist = None if shortlist_text is None else shortlist_of(*shortlist_text, tokenizer)
        model = open_strictly(VecoForConditionalGeneration, model_dir, dtype=torch.float32).eval()
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
        "model", type=Path, metavar="MODEL", help="a model, checkpoint or run of finetune.mt (train or average)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, default="int8", help="type of the weights; default: %(default)s"
    )
    parser.add_argument(
        "--target-language",
        metavar="LANG",
        help="default target language, used when generate is given none (default: the model's own)",
    )
    parser.add_argument(
        "--shortlist",
        type=Path,
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="a text and its line-by-line translation, such as the training text (plain or compressed): the search "
        "then considers only likely translations; for a single target language",
    )
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    shortlist = tuple(arguments.shortlist) if arguments.shortlist else None
    model = model_directory(arguments.model, [Kind.TRANSLATION])
    export(model, arguments.output, arguments.quantization, arguments.target_language, shortlist)
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {arguments.quantization}, {size / 1e6:,.1f} MB; use finetune.mt.generate --engine ct2")


if __name__ == "__main__":
    run_main(main)
