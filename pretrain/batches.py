"""Shards become batches: the k-th batch is a pure function of (data, seed, k), the same for any number of ranks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_tools.manifest import Manifest
from data_tools.shards import Shard, ShardInfo
from data_tools.tokenizer import BOS_ID, EOS_ID, FIRST_PIECE_ID, PAD_ID
from pretrain.masking import IGNORED, mask_tokens
from pretrain.sampling import Schedule, mix, smoothed_probabilities, walk

PAD_TO_MULTIPLE = 8  # rows of a matrix product that vector units like; also fewer distinct shapes
MONO, BILINGUAL = "mono", "bilingual"


@dataclass(frozen=True)
class PretrainingOptions:
    """What decides the content of batches: sizes in pairs of the global batch, lengths with `<s>` and `</s>`."""

    seed: int
    alpha: float
    mono_batch_pairs: int
    bilingual_batch_pairs: int
    mono_max_length: int
    bilingual_max_length: int
    mono_mask_rate: float
    bilingual_mask_rate: float


class OpenShards(dict[str, Shard]):
    """Shards by prefix, each opened when it is first asked for; they hold no file handles, so all may stay open."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.data_dir = data_dir

    def __missing__(self, prefix: str) -> Shard:
        return self.setdefault(prefix, Shard(self.data_dir / prefix))


class Source(Protocol):
    """One language's or language pair's samples, numbered; each is (x, y), ids without `<s>` and `</s>`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


class ParallelSource:
    """The pairs of one language pair: x from its first language, y from its second."""

    def __init__(self, shards: OpenShards, pairs: Sequence[dict[str, ShardInfo]], languages: tuple[str, str]) -> None:
        self.shards = shards
        self.prefixes = [(pair[languages[0]].prefix, pair[languages[1]].prefix) for pair in pairs]
        self.ends = list(accumulate(pair[languages[0]].num_sequences for pair in pairs))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        x_prefix, y_prefix = self.prefixes[which]
        return self.shards[x_prefix][index], self.shards[y_prefix][index]


class MonoSource:
    """Windows of one language's documents, each cut into two adjacent segments x and y.

    Document d of a shard, tokens [a_d, b_d) in it, owns windows number F(d) to F(d+1) with F(d) = d + a_d // W. So it
    has b_d // W - a_d // W + 1 windows, of equal size up to whole sentences and none larger than W plus the sentence
    that crosses its end; all windows together hold every sentence; and the number of a shard's windows follows from
    its header. F grows with d, so a window's document is found by bisection, without a list of samples.
    """

    def __init__(self, shards: OpenShards, infos: Sequence[ShardInfo], segment_tokens: int) -> None:
        """`segment_tokens` is the most that x, and that y, may hold."""
        self.shards = shards
        self.prefixes = [info.prefix for info in infos]
        self.segment_tokens = segment_tokens
        # An eighth of x and y together stays free for the sentence that crosses a window's end.
        self.window_tokens = 2 * segment_tokens - segment_tokens // 4
        self.ends = list(accumulate(info.num_documents + info.num_tokens // self.window_tokens for info in infos))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        which = bisect_right(self.ends, index)
        index -= self.ends[which - 1] if which else 0
        return self._window(self.shards[self.prefixes[which]], index)

    def _window(self, shard: Shard, index: int) -> tuple[np.ndarray, np.ndarray]:
        def first_token(sentence: int) -> int:
            return (
                shard.num_tokens if sentence == shard.num_sequences else int(shard.offsets[sentence]) // shard.itemsize
            )

        def first_window(document: int) -> int:
            return document + first_token(int(shard.documents[document])) // self.window_tokens

        document = bisect_right(range(shard.num_documents), index, key=first_window) - 1
        first, last = int(shard.documents[document]), int(shard.documents[document + 1])
        start, stop = first_token(first), first_token(last)
        num_windows = first_window(document + 1) - first_window(document)
        number = index - first_window(document)

        def boundary(token: int) -> int:
            """The first sentence that starts at `token` or later."""
            return first + bisect_right(range(first, last), token - 1, key=first_token)

        length = stop - start
        from_token, to_token = (start + part * length // num_windows for part in (number, number + 1))
        begin, end = boundary(from_token), boundary(to_token)
        if begin == end:  # inside one long sentence, of which an earlier window may only have taken the head
            to_token = max(to_token, from_token + 1)
            return split_in_two(
                shard.tokens[from_token:to_token], np.array([to_token - from_token]), self.segment_tokens
            )
        tokens = shard.tokens[first_token(begin) : first_token(end)]
        return split_in_two(tokens, shard.lengths[begin:end], self.segment_tokens)


def split_in_two(tokens: np.ndarray, lengths: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Adjacent segments x and y of at most `limit` tokens each, from whole sentences of the given lengths.

    They are cut at the sentence end nearest the middle, or in the middle of a sentence where no end leaves both within
    `limit`. Of more than 2 x `limit` tokens the outer ends are lost, never those where x and y meet.
    """
    cut = middle = len(tokens) // 2
    inner_ends = np.cumsum(lengths[:-1])
    fitting = inner_ends[(inner_ends <= limit) & (len(tokens) - inner_ends <= limit)]
    if len(fitting):
        cut = int(fitting[np.abs(fitting - middle).argmin()])
    return tokens[:cut][-limit:], tokens[cut:][:limit]


