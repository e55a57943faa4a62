"""The page as a parser of HTML reads it: well-formed, whole, and with all texts escaped."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.figures import Curve, draw_curves
from analysis.reporting import page as page_module
from analysis.reporting.analyses import ANALYSES
from analysis.reporting.page import figures_of

ODD = "<img src=x onerror=alert(1)> & \"quotes\" | 'and' “more”"
VOID = {"meta", "img", "link", "br", "hr", "input"}
NAMES = {"region", "navigation"}  # roles that need a name


class Parsed(HTMLParser):
    """All elements with their attributes and texts; asserts that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for own, attributes in self.elements if own == tag]


@pytest.fixture(scope="module")
def parsed(page: Path) -> Parsed:
    return Parsed(page.read_text(encoding="utf-8"))


def test_ids_are_unique_and_links_lead_to_them(parsed: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for attributes in parsed.all("a")]
    assert len(links) == 7 and all(link.startswith("#") and link[1:] in ids for link in links)
    labelled = [attributes["aria-labelledby"] for _, attributes in parsed.elements if "aria-labelledby" in attributes]
    assert labelled and set(labelled) <= set(ids)
    assert all(
        "aria-label" in own or "aria-labelledby" in own for _, own in parsed.elements if own.get("role") in NAMES
    )


def test_figures_are_in_the_page_and_described(parsed: Parsed) -> None:
    images = parsed.all("img")
    assert len(images) == 3
    for image in images:
        head, _, content = image["src"].partition(",")
        assert head == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content, validate=True)).tag.endswith("}svg")
    assert images[0]["alt"].startswith("alignment-en-de: Alignment error rate by layer")


def test_nothing_is_fetched_and_no_script_runs(parsed: Parsed) -> None:
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.elements}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    policies = [one["content"] for one in parsed.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_all_texts_are_shown_as_they_are(parsed: Parsed) -> None:
    assert ("title", "runs/<script>alert('model')</script>&amp;: what the analyses found") in parsed.texts
    shown = [text for _, text in parsed.texts]
    assert shown.count(ODD * 3) == 60 and ODD in shown and f"needs {ODD}" in shown
    assert "<s> </s> <mask>" in shown
    (error,) = [text for text in shown if text.startswith("This command failed after 2 s")]
    assert error.endswith(f"error: {ODD}")
    commands = [text for tag, text in parsed.texts if tag == "pre"]
    assert len(commands) == 6 and all("python -m analysis." in text for text in commands if "a line" not in text)


def test_numbers_are_on_the_right(parsed: Parsed) -> None:
    cells = [attributes.get("class") for attributes in parsed.all("td")]
    assert cells.count("number") == 40 + 3 * 40  # the wide table, and the second column of each long one


def test_large_figures_are_shown_as_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = next(one for one in ANALYSES if one.name == "alignment")
    for name in ("aer", "unknown"):
        draw_curves(tmp_path, name, {"y": [Curve("a", [0, 1], [3.0, 2.0])]}, "layer", "title")
    (figure,) = figures_of(tmp_path, analysis)
    assert figure.uri.startswith("data:image/svg+xml;base64,")
    monkeypatch.setattr(page_module, "MOST_SVG_BYTES", 100)
    (figure,) = figures_of(tmp_path, analysis)
    head, _, content = figure.uri.partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(content) == (tmp_path / "aer.png").read_bytes()
