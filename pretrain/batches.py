"""Shards become batches: the k-th batch is a pure function of (data, seed, k), the same for any number of ranks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from data_tools.shards.manifest import Manifest, SplitShards
from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE, Masking
from pretrain.micro_batch import make_batch
from pretrain.order import Group, KindOfBatch, Stretch
from pretrain.sources import BILINGUAL, MONO, group_names, num_sentences, open_sources
from pretrain.views.pair import Sample
from pretrain.views.resources import Resources
from pretrain.views.table import pairs_together
from pretrain.words.lexicons import Lexicons
from training.random_order import mix, walk
from training.step import Batch
from veco.objectives.objective_sum import ObjectiveSum

VALIDATION_PAIRS = 16  # in a batch of validation, on whatever number of ranks
VALIDATION_SEED = 1  # not the run's: runs with different seeds are compared on the same masks


@dataclass(frozen=True)
class PretrainingOptions:
    """Options that decide the content of batches: sizes in pairs of the global batch, lengths with `<s>` and `</s>`."""

    seed: int
    alpha: float
    mono_batch_pairs: int
    bilingual_batch_pairs: int
    mono_max_length: int
    bilingual_max_length: int
    mono_mask_rate: float
    bilingual_mask_rate: float
    contrast_pairs: int
    objective: str = "ca_mlm+tlm"
    mask_token_share: float = MASK_TOKEN_SHARE
    random_token_share: float = RANDOM_TOKEN_SHARE
    span_length: float = 0.0
    bilingual_mask_spread: float = 0.0
    languages: tuple[str, ...] | None = None  # to train; None = all of the data
    pairs: tuple[str, ...] | None = None  # None = those of the languages

    @property
    def batch_pairs(self) -> dict[str, int]:
        """Pairs of a global batch, by kind."""
        return {MONO: self.mono_batch_pairs, BILINGUAL: self.bilingual_batch_pairs}

    @property
    def max_lengths(self) -> dict[str, int]:
        """Most tokens of x, and of y, by kind of batch."""
        return {MONO: self.mono_max_length, BILINGUAL: self.bilingual_max_length}

    def window_length(self, kind: str) -> int:
        """The length on which the numbers of a kind's samples depend: pairs of sentences are the same, cut shorter."""
        return self.mono_max_length if kind == MONO else 0

    def trained(self, kind: str, names: Collection[str]) -> list[str]:
        """Those of the data's languages or pairs, by the kind of batch, that are trained."""
        listed = self.languages if kind == MONO else self.pairs
        if listed is not None or self.languages is None:
            return [name for name in names if listed is None or name in listed]
        return [name for name in names if set(name.split("-")) <= set(self.languages)]

    def at(self, step: int) -> PretrainingOptions:
        """The options of update `step`: these, whatever its number."""
        return self

    def borders(self) -> list[int]:
        """The updates from which on samples may be drawn otherwise than before; the first is 0."""
        return [0]

    def views(self, kind: str) -> tuple[str, ...]:
        """The views that the objective reads of a kind of batch; none where it is not for that kind."""
        return ObjectiveSum.of(self.objective).of_kind(kind).views

    def masking(self, kind: str, special: SpecialIds, vocab_size: int) -> Masking:
        """The masking of a kind of batch, of ids below `vocab_size`."""
        rate, spread = self.mono_mask_rate, 0.0
        if kind == BILINGUAL:
            rate, spread = self.bilingual_mask_rate, self.bilingual_mask_spread
        return Masking(
            rate=rate,
            special=special,
            vocab_size=vocab_size,
            mask_token_share=self.mask_token_share,
            random_token_share=self.random_token_share,
            span_length=self.span_length,
            rate_spread=spread,
        )


class Course(Protocol):
    """The options of each update of a run: `PretrainingOptions` where they stay the same."""

    def at(self, step: int) -> PretrainingOptions:
        """The options of update `step`, from 0."""

    def borders(self) -> list[int]:
        """The updates, ascending from 0, from which on samples may be drawn otherwise than before."""


