"""The weights of attention between the tokens of sentences, of any encoder, plugged out or in; and those of units.

A row is a sentence, or a pair in one row as TLM reads it. Letters of shapes: B rows, H heads, T tokens that attend, S
tokens that are attended to, M and N units (words, or their pieces) of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedModel

from analysis.states import (
    WORDS,
    Words,
    batches_of,
    encode_plugged_in,
    framed_words,
    pieces_of_words,
    stacked_pairs,
)
from finetune.exported.encoder import ExportedEncoder
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.rows.encoding import in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from veco.labels import IGNORED
from veco.pairs import swap_pair

SIDES = "sides"  # of the tokens of a pair in one row, which come along in a batch as targets do
SOURCE, TARGET = 0, 1
SPECIAL, PADDING = -1, -2  # sides of tokens that belong to neither sentence


@dataclass(frozen=True)
class Tokens:
    """The tokens of rows, int64 (B, T): their `ids`, the numbers of their `words`, and their `sides`.

    A word has its number in its own sentence, IGNORED for special tokens and padding. Sides are SOURCE and TARGET,
    SPECIAL and PADDING.
    """

    ids: Tensor
    words: Tensor
    sides: Tensor

    @classmethod
    def of(cls, ids: Tensor, attention_mask: Tensor, words: Tensor, sides: Tensor | int) -> Self:
        """`sides` are those of the tokens that belong to words, or the one of all of them."""
        others = torch.where(attention_mask.bool(), SPECIAL, PADDING)
        return cls(ids, words, torch.where(words != IGNORED, sides, others))

    def swapped(self) -> Tokens:
        """Those of y over x, from x over y."""
        return Tokens(swap_pair(self.ids), swap_pair(self.words), swap_pair(self.sides))


@dataclass(frozen=True)
class Weights:
    """The weights of a batch of rows, of the sentences or pairs with these `numbers` (B,).

    `by_layer` has those of each layer in turn, float32 (B, H, T, S), of `queries` on `keys`.
    """

    numbers: np.ndarray
    queries: Tokens
    keys: Tokens
    by_layer: Iterator[Tensor]


def plugged_out_weights(embedder: Embedder, sentences: Sequence[Words], side: int) -> Iterator[Weights]:
    """Self-attention of path H in each sentence; all of them are on one `side`."""
    for numbers, batch in batches_of(embedder, PairedRows.alone(framed_words(sentences, embedder)), 1):
        words = batch.pop(WORDS)
        yield self_attention(embedder, numbers, batch, words, side)


def tlm_weights(embedder: Embedder, sources: Sequence[Words], targets: Sequence[Words]) -> Iterator[Weights]:
    """Self-attention of path H over both sentences of each pair in one row."""
    for numbers, batch in batches_of(embedder, PairedRows.alone(framed_pairs(sources, targets, embedder)), 1):
        words, sides = batch.pop(WORDS), batch.pop(SIDES)
        yield self_attention(embedder, numbers, batch, words, sides)


def plugged_in_weights(embedder: Embedder, sources: Sequence[Words], targets: Sequence[Words]) -> Iterator[Weights]:
    """Cross-attention of S over the other sentence's H: VECO (ACL 2021), eq. 7. Rows are sources over targets."""
    for numbers, stacked, words in stacked_pairs(embedder, sources, targets):
        s = encode_plugged_in(embedder, stacked, output_attentions=True)
        sides = torch.full_like(words, SOURCE)
        sides[len(numbers) :] = TARGET
        tokens = Tokens.of(stacked["input_ids"], stacked["attention_mask"], words, sides)
        by_layer = (s.cross_attentions[layer - 1].float() for layer in embedder.layers)
        yield Weights(np.concatenate([numbers, numbers]), tokens, tokens.swapped(), by_layer)


def self_attention(
    embedder: Embedder, numbers: np.ndarray, batch: Mapping[str, Tensor], words: Tensor, sides: Tensor | int
) -> Weights:
    """The weights of a batch, the model's arguments, whose tokens have these words and sides."""
    device = embedder.model.device
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    sides = sides.to(device) if isinstance(sides, Tensor) else sides
    tokens = Tokens.of(on_device["input_ids"], on_device["attention_mask"], words.to(device), sides)
    with torch.inference_mode():
        attentions = attending_model(embedder)(**on_device, output_attentions=True).attentions
    return Weights(numbers, tokens, tokens, (attentions[layer - 1].float() for layer in embedder.layers))


