"""Forward and backward time of plain attention against SDPA, side by side in one process.

    python benchmarks/attention.py [--threads 1] [--repeats 7]

The choice in veco/attention.py (`trains_faster_eagerly`) rests on these ratios: run it again on a new machine or torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from veco.attention import eager_attention

SHAPES = ((64, 4, 48, 32), (96, 4, 48, 64), (48, 4, 96, 64))  # batch, heads, tokens, head width


def seconds(attend: Callable[..., Tensor], shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[float, float]:
    """Forward and backward seconds of one call, with the last five positions masked."""
    batch, heads, tokens, width = shape
    inputs = [torch.randn(batch, tokens, heads, width, dtype=dtype, requires_grad=True) for _ in range(3)]
    mask = torch.ones(batch, 1, 1, tokens, dtype=torch.bool)
    mask[..., -5:] = False
    start = time.perf_counter()
    context = attend(*(tensor.transpose(1, 2) for tensor in inputs), attn_mask=mask)
    middle = time.perf_counter()
    context.backward(torch.ones_like(context))
    return middle - start, time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats, of which medians are shown (7)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("dtype      batch x heads x tokens x width   SDPA fwd/bwd ms   plain fwd/bwd ms   SDPA/plain, both together")
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES:
            times: dict[str, list[tuple[float, float]]] = {"sdpa": [], "plain": []}
            for _ in range(arguments.repeats):
                times["sdpa"].append(seconds(scaled_dot_product_attention, shape, dtype))
                times["plain"].append(seconds(eager_attention, shape, dtype))
            sdpa, plain = (
                [1e3 * statistics.median(pair[part] for pair in times[name]) for part in (0, 1)]
                for name in ("sdpa", "plain")
            )
            name = str(dtype).removeprefix("torch.")
            sizes = " x ".join(map(str, shape))
            print(
                f"{name:<9}  {sizes:<30}  {sdpa[0]:7.1f} /{sdpa[1]:7.1f}  {plain[0]:8.1f} /{plain[1]:7.1f}"
                f"  {sum(sdpa) / sum(plain):12.2f}"
            )


if __name__ == "__main__":
    main()
