"""Draw docs/architecture.png: the packages, their subpackages, and the imports between them. `make figures` runs it.

Boxes and arrows are read from the source code, so the figure always matches it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
WIDTH, LINE = 4.6, 0.34
# Lower left corner and colour of each package; what a package may import lies below it.
PLACES = {
    "veco": (0.0, 0.0, "#f6d9d9"),
    "data_tools": (6.4, 0.0, "#dcebdc"),
    "training": (3.2, 5.4, "#e8eef7"),
    "pretrain": (0.0, 9.8, "#fbe9d0"),
    "finetune": (6.4, 9.8, "#e6e0f0"),
    "inference": (-0.6, 17.0, "#dff0f0"),
    "analysis": (3.2, 20.0, "#f0efe0"),
}
BENDS = {("pretrain", "veco"): 0.25, ("finetune", "data_tools"): -0.25}  # around the package between them
LABEL_AT = 0.12  # of an arrow's length: before arrows cross


def modules_of(package: str) -> list[Path]:
    """All modules of a package that contain code."""
    return [path for path in sorted((ROOT / package).rglob("*.py")) if path.read_text(encoding="utf-8").strip()]


def rooms_of(package: str) -> Counter[str]:
    """Number of modules in each subpackage of a package, by its path; "." is the package itself."""
    rooms: Counter[str] = Counter()
    for path in modules_of(package):
        rooms[path.parent.relative_to(ROOT / package).as_posix()] += 1
    return rooms


def imported(path: Path) -> Iterator[str]:
    """Our packages that a module imports, one entry per import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in PLACES)


def imports_between() -> Counter[tuple[str, str]]:
    """Number of imports between packages, by (importing, imported)."""
    return Counter(
        (package, other)
        for package in PLACES
        for path in modules_of(package)
        for other in imported(path)
        if other != package
    )


def height_of(package: str) -> float:
    return LINE * (len(rooms_of(package)) + 1.2)


def draw_package(axis: Axes, package: str) -> None:
    x, y, colour = PLACES[package]
    rooms, height = rooms_of(package), height_of(package)
    axis.add_patch(
        FancyBboxPatch((x, y), WIDTH, height, boxstyle="round,pad=0.08", facecolor=colour, edgecolor="#444444")
    )
    axis.text(x + WIDTH / 2, y + height - LINE / 2, f"{package}/", ha="center", va="center", fontsize=13, weight="bold")
    for line, (room, count) in enumerate(sorted(rooms.items())):
        depth = room.count("/") + (room != ".")
        name = f"{room.rpartition('/')[2]}/" if room != "." else "modules of its own"
        height_of_line = y + height - (line + 1.5) * LINE
        axis.text(x + 0.15 + 0.3 * depth, height_of_line, name, va="center", fontsize=10)
        axis.text(x + WIDTH - 0.15, height_of_line, str(count), ha="right", va="center", fontsize=10)


def draw_arrow(axis: Axes, importing: str, other: str, count: int) -> None:
    x0, y0, _ = PLACES[importing]
    x1, y1, _ = PLACES[other]
    if y0 == y1:  # side by side
        start, end = (x0 + WIDTH + 0.1, y0 + 0.6), (x1 - 0.1, y1 + 0.6)
    else:
        lean = 0.3 * (x1 - x0) / 6.4 * WIDTH
        start = (x0 + WIDTH / 2 + lean, y0 - 0.1)
        end = (x1 + WIDTH / 2 - lean, y1 + height_of(other) + 0.1)
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=14,
            color="#555555",
            connectionstyle=f"arc3,rad={BENDS.get((importing, other), 0.0)}",
            shrinkA=0,
            shrinkB=0,
            zorder=0,  # behind the packages
        )
    )
    x, y = (LABEL_AT * last + (1 - LABEL_AT) * first for first, last in zip(start, end, strict=True))
    axis.text(x, y, str(count), ha="center", va="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none"})


def main() -> None:
    figure, axis = pyplot.subplots(figsize=(11, 13))
    for package in PLACES:
        draw_package(axis, package)
    for (importing, other), count in sorted(imports_between().items()):
        draw_arrow(axis, importing, other, count)
    top = max(y + height_of(package) for package, (_, y, _) in PLACES.items())
    axis.set_xlim(-1.4, 12.4)
    axis.set_ylim(-0.5, top + 0.5)
    axis.set_axis_off()
    path = Path(__file__).resolve().parent / "architecture.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(path)


if __name__ == "__main__":
    main()
