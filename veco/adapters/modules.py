"""The modules of adapters. Fresh ones compute zero, or return what they are given, so that no output changes.

Shape suffixes: D width of the model; `...` the same leading dimensions, (B, T) padded or (N,) packed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.activations import ACT2FN

from veco.adapter_config import PFEIFFER, AdapterConfig

if TYPE_CHECKING:
    from veco.config import VecoConfig


class UpProjection(nn.Linear):
    """The last projection of an adapter's function, which is zero while it is fresh."""

    def start(self) -> None:
        """Set it to zero, unless transformers has just loaded it."""
        initialization.zeros_(self.weight)
        initialization.zeros_(self.bias)


class Bottleneck(nn.Module):
    """Down, activation, up: a correction (..., D) of a module's output, before its residual and its LayerNorm.

    Pfeiffer et al. (2020) read LN(x + h), of the module's input x and output h, by the module's own LayerNorm;
    Houlsby et al. (2019) read h.
    """

    def __init__(self, adapter: AdapterConfig, hidden_size: int) -> None:
        super().__init__()
        self.reads_normed = adapter.kind == PFEIFFER
        self.down_proj = nn.Linear(hidden_size, adapter.width(hidden_size))
        self.activation = ACT2FN[adapter.activation]
        self.up_proj = UpProjection(adapter.width(hidden_size), hidden_size)

    def forward(self, output: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        read = norm(residual + output) if self.reads_normed else output
        return self.up_proj(self.activation(self.down_proj(read)))


class Coupling(nn.Module):
    """An invertible function of states (NICE, Dinh et al., 2015): y1 = x1 + F(x2), y2 = x2 + G(y1).

    x1 and x2 are the two halves of a state. F and G are Linear(D/2, D/2r), activation, Linear(D/2r, D/2), r the
    reduction. It preserves volume: its Jacobian's determinant is 1.
    """

    def __init__(self, adapter: AdapterConfig, hidden_size: int) -> None:
        super().__init__()
        half = hidden_size // 2
        inner = max(1, half // adapter.invertible_reduction)
        self.first = HalfFunction(half, inner, adapter.activation)
        self.second = HalfFunction(half, inner, adapter.activation)

    def forward(self, states: Tensor, inverse: bool = False) -> Tensor:
        """y (..., D) of x, or with `inverse` x of y: x2 = y2 - G(y1), x1 = y1 - F(x2)."""
        one, two = states.chunk(2, dim=-1)
        if inverse:
            two = two - self.second(one)
            return torch.cat([one - self.first(two), two], dim=-1)
        one = one + self.first(two)
        return torch.cat([one, two + self.second(one)], dim=-1)


class HalfFunction(nn.Module):
    """F or G of a coupling: any function of half a state (..., D/2)."""

    def __init__(self, half: int, inner: int, activation: str) -> None:
        super().__init__()
        self.down_proj = nn.Linear(half, inner)
        self.activation = ACT2FN[activation]
        self.up_proj = UpProjection(inner, half)

    def forward(self, states: Tensor) -> Tensor:
        return self.up_proj(self.activation(self.down_proj(states)))


class Adapters(nn.ModuleDict):
    """Adapters at one place of a model, by name: those that the model's configuration has, of which some work.

    `active` are the working ones, the lowest first.
    """

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        for name, values in (config.adapters or {}).items():
            self.add(name, AdapterConfig(**values), config)
        self.active = tuple(config.active_adapters or ())

    def add(self, name: str, adapter: AdapterConfig, config: VecoConfig) -> nn.Module | None:
        """Add the module that an adapter has at this place of a model, and return it; None where it has none."""
        module = self.build(adapter, config.hidden_size)
        if module is not None:
            self[name] = module
        return module

    def build(self, adapter: AdapterConfig, hidden_size: int) -> nn.Module | None:
        """A new module of an adapter for this place; None where an adapter of that kind has none here."""
        raise NotImplementedError

    def working(self) -> list[nn.Module]:
        """The active adapters that have a module at this place, the lowest first."""
        return [self[name] for name in self.active if name in self]


class BottleneckAdapters(Adapters):
    """The bottlenecks behind a module of a layer."""

    def __init__(self, config: VecoConfig, kinds: Collection[str], layer: int) -> None:
        """`kinds` of adapters have a bottleneck at this place, which is in that layer of an encoder, counted from 0."""
        self.kinds, self.layer = kinds, layer
        super().__init__(config)

    def build(self, adapter: AdapterConfig, hidden_size: int) -> nn.Module | None:
        is_here = adapter.kind in self.kinds and adapter.is_in(self.layer)
        return Bottleneck(adapter, hidden_size) if is_here else None

    def forward(self, output: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        """The module's output (..., D) with the correction of each active adapter, which sees those below it.

        `residual` is the module's input, and `norm` its LayerNorm; both follow behind.
        """
        for bottleneck in self.working():
            output = output + bottleneck(output, residual, norm)
        return output


class InvertibleAdapters(Adapters):
    """The couplings at the embeddings, of which the lowest active one works: a stack has one, as in MAD-X."""

    def build(self, adapter: AdapterConfig, hidden_size: int) -> nn.Module | None:
        return Coupling(adapter, hidden_size) if adapter.invertible else None

    def forward(self, states: Tensor, inverse: bool = False) -> Tensor:
        """States (..., D) behind the embeddings, or with `inverse` in front of the projection to the vocabulary."""
        for coupling in self.working()[:1]:
            states = coupling(states, inverse)
        return states
