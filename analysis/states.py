"""The states of words and their pieces, of sentences or of pairs plugged out or in, in all layers of any encoder.

Letters of shapes: L layers, B sentences, T tokens with special ones, W words (or pieces), D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from finetune.encoded_text import Sentences
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.token_rows import TokenRows
from veco.labels import IGNORED
from veco.model import VecoModel
from veco.pairs import encode_pair, pair_argument, stack_pair

Words = Sequence[str]
WORDS = "words"  # the number of each token's word in its sentence, which comes along in a batch as a target does


@dataclass(frozen=True)
class UnitStates:
    """The states of the units of a batch of sentences: of their words, or of the pieces of these.

    `states` are float32 (L, B, W, D), zeros behind the last unit of a sentence; `words` int64 (B, W) has the number of
    each unit's word in its sentence, -1 behind the last.
    """

    states: Tensor
    words: Tensor

    @property
    def is_unit(self) -> Tensor:
        """bool (B, W)."""
        return self.words >= 0


def framed_words(sentences: Sequence[Words], embedder: Embedder) -> TokenRows:
    """A row for each sentence of words, cut to the embedder's longest, with WORDS of its tokens.

    A word without pieces (control characters) becomes the unknown piece. Cut sentences are counted by the embedder;
    words none of whose pieces is left have no state.
    """
    blocks = [framed_block(block, embedder) for block in in_blocks(sentences)]
    return TokenRows.concatenate(blocks)


def framed_block(sentences: Sequence[Words], embedder: Embedder) -> TokenRows:
    """`framed_words` of so many sentences as the tokenizer is called with at once."""
    frame = embedder.encoder.single
    budget = embedder.max_length - frame.num_specials
    pieces, words = pieces_of_words(sentences, embedder.encoder)
    embedder.num_truncated += int((pieces.lengths > budget).sum())
    rows = [frame.row(pieces[number][:budget]) for number in range(len(sentences))]
    before, behind = [IGNORED] * frame.start_of_last(), [IGNORED] * (frame.num_specials - frame.start_of_last())
    parts = [
        part
        for start, stop in itertools.pairwise(pieces.offsets)
        for part in (before, words[start : min(stop, start + budget)], behind)
    ]
    return TokenRows.of(rows, np.arange(len(rows)), token_targets={WORDS: np.concatenate(parts).astype(np.int64)})


def pieces_of_words(sentences: Sequence[Words], encoder: TextEncoder) -> tuple[Sentences, np.ndarray]:
    """The pieces of all words of each sentence, and the number of each piece's word in its sentence (total,).

    Each different word is encoded once.
    """
    flat = list(itertools.chain.from_iterable(sentences))
    numbers = {word: number for number, word in enumerate(dict.fromkeys(flat))}
    encoded = encoder.encode_words(numbers) if numbers else []  # which the tokenizer does not take
    known = Sentences.of(own if len(own) else [encoder.unknown] for own in encoded)
    chosen = np.fromiter((numbers[word] for word in flat), np.int64, len(flat))
    lengths = known.lengths[chosen]
    ends = np.concatenate([[0], np.cumsum(lengths)])  # of the words, in pieces
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    tokens = known.tokens[np.repeat(known.offsets[chosen], lengths) + within]
    bounds = np.cumsum([0, *map(len, sentences)])  # of the sentences, in words
    words = np.arange(len(flat)) - np.repeat(bounds[:-1], np.diff(bounds))
    return Sentences(tokens, ends[bounds]), np.repeat(words, lengths)


def states_of_sentences(embedder: Embedder, sentences: Sequence[Words]) -> Iterator[tuple[np.ndarray, UnitStates]]:
    """Batches of sentences of similar length: their numbers (B,) and the states of their words."""
    for numbers, batch in batches_of(embedder, PairedRows.alone(framed_words(sentences, embedder)), 1):
        words = batch.pop(WORDS)
        yield numbers, words_of_tokens(embedder.states(batch), words.to(embedder.model.device))


def states_of_pairs(
    embedder: Embedder, sources: Sequence[Words], targets: Sequence[Words], by_piece: bool, plug_in: bool
) -> Iterator[tuple[np.ndarray, UnitStates, UnitStates]]:
    """Batches of pairs of similar length: their numbers (B,) and the states of both sides, H or with `plug_in` S.

    The units are words or, `by_piece`, their pieces. H of both sides is computed in one pass.
    """
    units_of_tokens = pieces_of_tokens if by_piece else words_of_tokens
    for numbers, stacked, words in stacked_pairs(embedder, sources, targets):
        states = plugged_in_states(embedder, stacked) if plug_in else embedder.states(stacked)
        yield numbers, *(halves(units_of_tokens(states, words)))


def stacked_pairs(
    embedder: Embedder, sources: Sequence[Words], targets: Sequence[Words]
) -> Iterator[tuple[np.ndarray, dict[str, Tensor], Tensor]]:
    """Batches of pairs of similar length: their numbers (B,), the model's arguments for x over y, and WORDS (2B, T)."""
    for numbers, stacked in stacked_rows(embedder, framed_words(sources, embedder), framed_words(targets, embedder)):
        words = stacked.pop(WORDS)
        yield numbers, stacked, words


