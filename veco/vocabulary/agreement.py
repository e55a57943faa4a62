"""Whether a model computes the same for a text after its vocabulary was cut."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_tools.text.lines import open_prose
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import encoding, lines_of_shards

NUM_LINES = 32


@dataclass(frozen=True)
class Agreement:
    """The largest difference between the states of some lines of text before and after, of the encoder's last layer.

    `other_pieces` of the lines are cut into other pieces than before, as they have pieces that were not kept; their
    states are not compared.
    """

    lines: int
    other_pieces: int
    largest_difference: float


@dataclass(frozen=True)
class States:
    """The pieces of lines, by name, and the encoder's states (tokens, D) of each line."""

    pieces: Sequence[Sequence[str]]
    states: Sequence[Tensor]

    @classmethod
    def of(cls, model: PreTrainedModel, pieces: Pieces, lines: Sequence[str]) -> Self:
        """Those of lines, cut to the longest sequence that the model takes, one by one: no padding shows."""
        ids, lengths = encoding(pieces.encoder)(list(lines))
        begin, end = pieces.roles["bos"], pieces.roles["eos"]
        longest = model.config.max_tokens - 2
        rows = [[begin, *row.tolist()[:longest], end] for row in torch.from_numpy(ids).split(lengths.tolist())]
        encoder = model.base_model.eval()
        with torch.inference_mode():
            states = [encoder(torch.tensor([row])).last_hidden_state[0] for row in rows]
        return cls([[pieces.names[id_] for id_ in row] for row in rows], states)

    def agreement(self, after: States) -> Agreement:
        """How well those after a change agree with these."""
        same = [number for number, own in enumerate(self.pieces) if own == after.pieces[number]]
        differences = [float((self.states[number] - after.states[number]).abs().max()) for number in same]
        return Agreement(len(same), len(self.pieces) - len(same), max(differences, default=0.0))


def first_lines(sources: Sequence[Path], pieces: Pieces) -> list[str]:
    """The first lines with text of each of some sources, files or a language's shards; about NUM_LINES in all."""
    found: list[str] = []
    for path in sources:
        with contextlib.nullcontext(lines_of_shards(pieces, path)) if path.is_dir() else open_prose(path) as lines:
            found += islice((line for line in lines if line.strip()), max(1, NUM_LINES // len(sources)))
    return found
