"""A model that aligns files of pairs, block by block: links are written and scored as they come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from tqdm import tqdm

from analysis.aligning.choice import HALVES, Scores
from analysis.aligning.evidence import Evidence
from analysis.aligning.links import Method, Settings, word_links
from analysis.aligning.pairs import Pair, PairFiles
from analysis.aligning.scores import Counts
from analysis.states import Words

Place = tuple[int, Method]  # a layer and a method, of which there is a file of links
# Sources, targets -> batches of their pairs: numbers (B,), and the evidence of each layer in turn.
EvidenceOf = Callable[[Sequence[Words], Sequence[Words]], Iterator[tuple[np.ndarray, Iterator[Evidence]]]]
BLOCK_PAIRS = 10_000  # sorted by length together: many compared with a batch, few compared with memory


@dataclass(frozen=True)
class Aligner:
    """The evidence that a model's layers give, and all ways in which links follow from it."""

    layers: Sequence[int]
    evidence_of: EvidenceOf
    methods: Sequence[Method]
    settings: Settings

    def links(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Method, int, np.ndarray]]:
        """(layer, method, number of a pair, its links int64 (links, 2)) for all of them, a batch at a time."""
        batches = self.evidence_of([pair.source for pair in pairs], [pair.target for pair in pairs])
        for numbers, by_layer in batches:
            for layer, evidence in zip(self.layers, by_layer, strict=True):
                for method, links in word_links(evidence, self.methods, self.settings).items():
                    for number, own in zip(numbers.tolist(), links, strict=True):
                        yield layer, method, number, own


class Aligned:
    """What was found so far: the counts of each half of the pairs, and a file of links for each layer and method."""

    def __init__(self, aligner: Aligner, files: Mapping[Place, TextIO]) -> None:
        self.aligner, self.files = aligner, files
        self.scores: Scores = {
            method: {layer: [Counts() for _ in HALVES] for layer in aligner.layers} for method in aligner.methods
        }
        self.num_pairs = 0

    def add(self, pairs: Sequence[Pair], progress: tqdm) -> None:
        """Align, score and write the pairs that come next; `progress` counts them."""
        lines = {place: [""] * len(pairs) for place in self.files}
        last = self.aligner.layers[-1], self.aligner.methods[-1]
        for layer, method, number, links in self.aligner.links(pairs):
            own = links.tolist()
            if self.files:
                lines[layer, method][number] = " ".join(f"{i}-{j}" for i, j in own)
            if (gold := pairs[number].gold) is not None:
                half = (self.num_pairs + number) % 2
                self.scores[method][layer][half] += Counts.of(map(tuple, own), gold)
            progress.update((layer, method) == last)
        for place, file in self.files.items():
            file.writelines(f"{line}\n" for line in lines[place])
        self.num_pairs += len(pairs)


def align(
    aligner: Aligner, files: PairFiles, num_pairs: int, outputs: Mapping[Place, TextIO], name: str
) -> tuple[Scores, float]:
    """(the scores of all pairs of some files, pairs per second), with a progress bar labelled `name`."""
    aligned = Aligned(aligner, outputs)
    started = time.perf_counter()
    with tqdm(total=num_pairs, desc=name, unit=" pairs", disable=None) as progress:
        pairs = iter(files)
        while block := list(itertools.islice(pairs, BLOCK_PAIRS)):
            aligned.add(block, progress)
    return aligned.scores, num_pairs / (time.perf_counter() - started)
