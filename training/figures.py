"""How all figures are drawn by matplotlib, which is imported where something is drawn, since it takes a second.

Colours, markers and lines are told apart by colour-blind readers and on a printer in grey; fonts are of all scripts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.cli import warn
from data_tools.files.atomic import atomic_path

# Okabe and Ito (2008), "Color Universal Design", without yellow, which is too light for lines on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
FORMATS = ("png", "svg")
TEXT_IN_SVG = "path"  # as outlines, readable where the fonts are not installed
# Fonts by the scripts that matplotlib's own, DejaVu Sans, lacks: the first installed one of each is used.
FONTS = {
    "Chinese, Japanese, Korean": (
        *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
        *("WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Arial Unicode MS"),
    ),
    "Korean": ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "UnDotum", "Malgun Gothic"),
    "Arabic": ("Noto Sans Arabic", "Noto Naskh Arabic", "Amiri", "KacstOne", "Arial"),
    "Devanagari": ("Noto Sans Devanagari", "Lohit Devanagari", "Nakula", "Mangal", "Kohinoor Devanagari"),
    "Bengali": ("Noto Sans Bengali", "Lohit Bengali", "Vrinda"),
    "Tamil": ("Noto Sans Tamil", "Lohit Tamil", "Latha"),
    "Thai": ("Noto Sans Thai", "Loma", "Garuda", "Tahoma"),
}


def pyplot() -> Any:
    """matplotlib's pyplot, set to draw files without a screen, with our colours and fonts; the same file each time."""
    import matplotlib

    matplotlib.use("Agg")
    from cycler import cycler
    from matplotlib import pyplot as found

    matplotlib.rcParams.update(
        {
            "font.family": usable_fonts(),
            "axes.prop_cycle": cycler(color=COLOURS),
            "svg.fonttype": TEXT_IN_SVG,
            "svg.hashsalt": "veco",  # the same figure is the same file
        }
    )
    return found


def usable_fonts() -> list[str]:
    """Families for text of any script, in the order in which matplotlib looks for a character."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    found = (next((name for name in names if name in installed), None) for names in FONTS.values())
    return ["DejaVu Sans", *dict.fromkeys(name for name in found if name is not None)]


def files_of(stem: Path) -> list[Path]:
    """STEM.png and STEM.svg."""
    return [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]


def save(figure: Any, paths: Sequence[Path], dpi: int = 150, margins: str | None = None) -> None:
    """Write a figure to files, SVG where their name ends so and PNG elsewhere, and close it.

    With `margins` "tight" it has none. A warning counts the characters that no installed font has.
    """
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for path in paths:
            kind = "svg" if path.suffix == ".svg" else "png"
            metadata = {"Date": None} if kind == "svg" else {}
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches=margins, metadata=metadata)
    pyplot().close(figure)
    if missing := {str(one.message) for one in found if "missing from font" in str(one.message)}:
        name = paths[0].stem
        warn(f"{name}: no installed font has {len(missing)} of its characters; install Noto fonts for their scripts")
