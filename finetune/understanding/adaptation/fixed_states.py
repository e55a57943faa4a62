"""The head alone on states that the encoder computes once: each row of text becomes one vector, or a few.

The encoder runs over all rows in evaluation mode, in float32, and its states are kept in memory. A copy of the model in
which they take the encoder's place is trained, so that every head works as it does behind its encoder.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.paired_rows import PairedRows, SelectedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.token_rows import TokenRows
from training.engine.interface import Ranks
from training.launch import tell
from training.model_parts import encoder_of
from training.step import Batch

BLOCK = 1 << 24  # numbers that are summed over the ranks at a time
GIGABYTE = 10**9
NUMBER_BYTES = 4  # of float32


class FixedStates(nn.Module):
    """The place of an encoder whose states are known: they come as `inputs_embeds` (B, T, W).

    W is the encoder's width or, for an encoder that is called twice, with a pair's states in the second call, that of
    [H ; S]. A pooler above the states belongs to the head.
    """

    def __init__(self, width: int, pooler: nn.Module | None) -> None:
        super().__init__()
        self.width = width
        self.pooler = pooler

    def forward(
        self, *_: Any, inputs_embeds: Tensor, encoder_hidden_states: Tensor | None = None, **__: Any
    ) -> BaseModelOutputWithPooling:
        own = inputs_embeds[..., : self.width] if encoder_hidden_states is None else inputs_embeds[..., self.width :]
        return BaseModelOutputWithPooling(
            last_hidden_state=own, pooler_output=None if self.pooler is None else self.pooler(own)
        )


class HeadAlone(Adapted):
    """A model whose head learns from the states of its rows."""

    def __init__(
        self, model: PreTrainedModel, recipe: UnderstandingRecipe, sets: Sequence[PairedRows], pad: int
    ) -> None:
        """Raises ValueError as `encoder_of` does, and if the states of all rows take more memory than they may."""
        self.complete = model.eval()
        self.max_tokens, self.pad = recipe.max_tokens, pad
        self.width = encoder_of(model).config.hidden_size * (2 if recipe.plug_in else 1)
        super().__init__(without_encoder(model))
        together = sets[0].x.rows.rows_together
        self.reads_first_alone = reads_first_alone(self.model, self.width, together, recipe.plug_in)
        sides = [side.expanded() for rows in sets for side in rows.sides]
        self.num_states = sum(int(self.read_tokens(rows).sum()) for rows in sides)
        self.gigabytes = self.num_states * self.width * NUMBER_BYTES / GIGABYTE
        if self.gigabytes > recipe.features_gb:
            raise ValueError(
                f"freeze encoder: {self.size} take {self.gigabytes:,.1f} GB on a rank, more than features_gb "
                f"{recipe.features_gb:g}; allow more, or give freeze_layers, which keeps no states but passes through "
                "the encoder in each epoch"
            )

    @property
    def size(self) -> str:
        """The number of states in words."""
        return f"{self.num_states:,} states of {self.width} numbers"

    def read_tokens(self, rows: TokenRows) -> np.ndarray:
        """Whether the head reads a token's state, bool (tokens,): of each row's first token it always does."""
        is_read = np.zeros(len(rows.tokens.tokens), dtype=bool)
        if not self.reads_first_alone:
            is_read = rows.predicted_tokens()
        is_read[rows.tokens.offsets[:-1]] = True
        return is_read

    def prepared(self, sets: Sequence[PairedRows], ranks: Ranks) -> list[PairedRows]:
        started = time.perf_counter()
        self.complete.to(ranks.device)
        prepared = [self._with_states(rows, ranks) for rows in sets]
        self.complete.to("cpu")
        if ranks.rank == 0:
            taken = time.perf_counter() - started
            tell(f"freeze encoder: {self.size}, {self.gigabytes:,.3f} GB, in {taken:.1f} s")
        return prepared

    def _with_states(self, rows: PairedRows, ranks: Ranks) -> PairedRows:
        """The same rows with the states in the place of tokens."""
        sides = [Side.of(side, self) for side in rows.sides]
        inputs = PairedRows(*(replace(side, rows=side.rows.without_targets()) for side in rows.sides))
        batches = EvaluationBatches(inputs, self.max_tokens, self.pad)
        for number in range(ranks.rank, len(batches), ranks.world_size):
            batch = {name: tensor.to(ranks.device) for name, tensor in batches[number].items()}
            for side, states, mask in zip(sides, *states_of(self.complete, batch), strict=True):
                side.store(rows.x.rows_of(batches.units_of(number)), states[mask].cpu().numpy())
        for side in sides:
            sum_over_ranks(side.states, ranks)
        return PairedRows(*(side.selected() for side in sides))

    def whole(self, weights: Mapping[str, Tensor]) -> tuple[PreTrainedModel, dict[str, Tensor]]:
        own = self.complete.state_dict()
        learned = {name: weight.to(own[name].dtype) for name, weight in weights.items()}
        return self.complete, {**own, **learned}


class Side:
    """The rows of one side of all pairs, and the states of the tokens among them that a head reads."""

    def __init__(self, rows: TokenRows, repeated: np.ndarray, is_read: np.ndarray, width: int) -> None:
        self.rows, self.repeated, self.is_read = rows, repeated, is_read
        self.states = np.zeros((int(is_read.sum()), width), dtype=np.float32)
        self._places = np.cumsum(is_read) - 1  # of a token's state among them

    @classmethod
    def of(cls, selected: SelectedRows, head: HeadAlone) -> Side:
        rows = selected.expanded()
        return cls(rows, selected.repeated, head.read_tokens(rows), head.width)

    def store(self, numbers: np.ndarray, states: np.ndarray) -> None:
        """Keep what is read of the states (tokens, W) of rows `numbers`, row by row."""
        tokens = self.rows.places(numbers)
        is_read = self.is_read[tokens]
        self.states[self._places[tokens[is_read]]] = states[is_read]

    def selected(self) -> SelectedRows:
        """The rows with their states."""
        rows = self.rows.with_states(self.is_read, self.states)
        return SelectedRows(rows, np.arange(len(rows)), self.repeated)


def without_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model whose encoder is only the place of its states."""
    encoder = encoder_of(model)
    place = FixedStates(encoder.config.hidden_size, dict(encoder.named_children()).get("pooler"))
    setattr(model, model.base_model_prefix, place)
    try:
        alone = copy.deepcopy(model)
    finally:
        setattr(model, model.base_model_prefix, encoder)
    alone.register_forward_pre_hook(in_type_of_weights, with_kwargs=True)
    return alone


