"""Curves of a run as PNG: `python -m pretrain.plot RUN`."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from data_tools.cli import run_main
from data_tools.files import atomic_path
from pretrain.meters import read_metrics


def plot_curves(run_dir: Path) -> Path:
    """Path of `run_dir`/curves.png: every loss term by kind of batch, learning rate, gradient norm, throughput."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in read_metrics(run_dir):
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step":
                series[name].append((line["step"], value))
    panels = [*sorted({name.split("/")[0] for name in series if "/" in name}), "lr", "grad_norm", "tokens_per_second"]
    columns = 3
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for name in sorted(name for name in series if name == panel or name.startswith(panel + "/")):
            axis.plot(*zip(*series[name], strict=True), label=name.partition("/")[2], linewidth=1.2)
        axis.set_title(panel)
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
        if "/" in "".join(name for name in series if name.startswith(panel)):
            axis.legend(fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.suptitle(str(run_dir))
    figure.tight_layout()
    path = run_dir / "curves.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the curves of a run into RUN/curves.png.")
    parser.add_argument("run", type=Path, help="directory of a run (its recipe's output)")
    print(plot_curves(parser.parse_args().run))


if __name__ == "__main__":
    run_main(main)
