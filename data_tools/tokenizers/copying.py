"""A copy of a tokenizer that later steps can use without the model or project that it came with."""

import json
import shutil
from pathlib import Path
from typing import Any

from data_tools.tokenizers.agreement import open_in_transformers
from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.sentence_piece import MODEL_FILE, TOKENIZER_JSON, PieceEncoder
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.transformers_errors import errors_of_transformers

TOKENIZER_CONFIG = "tokenizer_config.json"
CLASS, UNKNOWN = "tokenizer_class", "unk_token"
# The files of a tokenizer, which may be in the directory of a whole model or project.
TOKENIZER_FILES = (
    MODEL_FILE,
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def copy_tokenizer(encoder: Encoder, directory: Path) -> None:
    """Copy the files of a tokenizer to an empty directory, and add what transformers needs to open it there.

    A directory of the hub may leave the class of its tokenizer to the config.json of its model, and the names of the
    special tokens to that class; a tokenizer.json alone has neither. They are written into tokenizer_config.json, if it
    names no class. Raises ValueError if transformers finds a special token missing that fine-tuning asks it for.
    """
    source = encoder.tokenizer_dir
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, directory / name)
    path = directory / TOKENIZER_CONFIG
    with errors_of_transformers(f"{source}: its tokenizer"):
        config: dict[str, Any] = {**json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}
    if not config.get(CLASS):
        config |= class_and_names(encoder)
        path.write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    tokenizer = open_in_transformers(directory, named=source)
    names = missing_names(tokenizer, encoder.special)
    names.pop(UNKNOWN, None)  # fine-tuning takes the mask instead
    if names:
        raise ValueError(
            f"{source / TOKENIZER_CONFIG}: expected the names of all special tokens, found no {' and no '.join(names)} "
            f"and {config[CLASS]} knows none by itself; add {json.dumps(names, ensure_ascii=False)[1:-1]}"
        )


def class_and_names(encoder: Encoder) -> dict[str, str]:
    """The class of a tokenizer whose tokenizer_config.json has none, and the names of tokens that the class lacks."""
    if isinstance(encoder, PieceEncoder):
        return {CLASS: "XLMRobertaTokenizer"}
    tokenizer = open_in_transformers(encoder.tokenizer_dir)
    return {CLASS: type(tokenizer).__name__, **missing_names(tokenizer, encoder.special)}


def missing_names(tokenizer: Any, special: SpecialIds) -> dict[str, str]:
    """The special tokens that transformers' tokenizer has without knowing what they are for, by its names for that."""
    ids = {
        "pad_token": (special.pad, [tokenizer.pad_token_id]),
        "mask_token": (special.mask, [tokenizer.mask_token_id]),
        "cls_token": (special.bos, [tokenizer.cls_token_id, tokenizer.bos_token_id]),
        "sep_token": (special.eos, [tokenizer.sep_token_id, tokenizer.eos_token_id]),
        UNKNOWN: (special.unk, [tokenizer.unk_token_id]),
    }
    return {
        name: str(tokenizer.convert_ids_to_tokens(id_))
        for name, (id_, known) in ids.items()
        if id_ is not None and known.count(None) == len(known)
    }


def different_files(directory: Path, other: Path) -> list[str]:
    """The names of a tokenizer's files that are not the same in two directories, or only in one of them."""
    return [name for name in TOKENIZER_FILES if content_of(directory / name) != content_of(other / name)]


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
