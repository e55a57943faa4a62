"""Count a computation's matrix products, since its time would vary too much."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

MATRIX_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)


class Products(TorchDispatchMode):
    """Counts the matrix products inside `with`."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in MATRIX_PRODUCTS
        return func(*args, **(kwargs or {}))
