"""The page in a real browser: its figures, its width, its colours, the keyboard, and print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browser_page, find_browser

PROGRAM = find_browser()
# A page that opens beside the tests of other packages: it takes seconds on few cores.
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on the PATH; install one, or name it with VECO_BROWSER"
)
COLOURS = "[color, backgroundColor].map(String)"


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(str(PROGRAM), tmp_path_factory.mktemp("profile")) as found:
        found.resize(1100)
        found.open(page)
        yield found


def test_all_figures_are_loaded_and_have_a_size(opened: Page) -> None:
    images = opened.evaluate("[...document.images].map(one => [one.complete, one.naturalWidth, one.width, one.height])")
    assert len(images) == 3
    assert all(complete and min(sizes) > 50 for complete, *sizes in images)


def test_the_browser_has_nothing_to_complain_of_and_fetches_nothing(opened: Page, page: Path) -> None:
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert opened.evaluate("document.compatMode") == "CSS1Compat"


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_does_not_scroll_sideways(width: int, opened: Page) -> None:
    opened.resize(width)
    root = "document.documentElement"
    assert opened.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]") == [width, width]
    # What is wider than the screen scrolls in its own region, which the keyboard reaches.
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    assert opened.evaluate(f"{wide}.length") > 0
    assert opened.evaluate(f"{wide}.every(one => one.tabIndex === 0)")


def contrast(one: str, other: str) -> float:
    """The contrast of two colours `rgb(r, g, b)`, by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_light_and_dark(opened: Page) -> None:
    grounds = []
    for colours in ("light", "dark"):
        opened.emulate(colours=colours)
        ground, panel = (
            opened.evaluate(f"getComputedStyle(document.querySelector('{one}')).backgroundColor")
            for one in ("body", "nav")
        )
        grounds.append(ground)
        for selector, behind in (
            ("td", ground),
            (".muted", ground),
            (".error", ground),
            ("nav a", panel),
            ("pre", panel),
        ):
            colour = opened.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
            assert contrast(colour, behind) >= 4.5, (colours, selector)
    assert grounds[0] != grounds[1]


def test_the_first_key_leads_to_the_content(opened: Page) -> None:
    opened.emulate()
    opened.evaluate("window.scrollTo(0, 0)")
    opened.press("Tab")
    focused = "document.activeElement"
    assert opened.evaluate(f"{focused}.textContent") == "Skip to the content"
    box = opened.evaluate(f"(({{left, top}}) => [left, top])({focused}.getBoundingClientRect())")
    assert min(box) >= 0  # it is on the screen


def test_print_has_all_tables_and_no_contents(opened: Page) -> None:
    opened.emulate(media="print")
    assert opened.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert opened.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    opened.emulate()
