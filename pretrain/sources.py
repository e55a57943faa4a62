"""The samples of each language and language pair, read from shards that are mapped into memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from data_tools.shards.format import Shard, ShardInfo
from data_tools.shards.manifest import Manifest, SplitShards
from pretrain.views.pair import Sample
from veco.objectives.objective import BILINGUAL, MONO


class OpenShards(dict[str, Shard]):
    """Shards by prefix, each opened when it is first asked for; they hold no file handles, so all may stay open."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.data_dir = data_dir

    def __missing__(self, prefix: str) -> Shard:
        return self.setdefault(prefix, Shard(self.data_dir / prefix))


class Segments(NamedTuple):
    """x and y, ids without `<s>` and `</s>`, how many tokens were cut off, and the borders of sentences inside each."""

    x: np.ndarray
    y: np.ndarray
    num_cut: int
    x_borders: tuple[int, ...] = ()
    y_borders: tuple[int, ...] = ()

    def sample(self, group: int, name: str, number: int, key: int) -> Sample:
        """These as the sample of that place in the order."""
        return Sample(group, name, number, self.x, self.y, self.num_cut, key, self.x_borders, self.y_borders)


class Source(Protocol):
    """One language's or language pair's samples, numbered."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Segments: ...


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

    def __getitem__(self, index: int) -> Segments:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        x, y = (self.shards[prefix][index] for prefix in self.prefixes[which])
        num_cut = sum(max(0, len(ids) - self.max_tokens) for ids in (x, y))
        return Segments(x[: self.max_tokens], y[: self.max_tokens], num_cut)


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

    def __getitem__(self, index: int) -> Segments:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        return self._window(self.shards[self.prefixes[which]], index)

    def _window(self, shard: Shard, index: int) -> Segments:
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
        x, y = split_in_two(shard.tokens[begin:end], inside, self.segment_tokens)
        x_borders, y_borders = inside[inside < len(x)], inside[inside > len(x)] - len(x)
        return Segments(x, y, 0, tuple(x_borders.tolist()), tuple(y_borders.tolist()))


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


def open_sources(data_dir: Path, split: SplitShards, max_lengths: Mapping[str, int]) -> dict[str, dict[str, Source]]:
    """The sources of a split by kind of batch and by language or pair; without those that have no sentence.

    `max_lengths` are by kind of batch, in tokens with `<s>` and `</s>`.
    """
    shards = OpenShards(data_dir)
    mono: dict[str, Source] = {
        language: MonoSource(shards, infos, max_lengths[MONO] - 2)
        for language, infos in split["mono"].items()
        if total(infos)
    }
    parallel: dict[str, Source] = {}
    for name, infos in split["parallel"].items():
        x_language, y_language = name.split("-")
        if total([info[x_language] for info in infos]):
            parallel[name] = ParallelSource(shards, infos, (x_language, y_language), max_lengths[BILINGUAL] - 2)
    return {kind: sources for kind, sources in ((MONO, mono), (BILINGUAL, parallel)) if sources}


def group_names(sources: Mapping[str, Mapping[str, Source]]) -> list[tuple[str, str]]:
    """(kind of batch, language or pair) of every source, in the order in which batches number them."""
    return [(kind, name) for kind, of_kind in sources.items() for name in sorted(of_kind)]


def num_sentences(manifest: Manifest, kind: str, name: str) -> int:
    """Sentences of a language, or pairs of a language pair, to train on."""
    if kind == MONO:
        return total(manifest.mono[name])
    language, _ = name.split("-")
    return total([info[language] for info in manifest.parallel[name]])


def total(infos: Sequence[ShardInfo]) -> int:
    """Sentences in shards."""
    return sum(info.num_sequences for info in infos)
