"""Samples and tokens read of each language and language pair over a run, and the epochs that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_tools.shards.manifest import Manifest
from pretrain.batches import MONO, PretrainingOptions, Source, num_sentences, open_sources
from pretrain.planning.workload import Workload
from pretrain.recipe import PretrainRecipe
from pretrain.sampling import smoothed_probabilities


@dataclass(frozen=True)
class Reading:
    """Samples and tokens read of a language or language pair. A sample is a pair of segments or sentences."""

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


def read_contents(recipe: PretrainRecipe, data_dir: Path, manifest: Manifest) -> dict[str, dict[str, Content]]:
    """By kind of batch and name. Nothing but the manifest is read.

    Raises ValueError for a directory without a sentence.
    """
    fields = dataclasses.fields(PretrainingOptions)
    options = PretrainingOptions(**{field.name: recipe.__dict__[field.name] for field in fields})
    sources = open_sources(data_dir, {"mono": manifest.mono, "parallel": manifest.parallel}, options)
    if not sources:
        raise ValueError(f"{data_dir}: neither monolingual nor parallel sentences; prepare a corpus first")
    return {
        kind: {name: content_of(manifest, kind, name, source) for name, source in of_kind.items()}
        for kind, of_kind in sources.items()
    }


def content_of(manifest: Manifest, kind: str, name: str, source: Source) -> Content:
    shards = manifest.corpora("train")[f"{'mono' if kind == MONO else 'parallel'}/{name}"]
    tokens = sum(info.num_tokens for sides in shards for info in sides.values())
    return Content(num_sentences(manifest, kind, name), len(source), tokens)


def mean_lengths(contents: Mapping[str, Mapping[str, Content]], alpha: float) -> dict[str, float]:
    """Mean tokens of x, and of y, with `<s>` and `</s>`, as samples are drawn; by kind of batch."""
    found = {}
    for kind, of_kind in contents.items():
        drawn = probabilities(of_kind, alpha)
        pair_tokens = sum(drawn[name] * content.tokens / content.samples for name, content in of_kind.items())
        found[kind] = pair_tokens / 2 + 2
    return found


def probabilities(contents: Mapping[str, Content], alpha: float) -> dict[str, float]:
    return smoothed_probabilities({name: content.sentences for name, content in contents.items()}, alpha)


def readings(workload: Workload, contents: Mapping[str, Mapping[str, Content]]) -> list[Reading]:
    """Samples and tokens read over the whole run, in each kind the most frequent first."""
    found = []
    for kind, of_kind in contents.items():
        drawn = probabilities(of_kind, workload.recipe.alpha)
        total = workload.updates_of_a_kind * workload.kinds[kind].batch_pairs
        for name in sorted(of_kind, key=drawn.__getitem__, reverse=True):
            content = of_kind[name]
            samples = drawn[name] * total
            tokens = samples * content.tokens / content.samples
            found.append(
                Reading(kind, name, content.sentences, drawn[name], samples, tokens, samples / content.samples)
            )
    return found
