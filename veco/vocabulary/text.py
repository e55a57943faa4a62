"""Text as a tokenizer cuts it: batches of ids, and what is counted in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_tools.text.lines import open_text
from veco.vocabulary.encoding import open_encoder
from veco.vocabulary.pieces import Pieces

LINES_PER_CALL = 50_000  # enough for a tokenizer's threads, few enough for memory


@dataclass(frozen=True)
class Counts:
    """How often each id (V,) occurs in a text, and the number of its words: what white space separates."""

    of_ids: np.ndarray
    num_words: int

    @property
    def num_pieces(self) -> int:
        return int(self.of_ids.sum())

    @property
    def fertility(self) -> float:
        """Pieces per word."""
        return self.num_pieces / max(1, self.num_words)

    def share(self, ids: Sequence[int]) -> float:
        """The share of the text's pieces that have one of these ids."""
        return float(self.of_ids[list(ids)].sum() / max(1, self.num_pieces))


def batches_of_lines(paths: Sequence[Path], purpose: str) -> Iterator[list[str]]:
    """The lines of text files, plain or compressed, some thousands at a time, with a progress bar.

    Raises ValueError for a file that is damaged or no text in UTF-8, OSError for one that cannot be opened.
    """
    total = sum(path.stat().st_size for path in paths)
    with tqdm(desc=purpose, total=total, unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            with open_text(path) as lines:
                num_read = 0
                while batch := list(islice(lines, LINES_PER_CALL)):
                    yield batch
                    bar.update(lines.num_bytes_read - num_read)
                    num_read = lines.num_bytes_read


def count_ids(tokenizer_dir: Path, num_ids: int, paths: Sequence[Path]) -> Counts:
    """Count the ids of a tokenizer, which has `num_ids`, in text files, tokenised line by line."""
    encoder = open_encoder(tokenizer_dir)
    of_ids = np.zeros(num_ids, np.int64)
    num_words = 0
    for lines in batches_of_lines(paths, f"counting pieces of {tokenizer_dir.name}"):
        ids, _ = encoder.encode_flat(lines)
        of_ids += np.bincount(ids, minlength=num_ids)
        num_words += sum(len(line.split()) for line in lines)
    return Counts(of_ids, num_words)


def write_pieces(pieces: Pieces, paths: Sequence[Path], output: Path) -> None:
    """Write text files as lines of pieces with spaces between them."""
    encoder = open_encoder(pieces.directory)
    names = np.array(pieces.names, dtype=object)
    with output.open("w", encoding="utf-8") as file:
        for lines in batches_of_lines(paths, f"cutting text into pieces of {pieces.directory.name}"):
            ids, lengths = encoder.encode_flat(lines)
            cut = np.split(names[ids], lengths.cumsum()[:-1])
            file.writelines(" ".join(line) + "\n" for line in cut)