class PretrainingBatches(Dataset):
    """Micro-batches by number. Number m belongs to update m // A, accumulation step m % A, on this rank.

    All ranks take the same kind of batch at the same update: monolingual on even updates, bilingual on odd ones, or
    always the one there is. Sample j of a global batch is the same whatever the number of ranks and of
    accumulation steps A.
    """

    def __init__(
        self,
        data_dir: Path,
        manifest: Manifest,
        course: Course,
        rank: int,
        world_size: int,
        accumulation_steps: int,
        lexicons: Lexicons | None = None,
    ) -> None:
        """Raises ValueError when ranks x accumulation steps do not divide a batch, or there is nothing to train on."""
        self.course = course
        self.lexicons = lexicons
        self.rank, self.world_size, self.accumulation_steps = rank, world_size, accumulation_steps
        self.special, self.vocab_size = manifest.special, manifest.vocab_size
        self.groups, self.stretches = read_stretches(data_dir, manifest, course)
        self.kinds = list(dict.fromkeys(kind for stretch in self.stretches for kind in stretch.kinds))
        shares = world_size * accumulation_steps
        sizes = [(kind, stretch.batch_pairs[kind]) for stretch in self.stretches for kind in stretch.kinds]
        if wrong := [f"{kind}_batch_pairs {pairs}" for kind, pairs in dict.fromkeys(sizes) if pairs % shares]:
            raise ValueError(
                f"{' and '.join(wrong)} cannot be divided evenly by {world_size} ranks x {accumulation_steps} "
                f"accumulation steps; choose multiples of {shares}"
            )
        for border in course.borders():
            options, kinds = course.at(border), self.stretch_of(border).kinds
            check_can_fill_queues(options, kinds, border)
            for kind in kinds:
                check_keeps_pairs_together(options, kind, options.batch_pairs[kind] // shares)

    def stretch_of(self, step: int) -> Stretch:
        """The stretch that update `step` belongs to."""
        return self.stretches[bisect_right(self.stretches, step, key=lambda stretch: stretch.begin) - 1]

    def kind_of(self, step: int) -> str:
        """The kind of batch of update `step`."""
        return self.stretch_of(step).kind_of(step)

    def samples_of(self, number: int, rank: int) -> tuple[KindOfBatch, str, range]:
        """The order of samples and the kind of micro-batch `number` of a rank, and which samples it holds."""
        step, accumulation_step = divmod(number, self.accumulation_steps)
        stretch = self.stretch_of(step)
        kind = stretch.kind_of(step)
        micro_pairs = stretch.batch_pairs[kind] // (self.world_size * self.accumulation_steps)
        first = stretch.first_sample(kind, step) + (accumulation_step * self.world_size + rank) * micro_pairs
        return stretch.kinds[kind], kind, range(first, first + micro_pairs)

    def source_of(self, number: int, rank: int) -> str:
        """The samples of a micro-batch in words: "bilingual samples 96 to 103 (de-en, en-fr)"."""
        order, kind, numbers = self.samples_of(number, rank)
        names = sorted({order.name(i) for i in numbers})
        return f"{kind} samples {numbers[0]:,} to {numbers[-1]:,} ({', '.join(names)})"

    def __getitem__(self, number: int) -> Batch:
        """Micro-batch `number` of this rank, as `make_batch` gives it."""
        order, kind, numbers = self.samples_of(number, self.rank)
        first_group = [of for of, _ in self.groups].index(kind)
        samples = [order.sample(i, first_group) for i in numbers]
        options = self.course.at(number // self.accumulation_steps)
        return batch_of(kind, samples, options, self.special, self.vocab_size, self.lexicons)


def read_stretches(data_dir: Path, manifest: Manifest, course: Course) -> tuple[list[tuple[str, str]], list[Stretch]]:
    """The groups of all data, as `group_names` has them, and the stretches of a run, each beginning where one ends.

    The windows of another `mono_max_length` are other samples: their draws are counted by themselves.
    """
    split: SplitShards = {"mono": manifest.mono, "parallel": manifest.parallel}
    numbers = {MONO: 0, BILINGUAL: 0}  # of samples before the stretch
    drawn: dict[tuple[str, int], dict[str, int]] = {}  # before it, of a kind's groups, by the length of its windows
    found: list[Stretch] = []
    names: list[tuple[str, str]] = []
    borders = course.borders()
    for begin, end in zip_longest(borders, borders[1:]):
        options = course.at(begin)
        sources = open_sources(data_dir, split, options.max_lengths)
        if not sources:
            raise ValueError(f"{data_dir}: neither monolingual nor parallel sentences; prepare a corpus first")
        names = group_names(sources)
        kinds: dict[str, KindOfBatch] = {}
        before = {kind: drawn.setdefault((kind, options.window_length(kind)), {}) for kind in numbers}
        for salt, kind in enumerate(numbers):
            places = {name: place for place, name in enumerate(sorted(sources.get(kind, {})))}
            groups = {
                name: Group(sources[kind][name], num_sentences(manifest, kind, name), places[name])
                for name in options.trained(kind, places)
            }
            if groups and options.views(kind):
                key = mix(options.seed, salt)
                kinds[kind] = KindOfBatch(groups, options.alpha, key, numbers[kind], before[kind])
        if not kinds:
            raise ValueError(
                f"update {begin + 1}: of its languages and pairs the data have no sentence for its objective "
                f"{options.objective!r}; choose others"
            )
        stretch = Stretch(begin, kinds, options.batch_pairs)
        found.append(stretch)
        if end is None:
            break
        for kind, order in kinds.items():
            numbers[kind] = stretch.first_sample(kind, end)
            before[kind] |= order.draws_before(numbers[kind])
    return names, found


class ValidationBatches:
    """The held-out samples of every language and pair, in batches of one kind and one group, masked once for all.

    Which samples, which masks and which batches is a function of the data alone: not of the run's seed nor its ranks.
    """

    def __init__(
        self,
        data_dir: Path,
        manifest: Manifest,
        options: PretrainingOptions,
        max_batches: int,
        lexicons: Lexicons | None = None,
    ) -> None:
        """At most `max_batches` of each language and pair."""
        self.options = options
        self.lexicons = lexicons
        self.special, self.vocab_size = manifest.special, manifest.vocab_size
        self.sources = open_sources(data_dir, manifest.valid, options.max_lengths)
        self.groups = group_names(self.sources)
        # By kind: (group, samples of the batch in it).
        self.batches: dict[str, list[tuple[int, range]]] = {kind: [] for kind in self.sources}
        for group, (kind, name) in enumerate(self.groups):
            size = min(len(self.sources[kind][name]), max_batches * VALIDATION_PAIRS)
            self.batches[kind] += [(group, part) for part in even_parts(size, VALIDATION_PAIRS)]

    def batch(self, kind: str, index: int) -> Batch:
        """Batch `index` of a kind, as `make_batch` gives it."""
        group, part = self.batches[kind][index]
        source, key = self.sources[kind][self.groups[group][1]], mix(VALIDATION_SEED, *self.groups[group][1].encode())
        samples = []
        for sample in part:
            found = source[walk(sample, len(source), key)]
            samples.append(found.sample(group, self.groups[group][1], sample, mix(key, sample)))
        return batch_of(kind, samples, self.options, self.special, self.vocab_size, self.lexicons)


def even_parts(size: int, most: int) -> list[range]:
    """The numbers below `size` in as few parts as have at most `most` each, of lengths that differ by one at most.

    So the last pairs of a contrast, which are told from those of their batch alone, are not almost alone in it.
    """
    num_parts = -(-size // most)
    return [range(part * size // num_parts, (part + 1) * size // num_parts) for part in range(num_parts)]


def check_can_fill_queues(options: PretrainingOptions, kinds: Collection[str], step: int) -> None:
    """Raise ValueError where a momentum encoder's queue would wait for ever for batches that it is filled from."""
    for part in ObjectiveSum.of(options.objective):
        if part.momentum_view and not set(part.kinds) & set(kinds):
            raise ValueError(
                f"update {step + 1}: {part.name} fills its queue from {' or '.join(part.kinds)} batches, and of the "
                f"languages and pairs that are trained there are none; choose others, or leave {part.name} out there"
            )


def check_keeps_pairs_together(options: PretrainingOptions, kind: str, micro_pairs: int) -> None:
    """Raise ValueError where a micro-batch of so many pairs would cut pairs apart that belong together."""
    together = pairs_together(ObjectiveSum.of(options.objective), kind, options.contrast_pairs)
    if micro_pairs % together:
        raise ValueError(
            f"objective {options.objective!r} with contrast_pairs {options.contrast_pairs}: a device's micro-batch of "
            f"{micro_pairs} {kind} pairs is not a multiple of the {together} that stay together; choose "
            f"{kind}_batch_pairs, contrast_pairs, ranks and accumulation_steps so that it is"
        )


def batch_of(
    kind: str,
    samples: Sequence[Sample],
    options: PretrainingOptions,
    special: SpecialIds,
    vocab_size: int,
    lexicons: Lexicons | None = None,
) -> Batch:
    """A micro-batch of a kind, as `make_batch` gives it, of the views that the objective reads."""
    masking = options.masking(kind, special, vocab_size)
    resources = Resources(ObjectiveSum.of(options.objective), lexicons)
    return make_batch(samples, options.views(kind), masking, options.contrast_pairs, resources)
