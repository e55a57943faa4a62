"""Compare the vectors of translations: how similar they are, a map of them, and what is nearest to given sentences.

    python -m analysis.similarity MODEL --text en=en.txt de=de.txt fr=fr.txt --output DIR
    python -m analysis.similarity MODEL --text en,de=pairs.tsv --output DIR
    python -m analysis.similarity MODEL --queries queries.txt --search de=de.txt fr=fr.txt --threshold 0.6 --output DIR

A sentence's vector is the mean of its states, <s> and </s> included, in each of --layers. --text names files that
translate each other line by line, one for each language, or a table whose first columns are languages; lines without a
sentence in each language are left out. DIR/similarity.json, .csv and .md have the cosines of translations, mean and
standard deviation, for each pair of languages, and those of random pairs: all vectors of an encoder may be similar, so
that a cosine says little without them. `higher` is the share of sentences that are more similar to their translation
than to another sentence drawn at random. DIR/similarity.png and .svg are histograms. --centre subtracts the mean vector
of each language of --text; a search is always by vectors as they are.

DIR/map.png and .svg show --map of these sentences in two dimensions, by UMAP if umap-learn is installed, else t-SNE;
lines join translations. DIR/map.csv has the points.

For each line of --queries, DIR/neighbours.csv has the --count sentences of the files of --search that are most similar,
with their cosine, if that is at least --threshold. Files to search are read in blocks and can have any length.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.options import claim_results, command_parser, layers_of, load_embedder, model_of, named_files
from analysis.parallel.texts import ParallelText, drawn_rows
from analysis.parallel.vectors import ParallelVectors
from analysis.results import result_names
from analysis.translations import neighbours, sentence_map
from analysis.translations.cosines import ByPair, cosines_of_layer, other_rows
from analysis.translations.neighbours import Line, read_queries, search, write_neighbours
from analysis.translations.report import FIGURE, NAME, Searched, write_report
from analysis.translations.sentence_map import Projection, map_of, projection_named, write_maps
from data_tools.cli import refuse_unread, run_main
from data_tools.files.locations import check_can_be_read_again
from finetune.understanding.flags import report_truncated
from finetune.understanding.retrieval.embeddings import Embedder, num_layers
from training.launch import quiet_libraries
from veco.sentence_transformers_files import usual_layer

PROGRAM = "analysis.similarity"


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(PROGRAM, __doc__, "the usual one of sentences")
    parser.add_argument(
        "--text", nargs="+", metavar="LANGUAGE=FILE", help="sentences that translate each other line by line"
    )
    parser.add_argument("--centre", action="store_true", help="subtract the mean vector of each language of --text")
    parser.add_argument("--map", type=int, default=200, help="sentences on the map; 0 = no map (default %(default)s)")
    parser.add_argument(
        "--projection", choices=list(Projection), help="of the map (default: umap if it is installed, else tsne)"
    )
    parser.add_argument("--queries", type=Path, metavar="FILE", help="sentences whose neighbours are wanted")
    parser.add_argument("--search", nargs="+", metavar="[NAME=]FILE", help="where they are searched for")
    parser.add_argument("--count", type=int, default=5, help="neighbours of a query (default %(default)s)")
    parser.add_argument("--threshold", type=float, default=-1.0, help="least cosine of a neighbour (default: any)")
    options = parser.parse_args()
    check_flags(options)
    if options.queries is None:
        refuse_unread(parser, options, dict.fromkeys(("count", "threshold"), "--queries and --search"))
    if options.text is None:
        refuse_unread(parser, options, dict.fromkeys(("map", "projection"), "--text, of which a map is drawn"))
    elif not options.map:
        refuse_unread(parser, options, {"projection": "a map, which --map 0 leaves out"})
    return options


def check_flags(options: argparse.Namespace) -> None:
    """Raise ValueError for flags that ask for nothing, or for what cannot be."""
    if (options.queries is None) != (options.search is None):
        raise ValueError("--queries and --search: expected both, sentences and where to search for their neighbours")
    if options.text is None and options.queries is None:
        raise ValueError("expected --text, translations to compare, or --queries and --search")
    if options.centre and options.text is None:
        raise ValueError("--centre: subtracts the means of the languages of --text; expected --text")
    if options.count < 1:
        raise ValueError(f"--count {options.count}: expected at least 1")
    if options.map != 0 and options.map < 2:
        raise ValueError(f"--map {options.map}: expected at least 2 sentences, or 0 for no map")
    if not -1 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: expected a cosine, from -1 to 1")


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    text = ParallelText.of_flag("text", options.text) if options.text else None
    projection = projection_named(options.projection)
    files = named_files("search", options.search or ())
    for path in files.values():
        check_can_be_read_again(str(path))
    queries = read_queries(options.queries) if options.queries else []
    num_rows = text.check() if text else 0
    model = model_of(options)
    layers = layers_of(options, model, [usual_layer(num_layers(model))])
    embedder = load_embedder(options, model, layers)
    claim_results(options, names_of(text, queries, options.map), PROGRAM, inputs_of(options, text, files))

    by_layer: dict[int, ByPair] = {}
    if text:
        vectors = ParallelVectors.of(embedder, text, np.ones(num_rows, dtype=bool), options.output)
        others = other_rows(num_rows, options.seed)
        by_layer = {layer: cosines_of_layer(vectors, layer, text.pairs, others, options.centre) for layer in layers}
        if options.map:
            write_map(options, text, vectors, projection)
    searched = find_neighbours(options, embedder, queries, files) if queries else None
    report_truncated(embedder)
    settings = {
        **{"model": str(model), "layers": layers, "centre": options.centre, "seed": options.seed},
        **({"languages": text.languages, "sentences": num_rows} if text else {}),
        **({"projection": str(projection)} if text and options.map else {}),
    }
    write_report(options.output, settings, by_layer, searched)


def names_of(text: ParallelText | None, queries: Sequence[Line], num_on_map: int) -> list[str]:
    """The files that are written."""
    names = result_names(NAME, [FIGURE] if text else [])
    if text and num_on_map:
        names += [sentence_map.TABLE, *(f"{sentence_map.NAME}.{end}" for end in ("png", "svg"))]
    return names + [neighbours.TABLE] * bool(queries)


def inputs_of(options: argparse.Namespace, text: ParallelText | None, files: Mapping[str, Path]) -> list[Path]:
    """The files that are read."""
    return [*(text.paths if text else ()), *files.values(), *([options.queries] if options.queries else ())]


def write_map(
    options: argparse.Namespace, text: ParallelText, vectors: ParallelVectors, projection: Projection
) -> None:
    """Write the map of sentences that are drawn at random."""
    is_drawn = drawn_rows(vectors.num_sentences, options.map, options.seed)
    rows = np.flatnonzero(is_drawn)
    maps = [map_of(vectors, layer, rows, projection, options.centre, options.seed) for layer in vectors.layers]
    write_maps(options.output, maps, dict(itertools.compress(text, is_drawn)), projection)


def find_neighbours(
    options: argparse.Namespace, embedder: Embedder, queries: Sequence[Line], files: Mapping[str, Path]
) -> Searched:
    """Write the neighbours of all queries."""
    found, num_searched = search(embedder, [query.sentence for query in queries], files, options.count)
    by_layer = dict(zip(embedder.layers, found, strict=True))
    counts = write_neighbours(options.output, queries, files, by_layer, options.threshold)
    return Searched(len(queries), num_searched, options.threshold, counts)


if __name__ == "__main__":
    run_main(main)
