"""Cutting by tokens: each batch holds as many items as fit, in their order."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.batch_by_tokens import cut_by_tokens


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), max_size=80), max_tokens=st.integers(30, 200))
def test_batches_are_consecutive_within_the_limit_and_cannot_take_one_more(sizes: list[int], max_tokens: int) -> None:
    bounds = cut_by_tokens(np.asarray(sizes, dtype=np.int64), max_tokens)
    pieces = [sizes[a:b] for a, b in itertools.pairwise(bounds)]
    assert [size for piece in pieces for size in piece] == sizes
    assert all(piece and len(piece) * max(piece) <= max_tokens for piece in pieces)
    for piece, following in itertools.pairwise(pieces):  # none could have taken one more
        assert (len(piece) + 1) * max([*piece, following[0]]) > max_tokens
