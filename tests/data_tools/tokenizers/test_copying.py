"""The copy of a tokenizer is complete: transformers opens it as it opens the original beside its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from json_tokenizers import LINES, TOKENIZERS
from transformers import AutoTokenizer

from data_tools.tokenizers.copying import copy_tokenizer, different_files
from data_tools.tokenizers.encoder import open_encoder
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import MODEL_FILE, TOKENIZER_JSON
from data_tools.tokenizers.unigram_training import train_model

MODEL_TYPES = {"bert": "bert", "roberta": "roberta", "xlm_r": "xlm-roberta", "camembert": "camembert"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    directory = tmp_path / "copy"
    directory.mkdir()
    return directory


def check_special(copy: Path) -> None:
    """Assert that transformers finds the special ids of the tokenizer in a directory."""
    tokenizer, special = AutoTokenizer.from_pretrained(copy), open_encoder(copy).special
    assert [tokenizer.pad_token_id, tokenizer.mask_token_id] == [special.pad, special.mask]
    assert [tokenizer.cls_token_id, tokenizer.sep_token_id] == [special.bos, special.eos]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_complete_tokenizer_is_copied_as_it_is(source: Path, copy: Path, kind: str) -> None:
    TOKENIZERS[kind](source)
    copy_tokenizer(open_encoder(source), copy)
    assert not different_files(source, copy)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_the_class_that_a_model_s_config_names_is_kept(source: Path, copy: Path, kind: str) -> None:
    """Directories of the hub have `{"model_max_length": 512}` alone."""
    TOKENIZERS[kind](source)
    (source / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    (source / "config.json").write_text(json.dumps({"model_type": MODEL_TYPES[kind]}))
    encoder, original = open_encoder(source), AutoTokenizer.from_pretrained(source)
    copy_tokenizer(encoder, copy)
    copied = AutoTokenizer.from_pretrained(copy)
    assert type(copied) is type(original) and copied.model_max_length == 512
    assert copied.special_tokens_map == original.special_tokens_map
    assert copied(list(LINES))["input_ids"] == original(list(LINES))["input_ids"]
    assert open_encoder(copy).special == encoder.special
    check_special(copy)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_json_alone_gets_the_names_of_its_special_tokens(source: Path, copy: Path, kind: str) -> None:
    TOKENIZERS[kind](source)
    (source / "tokenizer_config.json").unlink()
    encoder = open_encoder(source)
    copy_tokenizer(encoder, copy)
    assert open_encoder(copy).special == encoder.special
    assert (copy / TOKENIZER_JSON).read_bytes() == (source / TOKENIZER_JSON).read_bytes()
    assert AutoTokenizer.from_pretrained(copy).unk_token_id == encoder.special.unk
    check_special(copy)


def test_a_sentence_piece_model_alone_gets_xlm_r_s_class(source: Path, copy: Path) -> None:
    write_tokenizer(train_model(iter(LINES * 3), 105, 0.99), source, [])
    for name in (TOKENIZER_JSON, "tokenizer_config.json"):
        (source / name).unlink()
    copy_tokenizer(open_encoder(source), copy)
    assert (copy / MODEL_FILE).read_bytes() == (source / MODEL_FILE).read_bytes()
    check_special(copy)


def test_a_class_without_the_names_of_special_tokens_is_refused(source: Path, copy: Path) -> None:
    TOKENIZERS["wordpiece"](source)
    path = source / "tokenizer_config.json"
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]"}
    config = {name: value for name, value in json.loads(path.read_text()).items() if name not in names}
    path.write_text(json.dumps(config))
    message = r"""found no pad_token and no cls_token and .*; add "pad_token": "\[PAD\]", "cls_token": "\[CLS\]"$"""
    with pytest.raises(ValueError, match=message):
        copy_tokenizer(open_encoder(source), copy)


def test_a_damaged_configuration_is_named(source: Path, copy: Path) -> None:
    write_tokenizer(train_model(iter(LINES * 3), 105, 0.99), source, [])
    (source / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"source: its tokenizer cannot be opened by transformers: JSONDecodeError"):
        copy_tokenizer(open_encoder(source), copy)
