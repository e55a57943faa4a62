"""Corruption of tokens for masked language modelling, and the labels of causal language modelling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds

# As `veco.labels.IGNORED`. Importing veco, and so transformers, would take each worker of a data loader, which is a
# fresh process, several seconds and 150 MB.
IGNORED = -100
# BERT's 80/10/10.
MASK_TOKEN_SHARE = 0.8
RANDOM_TOKEN_SHARE = 0.1


@dataclass(frozen=True)
class Masking:
    """Settings of masking: which tokens are to be predicted, and what stands in their place.

    `rate` of the ordinary tokens are chosen, the ids below `vocab_size` that are not special. Of these
    `mask_token_share` become `<mask>`, `random_token_share` a random ordinary token, and the rest stay. They are chosen
    one by one, or with `span_length` >= 1 in spans whose lengths are geometric with this mean. The rates of a pair
    differ from `rate` by at most `rate_spread`, see `mask_pair`.
    """

    rate: float
    special: SpecialIds
    vocab_size: int
    mask_token_share: float = MASK_TOKEN_SHARE
    random_token_share: float = RANDOM_TOKEN_SHARE
    span_length: float = 0.0
    rate_spread: float = 0.0


MaskedSequence = tuple[np.ndarray, np.ndarray]  # ids of a sequence as the model sees them, and labels, each int64 (T,)


def mask_pair(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, masking: Masking
) -> tuple[MaskedSequence, MaskedSequence]:
    """Both sequences as `mask_tokens` gives them, one with a rate of `rate` + d, the other with `rate` - d.

    d is uniform in +-`rate_spread`. So where one is hidden the other can be read, and predicts it.
    """
    offset = masking.rate_spread * rng.uniform(-1.0, 1.0) if masking.rate_spread else 0.0
    return mask_tokens(x, rng, masking, offset), mask_tokens(y, rng, masking, -offset)


def mask_tokens(ids: np.ndarray, rng: np.random.Generator, masking: Masking, offset: float = 0.0) -> MaskedSequence:
    """(corrupted, labels), both int64 (T,): `labels` hold the original id where it is to be predicted, else -100.

    Of the ordinary tokens the share `rate` + `offset` is chosen exactly, without replacement, the fractional one
    with its probability (fairseq's rule), at least one. All tokens of a span are replaced alike, as in SpanBERT (Joshi
    et al., 2020); its own lengths have p = 0.2 and at most ten, a mean of 3.8. Special tokens are never chosen and
    never drawn.
    """
    corrupted = ids.astype(np.int64)
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    candidates = np.flatnonzero(masking.special.are_ordinary(ids))
    if not len(candidates):
        return corrupted, labels
    count = min(len(candidates), max(1, int((masking.rate + offset) * len(candidates) + rng.random())))
    if masking.span_length:
        places, lengths = spans(len(candidates), count, rng, masking.span_length)
        chosen = candidates[places]
        action = np.repeat(rng.random(len(lengths)), lengths)
    else:
        chosen = rng.choice(candidates, size=count, replace=False, shuffle=False)
        action = rng.random(count)
    labels[chosen] = corrupted[chosen]
    corrupted[chosen[action < masking.mask_token_share]] = masking.special.mask
    is_random = (action >= masking.mask_token_share) & (action < masking.mask_token_share + masking.random_token_share)
    random_places = chosen[is_random]
    drawn = rng.integers(masking.special.num_ordinary(masking.vocab_size), size=len(random_places))
    corrupted[random_places] = masking.special.ordinary(drawn)
    return corrupted, labels


def spans(size: int, count: int, rng: np.random.Generator, mean_length: float) -> tuple[np.ndarray, np.ndarray]:
    """(places (count,) in range(size), ascending; lengths of the spans that they form, one after the other).

    Lengths are geometric; the last drawn is cut so that they add up to `count`. Where they lie is uniform among all
    ways to lay them between the other places; two may touch.
    """
    starts, lengths = laid(size, rng.geometric(1 / mean_length, size=count), rng)
    return places_of(starts, lengths), lengths


def laid(size: int, lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(starts, ascending; lengths) of spans in range(size) which hold as many places as there are `lengths` to choose.

    The first of these that suffice are taken, the last so long that all add up. One of length 0 lies before its start.
    """
    count = len(lengths)  # as many as would be needed if each had one place
    lengths = lengths[: lengths.cumsum().searchsorted(count) + 1].copy()
    lengths[-1] -= lengths.sum() - count
    rng.shuffle(lengths)  # else the span that was cut would always be the last
    # A row of spans and single places that stay, in random order; then each span takes up its length.
    order = np.sort(rng.choice(len(lengths) + size - count, size=len(lengths), replace=False, shuffle=False))
    return order + lengths.cumsum() - lengths - np.arange(len(lengths)), lengths


def places_of(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The places in spans, one after the other."""
    within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    return np.repeat(starts, lengths) + within


def next_tokens(ids: np.ndarray) -> np.ndarray:
    """Labels int64 (T,) of causal language modelling: at each place the next id, at the last one -100."""
    return np.append(ids[1:], IGNORED).astype(np.int64)
