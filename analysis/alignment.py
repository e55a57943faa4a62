"""Align the words of translated sentences by the states of an encoder, and score the links against gold ones.

    python -m analysis.alignment MODEL --data PAIRS.tsv --output DIR
    python -m analysis.alignment MODEL --source FILE --target FILE [--gold FILE [--possible FILE]] --output DIR

PAIRS.tsv has a pair a line, `source TAB target TAB links`, the last column being optional. Texts are tokenised: words
are separated by spaces. Links are as in `0-0 1-2 3p4`, where p instead of - marks a possible link that is not sure;
--possible names a file of the possible links where they are apart. Indices count from 0, with --first-index 1 from 1.

Methods: argmax links units that are most similar to each other; itermax repeats this for what has no link yet; match
has the one-to-one links whose similarities have the largest sum (SimAlign, by cosine); softmax has all links that are
likelier than --threshold in both directions (AwesomeAlign, by dot product); each-target links each target unit to the
source unit that is most similar to it. Units are pieces, and words are linked where their pieces are, or with --units
words the mean states of words. --by says what is compared: states H plugged out; of a VECO, plugged-states S, for which
each sentence attends to the other; or the weights of that cross-attention, whose mean over both directions is the
similarity, and which are themselves the probabilities of softmax. With decoder-attention MODEL is a translation model
that writes the target: the similarities are the weights of target units on source units, in the layers of the decoder.
A target token has those of the state that reads it (shift-att of Chen et al., 2020), or with --decoder-state predicts
those of the state before, from which it is predicted.

DIR/links.METHOD.layerN.txt has the links in Pharaoh's format, counted from 0, of each layer and method: by default the
layers are all where there are gold links, and else the usual one of sentences. With gold links, DIR/alignment.json,
.csv and .md have AER, precision, recall and F1, and DIR/aer.png and .svg show them. The best layer is chosen on other
pairs: those of --dev-data (or --dev-source, …), or for each half of the pairs on the other half.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from analysis.aligning.aligner import Aligner, EvidenceOf, Place, align
from analysis.aligning.choice import Scores
from analysis.aligning.evidence import Source, decoder_evidence, evidence_of_pairs
from analysis.aligning.links import Method, Settings
from analysis.aligning.pairs import PairFiles
from analysis.aligning.report import FIGURE, NAME, write_report
from analysis.forced_decoding import ForcedDecoder, num_decoder_layers
from analysis.options import (
    ENCODER,
    add_decoder_flags,
    attending_layers_of,
    choices,
    claim_results,
    command_parser,
    layers_of,
    load_decoder,
    load_embedder,
    model_of,
    translation_model_of,
)
from analysis.results import result_names
from data_tools.cli import refuse_unread, run_main
from data_tools.files.atomic import atomic_path
from finetune.understanding.flags import report_truncated
from finetune.understanding.retrieval.embeddings import Embedder, num_layers
from training.launch import quiet_libraries
from veco.sentence_transformers_files import usual_layer

PROGRAM = "analysis.alignment"
ATTENTION_THRESHOLD = 0.1  # of softmax; AwesomeAlign's would link nearly all units
SYMMETRIC: list[Method] = [method for method in Method if method is not Method.EACH_TARGET]


def add_pair_flags(parser: argparse.ArgumentParser, prefix: str, what: str) -> None:
    """Add the flags of files of pairs, each named with the prefix; `what` are these pairs."""
    parser.add_argument(f"--{prefix}data", type=Path, metavar="TSV", help=f"{what}: source TAB target TAB links")
    for name, content in (("source", "sentences"), ("target", "their translations"), ("gold", "sure links")):
        parser.add_argument(f"--{prefix}{name}", type=Path, metavar="FILE", help=f"{what}: {content}")
    parser.add_argument(f"--{prefix}possible", type=Path, metavar="FILE", help=f"{what}: sure and possible links")


def parse_arguments() -> argparse.Namespace:
    model = f"{ENCODER}, an exported encoder or, by {Source.DECODER_ATTENTION}, a translation model"
    parser = command_parser(PROGRAM, __doc__, "all with gold links, else the usual one of sentences", model=model)
    add_pair_flags(parser, "", "pairs to align")
    add_pair_flags(parser, "dev-", "pairs to choose the layer on")
    parser.add_argument(
        "--first-index", type=int, choices=(0, 1), default=0, help="index of a first word in gold links (default 0)"
    )
    parser.add_argument(
        "--methods",
        help=f"separated by commas, of {', '.join(Method)}; the first is the main one (default: all but "
        f"{Method.EACH_TARGET}, by decoder-attention this first)",
    )
    parser.add_argument("--units", choices=("pieces", "words"), default="pieces", help="(default %(default)s)")
    parser.add_argument(
        "--distortion", type=float, default=0.0, metavar="KAPPA", help="0 to 1: favour equal positions (default 0)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds of itermax (default %(default)s)")
    parser.add_argument(
        "--threshold",
        type=float,
        help=f"probability of softmax (default {Settings.threshold}, AwesomeAlign's, but {ATTENTION_THRESHOLD} for "
        "weights of attention, which are spread over all units)",
    )
    parser.add_argument(
        "--by", type=Source, choices=list(Source), default=Source.STATES, help="what is compared (default %(default)s)"
    )
    add_decoder_flags(parser)
    options = parser.parse_args()
    methods, _ = chosen_methods(options), checked_settings(options)  # which refuse others
    refuse_unread(parser, options, unread_flags(options.by, methods))
    return options


def unread_flags(by: Source, methods: Sequence[Method]) -> dict[str, str]:
    """What nothing reads, for `refuse_unread`."""
    found = {}
    if Method.ITERMAX not in methods:
        found["rounds"] = f"the method {Method.ITERMAX}"
    if Method.SOFTMAX not in methods:
        found["threshold"] = f"the method {Method.SOFTMAX}"
    if set(methods) <= {Method.SOFTMAX}:
        found["distortion"] = f"the methods other than {Method.SOFTMAX}"
    if by is not Source.DECODER_ATTENTION:
        found |= dict.fromkeys(("decoder_state", "target_language"), f"--by {Source.DECODER_ATTENTION}")
    return found


def pair_files(options: argparse.Namespace, prefix: str = "") -> PairFiles | None:
    """The files that the flags with a prefix name; None without any. Raises ValueError for half a pair of files."""
    given = {name: vars(options)[f"{prefix}{name}"] for name in ("data", "source", "target", "gold", "possible")}
    flags = {name: f"--{prefix.replace('_', '-')}{name}" for name in given}
    if not any(given.values()):
        return None
    if (given["data"] is None) == (given["source"] is None or given["target"] is None):
        raise ValueError(f"expected either {flags['data']}, or {flags['source']} and {flags['target']}")
    if given["possible"] and not given["gold"]:
        raise ValueError(f"{flags['possible']}: expected {flags['gold']}, the sure links, too")
    if given["data"] is not None:
        if others := [flags[name] for name in given if name != "data" and given[name] is not None]:
            raise ValueError(f"{flags['data']} has sentences and links; leave out {others[0]}")
        return PairFiles([given["data"]], None, None, options.first_index)
    return PairFiles([given["source"], given["target"]], given["gold"], given["possible"], options.first_index)


def checked_settings(options: argparse.Namespace) -> Settings:
    """The settings of the methods. Raises ValueError for some out of their range."""
    if not 0 <= options.distortion <= 1:
        raise ValueError(f"--distortion {options.distortion}: expected 0 to 1")
    if options.distortion and options.by.is_attention:
        raise ValueError(f"--distortion {options.distortion}: is of states; leave it out with --by {options.by}")
    if options.rounds < 1:
        raise ValueError(f"--rounds {options.rounds}: expected at least 1")
    if options.threshold is None:
        return Settings(options.rounds, ATTENTION_THRESHOLD if options.by.is_attention else Settings.threshold)
    if not 0 <= options.threshold < 1:
        raise ValueError(f"--threshold {options.threshold}: expected a probability below 1")
    return Settings(options.rounds, options.threshold)


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    methods = chosen_methods(options)
    settings = checked_settings(options)
    files, development = pair_files(options), pair_files(options, "dev_")
    if files is None:
        raise ValueError("expected --data, or --source and --target: the pairs to align")
    num_pairs, has_gold = files.check()
    num_development, has_dev_gold = (0, True) if development is None else development.check()
    if development and not (has_gold and has_dev_gold):
        raise ValueError("a layer is chosen by gold links: both the pairs and those of --dev-data must have them")
    model = translation_model_of(options) if options.by is Source.DECODER_ATTENTION else model_of(options)
    layers = chosen_layers(options, model, has_gold)
    reader, evidence_of = load_reader(options, model, layers)
    aligner = Aligner(layers, evidence_of, methods, settings)
    names = {(layer, method): f"links.{method}.layer{layer}.txt" for layer in layers for method in methods}
    inputs = [*files.all_paths, *(development.all_paths if development else ())]
    claim_results(options, [*result_names(NAME, [FIGURE] if has_gold else []), *names.values()], PROGRAM, inputs)

    of_development: Scores | None = None
    if development:
        of_development, _ = align(aligner, development, num_development, {}, "choosing a layer")
    scores, speed = align_into(options.output, names, aligner, files, num_pairs)
    report_truncated(reader)
    print(f"{num_pairs:,} pairs aligned, {speed:,.1f} pairs/s")
    settings_used = {
        **{"model": str(model), "pairs": num_pairs, "pairs_per_second": speed, "layers": layers},
        **{"methods": methods, "units": options.units, "by": str(options.by)},
        **{"distortion": options.distortion, "rounds": settings.rounds, "threshold": settings.threshold},
        **({"decoder_state": options.decoder_state} if options.by is Source.DECODER_ATTENTION else {}),
    }
    write_report(options.output, settings_used, scores if has_gold else None, of_development)


def chosen_layers(options: argparse.Namespace, model: Path, has_gold: bool) -> list[int]:
    """The layers of --layers; without it all where there are gold links, else the usual one of sentences.

    Of a decoder that is the one before the last (Garg et al., 2019). Raises ValueError for layers that the model does
    not have, or that have no attention.
    """
    if options.by is Source.DECODER_ATTENTION:
        most = num_decoder_layers(model)
        return attending_layers_of(options, model, most, None if has_gold else [max(1, most - 1)])
    most = num_layers(model)
    default = None if has_gold else [usual_layer(most)]
    if options.by.is_attention:
        return attending_layers_of(options, model, most, default)
    return layers_of(options, model, default)


def chosen_methods(options: argparse.Namespace) -> list[Method]:
    """Those of --methods, the first being the main one. Raises ValueError for others."""
    if options.methods:
        return [Method(name) for name in choices("methods", options.methods, list(Method))]
    return [Method.EACH_TARGET, *SYMMETRIC] if options.by is Source.DECODER_ATTENTION else SYMMETRIC


def load_reader(
    options: argparse.Namespace, model: Path, layers: Sequence[int]
) -> tuple[Embedder | ForcedDecoder, EvidenceOf]:
    """The model that reads pairs, and what it gives as evidence of their links."""
    by_piece = options.units == "pieces"
    if options.by is Source.DECODER_ATTENTION:
        decoder = load_decoder(options, model, layers)
        return decoder, partial(decoder_evidence, decoder, by_piece=by_piece)
    embedder = load_embedder(options, model, layers, plug_in=options.by is not Source.STATES)
    return embedder, partial(
        evidence_of_pairs, embedder, source=options.by, by_piece=by_piece, distortion=options.distortion
    )


def align_into(
    output: Path, names: Mapping[Place, str], aligner: Aligner, files: PairFiles, num_pairs: int
) -> tuple[Scores, float]:
    """(scores, pairs per second) of the pairs, whose links are written to a file for each layer and method."""
    with ExitStack() as stack:
        paths = {place: stack.enter_context(atomic_path(output / name)) for place, name in names.items()}
        opened = {
            place: stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for place, path in paths.items()
        }
        return align(aligner, files, num_pairs, opened, "aligning")


if __name__ == "__main__":
    run_main(main)
