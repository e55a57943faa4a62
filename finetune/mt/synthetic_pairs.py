"""Pairs of lines and their translations by a model: which are kept, and how many are dropped for what reason."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from finetune.mt.decoding.input_lines import Block
from finetune.mt.decoding.translator import Hypothesis, Translator

MAX_RATIO = 3.0
NUM_SPECIAL = 2  # added to both lengths, so that pairs of short lines are rarely dropped as unequal


def kept_pairs(
    block: Block, found: Sequence[Sequence[Hypothesis]], translator: Translator, max_ratio: float, dropped: Counter[str]
) -> Iterator[tuple[str, str]]:
    """(line, translation) of each line of a block that is kept; the others are counted in `dropped` by reason.

    Lengths are compared in pieces, plus `NUM_SPECIAL`.
    """
    frame = translator.frame
    for line, ids, hypotheses in zip(block.sources, translator.source_ids(block.sources), found, strict=True):
        num_pieces = (len(ids) - frame.num_source_ids, len(hypotheses[0].ids) - frame.num_target_ids)
        lengths = sorted(NUM_SPECIAL + number for number in num_pieces)
        if not line.strip():
            dropped["empty lines"] += 1
        elif len(ids) >= translator.generator.max_tokens:
            dropped["too long for the model"] += 1
        elif not hypotheses[0].text:
            dropped["empty translations"] += 1
        elif len(hypotheses[0].ids) > translator.longest(len(ids)):
            dropped["as long as a translation may be"] += 1
        elif lengths[1] > max_ratio * lengths[0]:
            dropped["unequal lengths"] += 1
        else:
            yield " ".join(line.split()), hypotheses[0].text


def listed_counts(dropped: Mapping[str, int]) -> str:
    """The number of dropped lines by reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items())) or "none"


def add_max_ratio(parser: argparse.ArgumentParser) -> None:
    """Add the flag --max-ratio."""
    parser.add_argument(
        "--max-ratio",
        type=float,
        default=MAX_RATIO,
        help="largest ratio of the longer side to the shorter, in pieces (%(default)s)",
    )


def check_max_ratio(max_ratio: float) -> None:
    """Raise ValueError for a ratio that no pair has."""
    if max_ratio < 1:
        raise ValueError(f"--max-ratio must be at least 1, found {max_ratio}")
