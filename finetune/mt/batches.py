"""Parallel text -> flat id arrays -> batches of at most so many tokens, in an order that is a pure function.

`Bitext` holds the pieces of millions of pairs in four numpy arrays. `TranslationBatches` cuts them into batches once
and maps every k = 0, 1, 2, … to one batch of an endless sequence of epochs, so that no iterator state exists: a run
that resumes at any step, with any number of workers, sees what an undisturbed run sees.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_tools.text_lines import open_text
from finetune.mt.losses import IGNORE_INDEX

# Lines -> piece ids without any special token: `tokenizer_encoder(...)` or `PieceEncoder.encode_lines`.
Encode = Callable[[list[str]], Sequence[Sequence[int] | np.ndarray]]

LINES_PER_CALL = 4096  # lines given to the tokenizer at once: large enough for its threads, small enough for memory
SOURCE_SPECIALS = 2  # <s> and </s>
TARGET_SPECIALS = 1  # </s> among the labels, the language tag among the decoder's inputs
STRIPS_PER_ROOT = 1.4  # strips of like target length per square root of the number of batches: see `_by_length`


def tokenizer_encoder(tokenizer: Any) -> Encode:
    """A function from lines to their piece ids, by a transformers tokenizer; no special id but unknown ever occurs.

    transformers reads a line with the characters "</s>" or "<pad>" as special tokens, which would end or hide a part of
    the sentence; here they become unknown pieces.
    """
    special_tokens: list[str] = list(tokenizer.all_special_tokens)
    special_ids = set(tokenizer.all_special_ids)
    unknown = tokenizer.unk_token_id

    def encode(lines: list[str]) -> list[list[int]]:
        # verbose=False: a line over the model's length is ours to cut and to count, not the tokenizer's to warn of.
        encoded = tokenizer(lines, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        for i, line in enumerate(lines):
            if any(token in line for token in special_tokens):
                encoded[i] = [unknown if piece in special_ids else piece for piece in encoded[i]]
        return encoded

    return encode


@dataclass(frozen=True)
class Sentences:
    """Piece ids of many sentences: sentence i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray  # int32 (total,)
    offsets: np.ndarray  # int64 (sentences + 1,)

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int] | np.ndarray]) -> Self:
        parts = [np.asarray(sentence, dtype=np.int32) for sentence in sentences]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32), offsets)

    @classmethod
    def concatenate(cls, blocks: Sequence["Sentences"]) -> Self:
        lengths = [block.lengths for block in blocks]
        offsets = np.zeros(sum(map(len, blocks)) + 1, dtype=np.int64)
        np.cumsum(np.concatenate(lengths) if lengths else [], out=offsets[1:])
        tokens = [block.tokens for block in blocks]
        return cls(np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32), offsets)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (sentences,), in pieces."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]


@dataclass(frozen=True)
class BitextReport:
    """What became of the lines of a pair of files; nothing is left out or shortened without being counted here."""

    num_lines: int
    num_empty: int  # pairs left out because a side is empty
    num_cut_source: int  # sides shortened to the maximal length
    num_cut_target: int

    def __str__(self) -> str:
        return (
            f"{self.num_lines:,} lines, {self.num_empty:,} pairs with an empty side left out, "
            f"{self.num_cut_source:,} source and {self.num_cut_target:,} target sides cut"
        )


@dataclass(frozen=True)
class Bitext:
    """Tokenised sentence pairs, without special tokens, and the tag that starts the decoder for each."""

    source: Sentences
    target: Sentences
    decoder_start_ids: np.ndarray  # int32 (pairs,)
    report: BitextReport

    @classmethod
    def from_files(
        cls,
        source: Path | str,
        target: Path | str,
        encode: Encode,
        *,
        decoder_start_token_id: int,
        max_length: int,
    ) -> Self:
        """The pairs of two text files (plain or compressed) of equally many lines.

        `max_length` counts the special tokens: sources keep max_length - 2 pieces, targets max_length - 1. Raises
        ValueError for unequal line counts (naming both), or if no pair is left.
        """
        if max_length <= SOURCE_SPECIALS:
            raise ValueError(f"max_length must be at least {SOURCE_SPECIALS + 1} tokens, found {max_length}")
        counts = _Counts()
        blocks = [
            _encode_block(lines, encode, max_length, counts) for lines in _blocks_of_pairs(Path(source), Path(target))
        ]
        sides = [Sentences.concatenate([block[side] for block in blocks]) for side in (0, 1)]
        report = BitextReport(counts.lines, counts.empty, counts.cut_source, counts.cut_target)
        if len(sides[0]) == 0:
            raise ValueError(f"no sentence pair in {source} and {target} ({report})")
        tags = np.full(len(sides[0]), decoder_start_token_id, dtype=np.int32)
        return cls(sides[0], sides[1], tags, report)

    @classmethod
    def concatenate(cls, parts: Sequence["Bitext"]) -> Self:
        """One bitext of several, for instance of several directions; the reports are added up."""
        reports = [part.report for part in parts]
        return cls(
            Sentences.concatenate([part.source for part in parts]),
            Sentences.concatenate([part.target for part in parts]),
            np.concatenate([part.decoder_start_ids for part in parts]),
            BitextReport(
                sum(report.num_lines for report in reports),
                sum(report.num_empty for report in reports),
                sum(report.num_cut_source for report in reports),
                sum(report.num_cut_target for report in reports),
            ),
        )

    def __len__(self) -> int:
        return len(self.source)


