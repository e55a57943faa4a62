"""AdapterConfig: the kind and the size of an adapter, as a model's configuration and an adapter's own file have it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

PFEIFFER, HOULSBY = "pfeiffer", "houlsby"
KINDS = (PFEIFFER, HOULSBY)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
OWN_NAMES = ("active", "add", "build", "kinds", "layer", "working")  # what veco.adapters.modules adds to a ModuleDict


@dataclass(frozen=True)
class AdapterConfig:
    """A bottleneck in each layer, and with `invertible` a coupling at the embeddings (MAD-X, Pfeiffer et al., 2020).

    `pfeiffer` has a bottleneck behind the feed-forward module alone, with ReLU, `houlsby` one behind self-attention
    and one behind the feed-forward module, with swish. `reduction` is the width of the model over that of the
    bottleneck, `invertible_reduction` half the width of the model over that inside the coupling's two functions.
    The first `layers` layers of the encoder have bottlenecks, None is all: all but the last in MAD-X 2.0 (Pfeiffer et
    al., 2021, "UNKs Everywhere"). Raises ValueError for an unknown kind, and for reductions and `layers` below 1.
    """

    kind: str = PFEIFFER
    reduction: int = 16
    invertible: bool = False
    invertible_reduction: int = 2
    layers: int | None = None

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ValueError(f"adapter: {'; '.join(problems)}")

    def problems(self) -> list[str]:
        """One sentence for each value that is not allowed."""
        found = [] if self.kind in KINDS else [f"kind {self.kind!r} must be one of {', '.join(KINDS)}"]
        for name in ("reduction", "invertible_reduction", *(() if self.layers is None else ("layers",))):
            value = vars(self)[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                found.append(f"{name} {value!r} must be a whole number and at least 1")
        if not isinstance(self.invertible, bool):
            found.append(f"invertible {self.invertible!r} must be true or false")
        return found

    @property
    def activation(self) -> str:
        """The activation inside the adapter, by transformers' name."""
        return "relu" if self.kind == PFEIFFER else "silu"

    def width(self, hidden_size: int) -> int:
        """The width of the bottleneck."""
        return max(1, hidden_size // self.reduction)

    def is_in(self, layer: int) -> bool:
        """Whether it has bottlenecks in that layer of the encoder, counted from 0."""
        return self.layers is None or layer < self.layers

    def check_fits(self, hidden_size: int) -> None:
        """Raise ValueError for a model of that width which the adapter cannot be part of."""
        if self.invertible and hidden_size % 2:
            raise ValueError(f"an invertible adapter cuts states into halves; the model's width {hidden_size} is odd")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> Self:
        """The adapter of a mapping, which `where` names in error messages. Raises ValueError for any other values."""
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, Mapping) or (unknown := sorted(values.keys() - set(known))):
            found = ", ".join(unknown) if isinstance(values, Mapping) else repr(values)
            raise ValueError(f"{where}: expected an adapter's {', '.join(known)}, found {found}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def check_name(name: str) -> None:
    """Raise ValueError for a name that no module can have beside the attributes of the `Adapters` that hold it."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"adapter name {name!r}: expected a letter and then letters, digits, _ or -, such as sw or task"
        )
    if name in OWN_NAMES or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"adapter name {name!r}: taken, torch's modules have an attribute of that name; choose another, such as sw"
        )


def check_stack(active: Sequence[str], known: Collection[str]) -> None:
    """Raise ValueError unless the active adapters are among those that there are, each once."""
    if absent := [name for name in active if name not in known]:
        raise ValueError(f"no adapter {', '.join(absent)}; there are: {', '.join(known) or 'none'}")
    if len(set(active)) < len(active):
        raise ValueError(f"active adapters {', '.join(active)}: expected each once")
