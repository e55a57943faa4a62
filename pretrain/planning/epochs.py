"""Samples and tokens read of each language and language pair over a run, and the epochs that they make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.shards.manifest import Manifest
from pretrain.course import options_of
from pretrain.planning.workload import Workload, parts_of
from pretrain.recipe import PretrainRecipe
from pretrain.sampling import smoothed_probabilities
from pretrain.sources import MONO, Source, num_sentences, open_sources
from veco.objectives.objective_sum import ObjectiveSum


@dataclass(frozen=True)
class Reading:
    """Samples and tokens read of a language or language pair. A sample is a pair of segments or sentences.

    `probability` is its share of the samples of its kind.
    """

    kind: str
    name: str
    sentences: int
    probability: float
    samples: float
    tokens: float
    epochs: float


@dataclass(frozen=True)
class Content:
    """The samples of a language or language pair, and their tokens without `<s>` and `</s>`."""

    sentences: int
    samples: int
    tokens: int


Contents = Mapping[str, Mapping[str, Content]]  # of a part of a run, by kind of batch and name


def read_contents(recipe: PretrainRecipe, data_dir: Path, manifest: Manifest) -> Contents:
    """What a recipe without stages trains on, of kinds that its objective is for. Only the manifest is read.

    Raises ValueError where there is no sentence of it.
    """
    options, objective = options_of(recipe), ObjectiveSum.of(recipe.objective)
    sources = open_sources(data_dir, {"mono": manifest.mono, "parallel": manifest.parallel}, options.max_lengths)
    found = {
        kind: {name: content_of(manifest, kind, name, of_kind[name]) for name in options.trained(kind, of_kind)}
        for kind, of_kind in sources.items()
        if objective.of_kind(kind).parts
    }
    if not any(found.values()):
        raise ValueError(f"{data_dir}: has no sentences for objective {recipe.objective!r}; prepare some first")
    return {kind: of_kind for kind, of_kind in found.items() if of_kind}


def content_of(manifest: Manifest, kind: str, name: str, source: Source) -> Content:
    shards = manifest.corpora("train")[f"{'mono' if kind == MONO else 'parallel'}/{name}"]
    tokens = sum(info.num_tokens for sides in shards for info in sides.values())
    return Content(num_sentences(manifest, kind, name), len(source), tokens)


def mean_lengths(contents: Contents, alpha: float) -> dict[str, float]:
    """Mean tokens of x, and of y, with `<s>` and `</s>`, as samples are drawn; by kind of batch."""
    found = {}
    for kind, of_kind in contents.items():
        drawn = probabilities(of_kind, alpha)
        pair_tokens = sum(drawn[name] * content.tokens / content.samples for name, content in of_kind.items())
        found[kind] = pair_tokens / 2 + 2
    return found


def probabilities(contents: Mapping[str, Content], alpha: float) -> dict[str, float]:
    return smoothed_probabilities({name: content.sentences for name, content in contents.items()}, alpha)


def readings(workload: Workload, contents: Sequence[Contents]) -> list[Reading]:
    """Samples and tokens read over the whole run, in each kind the most frequent first.

    `contents` are those of the workload's parts.
    """
    read: dict[tuple[str, str], list[tuple[Content, float]]] = defaultdict(list)  # content, and samples of it, by part
    alphas = [recipe.alpha for _, recipe in parts_of(workload.recipe)]
    for part, alpha, of_part in zip(workload.parts, alphas, contents, strict=True):
        for kind, of_kind in of_part.items():
            total = part.updates_of_a_kind * part.kinds[kind].batch_pairs
            for name, drawn in probabilities(of_kind, alpha).items():
                read[kind, name].append((of_kind[name], drawn * total))
    samples = {key: sum(count for _, count in parts) for key, parts in read.items()}
    of_kinds = {kind: sum(count for (of, _), count in samples.items() if of == kind) for kind, _ in samples}
    found = [
        Reading(
            kind=kind,
            name=name,
            sentences=parts[0][0].sentences,
            probability=samples[kind, name] / of_kinds[kind],
            samples=samples[kind, name],
            tokens=sum(count * content.tokens / content.samples for content, count in parts),
            epochs=sum(count / content.samples for content, count in parts),
        )
        for (kind, name), parts in read.items()
    ]
    order = list(of_kinds)
    return sorted(found, key=lambda reading: (order.index(reading.kind), -reading.probability))
