"""Label-smoothed cross-entropy as fairseq defines it, lean enough for a vocabulary of 250,000 pieces.

Legend: N predicted positions, V vocabulary. With logits z, gold class y and smoothing e, fairseq (from late 2020 on,
`fairseq/criterions/label_smoothed_cross_entropy.py`) asks for probability 1 - e on y and e / (V - 1) on each *other*
class, so with the log-probabilities z_v - lse, lse = logsumexp(z), the loss of one position is

    lse - (1 - e) z_y - e / (V - 1) * (sum_v z_v - z_y)

Older fairseq, torch's `label_smoothing` and the 2015 Inception paper spread e / V over *all* classes, the gold one
included; that is this loss with e * (V - 1) / V in place of e. For V = 250,000 the two differ by 4e-6 of e.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

IGNORE_INDEX = -100  # transformers' label of a position that is not predicted

# Rows are taken to float32 in pieces of about this many numbers (64 MB): the only large memory beside the logits and
# their gradient. Plain autograd would hold three to four float32 copies of the logits.
CHUNK_NUMBERS = 1 << 24


def label_smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the smoothed losses, sum of the plain negative log-likelihoods, and number of predicted positions.

    logits (…, V) in any floating type; labels (…) of ids, `ignore_index` where nothing is predicted. Both sums are
    scalars in nats, float32 (float64 for float64 logits); the first carries the gradient, the second none; the count
    is an int64 scalar. Nothing is averaged: the caller divides by the count over all ranks and micro-steps.
    Raises ValueError for shapes that do not fit, a smoothing outside [0, 1) or fewer than two classes.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}: "
            "expected one label for each row of logits"
        )
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"label smoothing must lie in [0, 1), found {smoothing}")
    if logits.shape[-1] < 2:
        raise ValueError(f"label smoothing needs at least two classes, found {logits.shape[-1]}")
    loss_sum, nll_sum = _SmoothedLoss.apply(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), smoothing, ignore_index
    )
    return loss_sum, nll_sum, labels.ne(ignore_index).sum()


class _SmoothedLoss(Function):
    """The sums of `label_smoothed_cross_entropy` over rows (N, V); only the logits are kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits_NV: Tensor, labels_N: Tensor, smoothing: float, ignore_index: int
    ) -> tuple[Tensor, Tensor]:
        rows = labels_N.ne(ignore_index).nonzero().squeeze(1)  # padding costs neither time nor a NaN
        num_classes = logits_NV.shape[1]
        dtype = torch.promote_types(logits_NV.dtype, torch.float32)
        loss_sum = torch.zeros((), dtype=dtype, device=logits_NV.device)
        nll_sum = torch.zeros((), dtype=dtype, device=logits_NV.device)
        log_normalizers = []
        for part in rows.split(_rows_per_chunk(num_classes)):
            chunk = logits_NV[part].to(dtype)
            gold = chunk.gather(1, labels_N[part].unsqueeze(1)).squeeze(1)
            log_normalizer = chunk.logsumexp(dim=1)
            other_mean = (chunk.sum(dim=1) - gold) / (num_classes - 1)
            loss_sum += (log_normalizer - (1.0 - smoothing) * gold - smoothing * other_mean).sum()
            nll_sum += (log_normalizer - gold).sum()
            log_normalizers.append(log_normalizer)
        ctx.save_for_backward(logits_NV, labels_N, rows, *log_normalizers)
        ctx.smoothing = smoothing  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(nll_sum)
        return loss_sum, nll_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of a row is softmax(z) minus the smoothed target distribution."""
        logits_NV, labels_N, rows, *log_normalizers = ctx.saved_tensors  # type: ignore[attr-defined]
        smoothing: float = ctx.smoothing  # type: ignore[attr-defined]
        num_classes = logits_NV.shape[1]
        share = smoothing / (num_classes - 1)
        gradient = torch.zeros_like(logits_NV)
        parts = rows.split(_rows_per_chunk(num_classes))
        for part, log_normalizer in zip(parts, log_normalizers, strict=True):
            chunk = logits_NV[part].to(log_normalizer.dtype)
            chunk.sub_(log_normalizer.unsqueeze(1)).exp_().sub_(share)
            gold = labels_N[part].unsqueeze(1)
            chunk.scatter_add_(1, gold, chunk.new_full(gold.shape, share - (1.0 - smoothing)))
            gradient[part] = chunk.mul_(grad_outputs[0]).to(gradient.dtype)
        return gradient, None, None, None


def _rows_per_chunk(num_classes: int) -> int:
    return max(1, CHUNK_NUMBERS // num_classes)
