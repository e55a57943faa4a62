"""The weights between the words, or the pieces, of one sentence or pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from analysis.attending.reading import WeightsOf
from analysis.attending.texts import Texts
from analysis.states import Words
from analysis.weights import PADDING, SOURCE, SPECIAL, TARGET, Tokens, on_units

UNREADABLE = "\ufffd"  # in the place of a piece that is part of a character
MEAN = "mean"  # over all heads


@dataclass(frozen=True)
class WeightMap:
    """The weights (M, N) of the units `rows` on the units `columns`, in a layer, of a head or the mean over all."""

    layer: int
    head: str
    rows: Sequence[str]
    columns: Sequence[str]
    weights: np.ndarray


def maps_of_text(
    weights_of: WeightsOf,
    texts: Texts,
    layers: Sequence[int],
    chosen: Sequence[int],
    heads: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    by_piece: bool,
) -> list[WeightMap]:
    """The maps of each of the `chosen` layers and `heads`, of the sentence alone or for each side that attends.

    `weights_of` gives the weights of `layers`. Special tokens are units of their own. Raises ValueError for a head that
    the model does not have.
    """
    source, target = texts
    words = {SOURCE: source, TARGET: target or ()}
    found = []
    for weights in weights_of([source], None if target is None else [target]):
        for layer, weights_BHTS in zip(layers, weights.by_layer, strict=True):
            if layer not in chosen:
                continue
            for row in range(len(weights_BHTS)):
                rows, queries_TM = labelled_units(weights.queries, row, words, tokenizer, by_piece)
                columns, keys_SN = labelled_units(weights.keys, row, words, tokenizer, by_piece)
                for head in heads:
                    own = on_units(of_head(weights_BHTS[row], head)[None], queries_TM[None], keys_SN[None])[0]
                    found.append(WeightMap(layer, head, rows, columns, own.cpu().numpy()))
    return found


def of_head(weights_HTS: Tensor, head: str) -> Tensor:
    """The weights (T, S) of a head, or the mean over all. Raises ValueError for one that is not there."""
    if head == MEAN:
        return weights_HTS.mean(dim=0)
    if int(head) >= len(weights_HTS):
        raise ValueError(f"--heads {head}: the model has heads 0 to {len(weights_HTS) - 1}")
    return weights_HTS[int(head)]


def labelled_units(
    tokens: Tokens, row: int, words: Mapping[int, Words], tokenizer: PreTrainedTokenizerBase, by_piece: bool
) -> tuple[list[str], Tensor]:
    """The labels (M,) of the units of a row, in order, and float (T, M): 1 where a token belongs to a unit.

    Units are words, or their pieces, and special tokens; `words` are those of each side.
    """
    ids, numbers, sides = (of_tokens[row].tolist() for of_tokens in (tokens.ids, tokens.words, tokens.sides))
    units: dict[tuple[int, ...], int] = {}
    labels: list[str] = []
    units_TM = torch.zeros(len(ids), len(ids), device=tokens.ids.device)
    for place, (id, number, side) in enumerate(zip(ids, numbers, sides, strict=True)):
        if side == PADDING:
            continue
        is_whole = by_piece or side == SPECIAL
        unit = (side, place) if is_whole else (side, -1, number)
        if unit not in units:
            units[unit] = len(labels)
            labels.append(piece_text(id, tokenizer) if is_whole else words[side][number])
        units_TM[place, units[unit]] = 1
    return labels, units_TM[:, : len(labels)]


def piece_text(id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A piece as text, as far as it is some; byte-level pieces are written in other characters."""
    piece = tokenizer.convert_ids_to_tokens(id)
    text = tokenizer.convert_tokens_to_string([piece]).strip()
    return piece if not text or UNREADABLE in text else text