@dataclass
class _Counts:
    lines: int = 0
    empty: int = 0
    cut_source: int = 0
    cut_target: int = 0


def _blocks_of_pairs(source: Path, target: Path) -> Iterator[list[tuple[str, str]]]:
    """Blocks of line pairs. Raises ValueError with both line counts if the files differ in them."""
    num_lines = 0
    with open_text(source) as source_lines, open_text(target) as target_lines:
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
    pairs: list[tuple[str, str]], encode: Encode, max_length: int, counts: _Counts
) -> tuple[Sentences, Sentences]:
    """Both sides of a block of line pairs as ids; adds to `counts`."""
    counts.lines += len(pairs)
    kept = [(source, target) for source, target in pairs if source.strip() and target.strip()]
    encoded: list[tuple[np.ndarray, np.ndarray]] = []
    if kept:
        sides = [encode([pair[side] for pair in kept]) for side in (0, 1)]
        for source_ids, target_ids in zip(*sides, strict=True):
            # A line of nothing but control characters is not blank, and still has no pieces.
            if len(source_ids) and len(target_ids):
                encoded.append((np.asarray(source_ids), np.asarray(target_ids)))
    counts.empty += len(pairs) - len(encoded)
    source_limit, target_limit = max_length - SOURCE_SPECIALS, max_length - TARGET_SPECIALS
    counts.cut_source += sum(len(source_ids) > source_limit for source_ids, _ in encoded)
    counts.cut_target += sum(len(target_ids) > target_limit for _, target_ids in encoded)
    return (
        Sentences.of(source_ids[:source_limit] for source_ids, _ in encoded),
        Sentences.of(target_ids[:target_limit] for _, target_ids in encoded),
    )


@dataclass(frozen=True)
class SpecialIds:
    """Ids that frame a sentence: `<s>` and `</s>` around the source, `</s>` after the labels, `<pad>`."""

    bos: int
    eos: int
    pad: int


def cut_by_tokens(sizes: np.ndarray, max_tokens: int, max_items: int | None = None) -> np.ndarray:
    """Bounds int64 (batches + 1,) of consecutive runs of items whose padded size stays within `max_tokens`.

    The padded size is the number of items times the largest of them, as fairseq counts; `max_items` bounds their number
    too. Raises ValueError if one item alone exceeds `max_tokens`.
    """
    if len(sizes) and int(sizes.max()) > max_tokens:
        raise ValueError(
            f"max_tokens {max_tokens:,} is smaller than the longest sentence, {int(sizes.max()):,} tokens: "
            "raise max_tokens or lower max_length"
        )
    bounds = [0]
    largest = 0
    for i, size in enumerate(sizes.tolist()):
        largest = max(largest, size)
        num_items = i + 1 - bounds[-1]
        if num_items * largest > max_tokens or (max_items is not None and num_items > max_items):
            bounds.append(i)
            largest = size
    if len(sizes):
        bounds.append(len(sizes))
    return np.asarray(bounds, dtype=np.int64)


