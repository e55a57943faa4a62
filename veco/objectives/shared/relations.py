"""How far a student's states are from a teacher's: relations between tokens (MiniLMv2), and the states themselves.

Relations (Wang et al., MiniLMv2, ACL Findings 2021). The queries of a row's tokens, of all heads together, are split
anew into A relation heads; those of head a are Q_a (tokens, width / A). With the teacher's R^T and the student's R^S

    R_a = softmax(Q_a Q_a^T / sqrt(width / A)),    L_Q = 1 / (A tokens) * sum_a sum_t KL(R^T_at || R^S_at)

and so for keys and values. The matrices are tokens x tokens for any width and any number of attention heads, so those
of teacher and student may differ.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows; T tokens of the longest one; A relation heads;
D width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from torch.utils.checkpoint import checkpoint

from veco.objectives.shared.pooling import products
from veco.packing import Padding


def relation_divergence(student_ND: Tensor, teacher_ND: Tensor, padding: Padding, num_heads: int) -> Tensor:
    """L_Q (R,) of each row, in float32 at least, from the vectors of its tokens, whose widths may differ.

    The matrices of relations are computed again in the backward pass: there are A of them for each row.
    """
    inputs = student_ND, teacher_ND.detach(), padding, num_heads
    found: Tensor = checkpoint(_divergence, *inputs, use_reentrant=False, preserve_rng_state=False)
    return found


def _divergence(student_ND: Tensor, teacher_ND: Tensor, padding: Padding, num_heads: int) -> Tensor:
    of_student, of_teacher = (log_relations(vectors, padding, num_heads) for vectors in (student_ND, teacher_ND))
    per_query_RT = kl_div(of_student, of_teacher, reduction="none", log_target=True).sum(-1).mean(1)
    return mean_of_tokens(per_query_RT, padding)


def log_relations(vectors_ND: Tensor, padding: Padding, num_heads: int) -> Tensor:
    """Logarithms (R, A, T, T) of each token's relations to the others of its row; padding has none."""
    vectors_ND = vectors_ND.to(torch.promote_types(vectors_ND.dtype, torch.float32))
    heads_RATK = padding.pad(vectors_ND).unflatten(-1, (num_heads, -1)).transpose(1, 2)
    scores = products(heads_RATK, heads_RATK) * heads_RATK.shape[-1] ** -0.5
    is_padding = ~padding.is_token_BT[:, None, None]
    # Finite, so that 0 * (difference of logarithms) is 0 at padding.
    return scores.masked_fill(is_padding, torch.finfo(scores.dtype).min / 4).log_softmax(-1)


def state_distance(student_ND: Tensor, teacher_ND: Tensor, padding: Padding) -> Tensor:
    """The mean squared difference (R,) of each row's states, which have one width, over its tokens and the width."""
    dtype = torch.promote_types(student_ND.dtype, torch.float32)
    squares_N = (student_ND.to(dtype) - teacher_ND.detach().to(dtype)).square().mean(-1)
    return mean_of_tokens(padding.pad(squares_N), padding)


def mean_state_distance(pairs: Iterable[tuple[Tensor, Tensor]], padding: Padding) -> Tensor:
    """The mean (R,) of `state_distance` over pairs of states, a student's and its teacher's."""
    return torch.stack([state_distance(own, theirs, padding) for own, theirs in pairs]).mean(0)


def compared_layers(of_student: int, of_teacher: int, every_layer: bool) -> list[tuple[int, int]]:
    """The layers whose states are compared, the student's and the teacher's: `paired_layers`, or the last ones, -1."""
    return paired_layers(of_student, of_teacher) if every_layer else [(-1, -1)]


def paired_layers(of_student: int, of_teacher: int) -> list[tuple[int, int]]:
    """Each layer of the student, from 0, the embeddings, with that of the teacher at the same share of the depth."""
    return [(layer, round(layer * of_teacher / of_student)) for layer in range(of_student + 1)]


def mean_of_tokens(values_RT: Tensor, padding: Padding) -> Tensor:
    """The mean (R,) of values (R, T) over the tokens of each row."""
    is_token_RT = padding.is_token_BT
    return (values_RT * is_token_RT).sum(1) / is_token_RT.sum(1)
