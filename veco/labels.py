"""Labels and their losses: which are ignored, which are refused, and the mean over both sequences of a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from veco.config import VecoConfig

IGNORED = -100  # torch's and transformers' label of a position that is not predicted
LOSSES_OF_NUMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "regression": mse_loss,
    "multi_label_classification": binary_cross_entropy_with_logits,
}


class Labelled(NamedTuple):
    """Logits of one sequence of a pair, its labels, and the name of the argument that gave them."""

    name: str
    logits: Tensor
    labels: Tensor


def check_labels(name: str, labels: Tensor, shape: torch.Size, num_classes: int) -> None:
    """Raise ValueError unless labels have that shape, are integers, and are IGNORED or lie in [0, `num_classes`).

    The range is checked on CPU only, as in `check_input_ids`.
    """
    if labels.shape != shape:
        raise ValueError(f"{name} have shape {tuple(labels.shape)}, expected {tuple(shape)}")
    if labels.is_floating_point():
        raise ValueError(f"{name} are {labels.dtype}, expected class ids, which are integers")
    if labels.device.type != "cpu":
        return
    wrong = labels.ne(IGNORED) & (labels.lt(0) | labels.ge(num_classes))
    if wrong.any():
        raise ValueError(
            f"{name} contain {int(labels[wrong][0])}, expected {IGNORED} (ignored) or 0 to {num_classes - 1}, one of "
            f"{num_classes} classes"
        )


def mean_cross_entropy(labelled: list[Labelled]) -> Tensor:
    """Mean cross-entropy, float32, of logits (..., C) over all labels (...) that are not IGNORED.

    It is 0, not NaN, if all are ignored. Raises ValueError for labels of another shape and for unknown classes.
    """
    sums, counts = [], []
    for name, logits, labels in labelled:
        check_labels(name, labels, logits.shape[:-1], logits.shape[-1])
        flat = labels.flatten().long()
        sums.append(cross_entropy(logits.flatten(0, -2).float(), flat, ignore_index=IGNORED, reduction="sum"))
        counts.append(flat.ne(IGNORED).sum())
    return torch.stack(sums).sum() / torch.stack(counts).sum().clamp(min=1)


def sequence_loss(labelled: list[Labelled], config: VecoConfig) -> Tensor:
    """`loss_of_problem` by `config.problem_type`; sets that if it is None."""
    if config.problem_type is None:
        has_numbers = labelled[0].labels.is_floating_point()
        several = "multi_label_classification" if has_numbers else "single_label_classification"
        config.problem_type = "regression" if config.num_labels == 1 else several
    return loss_of_problem(labelled, config.problem_type)


def loss_of_problem(labelled: list[Labelled], problem_type: str) -> Tensor:
    """Mean loss over labels of sequences, by the type of the problem: of classes, several classes or numbers.

    Raises ValueError for another type, and for labels that do not fit the logits.
    """
    if problem_type == "single_label_classification":
        return mean_cross_entropy([side._replace(labels=side.labels.flatten()) for side in labelled])
    if problem_type not in LOSSES_OF_NUMBERS:
        known = ", ".join(["single_label_classification", *LOSSES_OF_NUMBERS])
        raise ValueError(f"config.problem_type is {problem_type!r}, expected one of {known}")
    for name, logits, labels in labelled:
        if len(labels) != len(logits) or labels.numel() != logits.numel():
            raise ValueError(f"{name} have shape {tuple(labels.shape)}, expected {tuple(logits.shape)}")
    logits = torch.cat([side.logits for side in labelled]).float()
    labels = torch.cat([side.labels.view_as(side.logits) for side in labelled]).float()
    return LOSSES_OF_NUMBERS[problem_type](logits, labels)


def positions_as_classes(answers: list[Labelled]) -> list[Labelled]:
    """Positions (B,) in a sequence as its classes: negative ones become 0, those beyond the sequence IGNORED."""
    result = []
    for name, logits, positions in answers:
        positions = positions.flatten()
        positions = positions.clamp(min=0).masked_fill(positions >= logits.shape[1], IGNORED)
        result.append(Labelled(name, logits, positions))
    return result
