"""Semantic search: the sentences of files, in whatever languages, that are most similar to some queries.

Files are read in blocks, whose vectors are gone when the next is read, so that they can have any length.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_tools.files.atomic import atomic_path
from data_tools.text.lines import open_prose
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Neighbours, nearest, unit_rows

TABLE = "neighbours.csv"
COLUMNS = ("query_line", "query", "layer", "rank", "cosine", "file", "line", "sentence")
BLOCK_SENTENCES = 10_000  # read at once


@dataclass(frozen=True)
class Line:
    """A sentence, and the name of its file and its number there, from 1."""

    file: str
    number: int
    sentence: str


def sentences_of(name: str, path: Path) -> Iterator[Line]:
    """The lines of a file that are not empty."""
    with open_prose(path) as lines:
        for number, line in enumerate(lines, start=1):
            if sentence := line.strip():
                yield Line(name, number, sentence)


def read_queries(path: Path) -> list[Line]:
    """The lines of a file that are not empty. Raises ValueError if there is none."""
    queries = list(sentences_of("queries", path))
    if not queries:
        raise ValueError(f"{path}: empty; expected a sentence a line")
    return queries


def all_sentences(files: Mapping[str, Path]) -> Iterator[Line]:
    """The sentences of all files, {name: path}, in order."""
    return itertools.chain.from_iterable(sentences_of(name, path) for name, path in files.items())


def search(
    embedder: Embedder, queries: Sequence[str], files: Mapping[str, Path], count: int
) -> tuple[list[Neighbours], int]:
    """(the `count` sentences nearest to each query by cosine in each of the embedder's layers, sentences searched).

    The indices of neighbours count the sentences of all files from 0. Raises ValueError if there is none.
    """
    of_queries = [unit_rows(vectors) for vectors in embedder.embed(queries)]
    best: list[Neighbours] = []
    num_searched = 0
    sentences = all_sentences(files)
    with tqdm(desc="searching", unit=" sentences", disable=None) as progress:
        while block := [line.sentence for line in itertools.islice(sentences, BLOCK_SENTENCES)]:
            vectors = embedder.embed(block)
            found = [nearest(x, unit_rows(y), count) for x, y in zip(of_queries, vectors, strict=True)]
            found = [Neighbours(scores, indices + num_searched) for scores, indices in found]
            best = [better_of(*both, count) for both in zip(best, found, strict=True)] if best else found
            num_searched += len(block)
            progress.update(len(block))
    if not num_searched:
        raise ValueError(f"{next(iter(files.values()))}: empty; expected a sentence a line")
    return best, num_searched


def better_of(first: Neighbours, second: Neighbours, count: int) -> Neighbours:
    """The `count` nearest among both; of equal ones, those of the first."""
    scores, indices = (np.concatenate(both, axis=1) for both in zip(first, second, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1))


def write_neighbours(
    output: Path,
    queries: Sequence[Line],
    files: Mapping[str, Path],
    by_layer: Mapping[int, Neighbours],
    threshold: float,
) -> dict[int, int]:
    """Write the neighbours of each layer whose cosine is at least `threshold`, most similar first.

    Returns how many queries have one, {layer: number}. The sentences are read a second time.
    """
    wanted = np.unique(np.concatenate([own.indices[own.scores >= threshold] for own in by_layer.values()])).tolist()
    lines = chosen(all_sentences(files), wanted)
    with atomic_path(output / TABLE) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, query in enumerate(queries):
            for layer, own in by_layer.items():
                nearby = zip(own.scores[number].tolist(), own.indices[number].tolist(), strict=True)
                for rank, (score, index) in enumerate(nearby, start=1):
                    if score >= threshold:
                        line = lines[index]
                        where = (line.file, line.number, line.sentence)
                        writer.writerow((query.number, query.sentence, layer, rank, score, *where))
    return {layer: int((own.scores[:, 0] >= threshold).sum()) for layer, own in by_layer.items()}


def chosen(lines: Iterator[Line], numbers: Sequence[int]) -> dict[int, Line]:
    """The lines of these numbers, ascending and from 0."""
    found, read = {}, 0
    for number in numbers:
        found[number] = next(itertools.islice(lines, number - read, None))
        read = number + 1
    return found
