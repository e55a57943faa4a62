"""A study of tiny files: what it begins from is there, and what its commands would make is written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import StudyMaker

from finetune.study.checking.flag_check import Parsed
from finetune.study.configuration import Study
from finetune.study.plan import StudyPlan, plan_of
from finetune.study.reading import read_study


@pytest.fixture
def content(xtreme_data: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """A study of three models and two tasks, one of them in two languages; text and tokenizer of two models are one."""
    (tmp_path / "en.txt").write_text("The dog sees the house.\n\nThe bird sings.\n")
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 16}
    return {
        "tokenizers": {"en": {"text": "en", "vocab_size": 60}},
        "data": {"en": {"tokenizer": "en", "mono": {"en": "en.txt"}}},
        "pretraining": {"engine": "plain", "objective": "mlm", "steps": 4, **shape},
        "models": {
            "en": {"pretrain": {"data": "en"}},
            "longer": {"from": "en", "pretrain": {"data": "en", "steps": 8}},
            "found": {"from": str(tiny_model), "languages": ["de"]},
        },
        "control": {"from": ["en", "found"], "fields": {"epochs": 9, "patience": 2}},
        "tasks": {
            "pawsx": {"task": "pawsx", "languages": ["en"]},
            "pos": {"task": "udpos", "languages": ["en"], "tests": ["en", "de"]},
        },
        "finetuning": {"data": str(xtreme_data), "engine": "plain", "epochs": 2, "max_length": 24, "stride": 8},
        "seeds": [1, 2],
        "table": {"models": ["en", "found"]},
    }


@pytest.fixture
def study(content: dict[str, Any], tmp_path: Path) -> StudyMaker:
    """A function that reads the study with changes."""

    def read(**changes: Any) -> Study:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
        return read_study(path)

    return read


@pytest.fixture
def without_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans without asking commands whether they take their lines, which takes seconds; shapes are as `content` has."""
    shape = {"num_hidden_layers": 2, "hidden_size": 32}
    monkeypatch.setattr(
        "finetune.study.checking.checks.checked", lambda module, lines: [Parsed(values=shape)] * len(lines)
    )


@pytest.fixture
def planned(study: StudyMaker, without_commands: None, tmp_path: Path) -> StudyPlan:
    """The plan of the study."""
    return plan_of(study(), tmp_path / "out")
