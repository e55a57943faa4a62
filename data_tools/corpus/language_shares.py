"""The languages' shares of a corpus and their sampling probabilities, proportional to n^alpha, computed and plotted."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_tools.files.atomic import atomic_path
from data_tools.shards.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In inches: a language (its code must be readable when rotated), the axis labels, a whole panel at least, its height.
LANGUAGE_WIDTH, LABELS_WIDTH, MIN_WIDTH, PANEL_HEIGHT = 0.16, 2.0, 8.0, 3.4
DOTS_PER_INCH = 150
MIN_PLACES = 8  # a few languages stay on the left, so that their bars do not become walls
ROTATE_NAMES_FROM = 13  # places
RAW_COLOR, SMOOTHED_COLOR = "#8fb0d3", "#b5351c"


def sampling_probabilities(counts: Sequence[int], alpha: float) -> list[float]:
    """n^alpha for each count n, divided by the sum; 0 for a count of 0."""
    weights = [float(count) ** alpha if count else 0.0 for count in counts]
    return [weight / sum(weights) if weight else 0.0 for weight in weights]


def draw_distribution(manifest: Manifest, alpha: float, path: Path) -> None:
    """Plot the languages from the largest to the smallest into a file, like figure 1 of XLM-R (ACL 2020).

    One panel shows languages by sentences, one language pairs by pairs; held-out text does not count. Raises ValueError
    for a suffix that matplotlib cannot write, and for a corpus without sentences.
    """
    from matplotlib.figure import Figure  # slow to import

    counts: dict[str, dict[str, int]] = {"mono": {}, "parallel": {}}
    for name, shards in manifest.corpora("train").items():
        kind, languages = name.split("/")
        if count := sum(next(iter(sides.values())).num_sequences for sides in shards):
            counts[kind][languages] = count
    panels = {kind: of_kind for kind, of_kind in counts.items() if of_kind}
    if not panels:
        raise ValueError("nothing to draw: the corpus has no sentences to train on")
    num_places = max(MIN_PLACES, *map(len, panels.values()))
    width = max(MIN_WIDTH, LABELS_WIDTH + LANGUAGE_WIDTH * num_places)
    figure = Figure(figsize=(width, PANEL_HEIGHT * len(panels)), layout="constrained")
    if path.suffix[1:] not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{path}: expected a name ending in .png")
    for axes, (kind, of_kind) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        title, unit = ("languages", "sentences") if kind == "mono" else ("language pairs", "pairs")
        axes.set_title(f"{title}: {sum(of_kind.values()):,} {unit}", loc="left", fontsize=9)
        draw_panel(axes, of_kind, alpha, unit, num_places)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=DOTS_PER_INCH)


def draw_panel(axes: "Axes", counts: Mapping[str, int], alpha: float, unit: str, num_places: int) -> None:
    """Draw a bar for the share of each language in the corpus, and a dot for its share after smoothing."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    total = sum(counts.values())
    raw = [counts[name] / total for name in names]
    smoothed = sampling_probabilities([counts[name] for name in names], alpha)
    places = range(len(names))
    bars = axes.bar(places, raw, width=0.8, color=RAW_COLOR)
    axes.vlines(places, raw, smoothed, color=SMOOTHED_COLOR, linewidth=0.8, alpha=0.5)
    (dots,) = axes.plot(places, smoothed, "o", markersize=3.5, color=SMOOTHED_COLOR)
    labels = ["in the corpus", f"as drawn, $p \\propto n^{{{alpha:g}}}$"]
    axes.legend([bars, dots], labels, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, frameon=False, fontsize=9)
    axes.set_yscale("log")
    # Down to a power of ten below all shares: a logarithmic axis has no zero, and the smallest bar needs some height.
    axes.set_ylim(10.0 ** math.floor(math.log10(min(*raw, *smoothed) / 2)), 1)
    axes.set_xlim(-0.7, num_places - 0.3)
    axes.set_xticks(places, names, rotation=90 if num_places >= ROTATE_NAMES_FROM else 0, fontsize=8)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.9f}".rstrip("0").rstrip(".") + " %")
    axes.set_ylabel(f"share of all {unit}")
    to_count, to_share = (lambda share: np.asarray(share) * total), (lambda count: np.asarray(count) / total)
    right = axes.secondary_yaxis("right", functions=(to_count, to_share))
    right.set_ylabel(unit)
    for side in (axes, right):
        side.tick_params(which="minor", labelleft=False, labelright=False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines["top"].set_visible(False)
