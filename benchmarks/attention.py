"""Compare plain attention with SDPA: forward and backward with dropout, and forward alone, in one process.

    python benchmarks/attention.py [--threads 1] [--repeats 7]

The choice in veco/attention.py (`faster_eagerly`) is based on these ratios: repeat it on a new machine or version of
torch. The last two shapes are those of decoding: one query, or the beams of a sentence, over cached keys.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from data_tools.cli import FlagParser, run_main
from veco.attention import eager_attention

# batch, heads, queries, keys, head width
SHAPES = (
    (64, 4, 48, 48, 32),
    (96, 4, 48, 48, 64),
    (48, 4, 96, 96, 64),
    (16, 12, 128, 128, 64),
    (160, 8, 1, 30, 64),
    (32, 8, 5, 25, 64),
)
DROPOUT = 0.1


def seconds(attend: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> tuple[float, float]:
    """Seconds of a training step and of a forward pass alone, with the last five keys masked."""
    batch, heads, queries, keys, width = shape
    inputs = [
        torch.randn(batch, tokens, heads, width, dtype=dtype).transpose(1, 2).contiguous().requires_grad_()
        for tokens in (queries, keys, keys)
    ]
    mask = torch.ones(batch, 1, 1, keys, dtype=torch.bool)
    mask[..., -5:] = False
    start = time.perf_counter()
    context = attend(*inputs, attn_mask=mask, dropout_p=DROPOUT)
    context.backward(torch.ones_like(context))
    middle = time.perf_counter()
    with torch.no_grad():
        attend(*inputs, attn_mask=mask)
    return middle - start, time.perf_counter() - middle


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (1)")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats whose median is shown (7)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'dtype':<9}  {'batch x heads x queries x keys x width':<38}  {'training, ms':>24}  {'forward, ms':>24}")
    print(f"{'':<49}" + 2 * f"  {'SDPA':>8}{'plain':>8}{'ratio':>8}")
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES:
            times: dict[str, list[tuple[float, float]]] = {"sdpa": [], "plain": []}
            for _ in range(arguments.repeats):
                times["sdpa"].append(seconds(scaled_dot_product_attention, shape, dtype))
                times["plain"].append(seconds(eager_attention, shape, dtype))
            line = f"{str(dtype).removeprefix('torch.'):<9}  {' x '.join(map(str, shape)):<38}"
            medians = {name: [statistics.median(x) for x in zip(*pairs, strict=True)] for name, pairs in times.items()}
            for sdpa, plain in zip(medians["sdpa"], medians["plain"], strict=True):
                line += f"  {1e3 * sdpa:8.2f}{1e3 * plain:8.2f}{sdpa / plain:8.2f}"
            print(line)


if __name__ == "__main__":
    run_main(main)