def stacked_rows(embedder: Embedder, x: TokenRows, y: TokenRows) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Batches of pairs of similar length: their numbers (B,), and what rows have for x over y (2B, T), on the device.

    Row i of x and of y is pair i.
    """
    rows = PairedRows.paired(x, y, np.arange(len(x), dtype=np.int64))
    fillers = {"input_ids": embedder.encoder.pad, WORDS: IGNORED}
    for numbers, batch in batches_of(embedder, rows, 2):
        names = [name for name in batch if pair_argument(name) in batch]
        stacked = {
            name: stack_pair(batch[name], batch[pair_argument(name)], fillers.get(name, 0)).to(embedder.model.device)
            for name in names
        }
        yield numbers, stacked


def batches_of(embedder: Embedder, rows: PairedRows, rows_each: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """(numbers, the model's arguments) of batches by length, of `rows_each` rows for each number."""
    batches = EvaluationBatches(rows, embedder.max_tokens // rows_each, embedder.encoder.pad)
    for number in range(len(batches)):
        yield batches.units_of(number), batches[number]


def encode_plugged_in(
    embedder: Embedder,
    stacked: dict[str, Tensor],
    output_hidden_states: bool = False,
    output_attentions: bool = False,
) -> BaseModelOutput:
    """The output of S of x over y, with what is asked for; each side is plugged into the other's H."""
    assert isinstance(embedder.model, VecoModel), "others have no cross-attention to plug in"
    with torch.inference_mode():
        _, s = encode_pair(
            embedder.model,
            stacked["input_ids"],
            stacked["attention_mask"],
            stop_gradient=False,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
    return s


def plugged_in_states(embedder: Embedder, stacked: dict[str, Tensor]) -> list[Tensor]:
    """The states S (2B, T, D) of each of the embedder's layers, of x over y that are plugged into each other."""
    s = encode_plugged_in(embedder, stacked, output_hidden_states=True)
    return [s.hidden_states[layer].float() for layer in embedder.layers]


def words_of_tokens(states: Sequence[Tensor], words_BT: Tensor) -> UnitStates:
    """The mean state of the pieces of each word, from those of tokens (B, T, D) by layer."""
    num_rows, num_words, width = len(words_BT), max(int(words_BT.max()) + 1, 0), states[0].shape[-1]
    is_piece = words_BT != IGNORED
    places = (torch.arange(num_rows, device=words_BT.device)[:, None] * num_words + words_BT)[is_piece]
    counts = torch.bincount(places, minlength=num_rows * num_words)
    means = []
    for states_BTD in states:
        sums = states_BTD.new_zeros(num_rows * num_words, width)
        sums.index_add_(0, places, states_BTD[is_piece])
        means.append((sums / counts.clamp(min=1)[:, None]).view(num_rows, num_words, width))
    counts_BW = counts.view(num_rows, num_words)
    numbers = torch.arange(num_words, device=words_BT.device).expand_as(counts_BW)
    return UnitStates(torch.stack(means), numbers.where(counts_BW > 0, -1))


def pieces_of_tokens(states: Sequence[Tensor], words_BT: Tensor) -> UnitStates:
    """The states of the pieces, without those of special tokens: the pieces of a row are next to each other."""
    is_piece = words_BT != IGNORED
    first = int(is_piece.int().argmax(dim=1).max())
    num_pieces = int(is_piece.sum(dim=1).max())
    own = slice(first, first + num_pieces)
    is_own = is_piece[:, own]
    stacked = torch.stack([states_BTD[:, own] for states_BTD in states])
    return UnitStates(stacked * is_own[..., None], words_BT[:, own].where(is_own, -1))


def halves(both: UnitStates) -> tuple[UnitStates, UnitStates]:
    """x and y, from x over y."""
    (x_states, y_states), (x_words, y_words) = both.states.chunk(2, dim=1), both.words.chunk(2)
    return UnitStates(x_states, x_words), UnitStates(y_states, y_words)
