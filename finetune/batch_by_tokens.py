"""Cut a sequence of items into batches of at most so many tokens, padding included, as fairseq counts them."""

from __future__ import annotations

import numpy as np


def cut_by_tokens(sizes: np.ndarray, max_tokens: int, max_items: int | None = None) -> np.ndarray:
    """Bounds int64 (batches + 1,) of batches of consecutive items whose padded size stays within `max_tokens`.

    The padded size is the number of items times the size of the largest, as in fairseq; `max_items` limits their number
    too. Raises ValueError if a single item exceeds `max_tokens`.
    """
    if len(sizes) and int(sizes.max()) > max_tokens:
        raise ValueError(
            f"max_tokens {max_tokens:,} is smaller than the longest sentence, {int(sizes.max()):,} tokens: "
            "raise max_tokens or lower max_length"
        )
    bounds = [0]
    while bounds[-1] < len(sizes):
        start = bounds[-1]
        most = max_tokens // max(1, int(sizes[start]))  # an upper bound: the padded size is at least the first item's
        if max_items is not None:
            most = min(most, max_items)
        window = sizes[start : start + most].astype(np.int64)
        padded = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        bounds.append(start + int(np.searchsorted(padded, max_tokens, side="right")))
    return np.asarray(bounds, dtype=np.int64)
