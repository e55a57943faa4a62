"""The examples of docs/inference.md, run unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nli_model import write_classifier
from transformers import AutoTokenizer
from xtreme_files import write_model

from finetune.exported.settings import EngineName
from inference.export_encoder import ExportOptions, export_encoder

PAGE = Path(__file__).resolve().parents[1] / "docs" / "inference.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's runs/mine/model, runs/mine/ct2 and runs/xnli/model."""
    pytest.importorskip("ctranslate2")
    root = tmp_path_factory.mktemp("page")
    write_model(root / "runs" / "mine" / "model", num_hidden_layers=6)
    export_encoder(
        root / "runs" / "mine" / "model",
        root / "runs" / "mine" / "ct2",
        ExportOptions(EngineName.CTRANSLATE2, "int8", 4),
    )
    write_classifier(root / "runs" / "mine" / "model", root / "runs" / "xnli" / "model", "xtreme/xnli")
    return root


@pytest.fixture(autouse=True)
def in_its_directory(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


def example(title: str) -> dict[str, Any]:
    """The names that the Python code of a section defines."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    names: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    exec(code, names)
    return names


def test_sentences() -> None:
    names = example("Sentences")
    assert names["vectors"].shape == (3, 32)
    assert np.diag(names["similarity"]).min() > 0.999


def test_precision_and_device() -> None:
    assert example("Precision and device")["encoder"].encode(["haus", "baum"]).shape == (2, 32)


def test_search() -> None:
    names = example("Search")
    assert names["found"].indices.shape == (1, 2)
    assert names["found"].scores[0, 0] >= names["found"].scores[0, 1]


def test_mteb() -> None:
    pytest.importorskip("mteb")
    assert example("MTEB")["model"].mteb_model_meta.name == "me/mine-ct2"


def test_labels() -> None:
    assert example("Labels without training")["probabilities"].sum(axis=1) == pytest.approx([1, 1])


def test_masks() -> None:
    names = example("Masks of a pair")
    assert len(names["found"][0][0]) == 3 and names["found"] != names["alone"]
    assert names["found"][0][0][0].piece in AutoTokenizer.from_pretrained("runs/mine/model").get_vocab()


def test_the_number_of_templates() -> None:
    from inference.zero_shot import templates

    assert f"{len(templates())} languages" in PAGE.read_text(encoding="utf-8").replace("\n", " ")
