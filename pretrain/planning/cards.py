"""Cards that are rented, and what one of them holds and computes.

Memory is what `nvidia-smi` gives of an empty card. Peaks are dense ones (without 2:4 sparsity) of matrix products with
float32 sums, from NVIDIA's data sheets; "float32" is that of the ordinary cores, since TF32 rounds its factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30
MIB = 2**20
PRECISIONS = ("bf16", "fp16", "float32")


@dataclass(frozen=True)
class Card:
    """One card: bytes of its memory, and TFLOP/s by precision; what it does not compute in is not in there."""

    name: str
    memory: float
    peak_tflops: Mapping[str, float]
    source: str

    def precision(self, wanted: str) -> str:
        """The wanted precision, or fp16 where the card has no bfloat16. Raises ValueError where it has neither."""
        for precision in (wanted, "fp16") if wanted == "bf16" else (wanted,):
            if precision in self.peak_tflops:
                return precision
        raise ValueError(f"{self.name} has no peak for {wanted}, only for {', '.join(self.peak_tflops)}")


CARDS = {
    card.name: card
    for card in (
        Card("v100-32", 32_510 * MIB, {"fp16": 125.0, "float32": 15.7}, "Tesla V100 SXM2 data sheet"),
        Card("a100-40", 40_960 * MIB, {"bf16": 312.0, "fp16": 312.0, "float32": 19.5}, "A100 data sheet"),
        Card("a100-80", 81_920 * MIB, {"bf16": 312.0, "fp16": 312.0, "float32": 19.5}, "A100 data sheet"),
        Card("h100-80", 81_559 * MIB, {"bf16": 989.4, "fp16": 989.4, "float32": 66.9}, "H100 SXM data sheet"),
        Card("h200-141", 143_771 * MIB, {"bf16": 989.4, "fp16": 989.4, "float32": 66.9}, "H200 SXM data sheet"),
        Card("l4", 23_034 * MIB, {"bf16": 121.0, "fp16": 121.0, "float32": 30.3}, "L4 data sheet"),
        Card("rtx4090", 24_564 * MIB, {"bf16": 165.2, "fp16": 165.2, "float32": 82.6}, "Ada GPU architecture, v2"),
    )
}


def find_card(name: str | None, memory_gib: float | None, tflops: float | None) -> Card:
    """A card of the table, or one that is given by its GiB and its TFLOP/s. Raises ValueError for neither, or both."""
    if name is None and memory_gib is not None and tflops is not None:
        if memory_gib <= 0 or tflops <= 0:
            raise ValueError(f"--memory {memory_gib:g} and --tflops {tflops:g} must be above 0")
        return Card("card", memory_gib * GIB, dict.fromkeys(PRECISIONS, tflops), "--memory and --tflops")
    if name is None or memory_gib is not None or tflops is not None:
        raise ValueError(f"expected either --gpu ({', '.join(CARDS)}), or both --memory and --tflops of another card")
    if name not in CARDS:
        raise ValueError(
            f"--gpu {name!r}: expected one of {', '.join(CARDS)}, or --memory and --tflops of another card"
        )
    return CARDS[name]
