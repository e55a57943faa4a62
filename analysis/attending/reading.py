"""The ways in which a model reads sentences or pairs, and the sums of what their tokens attend to, in one pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

from tqdm import tqdm

from analysis.attending.shares import Shares
from analysis.attending.texts import Texts
from analysis.forced_decoding import ForcedDecoder
from analysis.states import Words
from analysis.weights import (
    SOURCE,
    TARGET,
    Weights,
    plugged_in_weights,
    plugged_out_weights,
    tlm_weights,
)
from finetune.understanding.retrieval.embeddings import Embedder

BLOCK_PAIRS = 10_000  # sorted by length together: many compared with a batch, few compared with memory
# Sentences, and their translations if there are any -> the weights of all of them, in batches.
WeightsOf = Callable[[Sequence[Words], Sequence[Words] | None], Iterator[Weights]]


class Reading(StrEnum):
    """Whose weights these are."""

    PLUGGED_OUT = "plugged-out"  # self-attention in each sentence alone
    TLM = "tlm"  # self-attention over both sentences in one row
    PLUGGED_IN = "plugged-in"  # cross-attention of each sentence over the other
    DECODER = "decoder"  # cross-attention of a translation model over the source

    @property
    def needs_pairs(self) -> bool:
        """Whether there must be a translation; a translation model writes its own."""
        return self in (Reading.TLM, Reading.PLUGGED_IN)

    @property
    def without(self) -> Sequence[str]:
        """The metrics that say nothing: a sentence alone sees no other, and cross-attention not its own."""
        if self is Reading.TLM:
            return ()
        return ("other", "uniform", "crossing") if self is Reading.PLUGGED_OUT else ("own", "crossing")


def encoder_weights(
    embedder: Embedder, reading: Reading, sources: Sequence[Words], targets: Sequence[Words] | None
) -> Iterator[Weights]:
    """The weights of an encoder over sentences or pairs."""
    if reading is Reading.PLUGGED_OUT:
        yield from plugged_out_weights(embedder, sources, SOURCE)
        if targets is not None:
            yield from plugged_out_weights(embedder, targets, TARGET)
        return
    assert targets is not None, f"{reading} reads pairs"
    yield from (tlm_weights if reading is Reading.TLM else plugged_in_weights)(embedder, sources, targets)


def decoder_weights(
    decoder: ForcedDecoder, sources: Sequence[Words], targets: Sequence[Words] | None
) -> Iterator[Weights]:
    """The weights of a translation model that writes the targets, or else its own translations."""
    yield from decoder.weights(sources, decoder.translations(sources) if targets is None else targets)


def shares_of_texts(weights_of: WeightsOf, texts: Iterable[Texts], num_texts: int, name: str) -> Shares:
    """The sums over all texts, in one pass, with a progress bar labelled `name`; there is at least one."""
    total: Shares | None = None
    remaining = iter(texts)
    with tqdm(total=num_texts, desc=name, unit=" texts", disable=None) as progress:
        while block := list(itertools.islice(remaining, BLOCK_PAIRS)):
            sources, targets = [source for source, _ in block], [target for _, target in block if target is not None]
            seen: set[int] = set()
            for weights in weights_of(sources, targets or None):
                own = Shares.of(weights)
                total = own if total is None else total + own
                # Each sentence of a pair may be in a row, and in a batch, of its own.
                new = set(weights.numbers.tolist()) - seen
                seen |= new
                progress.update(len(new))
    assert total is not None, "there are texts"
    return total
