"""The pair that a report shows."""

from __future__ import annotations

import gzip
from pathlib import Path

from analysis.reporting.example_pair import first_short_pair


def test_the_first_pair_that_is_short_and_has_text_on_both_sides(tmp_path: Path) -> None:
    source, target = tmp_path / "en.txt", tmp_path / "de.txt.gz"
    source.write_text(f"\nonly\n{'x' * 121}\nshort\n -a {'b' * 117}\nlater\n")
    target.write_bytes(gzip.compress(f"nur\n \nlang\n{'y' * 121}\n {'z' * 120}\nerst\n".encode()))
    assert first_short_pair(source, target) == (f"-a {'b' * 117}", "z" * 120)
    source.write_text("\nonly\n")
    assert first_short_pair(source, target) is None
