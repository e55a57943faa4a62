from __future__ import annotations

from pathlib import Path

import pytest

from finetune.mt.compare import COMPARISONS as TRANSLATION
from finetune.understanding.compare import COMPARISONS as XTREME
from training.recipe.shipped import shipped_file, shipped_names


@pytest.mark.parametrize("directory", [TRANSLATION, XTREME])
def test_comparisons_have_names(directory: Path) -> None:
    assert shipped_names(directory)
    for name in shipped_names(directory):
        assert shipped_file(name, directory) == shipped_file(f"{name}.yaml", directory) == directory / f"{name}.yaml"
        assert (directory / f"{name}.yaml").is_file()


def test_files_go_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "one.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert shipped_file("one", tmp_path / "shipped") == tmp_path / "shipped" / "one.yaml"
    Path("one").write_text("")
    assert shipped_file("one", tmp_path / "shipped") == Path("one")
    assert shipped_file("two", tmp_path / "shipped") == Path("two")
    assert shipped_file("../shipped/one", tmp_path / "shipped") == Path("../shipped/one")
