"""Whether a compiler, an exporter or a tracer is recording."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether the running code is being recorded.

    It must then not depend on the values of tensors, nor decide what the recorder decides better, such as what is kept
    for the backward pass.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
