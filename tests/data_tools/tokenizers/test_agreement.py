"""A tokenizer.json that the files beside it change is refused, not read otherwise than transformers does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from json_tokenizers import TOKENIZERS
from transformers import AutoTokenizer

from data_tools.tokenizers.agreement import check_as_in_transformers
from data_tools.tokenizers.encoder import open_encoder
from data_tools.tokenizers.sentence_piece import TOKENIZER_JSON

CHANGES = {
    "case": ("bert", "normalizer", {"lowercase": False}),
    "accents": ("bert", "normalizer", {"strip_accents": False}),
    "space": ("roberta", "pre_tokenizer", {"add_prefix_space": True}),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers_as_transformers_writes_them_agree(tmp_path: Path, kind: str) -> None:
    TOKENIZERS[kind](tmp_path)
    check_as_in_transformers(open_encoder(tmp_path))


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_transformers_would_change_is_refused(tmp_path: Path, change: str) -> None:
    kind, part, values = CHANGES[change]
    (tmp_path / "own").mkdir()
    TOKENIZERS[kind](tmp_path / "own")
    shutil.copytree(tmp_path / "own", tmp_path / "changed")
    content: dict[str, Any] = json.loads((tmp_path / "changed" / TOKENIZER_JSON).read_text(encoding="utf-8"))
    assert content[part].keys() >= values.keys() and content[part] | values != content[part]
    content[part] |= values
    (tmp_path / "changed" / TOKENIZER_JSON).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"changed: tokenizer.json and transformers' \w+ cut .*save_pr"):
        check_as_in_transformers(open_encoder(tmp_path / "changed"))
    AutoTokenizer.from_pretrained(tmp_path / "changed").save_pretrained(tmp_path / "mended")
    check_as_in_transformers(open_encoder(tmp_path / "mended"))
