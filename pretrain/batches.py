"""Shards become batches: the k-th batch is a pure function of (data, seed, k), the same for any number of ranks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from data_tools.shards.format import Shard, ShardInfo
from data_tools.shards.manifest import Manifest, SplitShards
from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID
from pretrain.masking import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE, Masking
from pretrain.micro_batch import make_batch
from pretrain.sampling import LanguageOrder, smoothed_probabilities
from pretrain.views.pair import Sample
from pretrain.views.table import pairs_together
from training.random_order import mix, walk
from training.step import Batch
from veco.objectives.objective import BILINGUAL, MONO
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

    def views(self, kind: str) -> tuple[str, ...]:
        """The views that the objective reads of a kind of batch; none where it is not for that kind."""
        return ObjectiveSum.of(self.objective).of_kind(kind).views

    def masking(self, kind: str, vocab_size: int) -> Masking:
        """The masking of a kind of batch; `<mask>` is the last of the vocabulary."""
        rate, spread = self.mono_mask_rate, 0.0
        if kind == BILINGUAL:
            rate, spread = self.bilingual_mask_rate, self.bilingual_mask_spread
        return Masking(
            rate=rate,
            num_special=FIRST_PIECE_ID,
            mask_id=vocab_size - 1,
            mask_token_share=self.mask_token_share,
            random_token_share=self.random_token_share,
            span_length=self.span_length,
            rate_spread=spread,
        )


class OpenShards(dict[str, Shard]):
    """Shards by prefix, each opened when it is first asked for; they hold no file handles, so all may stay open."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.data_dir = data_dir

    def __missing__(self, prefix: str) -> Shard:
        return self.setdefault(prefix, Shard(self.data_dir / prefix))


class Source(Protocol):
    """One language's or language pair's samples, numbered; each is (x, y, how many tokens were cut off).

    x and y are ids without `<s>` and `</s>`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]: ...


class ParallelSource:
    """The pairs of one language pair: x from its first language, y from its second, each cut to `max_tokens`."""

    def __init__(
        self, shards: OpenShards, pairs: Sequence[dict[str, ShardInfo]], languages: tuple[str, str], max_tokens: int
    ) -> None:
        self.shards = shards
        self.prefixes = [(pair[languages[0]].prefix, pair[languages[1]].prefix) for pair in pairs]
        self.max_tokens = max_tokens
        self.ends = list(accumulate(pair[languages[0]].num_sequences for pair in pairs))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        x, y = (self.shards[prefix][index] for prefix in self.prefixes[which])
        num_cut = sum(max(0, len(ids) - self.max_tokens) for ids in (x, y))
        return x[: self.max_tokens], y[: self.max_tokens], num_cut


class MonoSource:
    """Windows of one language's documents, each cut into two adjacent segments x and y; nothing is cut off.

    Document d of a shard, tokens [a_d, b_d) in it, owns windows number F(d) to F(d+1) with F(d) = d + a_d // W. So it
    has n = b_d // W - a_d // W + 1 of them: one more than multiples of W end in it, so that even the shortest document
    has one. A window has (b_d - a_d) / n < W tokens, up to a sentence's border. The number of a shard's windows follows
    from its header. F grows with d, so a window's document is found by bisection, without a list of samples.

    A border between two windows moves to the next sentence if that is near: of the tokens that two segments may hold,
    an eighth is left free for it. Inside a longer sentence it stays where it is.
    """

    def __init__(self, shards: OpenShards, infos: Sequence[ShardInfo], segment_tokens: int) -> None:
        """`segment_tokens` is the most that x, and that y, may hold."""
        self.shards = shards
        self.prefixes = [info.prefix for info in infos]
        self.segment_tokens = segment_tokens
        self.free_tokens = segment_tokens // 4
        self.window_tokens = 2 * segment_tokens - self.free_tokens
        self.ends = list(accumulate(info.num_documents + info.num_tokens // self.window_tokens for info in infos))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        return *self._window(self.shards[self.prefixes[which]], index), 0

    def _window(self, shard: Shard, index: int) -> tuple[np.ndarray, np.ndarray]:
        def first_token(document: int) -> int:
            sentence = int(shard.documents[document])
            is_end = sentence == shard.num_sequences
            return shard.num_tokens if is_end else int(shard.offsets[sentence]) // shard.itemsize

        def first_window(document: int) -> int:
            return document + first_token(document) // self.window_tokens

        document = bisect_right(range(shard.num_documents), index, key=first_window) - 1
        start, stop = first_token(document), first_token(document + 1)
        num_windows = first_window(document + 1) - first_window(document)
        number = index - first_window(document)
        sentences = shard.offsets[int(shard.documents[document]) : int(shard.documents[document + 1])]

        def near_sentence(token: int) -> int:
            following = int(sentences.searchsorted(token * shard.itemsize))
            border = stop if following == len(sentences) else int(sentences[following]) // shard.itemsize
            return border if border - token <= self.free_tokens else token

        borders = [start + part * (stop - start) // num_windows for part in (number, number + 1)]
        begin, end = map(near_sentence, borders)
        if begin == end:  # of a document so short that a neighbour took all: its tokens come twice
            begin, end = borders[0], max(borders[1], borders[0] + 1)
        inside = sentences[sentences.searchsorted(begin * shard.itemsize, "right") :]
        inside = inside[: inside.searchsorted(end * shard.itemsize)] // shard.itemsize - begin
        return split_in_two(shard.tokens[begin:end], inside, self.segment_tokens)


def split_in_two(tokens: np.ndarray, borders: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Adjacent segments x and y of at most `limit` tokens each, of at most twice as many in all.

    They are cut at that border between sentences, given by the number of tokens before it, which is nearest the middle,
    or in the middle of a sentence where no border leaves both within `limit`.
    """
    assert len(tokens) <= 2 * limit, "a window holds what two segments take"
    cut = middle = len(tokens) // 2
    fitting = borders[(borders <= limit) & (len(tokens) - borders <= limit)]
    if len(fitting):
        cut = int(fitting[np.abs(fitting - middle).argmin()])
    return tokens[:cut], tokens[cut:]