class KindOfBatch:
    """All sources of one kind (monolingual or bilingual) and the order in which their samples come."""

    def __init__(self, sources: dict[str, Source], sentences: dict[str, int], options: PretrainingOptions, salt: int):
        self.sources = sources
        self.probabilities = smoothed_probabilities(sentences, options.alpha)
        self.key = mix(options.seed, salt)
        self.schedule = Schedule(self.probabilities, self.key)
        self.salts = {name: number for number, name in enumerate(sorted(sources))}

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """The `number`-th sample (x, y) of the endless sequence, and the random generator for its masks."""
        name, occurrence = self.schedule[number]
        source = self.sources[name]
        x, y = source[walk(occurrence, len(source), mix(self.key, self.salts[name]))]
        return x, y, np.random.Generator(np.random.Philox(key=mix(self.key, number)))


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
        """Raises ValueError when a batch does not divide by ranks x accumulation steps, or the corpus is empty."""
        self.options = options
        self.rank, self.world_size, self.accumulation_steps = rank, world_size, accumulation_steps
        self.mask_id = manifest.vocab_size - 1
        shards = OpenShards(data_dir)
        self.kinds: dict[str, KindOfBatch] = {}
        mono = {
            lang: MonoSource(shards, infos, options.mono_max_length - 2)
            for lang, infos in manifest.mono.items()
            if total(infos)
        }
        if mono:
            sentences = {lang: total(manifest.mono[lang]) for lang in mono}
            self.kinds[MONO] = KindOfBatch(dict(mono), sentences, options, salt=0)
        parallel: dict[str, Source] = {}
        pairs: dict[str, int] = {}
        for name, infos in manifest.parallel.items():
            x_language, y_language = name.split("-")
            if count := total([info[x_language] for info in infos]):
                parallel[name] = ParallelSource(shards, infos, (x_language, y_language))
                pairs[name] = count
        if parallel:
            self.kinds[BILINGUAL] = KindOfBatch(parallel, pairs, options, salt=1)
        if not self.kinds:
            raise ValueError(f"{data_dir}: neither monolingual nor parallel sentences; prepare a corpus first")
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

    def kind_of(self, step: int) -> str:
        """The kind of batch of update `step`."""
        kinds = list(self.kinds)
        return kinds[step % len(kinds)]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Tensors that `VecoForPreTraining.forward` takes, int64 (pairs, length), from micro-batch `number`."""
        step, accumulation_step = divmod(number, self.accumulation_steps)
        kind = self.kind_of(step)
        micro_pairs = self.batch_pairs[kind] // (self.world_size * self.accumulation_steps)
        first = (step // len(self.kinds)) * self.batch_pairs[kind]
        first += (accumulation_step * self.world_size + self.rank) * micro_pairs
        is_mono = kind == MONO
        rate = self.options.mono_mask_rate if is_mono else self.options.bilingual_mask_rate
        max_length = self.options.mono_max_length if is_mono else self.options.bilingual_max_length
        xs: list[tuple[np.ndarray, np.ndarray]] = []
        ys: list[tuple[np.ndarray, np.ndarray]] = []
        for sample in range(first, first + micro_pairs):
            x, y, rng = self.kinds[kind].sample(sample)
            for ids, rows in ((x, xs), (y, ys)):
                rows.append(mask_tokens(framed(ids, max_length), rng, rate, FIRST_PIECE_ID, self.mask_id))
        batch = {
            "input_ids": pad_rows([ids for ids, _ in xs], PAD_ID),
            "labels": pad_rows([labels for _, labels in xs], IGNORED),
            "pair_input_ids": pad_rows([ids for ids, _ in ys], PAD_ID),
            "pair_labels": pad_rows([labels for _, labels in ys], IGNORED),
        }
        if not is_mono:
            together = [concatenated(x, y) for x, y in zip(xs, ys, strict=True)]
            batch["tlm_input_ids"] = pad_rows([ids for ids, _ in together], PAD_ID)
            batch["tlm_labels"] = pad_rows([labels for _, labels in together], IGNORED)
        for name in [name for name in batch if name.endswith("input_ids")]:
            batch[name.replace("input_ids", "attention_mask")] = batch[name].ne(PAD_ID).long()
        return batch


def total(infos: Sequence[ShardInfo]) -> int:
    """Sentences in shards."""
    return sum(info.num_sequences for info in infos)


def framed(ids: np.ndarray, max_length: int) -> np.ndarray:
    """`<s> ids </s>`, cut to `max_length` tokens in all."""
    return np.concatenate(([BOS_ID], ids[: max_length - 2], [EOS_ID])).astype(np.int64)


def concatenated(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, labels) of TLM's `<s> x </s> </s> y </s>` from those of `<s> x </s>` and `<s> y </s>`, masks kept."""
    y_ids, y_labels = y[0].copy(), y[1]
    y_ids[0] = EOS_ID  # XLM-R's separator takes the place of y's <s>
    return np.concatenate((x[0], y_ids)), np.concatenate((x[1], y_labels))


def pad_rows(rows: Sequence[np.ndarray], filler: int) -> Tensor:
    """int64 (rows, longest row, rounded up), the rest filled with `filler`."""
    longest = max(map(len, rows))
    result = np.full((len(rows), -(-longest // PAD_TO_MULTIPLE) * PAD_TO_MULTIPLE), filler, dtype=np.int64)
    for target, row in zip(result, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(result)
