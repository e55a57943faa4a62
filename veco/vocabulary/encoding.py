"""TEMPORARY: encode_flat of any fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.tokenizers.sentence_piece import PieceEncoder
from veco.tokenizer import MODEL_FILE, open_tokenizer


class FastEncoder:
    def __init__(self, directory: Path) -> None:
        self.backend = open_tokenizer(directory).backend_tokenizer
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()

    def encode_flat(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = [encoding.ids for encoding in self.backend.encode_batch_fast(lines, add_special_tokens=False)]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return np.fromiter((i for ids in encoded for i in ids), np.int32, int(lengths.sum())), lengths


def open_encoder(directory: Path) -> Any:
    return PieceEncoder(directory) if (directory / MODEL_FILE).is_file() else FastEncoder(directory)
