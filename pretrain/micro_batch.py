"""Samples become the tensors of a micro-batch: the views that an objective reads, padded, and facts about each pair."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pretrain.masking import IGNORED, MaskedSequence, Masking
from pretrain.views.pair import Pair, Sample
from pretrain.views.resources import Resources
from pretrain.views.table import VIEWS, in_order
from training.random_order import mix
from training.step import Batch
from veco.packing import PackedViews
from veco.views import TLM, View, tensors_of

PAD_TO_MULTIPLE = 8  # a number of rows that suits vector units in matrix products; also fewer distinct shapes
# Of a batch beside the views' tensors: facts about its pairs, and where the tokens of its views stand.
SAMPLES, PACKED = "samples", "packed"
GROUP, NUM_CUT, DIGEST, NUM_TOKENS = range(4)  # columns of SAMPLES


def make_batch(
    samples: Sequence[Sample],
    views: Sequence[str],
    masking: Masking,
    group_pairs: int | None = None,
    resources: Resources | None = None,
) -> Batch:
    """The tensors of the views, int64 (rows, length), PACKED, and SAMPLES, int64 (pairs, 4).

    PACKED says where their tokens stand: an accelerator need not be asked for what is known here. SAMPLES holds for
    each pair its group of samples, the tokens that were cut off, a digest of what the model sees of it, and the tokens
    of x and y with `<s>` and `</s>`. Pairs are contrasted in groups of `group_pairs`; without it, all with each other.
    """
    pairs = [Pair(sample, masking, resources or Resources()) for sample in samples]
    size = group_pairs or len(pairs)
    rows: dict[str, list[MaskedSequence]] = {}
    for view in in_order(views):
        # By group: what a row shows of other pairs must not depend on how many groups come together.
        step = math.lcm(size, VIEWS[view].pairs)
        groups = [pairs[start : start + step] for start in range(0, len(pairs), step)]
        rows[view] = [row for group in groups for row in VIEWS[view].rows(group)]
    padded = {view: padded_view(of_view, masking.special.pad) for view, of_view in rows.items()}
    facts = [
        (pair.sample.group, pair.sample.num_cut, digest(pair.sample, number, rows), len(pair.x) + len(pair.y))
        for number, pair in enumerate(pairs)
    ]
    return {
        **tensors_of(padded),
        PACKED: PackedViews.of(padded, masking.special.pad, group_pairs, len(samples), samples[0].kind),
        SAMPLES: torch.tensor(facts, dtype=torch.int64),
    }


def padded_view(rows: Sequence[MaskedSequence], pad: int) -> View:
    """Ids and labels of rows as a view, ids filled up with `pad`."""
    input_ids = pad_rows([ids for ids, _ in rows], pad)
    labels = pad_rows([labels for _, labels in rows], IGNORED)
    return View(input_ids, input_ids.ne(pad).long(), labels)


def digest(sample: Sample, number: int, rows: Mapping[str, Sequence[MaskedSequence]]) -> int:
    """63 bits of a hash of a sample's place in the order and of all that the model sees of it, pair `number` of `rows`.

    The sum over a global batch is the same for any split over ranks and accumulation steps. TLM has x and y once more.
    """
    checksum = 0
    for view, of_view in rows.items():
        if view != TLM:
            for array in of_view[number // VIEWS[view].pairs]:
                checksum = zlib.crc32(array.tobytes(), checksum)
    return mix(sample.group, sample.number, checksum) >> 1


def pad_rows(rows: Sequence[np.ndarray], filler: int) -> Tensor:
    """int64 (rows, longest row, rounded up), the rest filled with `filler`."""
    longest = max(map(len, rows))
    result = np.full((len(rows), -(-longest // PAD_TO_MULTIPLE) * PAD_TO_MULTIPLE), filler, dtype=np.int64)
    for target, row in zip(result, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(result)
