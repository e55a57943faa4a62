"""Whether a compiler, an exporter or a tracer looks on."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether what runs is being recorded: it must then not depend on the values of tensors, and decides nothing that
    whoever records it decides better, such as what is kept for a backward pass."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
