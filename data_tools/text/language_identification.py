"""Language identification with a fastText model such as lid.176.bin or GlotLID's.

The layout of a model file (little-endian, quantised or not) follows fastText's sources, version 12:
`FastText::saveModel` and the `save` methods of Args, Dictionary, DenseMatrix, QuantMatrix and ProductQuantizer. We walk
through the file for two reasons: to read the labels without loading gigabytes, and because fastText itself does not
notice a truncated file (an unfinished download): it crashes, hangs or returns nonsense.
"""

import mmap
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

MAGIC, MAX_VERSION = 793712314, 12
SUPERVISED = 3
LABEL_TYPE = 1
CENTROIDS = 256  # per sub-quantiser
NUM_BEST_LABELS = 5


class LanguageIdentifier:
    """The probability that lines are in the language with the given `labels` of a model; it pickles as its path."""

    def __init__(self, model: Path, labels: frozenset[str]) -> None:
        self.model = model
        self.labels = labels

    def probabilities(self, lines: list[str]) -> np.ndarray:
        """For each line (n,) the sum of the probabilities of those `labels` that are among the model's five best.

        A single label with a probability above 1/6 is always among them.
        """
        # fastText takes a line end for the end of the text.
        texts = [line.replace("\n", " ") for line in lines]
        best_labels, best_probabilities = _loaded(self.model).predict(texts, k=NUM_BEST_LABELS)
        return np.array(
            [
                sum(p for label, p in zip(*best, strict=True) if label in self.labels)
                for best in zip(best_labels, best_probabilities, strict=True)
            ],
            dtype=np.float64,
        )


@cache
def _loaded(model: Path) -> Any:
    import fasttext  # needed by this filter only

    return fasttext.load_model(str(model))


@cache
def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels of a fastText model, such as `__label__de`.

    Raises ValueError if the file is not a supervised fastText model or is truncated; OSError if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        magic, version = struct.unpack("<2i", start) if len(start) == 8 else (0, 0)
        if magic != MAGIC or version > MAX_VERSION:
            raise ValueError(f"{path}: not a fastText model; expected a file such as lid.176.bin or GlotLID's")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            walk = _Walk(content)
            try:
                # dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t
                is_supervised = walk.take("12id")[7] == SUPERVISED
                labels = walk.labels()
            except (EOFError, struct.error):
                raise ValueError(f"{path}: damaged or cut short ({len(content):,} bytes); fetch it again") from None
    if not (is_supervised and labels):
        raise ValueError(f"{path}: a model of word vectors; expected a model for language identification")
    return labels


class _Walk:
    """Walks through the content of a model file; raises EOFError or struct.error if it ends too early."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.position = 8  # after magic number and version

    def labels(self) -> tuple[str, ...]:
        """The labels in the dictionary; everything after it is skipped up to the end of the file."""
        num_entries, _, _, _, num_pruned = self.take("3i2q")
        entries = [self.entry() for _ in range(num_entries)]
        self.skip(8 * max(num_pruned, 0))
        (is_quantised,) = self.take("?")
        self.skip_matrix(is_quantised)
        (is_output_quantised,) = self.take("?")
        self.skip_matrix(is_quantised and is_output_quantised)
        return tuple(text.decode(errors="replace") for text, is_label in entries if is_label)

    def entry(self) -> tuple[bytes, bool]:
        """A word or label of the dictionary, and whether it is a label."""
        start, end = self.position, self.content.find(b"\0", self.position)
        self.position = end + 10  # the final zero, an int64 count, a byte for the type
        if end < 0 or self.position > len(self.content):
            raise EOFError
        return self.content[start:end], self.content[self.position - 1] == LABEL_TYPE

    def skip_matrix(self, is_quantised: bool) -> None:
        if not is_quantised:
            num_rows, num_columns = self.take("2q")
            self.skip(4 * num_rows * num_columns)
            return
        has_norms, num_rows, _, num_codes = self.take("?2qi")
        self.skip(num_codes)
        self.skip_quantiser()
        if has_norms:
            self.skip(num_rows)
            self.skip_quantiser()

    def skip_quantiser(self) -> None:
        width, _, _, _ = self.take("4i")
        self.skip(4 * width * CENTROIDS)

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.content, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return values

    def skip(self, num_bytes: int) -> None:
        if not 0 <= num_bytes <= len(self.content) - self.position:
            raise EOFError
        self.position += num_bytes
