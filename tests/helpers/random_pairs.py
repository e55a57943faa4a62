"""Batches of the views of random pairs, as the loader makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pretrain.masking import Masking
from pretrain.micro_batch import SAMPLES, make_batch
from pretrain.views.pair import Sample

VOCAB_SIZE = 60
MASKING = Masking(rate=0.4, num_special=4, mask_id=VOCAB_SIZE - 1)
LENGTHS = ((5, 7), (6, 3), (4, 8), (9, 9))  # of x and of y, without <s> and </s>


def random_samples(lengths: Sequence[tuple[int, int]] = LENGTHS, name: str = "de-en") -> list[Sample]:
    rng = np.random.default_rng(7)
    pairs = [[rng.integers(4, VOCAB_SIZE - 1, size=length) for length in of_pair] for of_pair in lengths]
    return [Sample(0, name, number, x, y, 0, key=number + 1) for number, (x, y) in enumerate(pairs)]


def batch_of_views(*views: str, group_pairs: int | None = None, pairs: slice = slice(None)) -> dict[str, Any]:
    """What the model takes of random pairs, or of some of them; `packed` is among it."""
    batch = make_batch(random_samples()[pairs], views, MASKING, group_pairs)
    return {name: value for name, value in batch.items() if name != SAMPLES}
