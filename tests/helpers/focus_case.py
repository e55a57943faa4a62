"""A small case of FOCUS, and what deepfocus 1.0.1 makes of it: tests/golden/focus.json.

It is made where deepfocus 1.0.1 is installed, with `PYTHONPATH=tests/helpers python -m focus_case` in the root.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from word_tokenizers import write_words

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "focus.json"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
OLD = [*SPECIAL, "Ġhaus", "Ġder", "Ġdie", "ung", "Ġ2", "Haus", "Ġkatze", "en", "Ġund", "<mask>"]
FIRST_NEW = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "Ġthe", "ung", "Ġhouse", "Ġder", "Ġ2", "Ġcat", "Ġrare"]
NEW = [*FIRST_NEW, "Ġkatze", "en", "ĠHaus", "Die", "house", "Ġund"]
WITHOUT_VECTOR = {*SPECIAL, "<mask>", "Ġrare", "Ġkatze"}
DRAWN = "Ġrare"


def vectors() -> np.ndarray:
    """Auxiliary vectors (V new, 6); zeros for those without."""
    table = np.random.default_rng(1).normal(size=(len(NEW), 6)).astype(np.float32)
    table[[name in WITHOUT_VECTOR for name in NEW]] = 0
    return table


def rows() -> np.ndarray:
    """Old rows (V old, 5)."""
    return np.random.default_rng(2).normal(size=(len(OLD), 5)).astype(np.float32)


class AsFastText(dict[str, np.ndarray]):
    """What deepfocus asks of a fastText model."""


def computed(is_fuzzy: bool) -> list[Any]:
    """deepfocus's new rows by id, None for those that it draws."""
    import deepfocus.focus

    known = AsFastText({name: vector for name, vector in zip(NEW, vectors(), strict=True) if vector.any()})
    deepfocus.focus.load_target_token_embedding = lambda **_: known
    with TemporaryDirectory() as old, TemporaryDirectory() as new:
        table = deepfocus.focus.FOCUS(
            target_tokenizer=write_words(NEW, Path(new)),
            source_tokenizer=write_words(OLD, Path(old)),
            source_embeddings=torch.from_numpy(rows()),
            target_training_data_path="not read",
            fuzzy_match_all=is_fuzzy,
            verbosity="silent",
        )
    return [
        None if name == DRAWN else np.round(row, 6).tolist()
        for name, row in zip(NEW, table.double().numpy(), strict=True)
    ]


def main() -> None:
    content = {
        "made_by": "PYTHONPATH=tests/helpers python -m focus_case",
        "with": "deepfocus 1.0.1, entmax 1.3, torch 2.13.0+cpu",
        "exact": computed(is_fuzzy=False),
        "fuzzy": computed(is_fuzzy=True),
    }
    lines = [f' "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in content.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
