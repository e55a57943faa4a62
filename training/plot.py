"""Curves of a run as PNG: `python -m training.plot RUN`.

A run draws RUN/curves.png when it ends, by which others know that it has. Those of one that goes on, or was stopped,
are drawn into RUN/curves_so_far.png.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from training.figures import COLOURS, LINES, pyplot, save
from training.meters import read_metrics

CURVES, CURVES_SO_FAR = "curves.png", "curves_so_far.png"
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


def plot_curves(run_dir: Path, file_name: str = CURVES) -> Path:
    """Draw a file in a run: every loss term and accuracy, in training by kind of batch, language and pair, and in
    validation; then learning rate, gradient norm, throughput. Returns its path."""
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
    path = run_dir / file_name
    save(figure, [path], dpi=110)
    return path


def main() -> None:
    parser = FlagParser(description=f"Draw the curves of a run into RUN/{CURVES}, before its end RUN/{CURVES_SO_FAR}.")
    parser.add_argument("run", type=Path, help="directory of a run (its recipe's output)")
    run_dir = parser.parse_args().run
    print(plot_curves(run_dir, CURVES if (run_dir / CURVES).exists() else CURVES_SO_FAR))


if __name__ == "__main__":
    run_main(main)
