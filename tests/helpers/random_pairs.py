"""Batches of the views of random pairs, as the loader makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import Masking
from pretrain.micro_batch import SAMPLES, make_batch
from pretrain.views.pair import Sample
from veco.views import PSEUDO_X

VOCAB_SIZE = 60
MASKING = Masking(rate=0.4, special=SpecialIds.xlm_r(VOCAB_SIZE), vocab_size=VOCAB_SIZE)
# As with BERT's tokenizers: one separator between the sentences of a row.
ONE_SEPARATOR = dataclasses.replace(MASKING, special=dataclasses.replace(MASKING.special, num_separators=1))
LENGTHS = ((5, 7), (6, 3), (4, 8), (9, 9))  # of x and of y, without <s> and </s>


def random_samples(lengths: Sequence[tuple[int, int]] = LENGTHS, name: str = "de-en") -> list[Sample]:
    rng = np.random.default_rng(7)
    pairs = [[rng.integers(4, VOCAB_SIZE - 1, size=length) for length in of_pair] for of_pair in lengths]
    return [Sample(0, name, number, x, y, 0, key=number + 1) for number, (x, y) in enumerate(pairs)]


def batch_of_views(
    *views: str, group_pairs: int | None = None, pairs: slice = slice(None), masking: Masking = MASKING
) -> dict[str, Any]:
    """What the model takes of random pairs, or of some of them; `packed` is among it."""
    name = "de" if PSEUDO_X in views else "de-en"  # pseudo-translations are made where there are no others
    batch = make_batch(random_samples(name=name)[pairs], views, masking, group_pairs)
    return {name: value for name, value in batch.items() if name != SAMPLES}