def open_sources(data_dir: Path, split: SplitShards, options: PretrainingOptions) -> dict[str, dict[str, Source]]:
    """The sources of a split by kind of batch and by language or pair.

    Those without a sentence, and kinds that the objective is not for, are left out.
    """
    shards = OpenShards(data_dir)
    mono: dict[str, Source] = {
        language: MonoSource(shards, infos, options.mono_max_length - 2)
        for language, infos in split["mono"].items()
        if total(infos)
    }
    parallel: dict[str, Source] = {}
    for name, infos in split["parallel"].items():
        x_language, y_language = name.split("-")
        if total([info[x_language] for info in infos]):
            parallel[name] = ParallelSource(shards, infos, (x_language, y_language), options.bilingual_max_length - 2)
    found = ((MONO, mono), (BILINGUAL, parallel))
    return {kind: sources for kind, sources in found if sources and options.views(kind)}


def group_names(sources: Mapping[str, Mapping[str, Source]]) -> list[tuple[str, str]]:
    """(kind of batch, language or pair) of every source, in the order in which batches number them."""
    return [(kind, name) for kind, of_kind in sources.items() for name in sorted(of_kind)]


class KindOfBatch:
    """All sources of one kind (monolingual or bilingual) and the order in which their samples come."""

    def __init__(
        self, sources: Mapping[str, Source], sentences: Mapping[str, int], options: PretrainingOptions, salt: int
    ) -> None:
        self.sources = sources
        self.probabilities = smoothed_probabilities(sentences, options.alpha)
        self.key = mix(options.seed, salt)
        self.schedule = LanguageOrder(self.probabilities, self.key)
        self.numbers = {name: number for number, name in enumerate(sorted(sources))}

    def sample(self, number: int, first_group: int) -> Sample:
        """The `number`-th sample of the endless sequence; groups are counted from `first_group` on."""
        name, occurrence = self.schedule[number]
        source = self.sources[name]
        x, y, num_cut = source[walk(occurrence, len(source), mix(self.key, self.numbers[name]))]
        return Sample(first_group + self.numbers[name], name, number, x, y, num_cut, mix(self.key, number))


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
        options: PretrainingOptions,
        rank: int,
        world_size: int,
        accumulation_steps: int,
    ) -> None:
        """Raises ValueError when ranks x accumulation steps do not divide a batch, or the corpus is empty."""
        self.options = options
        self.rank, self.world_size, self.accumulation_steps = rank, world_size, accumulation_steps
        self.vocab_size = manifest.vocab_size
        sources = open_sources(data_dir, {"mono": manifest.mono, "parallel": manifest.parallel}, options)
        if not sources:
            raise ValueError(f"{data_dir}: neither monolingual nor parallel sentences; prepare a corpus first")
        self.groups = group_names(sources)
        self.kinds: dict[str, KindOfBatch] = {}
        for salt, kind in enumerate((MONO, BILINGUAL)):
            if kind in sources:
                sentences = {name: num_sentences(manifest, kind, name) for name in sources[kind]}
                self.kinds[kind] = KindOfBatch(sources[kind], sentences, options, salt)
        self.batch_pairs = {MONO: options.mono_batch_pairs, BILINGUAL: options.bilingual_batch_pairs}
        shares = world_size * accumulation_steps
        wrong = [
            f"{kind}_batch_pairs {self.batch_pairs[kind]}" for kind in self.kinds if self.batch_pairs[kind] % shares
        ]
        if wrong:
            raise ValueError(
                f"{' and '.join(wrong)} cannot be divided evenly by {world_size} ranks x {accumulation_steps} "
                f"accumulation steps; choose multiples of {shares}"
            )
        for kind in self.kinds:
            check_keeps_pairs_together(options, kind, self.batch_pairs[kind] // shares)

    def kind_of(self, step: int) -> str:
        """The kind of batch of update `step`."""
        kinds = list(self.kinds)
        return kinds[step % len(kinds)]

    def samples_of(self, number: int, rank: int) -> tuple[str, range]:
        """The kind of micro-batch `number` of a rank, and which samples in the order of that kind it holds."""
        step, accumulation_step = divmod(number, self.accumulation_steps)
        kind = self.kind_of(step)
        micro_pairs = self.batch_pairs[kind] // (self.world_size * self.accumulation_steps)
        first = (step // len(self.kinds)) * self.batch_pairs[kind]
        first += (accumulation_step * self.world_size + rank) * micro_pairs
        return kind, range(first, first + micro_pairs)

    def source_of(self, number: int, rank: int) -> str:
        """The samples of a micro-batch in words: "bilingual samples 96 to 103 (de-en, en-fr)"."""
        kind, numbers = self.samples_of(number, rank)
        names = sorted({self.kinds[kind].schedule[i][0] for i in numbers})
        return f"{kind} samples {numbers[0]:,} to {numbers[-1]:,} ({', '.join(names)})"

    def __getitem__(self, number: int) -> Batch:
        """Micro-batch `number` of this rank, as `make_batch` gives it."""
        kind, numbers = self.samples_of(number, self.rank)
        first_group = [of for of, _ in self.groups].index(kind)
        samples = [self.kinds[kind].sample(i, first_group) for i in numbers]
        return batch_of(kind, samples, self.options, self.vocab_size)


class ValidationBatches:
    """The held-out samples of every language and pair, in batches of one kind and one group, masked once for all.

    Which samples, which masks and which batches is a function of the data alone: not of the run's seed nor its ranks.
    """

    def __init__(self, data_dir: Path, manifest: Manifest, options: PretrainingOptions, max_batches: int) -> None:
        """At most `max_batches` of each language and pair."""
        self.options = options
        self.vocab_size = manifest.vocab_size
        self.sources = open_sources(data_dir, manifest.valid, options)
        self.groups = group_names(self.sources)
        # By kind: (group, number of the batch in it).
        self.batches: dict[str, list[tuple[int, int]]] = {kind: [] for kind in self.sources}
        for group, (kind, name) in enumerate(self.groups):
            num_batches = min(max_batches, -(-len(self.sources[kind][name]) // VALIDATION_PAIRS))
            self.batches[kind] += [(group, number) for number in range(num_batches)]

    def batch(self, kind: str, index: int) -> Batch:
        """Batch `index` of a kind, as `make_batch` gives it."""
        group, number = self.batches[kind][index]
        source, key = self.sources[kind][self.groups[group][1]], mix(VALIDATION_SEED, *self.groups[group][1].encode())
        samples = []
        first = number * VALIDATION_PAIRS
        for sample in range(first, min(first + VALIDATION_PAIRS, len(source))):
            x, y, num_cut = source[walk(sample, len(source), key)]
            samples.append(Sample(group, self.groups[group][1], sample, x, y, num_cut, mix(key, sample)))
        return batch_of(kind, samples, self.options, self.vocab_size)


def check_keeps_pairs_together(options: PretrainingOptions, kind: str, micro_pairs: int) -> None:
    """Raise ValueError where a micro-batch of so many pairs would cut pairs apart that belong together."""
    together = pairs_together(ObjectiveSum.of(options.objective), kind, options.contrast_pairs)
    if micro_pairs % together:
        raise ValueError(
            f"objective {options.objective!r} with contrast_pairs {options.contrast_pairs}: a device's micro-batch of "
            f"{micro_pairs} {kind} pairs is not a multiple of the {together} that stay together; choose "
            f"{kind}_batch_pairs, contrast_pairs, ranks and accumulation_steps so that it is"
        )


def num_sentences(manifest: Manifest, kind: str, name: str) -> int:
    """Sentences of a language, or pairs of a language pair, to train on."""
    if kind == MONO:
        return total(manifest.mono[name])
    language, _ = name.split("-")
    return total([info[language] for info in manifest.parallel[name]])


def total(infos: Sequence[ShardInfo]) -> int:
    """Sentences in shards."""
    return sum(info.num_sequences for info in infos)


def batch_of(kind: str, samples: Sequence[Sample], options: PretrainingOptions, vocab_size: int) -> Batch:
    """A micro-batch of a kind, as `make_batch` gives it, of the views that the objective reads."""
    return make_batch(samples, options.views(kind), options.masking(kind, vocab_size), options.contrast_pairs)