class TranslationBatches:
    """Batch k of an endless sequence of epochs, for every k >= 0; the same on every rank and in every process.

    Pairs of like lengths on both sides are put together into batches of at most `max_tokens` tokens, counted with
    padding on the larger side as fairseq does. The batches are the same in every epoch, their order is drawn anew from
    (seed, epoch) for each. Position k belongs to epoch k // num_batches. Ranks take turns: `RankBatches`. The
    sequence does not stop at the end of an epoch, so a number of batches that the ranks do not divide by loses and
    repeats nothing: the step that reaches the end goes on with the first batches of the next epoch, and every rank has
    a batch in every micro-step.
    """

    def __init__(self, bitext: Bitext, max_tokens: int, seed: int, special: SpecialIds) -> None:
        """Raises ValueError for a bitext without pairs or with a pair longer than `max_tokens`."""
        if len(bitext) == 0:
            raise ValueError("cannot make batches of a bitext without sentence pairs")
        self.bitext = bitext
        self.max_tokens = max_tokens
        self.seed = seed
        self.special = special
        self._source_sizes = bitext.source.lengths + SOURCE_SPECIALS
        self._target_sizes = bitext.target.lengths + TARGET_SPECIALS
        self._pairs = self._by_length()
        self._bounds = cut_by_tokens(np.maximum(self._source_sizes, self._target_sizes)[self._pairs], max_tokens)
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))  # the epoch last asked for

    def __len__(self) -> int:
        """Batches of one epoch; k may be larger."""
        return len(self._bounds) - 1

    @property
    def num_batches(self) -> int:
        """Batches of one epoch."""
        return len(self)

    @property
    def padding_share(self) -> float:
        """Share of padding among all source and target positions of an epoch, 0 to 1."""
        starts = self._bounds[:-1]
        sizes = np.diff(self._bounds)
        padded = sum(
            int((np.maximum.reduceat(lengths[self._pairs], starts) * sizes).sum())
            for lengths in (self._source_sizes, self._target_sizes)
        )
        return 1.0 - (int(self._source_sizes.sum()) + int(self._target_sizes.sum())) / padded

    def pair_indices(self, k: int) -> np.ndarray:
        """Which pairs of the bitext make up batch k, int64 (batch,)."""
        if k < 0:
            raise IndexError(f"batches are numbered from 0, found {k}")
        epoch, position = divmod(k, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self)))
        batch = self._order[1][position]
        return self._pairs[self._bounds[batch] : self._bounds[batch + 1]]

    def num_target_tokens(self, k: int) -> int:
        """Labels of batch k, `</s>` included: known to every rank for every other rank's batch, without asking."""
        return int(self._target_sizes[self.pair_indices(k)].sum())

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        """input_ids, attention_mask (batch, source) and decoder_input_ids, labels (batch, target), all int64.

        A row of input_ids is `<s> x1 … xn </s>`, of decoder_input_ids `tag y1 … ym`, of labels `y1 … ym </s>`; padding
        is on the right, -100 in the labels. attention_mask is 1 = may be attended to.
        """
        pairs = self.pair_indices(k)
        special = self.special
        source_width, target_width = int(self._source_sizes[pairs].max()), int(self._target_sizes[pairs].max())
        input_ids = np.full((len(pairs), source_width), special.pad, dtype=np.int64)
        attention_mask = np.zeros((len(pairs), source_width), dtype=np.int64)
        decoder_input_ids = np.full((len(pairs), target_width), special.pad, dtype=np.int64)
        labels = np.full((len(pairs), target_width), IGNORE_INDEX, dtype=np.int64)
        input_ids[:, 0] = special.bos
        decoder_input_ids[:, 0] = self.bitext.decoder_start_ids[pairs]
        for row, pair in enumerate(pairs.tolist()):
            source, target = self.bitext.source[pair], self.bitext.target[pair]
            input_ids[row, 1 : len(source) + 1] = source
            input_ids[row, len(source) + 1] = special.eos
            attention_mask[row, : len(source) + 2] = 1
            decoder_input_ids[row, 1 : len(target) + 1] = target
            labels[row, : len(target)] = target
            labels[row, len(target)] = special.eos
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _by_length(self) -> np.ndarray:
        """All pairs, neighbours alike in both lengths, int64 (pairs,); equal ones in an order drawn from the seed.

        Sorting by one side alone leaves the other side ragged. So pairs are sorted by target length, cut into strips
        of about equal cost, and each strip is sorted by source length, every second one downwards so that a batch
        across the border of two strips is even too. With a strip of about as many batches as there are strips the
        target range of a strip and the source range of a batch are about equally narrow; a few more strips
        (STRIPS_PER_ROOT) leave the least padding on Multi30k at 4,096 tokens, since the two lengths go together.
        """
        drawn = np.random.default_rng(self.seed).permutation(len(self.bitext))
        source_sizes, target_sizes = self._source_sizes[drawn], self._target_sizes[drawn]
        order = np.lexsort((source_sizes, target_sizes))
        cost = np.cumsum(np.maximum(source_sizes, target_sizes)[order])
        num_strips = max(1, round(STRIPS_PER_ROOT * float(np.sqrt(cost[-1] / self.max_tokens))))
        strips = np.minimum((cost - 1) * num_strips // cost[-1], num_strips - 1)
        direction = np.where(strips % 2 == 0, 1, -1)
        return drawn[order[np.lexsort((target_sizes[order], direction * source_sizes[order], strips))]]


class RankBatches(Dataset):
    """One rank's micro-batches of the endless sequence that all ranks share, by number.

    Number m, of update m // accumulation steps, is batch m * world_size + rank: the ranks take turns, without gap or
    overlap, whatever the accumulation.
    """

    def __init__(self, batches: TranslationBatches, rank: int, world_size: int) -> None:
        self.batches, self.rank, self.world_size = batches, rank, world_size

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.batches[number * self.world_size + self.rank]
