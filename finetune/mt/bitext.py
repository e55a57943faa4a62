"""Sentence pairs as ids, from text files or prepared shards, with counts of the pairs dropped or truncated.

Every process tokenises text files for itself; large bitexts are better prepared once (`data_tools.prepare`), since
shards are memory-mapped and shared by all processes of a machine.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from data_tools.shards.format import Shard, ShardInfo
from data_tools.shards.manifest import Manifest
from data_tools.text.languages import find_language
from data_tools.text.lines import open_prose
from finetune.encoded_text import Encode, Sentences
from finetune.mt.special_tokens import Frame

LINES_PER_CALL = 4096  # lines tokenised at once: enough for the tokenizer's threads, few enough for memory


class Sequences(Protocol):
    """The sentences of one side of a bitext, without special tokens."""

    @property
    def lengths(self) -> np.ndarray:
        """Integers (sentences,), in pieces."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> np.ndarray:
        """Ids (length,) of sentence i."""


@dataclass(frozen=True)
class ShardSequences:
    """The sequences of a memory-mapped shard, each truncated to `limit` ids."""

    shard: Shard
    limit: int

    @property
    def lengths(self) -> np.ndarray:
        """int32 (sentences,), in pieces."""
        return np.minimum(self.shard.lengths, self.limit)

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.shard[i][: self.limit]


class JoinedSides:
    """Several sides concatenated."""

    def __init__(self, parts: Sequence[Sequences]) -> None:
        self.parts = parts
        self.starts = [0, *itertools.accumulate(map(len, parts))]

    @property
    def lengths(self) -> np.ndarray:
        """Integers (sentences,), in pieces."""
        return np.concatenate([part.lengths for part in self.parts])

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, i: int) -> np.ndarray:
        part = bisect_right(self.starts, i) - 1
        return self.parts[part][i - self.starts[part]]


@dataclass(frozen=True)
class BitextReport:
    """Counts of the lines of a bitext, and of all that were dropped or truncated."""

    num_lines: int = 0
    num_empty: int = 0  # pairs dropped because a side is empty
    num_cut_source: int = 0  # sides truncated to the maximum length
    num_cut_target: int = 0

    def __add__(self, other: BitextReport) -> BitextReport:
        return BitextReport(
            self.num_lines + other.num_lines,
            self.num_empty + other.num_empty,
            self.num_cut_source + other.num_cut_source,
            self.num_cut_target + other.num_cut_target,
        )

    def __str__(self) -> str:
        return (
            f"{self.num_lines:,} lines, {self.num_empty:,} pairs with an empty side dropped, "
            f"{self.num_cut_source:,} source and {self.num_cut_target:,} target sides truncated"
        )


@dataclass(frozen=True)
class Bitext:
    """Tokenised sentence pairs without special tokens, and the id that starts the decoder for each."""

    source: Sequences
    target: Sequences
    decoder_start_ids: np.ndarray  # int32 (pairs,)
    report: BitextReport
    fingerprint: str  # hexadecimal; equal for equal pairs and tags

    @classmethod
    def from_files(
        cls,
        source: Path | str,
        target: Path | str,
        encode: Encode,
        *,
        decoder_start_token_id: int,
        max_length: int,
        frame: Frame,
        source_tags: Mapping[str, int] | None = None,
    ) -> Bitext:
        """The pairs of two text files (plain or compressed) of equally many lines.

        `max_length` includes the special tokens of `frame`: usually, sources keep max_length - 2 pieces and targets
        max_length - 1. A source line may begin with one of `source_tags` and a space, which becomes the tag's id.
        Raises ValueError for unequal line counts (giving both), or if no pair is left.
        """
        limits = side_limits(max_length, frame)
        encoders = (tagged_encoder(encode, source_tags or {}), encode)
        blocks = [_encode_block(lines, encoders, limits) for lines in _blocks_of_pairs(Path(source), Path(target))]
        sources = Sentences.concatenate([block_sources for block_sources, _, _ in blocks])
        targets = Sentences.concatenate([block_targets for _, block_targets, _ in blocks])
        report = sum((block_report for _, _, block_report in blocks), BitextReport())
        del blocks  # so that the corpus is not in memory twice
        if len(sources) == 0:
            raise ValueError(f"no sentence pair in {source} and {target} ({report})")
        tags = np.full(len(sources), decoder_start_token_id, dtype=np.int32)
        arrays = (sources.tokens, sources.offsets, targets.tokens, targets.offsets, tags)
        return cls(sources, targets, tags, report, digest_of(*(array.data.cast("B") for array in arrays)))

    @classmethod
    def from_shards(
        cls,
        data_dir: Path,
        split: str,
        source: str,
        target: str,
        *,
        decoder_start_token_id: int,
        max_length: int,
        frame: Frame,
    ) -> Bitext:
        """The pairs of two languages in a split ("train", "valid") of a directory written by data_tools.prepare.

        `max_length` and `frame` are as in `from_files`; `check_data_pieces` checks that the ids are the model's. Raises
        ValueError when the directory has no such pairs.
        """
        manifest = Manifest.load(data_dir)
        source, target, shards = shards_of_pair(manifest, data_dir, split, source, target)
        limits = side_limits(max_length, frame)
        opened = [[Shard(data_dir / infos[lang].prefix) for infos in shards] for lang in (source, target)]
        for ours, theirs in zip(*opened, strict=True):
            if len(ours) != len(theirs):
                raise ValueError(
                    f"{ours.prefix} has {len(ours):,} sequences but {theirs.prefix} has {len(theirs):,}; "
                    "run data_tools.prepare again"
                )
        sources, targets = (
            JoinedSides([ShardSequences(shard, limit) for shard in side])
            for side, limit in zip(opened, limits, strict=True)
        )
        num_cut_source, num_cut_target = (
            sum(int((shard.lengths > limit).sum()) for shard in side)
            for side, limit in zip(opened, limits, strict=True)
        )
        tags = np.full(len(sources), decoder_start_token_id, dtype=np.int32)
        facts = (manifest.fingerprint, split, source, target, decoder_start_token_id, max_length)
        report = BitextReport(len(sources), num_empty=0, num_cut_source=num_cut_source, num_cut_target=num_cut_target)
        return cls(sources, targets, tags, report, digest_of(repr(facts).encode()))

    @classmethod
    def concatenate(cls, parts: Sequence[Bitext]) -> Bitext:
        """Several bitexts as one, for instance of several directions, with the sum of their reports."""
        return cls(
            JoinedSides([part.source for part in parts]),
            JoinedSides([part.target for part in parts]),
            np.concatenate([part.decoder_start_ids for part in parts]),
            sum((part.report for part in parts), BitextReport()),
            digest_of(*(part.fingerprint.encode() for part in parts)),
        )

    def __len__(self) -> int:
        return len(self.source)


