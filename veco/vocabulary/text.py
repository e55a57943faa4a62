"""Text as a tokenizer cuts it: batches of ids, and what is counted in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_tools.shards.format import Shard
from data_tools.shards.manifest import Manifest
from data_tools.text.lines import open_prose
from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.sentence_piece import PieceEncoder
from veco.vocabulary.pieces import Pieces

TOKENS_PER_CALL = 1 << 24
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

    Raises ValueError for a file that is damaged, no text in UTF-8, or JSON or markup, OSError for one that cannot be
    opened.
    """
    total = sum(path.stat().st_size for path in paths)
    with tqdm(desc=purpose, total=total, unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            with open_prose(path) as lines:
                num_read = 0
                while batch := list(islice(lines, LINES_PER_CALL)):
                    yield batch
                    bar.update(lines.num_bytes_read - num_read)
                    num_read = lines.num_bytes_read


def encoding(encoder: Encoder) -> Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]:
    """The encoder's `encode_flat` on all processors."""
    if isinstance(encoder, PieceEncoder):  # others use all of them by themselves
        return partial(encoder.encode_flat, num_threads=os.cpu_count() or 1)
    return encoder.encode_flat


def count_ids(pieces: Pieces, paths: Sequence[Path]) -> Counts:
    """Count the pieces of text files, tokenised line by line. Raises ValueError where there is no text in them."""
    encode = encoding(pieces.encoder)
    of_ids = np.zeros(len(pieces), np.int64)
    num_words = 0
    for lines in batches_of_lines(paths, f"counting pieces of {pieces.directory.name}"):
        ids, _ = encode(lines)
        of_ids += np.bincount(ids, minlength=len(pieces))
        num_words += sum(len(line.split()) for line in lines)
    if not of_ids.any():
        raise ValueError(f"{', '.join(map(str, paths))}: no text there; expected lines of text")
    return Counts(of_ids, num_words)


def frequencies(pieces: Pieces, sources: Sequence[Path]) -> np.ndarray:
    """Occurrences of each id, int64 (V,), in text files and in prepared data, each named as `DATA/mono/LANGUAGE`.

    Raises ValueError for data that were not prepared with this tokenizer, and for files without text.
    """
    of_ids = np.zeros(len(pieces), np.int64)
    files = [path for path in dict.fromkeys(sources) if not path.is_dir()]
    if files:
        of_ids += count_ids(pieces, files).of_ids
    for directory in set(sources).difference(files):
        of_ids += count_shards(pieces, directory)
    return of_ids


def check_counts(pieces: Pieces, of_ids: np.ndarray, sources: Sequence[Path]) -> None:
    """Raise ValueError where counts (V,) of the pieces in some sources say nothing: all are zero but special ones."""
    if not of_ids[pieces.ordinary].any():
        raise ValueError(
            f"{', '.join(map(str, sources))}: no piece of {pieces.directory} occurs there; expected text of its "
            "language"
        )


def shards_of(pieces: Pieces, directory: Path) -> list[Shard]:
    """The shards of one language, `DATA/mono/LANGUAGE`. Raises ValueError for others, and for another tokenizer's."""
    data = directory.absolute().parents[1]
    shards = Manifest.load(data).mono.get(directory.name)
    if shards is None:
        raise ValueError(f"{directory}: expected one language's shards, as in DATA/mono/fi")
    prepared_with = Pieces.open(data / "tokenizer").names
    if prepared_with != pieces.names[: len(prepared_with)]:
        raise ValueError(f"{directory}: prepared with another tokenizer than that in {pieces.directory}; give text")
    return [Shard(data / info.prefix) for info in shards]


def lines_of_shards(pieces: Pieces, directory: Path) -> Iterator[str]:
    """The sentences of one language's shards as text."""
    return (
        pieces.encoder.decode(ids)
        for shard in shards_of(pieces, directory)
        for ids in map(shard.__getitem__, range(len(shard)))
    )


def count_shards(pieces: Pieces, directory: Path) -> np.ndarray:
    """Occurrences of each id, int64 (V,), in the shards of one language, `DATA/mono/LANGUAGE`."""
    of_ids = np.zeros(len(pieces), np.int64)
    for shard in tqdm(shards_of(pieces, directory), desc="counting pieces of shards", unit="shard", mininterval=1):
        tokens = shard.tokens
        for start in range(0, len(tokens), TOKENS_PER_CALL):
            of_ids += np.bincount(tokens[start : start + TOKENS_PER_CALL], minlength=len(pieces))
    return of_ids


def write_pieces(pieces: Pieces, paths: Sequence[Path], output: Path) -> None:
    """Write text files as lines of pieces with spaces between them."""
    encode = encoding(pieces.encoder)
    names = np.array(pieces.names, dtype=object)
    with output.open("w", encoding="utf-8") as file:
        for lines in batches_of_lines(paths, f"cutting text into pieces of {pieces.directory.name}"):
            ids, lengths = encode(lines)
            cut = np.split(names[ids], lengths.cumsum()[:-1])
            file.writelines(" ".join(line) + "\n" for line in cut)
