"""Options of the batches of small data: of segments of a few tokens, and of whole sentences."""

from __future__ import annotations

from pretrain.batches import PretrainingOptions

SHORT = PretrainingOptions(
    seed=1,
    alpha=0.5,
    mono_batch_pairs=8,
    bilingual_batch_pairs=12,
    mono_max_length=20,
    bilingual_max_length=16,
    mono_mask_rate=0.15,
    bilingual_mask_rate=0.25,
    contrast_pairs=4,
)
SENTENCES = PretrainingOptions(
    seed=1,
    alpha=0.5,
    mono_batch_pairs=8,
    bilingual_batch_pairs=8,
    mono_max_length=40,
    bilingual_max_length=40,
    mono_mask_rate=0.15,
    bilingual_mask_rate=0.25,
    contrast_pairs=4,
)
