"""Masked-language-model corruption as a pure function of ids and a random generator."""

from __future__ import annotations

import numpy as np

IGNORED = -100


def mask_tokens(
    ids: np.ndarray, rng: np.random.Generator, rate: float, num_special: int, mask_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """(corrupted, labels), both int64 (T,): `labels` hold the original id where it is to be predicted, else -100.

    `rate` of the ordinary tokens are chosen without replacement, the fractional one with its probability (fairseq's
    rule), at least one. Of these 80 % become `mask_id`, 10 % a random ordinary token, 10 % stay (BERT; SPEC section
    2). Ordinary ids are `num_special` <= id < `mask_id`; others are never chosen and never drawn.
    """
    corrupted = ids.astype(np.int64)
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    candidates = np.flatnonzero((ids >= num_special) & (ids < mask_id))
    if not len(candidates):
        return corrupted, labels
    count = min(len(candidates), max(1, int(rate * len(candidates) + rng.random())))
    chosen = rng.choice(candidates, size=count, replace=False, shuffle=False)
    labels[chosen] = corrupted[chosen]
    action = rng.random(count)
    corrupted[chosen[action < 0.8]] = mask_id
    random_places = chosen[(action >= 0.8) & (action < 0.9)]
    corrupted[random_places] = rng.integers(num_special, mask_id, size=len(random_places))
    return corrupted, labels
