"""Compare how a model represents languages, layer by layer, by sentences that translate each other.

    python -m analysis.languages MODEL --text en=en.txt de=de.txt fr=fr.txt --output DIR
    python -m analysis.languages MODEL --text en,de=pairs.tsv --compare cka,svcca,pwcca --output DIR
    python -m analysis.languages MODEL --text en=en.txt de=de.txt --dictionary en,de=words.tsv --output DIR
    python -m analysis.languages MODEL --text en=en.txt de=de.txt --plugged --output DIR
    python -m analysis.languages MODEL --text en=en.txt de=de.txt --other-model MODEL --output DIR

A sentence's vector is the mean of its states, <s> and </s> included. --text names files that translate each other line
by line, or tables whose first columns are languages, as for analysis.similarity; at most --sentences are drawn.

--compare names some of

  cka         linear centred kernel alignment, debiased; with --batch-size HSIC is summed over mini-batches that
              are drawn by --seed
  svcca       mean canonical correlation in the directions of 99 % of the variance
  pwcca       canonical correlations weighted by what they account for; both need many more sentences than dimensions
  retrieval   how often the most similar sentence is the translation: by cosine, CSLS, Euclidean distance with the mean
              offset of translations added (Pires et al., 2019), cosine after centring languages, and cosine of
              dimensions of mean 0 and variance 1 in each language; the mean of both directions
  classifier  how many languages of sentences a linear classifier tells, before and after centring languages
  procrustes  retrieval on held-out pairs before and after a rotation that the other half of the pairs, or the words of
              --dictionary, have taught

--plugged adds, of a VECO, CKA of the states H plugged out and S plugged in: of H and S of each language, and of S of
both. --other-model adds CKA of its layers with those of MODEL.

DIR/languages.json, .csv and .md have all numbers. Figures, as PNG and SVG: DIR/languages and DIR/accuracy are curves by
layer, DIR/matrix shows all pairs in --main-layer by the first of cka, svcca and pwcca that is compared, DIR/tree the
tree of languages by it (average linkage), DIR/models the layers of both models. DIR/tree.layerN.nwk is the tree of each
layer in Newick's format.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.comparing.cka import batches_of
from analysis.comparing.comparison import (
    PARTS,
    PROCRUSTES,
    Found,
    Plan,
    compare_languages,
    compare_models,
    compare_plugged,
)
from analysis.comparing.identity import drawn_parts
from analysis.comparing.measures import Measure
from analysis.comparing.plugged import fill_plugged_vectors
from analysis.comparing.report import all_names, write_report
from analysis.options import choices, claim_results, command_parser, layers_of, load_embedder, model_of
from analysis.parallel.texts import ParallelText, drawn_rows
from analysis.parallel.vectors import ParallelVectors
from analysis.scratch import unnamed_map
from data_tools.cli import refuse_unread, run_main, warn
from finetune.model_directory import model_directory
from finetune.understanding.flags import ENCODERS, report_truncated
from finetune.understanding.retrieval.embeddings import Embedder, num_layers
from training.launch import quiet_libraries
from veco.sentence_transformers_files import usual_layer

PROGRAM = "analysis.languages"
DEFAULT_PARTS = ("cka", "retrieval", "classifier", "procrustes")
SENTENCES_PER_DIMENSION = 10  # fewer, and canonical correlations come near 1 whatever the languages


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(PROGRAM, __doc__)
    parser.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar="LANGUAGE=FILE",
        help="sentences that translate each other line by line",
    )
    parser.add_argument(
        "--compare", default=",".join(DEFAULT_PARTS), help=f"some of {', '.join(PARTS)} (default %(default)s)"
    )
    parser.add_argument("--sentences", type=int, default=5000, help="at most, drawn at random (default %(default)s)")
    parser.add_argument("--batch-size", type=int, help="sentences of a mini-batch for CKA (default: all)")
    parser.add_argument(
        "--dictionary",
        nargs="+",
        metavar="LANGUAGES=FILE",
        help="tables of words and their translations, such as en,de=words.tsv, for procrustes",
    )
    parser.add_argument("--plugged", action="store_true", help="compare H and S of a VECO")
    parser.add_argument("--other-model", type=Path, metavar="MODEL", help="compare the layers of this one, too")
    parser.add_argument("--other-layers", default="", help="of the other model (default: all)")
    parser.add_argument(
        "--main-layer", type=int, help="of matrix and tree (default: the one nearest to the usual one of sentences)"
    )
    options = parser.parse_args()
    check_flags(options)
    parts = choices("compare", options.compare, PARTS)
    if Measure.CKA not in parts and not options.plugged and not options.other_model:
        refuse_unread(parser, options, {"batch_size": f"{Measure.CKA}, --plugged and --other-model"})
    return options


def read_dictionaries(options: argparse.Namespace, languages: Sequence[str]) -> list[ParallelText]:
    """The tables of --dictionary. Raises ValueError for a language that --text does not have."""
    found = [ParallelText.of_flag("dictionary", [value]) for value in options.dictionary or ()]
    for own in found:
        if others := [language for language in own.languages if language not in languages]:
            raise ValueError(f"--dictionary {own.paths[0]}: --text has no {others[0]}, but {', '.join(languages)}")
    return found


def main_layer_of(options: argparse.Namespace, model: Path, layers: Sequence[int]) -> int:
    """The layer of the matrix and the tree. Raises ValueError for one that is not read."""
    if options.main_layer is None:
        usual = usual_layer(num_layers(model))
        return min(layers, key=lambda layer: abs(layer - usual))
    if options.main_layer not in layers:
        raise ValueError(f"--main-layer {options.main_layer}: expected one of --layers {','.join(map(str, layers))}")
    return int(options.main_layer)


def check_flags(options: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    parts = choices("compare", options.compare, PARTS)
    if options.sentences < 8:
        raise ValueError(f"--sentences {options.sentences}: expected at least 8")
    if options.dictionary and PROCRUSTES not in parts:
        raise ValueError("--dictionary: is for procrustes; add it to --compare")
    if options.other_layers and not options.other_model:
        raise ValueError("--other-layers: expected --other-model, whose layers they are")


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    parts = choices("compare", options.compare, PARTS)
    text = ParallelText.of_flag("text", options.text)
    dictionaries = read_dictionaries(options, text.languages)
    chosen = drawn_rows(text.check(), options.sentences, options.seed)
    batches = batches_of(int(chosen.sum()), options.batch_size, options.seed)
    words_chosen = [drawn_rows(own.check(), options.sentences, options.seed) for own in dictionaries]
    model = model_of(options)
    layers = layers_of(options, model)
    main_layer = main_layer_of(options, model, layers)
    other = other_embedder(options) if options.other_model else None
    embedder = load_embedder(options, model, layers, plug_in=options.plugged)
    claim_results(
        options, all_names(layers), PROGRAM, [*text.paths, *(path for own in dictionaries for path in own.paths)]
    )

    vectors = ParallelVectors.of(embedder, text, chosen, options.output)
    words = [
        ParallelVectors.of(embedder, own, own_chosen, options.output)
        for own, own_chosen in zip(dictionaries, words_chosen, strict=True)
    ]
    report_truncated(embedder)
    warn_of_few_sentences(parts, vectors, int(embedder.model.config.hidden_size))
    classified = drawn_parts(vectors.num_sentences, options.seed)
    is_train = drawn_rows(vectors.num_sentences, vectors.num_sentences // 2, options.seed)
    found = compare_languages(vectors, Plan(parts, text.pairs, batches, classified, is_train, words))
    if options.plugged:
        add_plugged(found, embedder, text, chosen, vectors, batches, options.output)
    if other:
        found.models = compare_models(vectors, ParallelVectors.of(other, text, chosen, options.output), batches)
        report_truncated(other)
    settings = {
        **{"model": str(model), "layers": layers, "languages": text.languages, "sentences": vectors.num_sentences},
        **{"compare": parts, "batch_size": options.batch_size, "main_layer": main_layer, "seed": options.seed},
        **({"other_model": str(options.other_model)} if other else {}),
    }
    write_report(options.output, settings, text.languages, found, main_layer)


def other_embedder(options: argparse.Namespace) -> Embedder:
    """The encoder of --other-model. Raises ValueError as that of MODEL does."""
    model = model_directory(options.other_model, ENCODERS)
    return load_embedder(options, model, layers_of(options, model, flag="other-layers"))


def warn_of_few_sentences(parts: Sequence[str], vectors: ParallelVectors, width: int) -> None:
    """Warn where canonical correlations say little."""
    correlated = [part for part in parts if part in (Measure.SVCCA, Measure.PWCCA)]
    if correlated and vectors.num_sentences < SENTENCES_PER_DIMENSION * width:
        warn(
            f"{' and '.join(correlated)}: {vectors.num_sentences:,} sentences for vectors of width {width}; with fewer "
            f"than {SENTENCES_PER_DIMENSION} for each dimension, correlations come near 1 whatever the languages"
        )


def add_plugged(
    found: Found,
    embedder: Embedder,
    text: ParallelText,
    chosen: np.ndarray,
    vectors: ParallelVectors,
    batches: Sequence[np.ndarray],
    scratch: Path,
) -> None:
    """Add to the numbers of each pair those of its states plugged in."""
    shape = next(iter(vectors.by_language.values())).shape
    x, y = unnamed_map(shape, scratch), unnamed_map(shape, scratch)
    for pair in text.pairs:
        fill_plugged_vectors(embedder, text, chosen, pair, x, y)
        for layer, numbers in compare_plugged(vectors, pair, x, y, batches).items():
            found.by_layer[layer][pair] |= numbers


if __name__ == "__main__":
    run_main(main)
