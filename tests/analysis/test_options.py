"""Flags that name files: where a name ends, and what a file without one is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.options import name_and_file, named_files


@pytest.mark.parametrize(
    ("value", "name", "file"),
    [
        ("de=de.txt", "de", "de.txt"),
        ("old=runs/lr=1e-5/model", "old", "runs/lr=1e-5/model"),
        ("runs/lr=1e-5/model", "", "runs/lr=1e-5/model"),
        ("./lr=1e-5", "", "./lr=1e-5"),
        ("de.txt", "", "de.txt"),
        ("en,de=pairs.tsv", "en,de", "pairs.tsv"),
        ("de=", "de", ""),
    ],
)
def test_a_name_ends_at_the_first_sign_that_is_not_in_the_path(value: str, name: str, file: str) -> None:
    assert name_and_file(value) == (name, file)


def test_files_without_a_name_have_their_own() -> None:
    values = ["runs/lr=1e-5/en.conllu.gz", "de=runs/lr=1e-5/x.conllu", "~/fr"]
    assert named_files("test", values, ".conllu") == {
        "en": Path("runs/lr=1e-5/en.conllu.gz"),
        "de": Path("runs/lr=1e-5/x.conllu"),
        "fr": Path.home() / "fr",
    }
    with pytest.raises(ValueError, match="--test: a/x and b/x are both called x; give NAME=FILE"):
        named_files("test", ["a/x", "b/x"])
