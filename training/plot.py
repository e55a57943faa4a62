"""Curves of a run as PNG: `python -m training.plot RUN`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from training.figures import COLOURS, LINES, pyplot, save
from training.meters import read_metrics

MOST_NAMED = 12  # curves in a panel that its legend still names
LAST_PANELS = ("lr", "grad_norm", "tokens_per_second", "data_wait", "utilisation")


def panel_of(name: str) -> tuple[str, str]:
    """(title of the panel, label of the curve) of a metric: ("mono", "mlm"), ("valid mlm", "de"), ("lr", "lr").

    Accuracies and perplexities have panels of their own, and so has each term by language or pair.
    """
    if "/" not in name:
        return name, name
    first, *middle, last = name.split("/")
    kind = next((f" {ending}" for ending in ("accuracy", "perplexity") if last.endswith(f"_{ending}")), "")
    last = last.removesuffix(f"_{kind.strip()}") if kind else last
    if middle:
        return f"{first} {last}{kind}", middle[0]
    return f"{first}{kind}", last


def plot_curves(run_dir: Path) -> Path:
    """Path of `run_dir`/curves.png: every loss term and accuracy, in training by kind of batch, language and pair, and
    in validation; then learning rate, gradient norm, throughput."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in read_metrics(run_dir):
        for name, value in line.items():
            if isinstance(value, int | float) and (name in LAST_PANELS or "/" in name):
                title, label = panel_of(name)
                panels[title][label].append((line["step"], value))
    titles = sorted(title for title in panels if title not in LAST_PANELS)
    titles += [title for title in LAST_PANELS if title in panels]
    columns = 3
    rows = -(-len(titles) // columns)
    figure, axes = pyplot().subplots(rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False)
    for axis, title in zip(axes.flat, titles, strict=False):
        for number, (label, points) in enumerate(sorted(panels[title].items())):
            # A point alone, as of a single validation, has no line.
            look = {
                "linestyle": LINES[number // len(COLOURS) % len(LINES)],
                "marker": "o" if len(points) == 1 else None,
            }
            axis.plot(
                *zip(*points, strict=True), label=label, linewidth=1.2, color=COLOURS[number % len(COLOURS)], **look
            )
        axis.set_title(title)
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
        if title not in LAST_PANELS and len(panels[title]) <= MOST_NAMED:
            axis.legend(fontsize=8)
    for axis in axes.flat[len(titles) :]:
        axis.axis("off")
    figure.suptitle(str(run_dir))
    figure.tight_layout()
    path = run_dir / "curves.png"
    save(figure, [path], dpi=110)
    return path


def main() -> None:
    parser = FlagParser(description="Draw the curves of a run into RUN/curves.png.")
    parser.add_argument("run", type=Path, help="directory of a run (its recipe's output)")
    print(plot_curves(parser.parse_args().run))


if __name__ == "__main__":
    run_main(main)
