"""The page of a report: one HTML file without links to others, whose figures are in it."""

from __future__ import annotations

import base64
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.reporting.analyses import Analysis
from analysis.reporting.markdown import ShownTable, tables_of
from analysis.reporting.running import Outcome, Task, last_lines

TEMPLATE = "page.html.jinja"
MOST_SVG_BYTES = 500_000  # of a figure as SVG; a larger one, of many cells or points, is shown as PNG
MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}
LIBRARIES = ("veco", "torch", "transformers")


@dataclass(frozen=True)
class ShownFigure:
    """A figure as a data URI, and what it shows."""

    uri: str
    caption: str


@dataclass(frozen=True)
class ShownRun:
    """A command and what it has found, or why it failed with the end of its log."""

    name: str
    command: str
    seconds: float
    tables: Sequence[ShownTable]
    figures: Sequence[ShownFigure]
    error: str
    log: str


@dataclass(frozen=True)
class Section:
    """An analysis and its runs or, without any, the reason."""

    analysis: Analysis
    runs: Sequence[ShownRun]
    not_run: str

    @property
    def anchor(self) -> str:
        """The id of the section."""
        return f"analysis-{self.analysis.name}"


def shown_run(task: Task, outcome: Outcome) -> ShownRun:
    """The tables and figures of a command that succeeded, or the error."""
    if outcome.error:
        return ShownRun(
            task.job.name, task.typed, outcome.seconds, [], [], outcome.error, "\n".join(last_lines(task.log))
        )
    markdown = (task.results / f"{task.analysis.name}.md").read_text(encoding="utf-8")
    return ShownRun(
        task.job.name, task.typed, outcome.seconds, tables_of(markdown), figures_of(task.results, task.analysis), "", ""
    )


def figures_of(results: Path, analysis: Analysis) -> list[ShownFigure]:
    """The figures of an analysis, by its patterns in their order and then by name."""
    names = sorted(path.stem for path in results.glob("*.svg"))
    return [
        ShownFigure(data_uri(results, name), caption)
        for pattern, caption in analysis.figures.items()
        for name in names
        if fnmatch(name, pattern)
    ]


def data_uri(results: Path, name: str) -> str:
    """A figure as SVG or, where that is large, as PNG."""
    path = results / f"{name}.svg"
    if path.stat().st_size > MOST_SVG_BYTES and (results / f"{name}.png").is_file():
        path = results / f"{name}.png"
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def render(model: str, command: str, summary: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The page; all texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        model=model, command=command, summary=summary, sections=sections, made_on=date.today(), versions=versions()
    )


def versions() -> Mapping[str, str]:
    """The versions of what made the figures."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
