"""Consecutive items in batches of a limited number of tokens, padding included, as fairseq counts them."""

from __future__ import annotations

import numpy as np


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
    while bounds[-1] < len(sizes):
        start = bounds[-1]
        most = max_tokens // max(1, int(sizes[start]))  # none of them is taken to be larger than the first
        window = sizes[start : start + (most if max_items is None else min(most, max_items))].astype(np.int64)
        padded = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        bounds.append(start + int(np.searchsorted(padded, max_tokens, side="right")))
    return np.asarray(bounds, dtype=np.int64)
