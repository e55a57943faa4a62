"""Show what the tokens of sentences attend to: shares of the weight by layer and head, and heat maps of words.

    python -m analysis.attention MODEL --source FILE --target FILE --by tlm,plugged-in --output DIR
    python -m analysis.attention MODEL --sentence TEXT --translation TEXT --by tlm --layers 6 --output DIR
    python -m analysis.attention TRANSLATION_MODEL --sentence TEXT --by decoder --output DIR

--by says whose weights these are, one way or several:

  plugged-out  self-attention in each sentence alone, of any encoder
  tlm          self-attention over both sentences of a pair in one row, of any encoder: is the other one attended to?
  plugged-in   cross-attention of a VECO, of each sentence over the other
  decoder      cross-attention of a translation model over the source, as it writes the given translation or its own

Texts are tokenised: words are separated by spaces. With --sentence (and --translation) there is a heat map of words, or
with --units pieces of their pieces, for each of --layers (the middle one, as in figure 1 of the VECO paper, if none are
named) and of --heads (the mean over all). A word attends with the mean of its pieces' weights, and is attended to
with their sum; special tokens have rows and columns of their own, so that rows sum to 1. A target word has the weights
of the decoder's state that reads it, or with --decoder-state predicts those of the state before.

Shares are means over all tokens of words in --source (and --target), or else in that one sentence: the
weight on the own sentence, on the other one and on special tokens, which sum to 1; the other one's if all weights were
equal (uniform); how often the largest weight on a word is in the other sentence (crossing); the entropy of all weights
in nats; and the spread: the entropy of the weights on the other sentence alone (plugged out: on the own one), scaled to
a sum of 1, as a share of the largest possible, which can be compared between tlm and plugged-in. Special tokens attend,
too, but are not counted.

DIR/attention.json, .csv and .md have the shares by layer, side and head, and the maps; DIR/attention.png and .svg show
them by layer, DIR/heads.png and .svg by layer and head, and DIR/map.BY.layerN.png and .svg are the heat maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from analysis.attending.maps import MEAN, maps_of_text
from analysis.attending.reading import Reading, WeightsOf, decoder_weights, encoder_weights, shares_of_texts
from analysis.attending.report import CURVES, HEADS, NAME, map_name, write_report
from analysis.attending.texts import TextFiles, Texts, words_of
from analysis.forced_decoding import ForcedDecoder, num_decoder_layers
from analysis.options import (
    ENCODER,
    add_decoder_flags,
    attending_layers_of,
    choices,
    claim_results,
    command_parser,
    load_decoder,
    load_embedder,
    model_of,
    translation_model_of,
)
from analysis.results import result_names
from analysis.weights import form_weights
from data_tools.cli import refuse_unread, run_main
from finetune.understanding.flags import report_truncated
from finetune.understanding.retrieval.embeddings import Embedder, num_layers
from training.launch import quiet_libraries

PROGRAM = "analysis.attention"
# Less than other commands: the weights of all layers exist at once, one for each head, token and token of its row.
MAX_TOKENS = 2048


def parse_arguments() -> argparse.Namespace:
    model = f"{ENCODER} or, by {Reading.DECODER}, a translation model"
    parser = command_parser(PROGRAM, __doc__, "all; of heat maps, the middle one", MAX_TOKENS, model)
    parser.add_argument("--source", type=Path, metavar="FILE", help="sentences, whose shares are averaged")
    parser.add_argument("--target", type=Path, metavar="FILE", help="their translations")
    parser.add_argument("--sentence", metavar="TEXT", help="a sentence, of which heat maps are drawn")
    parser.add_argument("--translation", metavar="TEXT", help="its translation")
    parser.add_argument(
        "--by",
        default=Reading.PLUGGED_OUT,
        help=f"whose weights, of {', '.join(Reading)}, separated by commas (default %(default)s)",
    )
    parser.add_argument("--heads", default=MEAN, help=f"of heat maps, such as {MEAN},0,5 (default %(default)s)")
    parser.add_argument(
        "--units", choices=("words", "pieces"), default="words", help="of heat maps (default %(default)s)"
    )
    add_decoder_flags(parser)
    options = parser.parse_args()
    readings, _ = chosen_readings(options), chosen_heads(options)  # which refuse others
    if options.sentence is None:
        refuse_unread(parser, options, dict.fromkeys(("heads", "units"), "the heat maps of --sentence"))
    if Reading.DECODER not in readings:
        refuse_unread(parser, options, dict.fromkeys(("decoder_state", "target_language"), f"--by {Reading.DECODER}"))
    return options


def chosen_readings(options: argparse.Namespace) -> list[Reading]:
    """Those of --by. Raises ValueError for others, and for a translation model's beside an encoder's."""
    readings = [Reading(name) for name in choices("by", options.by, list(Reading))]
    if Reading.DECODER in readings and len(readings) > 1:
        raise ValueError(f"--by {options.by}: {Reading.DECODER} is of a translation model, the others of an encoder")
    return readings


def chosen_texts(
    options: argparse.Namespace, readings: Sequence[Reading]
) -> tuple[TextFiles | list[Texts], list[Texts]]:
    """(the texts whose shares are averaged, those of which maps are drawn): of files, and the single one, if given.

    Raises ValueError for flags that are missing, and for texts without words.
    """
    if options.source is None and options.sentence is None:
        raise ValueError("expected --source FILE, --sentence TEXT or both: what to read")
    for text, translation in (("source", "target"), ("sentence", "translation")):
        given, translated = (vars(options)[name] is not None for name in (text, translation))
        if translated and not given:
            raise ValueError(f"--{translation}: expected --{text} too")
        if given and not translated and (pairs := [reading for reading in readings if reading.needs_pairs]):
            raise ValueError(f"--by {pairs[0]} reads pairs: expected --{translation} beside --{text}")
    single: list[Texts] = []
    if options.sentence is not None:
        translated_words = None if options.translation is None else words_of(options.translation)
        words = words_of(options.sentence), translated_words
        if [] in words:
            raise ValueError("--sentence and --translation: expected words in each")
        single = [words]
    return (single if options.source is None else TextFiles(options.source, options.target)), single


def chosen_heads(options: argparse.Namespace) -> list[str]:
    """Those of --heads. Raises ValueError for what is no number and not the mean."""
    heads = options.heads.split(",")
    if wrong := [head for head in heads if head != MEAN and not head.isdecimal()]:
        raise ValueError(f"--heads {options.heads}: expected numbers from 0, or {MEAN}, found {wrong[0]!r}")
    if len(set(heads)) < len(heads):
        raise ValueError(f"--heads {options.heads}: expected each once")
    return heads


def load_reader(
    options: argparse.Namespace, model: Path, layers: Sequence[int], readings: Sequence[Reading]
) -> tuple[Embedder | ForcedDecoder, dict[Reading, WeightsOf]]:
    """The model that reads texts, and how it does so by each reading."""
    if Reading.DECODER in readings:
        decoder = load_decoder(options, model, layers)
        return decoder, {Reading.DECODER: partial(decoder_weights, decoder)}
    embedder = load_embedder(options, model, layers, plug_in=Reading.PLUGGED_IN in readings)
    form_weights(embedder)
    return embedder, {reading: partial(encoder_weights, embedder, reading) for reading in readings}


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    readings, heads = chosen_readings(options), chosen_heads(options)
    texts, single = chosen_texts(options, readings)
    num_texts = texts.check() if isinstance(texts, TextFiles) else len(texts)
    is_decoder = Reading.DECODER in readings
    model = translation_model_of(options) if is_decoder else model_of(options)
    most = num_decoder_layers(model) if is_decoder else num_layers(model)
    layers = attending_layers_of(options, model, most)
    mapped = [] if not single else layers if options.layers else [(most + 1) // 2]
    reader, weights_of = load_reader(options, model, layers, readings)
    if isinstance(reader, ForcedDecoder):
        single = [(source, target or reader.translations([source])[0]) for source, target in single]
        if not all(target for _, target in single):
            raise ValueError("--sentence: the model's own translation of it has no word; give --translation")
    units = reader.encoder.tokenizer, options.units == "pieces"
    maps = {
        by: [one for text in single for one in maps_of_text(own, text, layers, mapped, heads, *units)]
        for by, own in weights_of.items()
    }
    figures = [CURVES, HEADS, *(map_name(by, layer, head) for by in readings for layer in mapped for head in heads)]
    inputs = [path for path in (options.source, options.target) if path is not None]
    claim_results(options, result_names(NAME, figures), PROGRAM, inputs)

    shares = {by: shares_of_texts(own, texts, num_texts, f"reading {by}") for by, own in weights_of.items()}
    report_truncated(reader)
    settings = {
        **{"model": str(model), "by": readings, "texts": num_texts, "layers": layers, "units": options.units},
        **({"decoder_state": options.decoder_state} if is_decoder else {}),
        "maps_of": [{"sentence": source, "translation": target} for source, target in single],
    }
    write_report(options.output, settings, layers, shares, maps)


if __name__ == "__main__":
    run_main(main)
