"""Everything that is compared of languages, layer by layer, and of two models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from analysis.comparing.identity import told_languages
from analysis.comparing.measures import Measure, VectorSet, compared
from analysis.comparing.procrustes import Rotation, rotated_accuracy
from analysis.comparing.retrieval import Variant, retrieval_accuracy
from analysis.parallel.vectors import ParallelVectors

Pair = tuple[str, str]
Numbers = dict[str, float]  # {column: number}
RETRIEVAL, CLASSIFIER, PROCRUSTES = "retrieval", "classifier", "procrustes"
PARTS = (*Measure, RETRIEVAL, CLASSIFIER, PROCRUSTES)


@dataclass(frozen=True)
class Plan:
    """What is compared: some of PARTS, and how.

    `batches` are the rows of those of HSIC, `classified` (sentences,) the parts of `told_languages`. Rotations are
    learned from the sentences of `is_train` (sentences,) and tested on the others or, with `dictionaries` of vectors of
    words, learned from these and tested on all sentences, centred by their own means.
    """

    parts: Sequence[str]
    pairs: Sequence[Pair]
    batches: Sequence[np.ndarray]
    classified: np.ndarray
    is_train: np.ndarray
    dictionaries: Sequence[ParallelVectors]

    @property
    def measures(self) -> list[Measure]:
        return [Measure(part) for part in self.parts if part in list(Measure)]


@dataclass
class Found:
    """What was found: numbers of each pair by layer, how well languages are told by layer, and CKA of two models.

    `models` is {layer: {layer of the other: {language: CKA}}}.
    """

    by_layer: dict[int, dict[Pair, Numbers]] = field(default_factory=dict)
    told: dict[int, Numbers] = field(default_factory=dict)
    models: dict[int, dict[int, Numbers]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The names of all numbers that pairs have."""
        pairs = (numbers for by_pair in self.by_layer.values() for numbers in by_pair.values())
        return list(dict.fromkeys(name for numbers in pairs for name in numbers))


def compare_languages(vectors: ParallelVectors, plan: Plan) -> Found:
    """The numbers of all pairs of languages in each layer."""
    found = Found()
    steps = [(layer, pair) for layer in vectors.layers for pair in plan.pairs]
    sets: dict[str, VectorSet] = {}
    for layer, pair in tqdm(steps, desc="comparing languages", unit=" pairs", disable=None):
        if layer not in found.by_layer:
            found.by_layer[layer] = {}
            sets = {language: vector_set(vectors, language, layer, plan.batches) for language in vectors.languages}
            if CLASSIFIER in plan.parts:
                by_language = {language: own.vectors for language, own in sets.items()}
                found.told[layer] = {**told_languages(by_language, plan.classified), "chance": 1 / len(by_language)}
        found.by_layer[layer][pair] = compare_pair(sets, layer, pair, plan)
    return found


def vector_set(vectors: ParallelVectors, language: str, layer: int, batches: Sequence[np.ndarray]) -> VectorSet:
    """The vectors of a language in a layer, in memory."""
    return VectorSet(np.array(vectors.of_layer(language, layer)), batches)


def compare_pair(sets: Mapping[str, VectorSet], layer: int, pair: Pair, plan: Plan) -> Numbers:
    """The numbers of a pair of languages in a layer."""
    x, y = (sets[language] for language in pair)
    numbers = compared(x, y, plan.measures)
    if RETRIEVAL in plan.parts:
        numbers |= {str(variant): retrieval_accuracy(x.vectors, y.vectors, variant) for variant in Variant}
    if PROCRUSTES in plan.parts:
        numbers |= rotate(x.vectors, y.vectors, layer, pair, plan)
    return numbers


def rotate(x: np.ndarray, y: np.ndarray, layer: int, pair: Pair, plan: Plan) -> Numbers:
    """The accuracy of retrieval without and with a rotation; nothing for a pair without a dictionary."""
    if not plan.dictionaries:
        rotation = Rotation.learned(x[plan.is_train], y[plan.is_train])
        return rotated_accuracy(rotation, x[~plan.is_train], y[~plan.is_train])
    for words in plan.dictionaries:
        if set(pair) <= set(words.languages):
            rotation = Rotation.learned(*(words.of_layer(language, layer) for language in pair))
            # Sentences have other means than words, and are all tested, so that there are no others to take means of.
            rotation = dataclasses.replace(rotation, x_centre=x.mean(axis=0), y_centre=y.mean(axis=0))
            return rotated_accuracy(rotation, x, y)
    return {}


def compare_models(
    vectors: ParallelVectors, other: ParallelVectors, batches: Sequence[np.ndarray]
) -> dict[int, dict[int, Numbers]]:
    """{layer: {layer of the other model: {language: CKA}}} of the vectors of the same sentences."""
    found: dict[int, dict[int, Numbers]] = {
        layer: {other_layer: {} for other_layer in other.layers} for layer in vectors.layers
    }
    for language in tqdm(vectors.languages, desc="comparing models", unit=" languages", disable=None):
        of_other = {layer: vector_set(other, language, layer, batches) for layer in other.layers}
        for layer in vectors.layers:
            own = vector_set(vectors, language, layer, batches)
            for other_layer, others in of_other.items():
                found[layer][other_layer] |= {language: compared(own, others, [Measure.CKA])[Measure.CKA]}
    return found


def compare_plugged(
    vectors: ParallelVectors, pair: Pair, x: np.ndarray, y: np.ndarray, batches: Sequence[np.ndarray]
) -> dict[int, Numbers]:
    """{layer: CKA of H and S of each language, and of S of both}; x and y (layers, sentences, D) are S of the pair."""
    found = {}
    for place, layer in enumerate(vectors.layers):
        h = [vector_set(vectors, language, layer, batches) for language in pair]
        s = [VectorSet(side[place], batches) for side in (x, y)]
        sides = {"h_s_first": (h[0], s[0]), "h_s_second": (h[1], s[1]), "s_s": (s[0], s[1])}
        found[layer] = {name: compared(*both, [Measure.CKA])[Measure.CKA] for name, both in sides.items()}
    return found
