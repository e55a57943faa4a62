"""The units of batch k, sorted by length: an endless, shuffled sequence in training, one pass in evaluation.

A unit is a row, or the rows of an example that stay together: see `PairedRows`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from finetune.batch_by_tokens import cut_by_tokens
from finetune.understanding.rows.paired_rows import PairedRows

# Batches whose units are sorted by length together: enough for little padding, few enough that the neighbours of a unit
# change from epoch to epoch.
POOL_BATCHES = 50


class UpdateBatches:
    """The `batch_size` units of update k, for every k >= 0: a pure function of (seed, k), whatever the number of ranks.

    An epoch is a permutation of all units, drawn from (seed, epoch). Pools of POOL_BATCHES batches are sorted by length
    and split into batches, which are shuffled. If `batch_size` does not divide the number of units, the last batch of
    the epoch is filled up with the first units of its permutation.
    """

    def __init__(self, sizes: np.ndarray, batch_size: int, seed: int) -> None:
        """`sizes` (units,) in tokens. Raises ValueError when there is none."""
        if len(sizes) == 0:
            raise ValueError("cannot make batches: there is no training example")
        self.sizes = sizes
        self.batch_size = batch_size
        self.seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))  # of the epoch last requested

    def __len__(self) -> int:
        """Updates of an epoch; k may be larger."""
        return -(-len(self.sizes) // self.batch_size)

    def units_of(self, k: int) -> np.ndarray:
        """Numbers of the units of update k, longest first, int64 (batch_size,)."""
        epoch, position = divmod(k, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self._lay_out(epoch))
        return self._order[1][position]

    def _lay_out(self, epoch: int) -> np.ndarray:
        """The batches of an epoch, int64 (updates, batch_size)."""
        drawn = np.random.default_rng([self.seed, epoch])
        order = np.resize(drawn.permutation(len(self.sizes)), len(self) * self.batch_size)
        pools = np.arange(len(order)) // (POOL_BATCHES * self.batch_size)
        order = order[np.lexsort((-self.sizes[order], pools))]
        return order.reshape(len(self), self.batch_size)[drawn.permutation(len(self))]


class MicroBatches(Dataset):
    """One rank's micro-batches: the shares of all updates in order, of which each rank takes every `world_size`-th.

    Share i of an update has every `num_shares`-th unit from unit i on. They are sorted by length, so all shares are
    about equally wide, and an update is the same however it is distributed.
    """

    def __init__(
        self, rows: PairedRows, updates: UpdateBatches, num_shares: int, rank: int, world_size: int, pad: int
    ) -> None:
        self.rows, self.updates, self.num_shares = rows, updates, num_shares
        self.rank, self.world_size, self.pad = rank, world_size, pad

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        update, share = divmod(number * self.world_size + self.rank, self.num_shares)
        return self.rows.batch(self.updates.units_of(update)[share :: self.num_shares], self.pad)


class EvaluationBatches:
    """All units once, longest first, in batches of at most `max_tokens` with padding."""

    def __init__(self, rows: PairedRows, max_tokens: int, pad: int) -> None:
        self.rows, self.pad = rows, pad
        sizes = rows.sizes
        self._order = np.argsort(-sizes, kind="stable")
        longest = int(sizes.max(initial=1))
        self._bounds = cut_by_tokens(sizes[self._order], max(max_tokens, longest))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def units_of(self, k: int) -> np.ndarray:
        """Numbers of the units of batch k."""
        return self._order[self._bounds[k] : self._bounds[k + 1]]

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        return self.rows.batch(self.units_of(k), self.pad)