def framed_pairs(sources: Sequence[Words], targets: Sequence[Words], embedder: Embedder) -> TokenRows:
    """A row for each pair, cut to the embedder's longest, with WORDS and SIDES of its tokens.

    Of a pair that is too long, the longer sentence is cut; such pairs are counted by the embedder.
    """
    pairs = zip(sources, targets, strict=True)
    blocks = [framed_pair_block(block, embedder) for block in in_blocks(pairs)]
    return TokenRows.concatenate(blocks)


def framed_pair_block(pairs: Sequence[tuple[Words, Words]], embedder: Embedder) -> TokenRows:
    """`framed_pairs` of so many pairs as the tokenizer is called with at once."""
    frame, sides = embedder.encoder.pair, (SOURCE, TARGET)
    encoded = (pieces_of_words(of_side, embedder.encoder) for of_side in zip(*pairs, strict=True))
    pieces, words = zip(*encoded, strict=True)
    rows, of_tokens = [], []
    for number in range(len(pairs)):
        whole = [of_side[number] for of_side in pieces]
        kept = frame.fitting(whole, embedder.max_length)
        embedder.num_truncated += sum(map(len, kept)) < sum(map(len, whole))
        row = frame.row(*kept)
        of_row = np.full((2, len(row)), IGNORED, dtype=np.int64)  # words and sides
        for side, start in zip(sides, (frame.places[0], frame.start_of_last(kept[0])), strict=True):
            first = pieces[side].offsets[number]
            own = slice(start, start + len(kept[side]))
            of_row[0, own] = words[side][first : first + len(kept[side])]
            of_row[1, own] = side
        rows.append(row)
        of_tokens.append(of_row)
    flat = np.concatenate(of_tokens, axis=1)
    return TokenRows.of(rows, np.arange(len(rows)), token_targets={WORDS: flat[0], SIDES: flat[1]})


def attending_model(embedder: Embedder) -> PreTrainedModel:
    """The embedder's model. Raises ValueError for an exported encoder, whose engine keeps its weights to itself."""
    if isinstance(embedder.model, ExportedEncoder):
        raise ValueError("an exported encoder returns no weights of attention; use the model that it was made from")
    return embedder.model


def form_weights(embedder: Embedder) -> None:
    """Make the embedder's model form weights when it is asked for them; by default most of transformers' do not.

    Raises ValueError for a model whose layers have none of each token on each token.
    """
    model, tokenizer = attending_model(embedder), embedder.encoder.tokenizer
    kind = model.config.model_type
    inputs = tokenizer("a a a", return_tensors="pt").to(model.device)
    try:
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            attentions = model(inputs["input_ids"], output_attentions=True).attentions
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"a {kind} returns no weights of attention; use another encoder") from error
    num_tokens = inputs["input_ids"].shape[1]
    shapes = {tuple(weights.shape[-2:]) for weights in attentions or ()}
    if shapes != {(num_tokens, num_tokens)}:
        raise ValueError(f"a {kind} has no weight of each token on each token; use another encoder")


def units_of_tokens(words_BT: Tensor, by_piece: bool) -> tuple[Tensor, Tensor]:
    """float (B, T, M): 1 where a token belongs to a unit; and the words (B, M) of units, -1 behind the last."""
    is_piece = words_BT != IGNORED
    units_BT = (is_piece.cumsum(dim=1) - 1 if by_piece else words_BT).where(is_piece, -1)
    units_BTM = one_hot(units_BT + 1, int(units_BT.max()) + 2)[:, :, 1:]
    words_BM = (units_BTM * (words_BT + 1)[:, :, None]).amax(dim=1) - 1
    return units_BTM.float(), words_BM


def on_units(weights_BTS: Tensor, queries_BTM: Tensor, keys_BSN: Tensor) -> Tensor:
    """The weights (B, M, N) of units on units, from those of tokens.

    A unit attends with the mean of its tokens' weights, and is attended to with their sum (Clark et al., 2019).
    """
    num_tokens = queries_BTM.sum(dim=1).clamp(min=1)
    return queries_BTM.transpose(1, 2) @ weights_BTS @ keys_BSN / num_tokens[:, :, None]