def in_type_of_weights(
    model: PreTrainedModel, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a model with states of the type that an engine has given its weights."""
    states = {name: value.to(model.dtype) for name, value in named.items() if name.endswith("inputs_embeds")}
    return inputs, {**named, **states}


def reads_first_alone(model: PreTrainedModel, width: int, together: int, plug_in: bool) -> bool:
    """Whether a head's logits depend on the first token's state alone, which is found by changing the others.

    `together` rows are those of one example.
    """
    shape = (1, 3) if together == 1 else (1, together, 3)
    one, other = torch.randn(2, *shape, width, generator=torch.Generator().manual_seed(1))
    other[..., 0, :] = one[..., 0, :]
    logits = []
    for states in (one, other):
        given = {"inputs_embeds": states, "attention_mask": torch.ones(shape, dtype=torch.int64)}
        pair = {f"pair_{name}": tensor for name, tensor in given.items()} if plug_in else {}
        with torch.no_grad():
            logits.append(model.eval()(**given, **pair)[0])
    return torch.allclose(*logits)


def states_of(model: PreTrainedModel, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """The last layer's states (R, T, W) of R rows of x and, plugged in, of y, and their masks, bool (R, T).

    Plugged in the encoder is called twice, for H and for S of x over y.
    """
    calls: list[Tensor] = []
    handle = model.base_model.register_forward_hook(lambda module, inputs, output: calls.append(output[0]))
    try:
        with torch.inference_mode():
            model(**batch)
    finally:
        handle.remove()
    names = ("attention_mask", "pair_attention_mask")
    masks = [batch[name].bool().flatten(0, -2) for name in names if name in batch]
    sides = torch.cat(calls, dim=-1).chunk(len(masks))
    return [states[:, : mask.shape[1]] for states, mask in zip(sides, masks, strict=True)], masks


def sum_over_ranks(states: np.ndarray, ranks: Ranks) -> None:
    """Let every rank have what each of them computed, in place."""
    if ranks.world_size == 1:
        return
    flat = torch.from_numpy(states).view(-1)
    for part in flat.split(BLOCK):
        part.copy_(ranks.sum_over_ranks(part.to(ranks.device)))
