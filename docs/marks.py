"""Parts of pages that scripts write, each between the marks `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re


def page_with(page: str, name: str, part: str, where: str) -> str:
    """The page with this part between its marks. Raises ValueError, naming the page as `where`, without them."""
    marks = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    page, count = re.subn(
        re.escape(marks[0]) + ".*?" + re.escape(marks[1]), lambda _: f"{marks[0]}{part}{marks[1]}", page, flags=re.S
    )
    if count != 1:
        raise ValueError(f"{where}: expected one <!-- {name} --> … <!-- /{name} -->, found {count}")
    return page
