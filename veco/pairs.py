"""Pairs of sequences (x, y) stacked in one batch, so that two sweeps through the layers compute both: H, then S."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput

from veco.model import VecoModel, check_mask, token_mask


def pair_argument(name: str) -> str:
    """Name of an argument of the models that classify, for the paired sequence.

    Only `labels` itself has "label" in its name: transformers' Trainer expects such arguments in every batch.
    """
    return "pair_targets" if name == "labels" else f"pair_{name}"


def stack_pair(x: Tensor, y: Tensor, filler: int) -> Tensor:
    """x (B, X, ...) over y (B, Y, ...) as (2B, max(X, Y), ...), the shorter padded with `filler`.

    Raises ValueError if they have different numbers of rows.
    """
    if len(x) != len(y):
        raise ValueError(f"expected one paired sequence for each sequence, found {len(y)} for {len(x)}")
    length = max(x.shape[1], y.shape[1])
    of_tokens = (0, 0) * (x.dim() - 2)  # torch's padding begins with the last dimension
    return torch.cat([pad(side, (*of_tokens, 0, length - side.shape[1]), value=filler) for side in (x, y)])


def stack_if_given(x: Tensor | None, y: Tensor | None, filler: int) -> Tensor | None:
    """`stack_pair` of what both sequences have, None of what neither has."""
    return None if x is None or y is None else stack_pair(x, y, filler)


def mask_in_pair(
    name: str, mask: Tensor | None, input_ids: Tensor | None, shape: torch.Size, pad_token_id: int | None
) -> Tensor:
    """The boolean mask (B, T) of a sequence of a pair; by default its ids that are not padding.

    Raises ValueError for a mask of another shape than its sequence's, and for embeddings without one.
    """
    if mask is not None:
        check_mask(name, mask, shape)
        return mask.bool()
    if input_ids is None:
        raise ValueError(f"found embeddings without {name}, which says where their sequences end")
    return token_mask(input_ids, pad_token_id)


def swap_pair(x_over_y: Tensor) -> Tensor:
    """y over x, from x over y (2B, ...)."""
    return x_over_y.roll(len(x_over_y) // 2, dims=0)


def encode_pair(
    encoder: VecoModel,
    input_ids: Tensor | None,
    attention_mask: Tensor,
    stop_gradient: bool,
    inputs_embeds: Tensor | None = None,
    output_hidden_states: bool | None = None,
    output_attentions: bool | None = None,
) -> tuple[BaseModelOutput, BaseModelOutput]:
    """(H, S) of x over y, from ids (2B, T) or embeddings (2B, T, D), and mask (2B, T): VECO (ACL 2021), eq. 2-9.

    The keys and values of x in S are the last layer's H of y, and vice versa; behind a stop-gradient no loss of S
    reaches the H path of the other sequence.
    """
    outputs = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
    h = encoder(input_ids, attention_mask, inputs_embeds=inputs_embeds, **outputs, return_dict=True)
    pair_states = swap_pair(h.last_hidden_state)
    s = encoder(
        input_ids,
        attention_mask,
        inputs_embeds=inputs_embeds,
        encoder_hidden_states=pair_states.detach() if stop_gradient else pair_states,
        encoder_attention_mask=swap_pair(attention_mask),
        **outputs,
        return_dict=True,
    )
    return h, s
