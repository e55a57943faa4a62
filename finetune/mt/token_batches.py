"""Batches of sentence pairs with a limited number of tokens, in an order that is a pure function of the seed.

`TranslationBatches` cuts a bitext into batches once and maps every k = 0, 1, 2, … to one batch of an infinite sequence
of epochs. There is no iterator state: a run that resumes at any step, with any number of workers, sees the same batches
as an uninterrupted run.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from finetune.batch_by_tokens import cut_by_tokens
from finetune.mt.bitext import Bitext
from finetune.mt.special_tokens import Frame
from veco.labels import IGNORED

STRIPS_PER_ROOT = 1.4  # strips of similar target length per square root of the number of batches: see `_by_length`


class TranslationBatches:
    """Batch k of an infinite sequence of epochs, for every k >= 0; the same on every rank and in every process.

    Pairs of similar lengths on both sides form batches of at most `max_tokens` tokens, counted with padding on the
    larger side as in fairseq. The batches are the same in every epoch; their order is drawn from (seed, epoch). Batch k
    belongs to epoch k // num_batches. Ranks take turns: `RankBatches`. The sequence does not stop at the end of an
    epoch: a step that reaches it continues with the first batches of the next epoch. So even if the number of batches
    is not divisible by the number of ranks, none is lost or repeated, and every rank has a batch in every micro-step.
    """

    def __init__(self, bitext: Bitext, max_tokens: int, seed: int, frame: Frame) -> None:
        """Raises ValueError for a bitext without pairs or with a pair longer than `max_tokens`."""
        if len(bitext) == 0:
            raise ValueError("cannot make batches from a bitext without sentence pairs")
        self.bitext = bitext
        self.max_tokens = max_tokens
        self.seed = seed
        self.frame = frame
        # int32, since every process holds these for all pairs.
        self._source_sizes = bitext.source.lengths.astype(np.int32) + np.int32(frame.num_source_ids)
        self._target_sizes = bitext.target.lengths.astype(np.int32) + np.int32(frame.num_target_ids)
        self._pairs = self._by_length()
        self._bounds = cut_by_tokens(np.maximum(self._source_sizes, self._target_sizes)[self._pairs], max_tokens)
        self._last_epoch = -1
        self._last_order = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of batches of one epoch; k may be larger."""
        return len(self._bounds) - 1

    @property
    def num_batches(self) -> int:
        """Number of batches of one epoch."""
        return len(self)

    @property
    def padding_share(self) -> float:
        """Fraction of padding among all source and target positions of an epoch, 0 to 1."""
        starts = self._bounds[:-1]
        batch_sizes = np.diff(self._bounds)
        num_tokens = num_positions = 0
        for sizes in (self._source_sizes, self._target_sizes):
            widths = np.maximum.reduceat(sizes[self._pairs], starts)
            num_tokens += int(sizes.sum())
            num_positions += int((widths * batch_sizes).sum())
        return 1.0 - num_tokens / num_positions

    def pair_indices(self, k: int) -> np.ndarray:
        """Numbers of the pairs of the bitext in batch k, integers (batch,)."""
        if k < 0:
            raise IndexError(f"batches are numbered from 0, found {k}")
        epoch, position = divmod(k, len(self))
        if self._last_epoch != epoch:
            self._last_epoch = epoch
            self._last_order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        batch = self._last_order[position]
        return self._pairs[self._bounds[batch] : self._bounds[batch + 1]]

    def num_target_tokens(self, k: int) -> int:
        """Number of labels of batch k, `</s>` included; every rank knows it for all batches, without communication."""
        return int(self._target_sizes[self.pair_indices(k)].sum())

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        """input_ids, attention_mask (batch, source) and decoder_input_ids, labels (batch, target), all int64.

        A row of input_ids is `<s> x1 … xn </s>`, of decoder_input_ids `tag y1 … ym`, of labels `y1 … ym </s>`, unless
        `frame` says otherwise; padding is on the right, -100 in the labels. attention_mask is 1 = may be attended to.
        """
        pairs = self.pair_indices(k)
        frame = self.frame
        source_width, target_width = int(self._source_sizes[pairs].max()), int(self._target_sizes[pairs].max())
        input_ids = np.full((len(pairs), source_width), frame.pad, dtype=np.int64)
        attention_mask = np.zeros((len(pairs), source_width), dtype=np.int64)
        decoder_input_ids = np.full((len(pairs), target_width), frame.pad, dtype=np.int64)
        labels = np.full((len(pairs), target_width), IGNORED, dtype=np.int64)
        decoder_input_ids[:, 0] = self.bitext.decoder_start_ids[pairs]
        for row, pair in enumerate(pairs.tolist()):
            source = frame.source(self.bitext.source[pair].tolist())
            target = frame.target(self.bitext.target[pair].tolist())
            input_ids[row, : len(source)] = source
            attention_mask[row, : len(source)] = 1
            decoder_input_ids[row, 1 : len(target)] = target[:-1]
            labels[row, : len(target)] = target
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _by_length(self) -> np.ndarray:
        """All pairs, ordered so that neighbours are similar in both lengths, integers (pairs,).

        Sorting by one side alone leaves the other side ragged. So pairs are sorted by target length, cut into strips
        of about equal cost, and each strip is sorted by source length, every second one in descending order so that a
        batch across two strips is homogeneous too. If a strip has about as many batches as there are strips, the target
        range of a strip and the source range of a batch are about equally narrow; a few more strips (STRIPS_PER_ROOT)
        leave the least padding on Multi30k at 4,096 tokens, since the two lengths are correlated. Pairs of equal
        lengths come in an order drawn from the seed.
        """
        shuffled = np.random.default_rng(self.seed).permutation(len(self.bitext))
        source_sizes, target_sizes = self._source_sizes[shuffled], self._target_sizes[shuffled]
        order = np.lexsort((source_sizes, target_sizes))
        cost = np.cumsum(np.maximum(source_sizes, target_sizes)[order])
        num_strips = max(1, round(STRIPS_PER_ROOT * float(np.sqrt(cost[-1] / self.max_tokens))))
        strips = np.minimum((cost - 1) * num_strips // cost[-1], num_strips - 1)
        direction = np.where(strips % 2 == 0, 1, -1)
        pairs = shuffled[order[np.lexsort((target_sizes[order], direction * source_sizes[order], strips))]]
        return pairs.astype(np.min_scalar_type(len(pairs)))


class RankBatches(Dataset):
    """One rank's micro-batches of the infinite sequence that all ranks share, by number.

    Micro-batch m, which belongs to update m // accumulation_steps, is batch m * world_size + rank: the ranks take
    turns, without gap or overlap, for any number of accumulation steps.
    """

    def __init__(self, batches: TranslationBatches, rank: int, world_size: int) -> None:
        self.batches, self.rank, self.world_size = batches, rank, world_size

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.batches[number * self.world_size + self.rank]