def side_limits(max_length: int, frame: Frame) -> tuple[int, int]:
    """Most pieces of a source and of a target in `max_length` tokens. Raises ValueError if there is room for none."""
    num_special = max(frame.num_source_ids, frame.num_target_ids)
    if max_length <= num_special:
        raise ValueError(f"max_length must be at least {num_special + 1} tokens, found {max_length}")
    return max_length - frame.num_source_ids, max_length - frame.num_target_ids


def tagged_encoder(encode: Encode, tags: Mapping[str, int]) -> Encode:
    """`encode` for lines that may begin with one of `tags` and a space: the tag's id, then the ids of the rest."""
    if not tags:
        return encode

    def encode_tagged(lines: list[str]) -> list[np.ndarray]:
        heads = [line.split(" ", 1)[0] for line in lines]
        rests = [line[len(head) + 1 :] if head in tags else line for line, head in zip(lines, heads, strict=True)]
        encoded = [np.asarray(ids, dtype=np.int32) for ids in encode(rests)]
        # A tag alone is not a sentence: it stays empty, and is dropped as such.
        return [
            np.concatenate([[tags[head]], ids]).astype(np.int32) if head in tags and len(ids) else ids
            for head, ids in zip(heads, encoded, strict=True)
        ]

    return encode_tagged


def shards_of_pair(
    manifest: Manifest, data_dir: Path, split: str, source: str, target: str
) -> tuple[str, str, list[dict[str, ShardInfo]]]:
    """(source, target, shards) of a pair of languages, by the codes and whatever the order used in the data."""
    corpora = manifest.corpora(split)
    named = {name.removeprefix("parallel/"): shards for name, shards in corpora.items() if name.startswith("parallel/")}
    pairs = [tuple(name.split("-")) for name, shards in named.items() if shards]
    found = [(one, other) for pair in pairs for one, other in (pair, pair[::-1])]
    found = [pair for pair in found if find_language(source, pair[:1]) and find_language(target, pair[1:])]
    if (source, target) in found:  # an exact match wins over other codes of the same languages
        found = [(source, target)]
    if len(found) == 1:
        source, target = found[0]
        return source, target, named.get(f"{source}-{target}") or named[f"{target}-{source}"]
    known = ", ".join(named) or "none"
    raise ValueError(f"{data_dir}: has no pairs of {source} and {target} in its {split} split; it has: {known}")


def digest_of(*parts: bytes | memoryview) -> str:
    """Hexadecimal digest, equal for equal parts in the same order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _blocks_of_pairs(source: Path, target: Path) -> Iterator[list[tuple[str, str]]]:
    """Blocks of line pairs. Raises ValueError with both line counts if they differ."""
    num_lines = 0
    with open_prose(source) as source_lines, open_prose(target) as target_lines:
        while True:
            block = list(itertools.islice(source_lines, LINES_PER_CALL))
            other = list(itertools.islice(target_lines, LINES_PER_CALL))
            if len(block) != len(other):
                num_source = num_lines + len(block) + sum(1 for _ in source_lines)
                num_target = num_lines + len(other) + sum(1 for _ in target_lines)
                raise ValueError(
                    f"{source} has {num_source:,} lines but {target} has {num_target:,}: "
                    "line i of one must translate line i of the other"
                )
            if not block:
                return
            num_lines += len(block)
            yield list(zip(block, other, strict=True))


def _encode_block(
    pairs: list[tuple[str, str]], encoders: tuple[Encode, Encode], limits: tuple[int, int]
) -> tuple[Sentences, Sentences, BitextReport]:
    """Both sides of a block of line pairs as ids, and their counts."""
    kept = [(source, target) for source, target in pairs if source.strip() and target.strip()]
    encoded: list[tuple[np.ndarray, np.ndarray]] = []
    if kept:
        encode_source, encode_target = encoders
        sources, targets = zip(*kept, strict=True)
        for source_ids, target_ids in zip(encode_source(list(sources)), encode_target(list(targets)), strict=True):
            # A line of control characters alone is not blank, and yet has no pieces.
            if len(source_ids) and len(target_ids):
                encoded.append((np.asarray(source_ids), np.asarray(target_ids)))
    source_limit, target_limit = limits
    report = BitextReport(
        num_lines=len(pairs),
        num_empty=len(pairs) - len(encoded),
        num_cut_source=sum(len(source_ids) > source_limit for source_ids, _ in encoded),
        num_cut_target=sum(len(target_ids) > target_limit for _, target_ids in encoded),
    )
    return (
        Sentences.of(source_ids[:source_limit] for source_ids, _ in encoded),
        Sentences.of(target_ids[:target_limit] for _, target_ids in encoded),
        report,
    )
