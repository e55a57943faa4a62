"""Tokenizer directories: open them, and write them beside a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer

from veco.rust_errors import rust_errors_as_oserrors

MODEL_FILE = "sentencepiece.bpe.model"
TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# Files with the pieces of a tokenizer, one of which is enough: XLM-R's, any fast tokenizer's, BERT's, RoBERTa's.
PIECES_FILES = (MODEL_FILE, TOKENIZER_JSON, "vocab.txt", "vocab.json")
# Records of how transformers loaded a tokenizer; they do not belong in its directory.
LOADING_RECORDS = ("is_local", "local_files_only")


def open_tokenizer(directory: Path, field: str = "") -> Any:
    """transformers' tokenizer in a directory, which `field` names in error messages; no foreign code is run.

    Raises ValueError if there is none that it can open.
    """
    from data_tools.transformers_errors import errors_of_transformers  # which `import veco` does without

    with errors_of_transformers(f"{field} {directory}: its tokenizer".strip()):
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def ends_of(tokenizer: Any) -> tuple[int | None, int | None]:
    """The ids of the beginning and the end of a row, None where transformers' tokenizer has none.

    `[CLS]` and `[SEP]`, where it has them: they stand around a row, `bos_token` and `eos_token` may not.
    """
    bos = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    eos = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    return bos, eos


def has_tokenizer(path: Path) -> bool:
    """Whether `path` is a directory with a tokenizer."""
    return any((path / name).is_file() for name in PIECES_FILES)


def save_tokenizer(tokenizer: Any, source_dir: Path, directory: Path, *, max_tokens: int) -> None:
    """Write a tokenizer opened from `source_dir`, and its SentencePiece model if it has one, beside a model.

    `max_tokens` is the length of the model's longest sequence. Raises OSError.
    """
    with rust_errors_as_oserrors(directory):
        tokenizer.save_pretrained(directory)
    config = read_json(directory / TOKENIZER_CONFIG)
    write_json(directory / TOKENIZER_CONFIG, {name: config[name] for name in config if name not in LOADING_RECORDS})
    note_max_tokens(directory, max_tokens)
    if (source_dir / MODEL_FILE).is_file() and source_dir != directory:
        shutil.copyfile(source_dir / MODEL_FILE, directory / MODEL_FILE)


def add_special_tokens(directory: Path, tokens: Sequence[str], *, max_tokens: int) -> None:
    """Append special tokens, such as language tags, to the tokenizer in a directory. Raises OSError."""
    if tokens:
        tokenizer = open_tokenizer(directory)
        tokenizer.add_special_tokens({"additional_special_tokens": [*tokens]}, replace_extra_special_tokens=False)
        save_tokenizer(tokenizer, directory, directory, max_tokens=max_tokens)


def note_max_tokens(directory: Path, max_tokens: int) -> None:
    """Make the tokenizer in a directory truncate text to `max_tokens`, if it has a configuration.

    It may come without a model, or from a model of another length.
    """
    path = directory / TOKENIZER_CONFIG
    if path.is_file():
        write_json(path, {**read_json(path), "model_max_length": max_tokens})


def without_token_types(directory: Path) -> None:
    """Make the tokenizer in a directory return no token types, as BERT's does: VECO has none."""
    path = directory / TOKENIZER_CONFIG
    if path.is_file() and not read_json(path).get("tokenizer_class", "").startswith("XLMRoberta"):
        write_json(path, {**read_json(path), "model_input_names": ["input_ids", "attention_mask"]})


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file that has an object."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write content as indented JSON."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
