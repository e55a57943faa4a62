"""The format of token shards: memory-mapped pairs of `.bin` and `.idx`, which Megatron-core and DeepSpeed read too.

`PREFIX.bin` holds the ids of all sequences, one after the other, little-endian int16 or int32. `PREFIX.idx` holds

    offset  size  content
    0       9     b"MMIDIDX\\0\\0"
    9       8     u64  version, 1
    17      1     u8   dtype code of the ids: int16 = 3 (vocabularies up to 32,767), int32 = 4
    18      8     u64  S, the number of sequences
    26      8     u64  D, the length of the document index
    34      4 S   int32 lengths in tokens
    ...     8 S   int64 byte offsets of the sequences in the .bin
    ...     8 D   int64 document index: starts with 0, ends with S; document d is sequences [index[d], index[d + 1])

all little-endian. Only these two codes are written: Megatron and DeepSpeed disagree on those of unsigned integers. A
sequence is one sentence without `<s>` and `</s>`; there are no empty sequences or documents.
"""

import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from data_tools.files.atomic import atomic_path, named_errors, sync_file
from data_tools.files.memory_maps import map_file

MAGIC = b"MMIDIDX\0\0"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPE_OF_CODE: dict[int, np.dtype[Any]] = {3: np.dtype("<i2"), 4: np.dtype("<i4")}
MAX_INT16_VOCAB = 32_767
BUFFER_TOKENS = 1 << 20


def dtype_code(vocab_size: int) -> int:
    """The code of the narrowest id type for a vocabulary: 3 (int16) up to 32,767 pieces, else 4 (int32)."""
    return 3 if vocab_size <= MAX_INT16_VOCAB else 4


def shard_path(prefix: Path, suffix: str) -> Path:
    """The path `PREFIX.bin` or `PREFIX.idx`; a dot inside the prefix (`00000.de`) is part of the name."""
    return prefix.with_name(f"{prefix.name}.{suffix}")


def index_size(num_sequences: int, num_bounds: int) -> int:
    """The size in bytes of an `.idx` of `num_sequences`, with a document index of `num_bounds` entries."""
    return HEADER.size + 12 * num_sequences + 8 * num_bounds


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's entry for one shard. `prefix` is relative to the data directory, with forward slashes."""

    prefix: str
    num_sequences: int
    num_documents: int
    num_tokens: int
    bin_sha256: str
    idx_sha256: str

    def file_sizes(self, vocab_size: int) -> tuple[int, int]:
        """The sizes in bytes of the `.bin` and the `.idx` of this shard for a vocabulary of `vocab_size` pieces."""
        itemsize = DTYPE_OF_CODE[dtype_code(vocab_size)].itemsize
        return self.num_tokens * itemsize, index_size(self.num_sequences, self.num_documents + 1)


class ShardWriter:
    """Writes one shard; used as a context manager.

    On a clean exit the `.bin`, then the `.idx` is renamed into place (so an `.idx` means a complete shard); on an
    error, such as a full disk, nothing remains. The last document is ended on exit. Memory: 4 bytes per sequence, 8 per
    document, and a buffer.
    """

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        self.prefix = Path(prefix)
        self.vocab_size = vocab_size
        self.code = dtype_code(vocab_size)
        self.num_tokens = 0
        self._dtype = DTYPE_OF_CODE[self.code]
        self._lengths = array("i")
        self._documents = array("q", [0])
        self._buffer: list[np.ndarray] = []
        self._buffered_tokens = 0
        self._bin_sha256 = hashlib.sha256()
        self._idx_sha256 = ""
        self._bin_path = shard_path(self.prefix, "bin")
        self._idx_path = shard_path(self.prefix, "idx")
        self._bin_stack = ExitStack()
        self._bin_file: IO[bytes] | None = None

    @property
    def num_sequences(self) -> int:
        return len(self._lengths)

    def __enter__(self) -> Self:
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._bin_path))
            self._bin_file = stack.enter_context(open(temporary, "wb"))
            self._bin_stack = stack.pop_all()
        return self

    def add_sequence(self, ids: np.ndarray) -> None:
        """Append the ids (n,) of one sentence, n > 0."""
        self.add_sequences(ids, np.array([len(ids)]))

    def add_sequences(
        self, ids: np.ndarray, lengths: np.ndarray, document_ends: Sequence[int] | np.ndarray = ()
    ) -> None:
        """Append sentences given by their ids end to end (sum of lengths,) and their lengths (n,), all > 0.

        `document_ends`, ascending, are the numbers of these sentences, 0 to n, after which a document ends; documents
        without sentences are ignored. Raises ValueError for an id outside the vocabulary, an empty sequence, or lengths
        that do not add up.
        """
        if self._bin_file is None:
            raise RuntimeError("ShardWriter is a context manager: write inside `with ShardWriter(…) as writer:`")
        start = len(self._lengths)
        if len(lengths):
            self._append(ids, lengths)
        ends = np.unique(np.asarray(document_ends, dtype=np.int64)) + start
        self._documents.frombytes(ends[ends > self._documents[-1]].tobytes())

    def _append(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        if lengths.min() <= 0:
            raise ValueError(f"{self.prefix}: empty sequences cannot be written; drop them first")
        if int(lengths.sum()) != len(ids):
            raise ValueError(f"{self.prefix}: the lengths add up to {int(lengths.sum()):,}, found {len(ids):,} ids")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(
                f"{self.prefix}: ids from {ids.min()} to {ids.max()}, the vocabulary has {self.vocab_size:,} pieces"
            )
        self._lengths.frombytes(lengths.astype(np.intc).tobytes())
        self._buffer.append(ids.astype(self._dtype))  # a copy: the caller may reuse its array
        self._buffered_tokens += len(ids)
        self.num_tokens += len(ids)
        if self._buffered_tokens >= BUFFER_TOKENS:
            self._flush()

    def end_document(self) -> None:
        """End a document, which consists of the sequences since the last end; without any, do nothing."""
        if self._documents[-1] != len(self._lengths):
            self._documents.append(len(self._lengths))

    def info(self, prefix: str) -> ShardInfo:
        """The manifest's entry under the name `prefix`; to be called after the writer has closed."""
        assert self._idx_sha256, "call info() after the shard is closed"
        return ShardInfo(
            prefix=prefix,
            num_sequences=len(self._lengths),
            num_documents=len(self._documents) - 1,
            num_tokens=self.num_tokens,
            bin_sha256=self._bin_sha256.hexdigest(),
            idx_sha256=self._idx_sha256,
        )

    def _flush(self) -> None:
        assert self._bin_file is not None
        if self._buffer:
            data = np.concatenate(self._buffer).data
            with named_errors(self._bin_path):
                self._bin_file.write(data)
            self._bin_sha256.update(data)
            self._buffer.clear()
            self._buffered_tokens = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with named_errors(self._bin_path):  # closing also writes, and the disk may be full
            if error is None:
                # Both files are complete and on the disk before the first of them is renamed into place.
                with atomic_path(self._idx_path) as idx_temporary, self._bin_stack:
                    self.end_document()
                    self._flush()
                    self._write_index(idx_temporary)
            else:
                self._bin_stack.__exit__(kind, error, trace)
        self._bin_file = None

    def _write_index(self, path: Path) -> None:
        lengths = np.frombuffer(self._lengths, dtype=np.intc).astype("<i4")
        offsets = np.zeros(len(lengths), dtype="<i8")
        np.cumsum(lengths[:-1], dtype=np.int64, out=offsets[1:])
        offsets *= self._dtype.itemsize
        documents = np.frombuffer(self._documents, dtype=np.int64).astype("<i8")
        header = HEADER.pack(MAGIC, VERSION, self.code, len(lengths), len(documents))
        index = header + lengths.tobytes() + offsets.tobytes() + documents.tobytes()
        with named_errors(self._idx_path):
            path.write_bytes(index)
            sync_file(path)
        self._idx_sha256 = hashlib.sha256(index).hexdigest()


class Shard:
    """One shard, memory-mapped on first use; also a sequence of id arrays. It pickles as its path.

    Opening reads only the header and the end of the index. Neither an open nor a mapped shard keeps a file descriptor
    open. Raises ValueError naming the file if a shard is in another format, damaged or truncated; OSError if a file is
    missing.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = Path(prefix)
        self._bin_path = shard_path(self.prefix, "bin")
        self._idx_path = shard_path(self.prefix, "idx")
        advice = "run data_tools.prepare again"
        with open(self._idx_path, "rb", buffering=0) as file:
            header = file.read(HEADER.size)
            idx_bytes = os.fstat(file.fileno()).st_size
            if len(header) < HEADER.size or not header.startswith(MAGIC):
                raise ValueError(f"{self._idx_path}: not a shard index (it does not start with {MAGIC!r}); {advice}")
            _, version, code, self.num_sequences, self._num_bounds = HEADER.unpack(header)
            if version != VERSION or code not in DTYPE_OF_CODE:
                raise ValueError(
                    f"{self._idx_path}: version {version}, dtype code {code}; expected version {VERSION} and code 3 "
                    f"(int16) or 4 (int32); {advice}"
                )
            expected = index_size(self.num_sequences, self._num_bounds)
            if idx_bytes != expected or self._num_bounds < 1:
                raise ValueError(
                    f"{self._idx_path}: {idx_bytes:,} bytes, but {self.num_sequences:,} sequences and a document index "
                    f"of {self._num_bounds:,} need {expected:,}; {advice}"
                )
            last_length, last_offset = self._last_sequence(file)
        self.dtype = DTYPE_OF_CODE[code]
        self.itemsize = self.dtype.itemsize
        self.num_documents = self._num_bounds - 1
        self.num_tokens = last_offset // self.itemsize + last_length
        bin_bytes = self._bin_path.stat().st_size
        if bin_bytes != self.num_tokens * self.itemsize:
            raise ValueError(
                f"{self._bin_path}: {bin_bytes:,} bytes, but its index says {self.num_tokens:,} ids of {self.itemsize} "
                f"bytes; {advice}"
            )

    def _last_sequence(self, file: IO[bytes]) -> tuple[int, int]:
        """(length in tokens, offset in bytes) of the last sequence, zeros if there is none."""
        if self.num_sequences == 0:
            return 0, 0
        file.seek(HEADER.size + 4 * (self.num_sequences - 1))
        (length,) = struct.unpack("<i", file.read(4))
        file.seek(HEADER.size + 4 * self.num_sequences + 8 * (self.num_sequences - 1))
        (offset,) = struct.unpack("<q", file.read(8))
        return length, offset

    def __reduce__(self) -> tuple[type["Shard"], tuple[Path]]:
        return Shard, (self.prefix,)

    @cached_property
    def _index(self) -> np.ndarray:
        return map_file(self._idx_path, np.dtype(np.uint8))

    def _index_part(self, start: int, count: int, dtype: str) -> np.ndarray:
        return self._index[start : start + count * np.dtype(dtype).itemsize].view(dtype)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32 (S,), in tokens."""
        return self._index_part(HEADER.size, self.num_sequences, "<i4")

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (S,), in bytes."""
        return self._index_part(HEADER.size + 4 * self.num_sequences, self.num_sequences, "<i8")

    @cached_property
    def documents(self) -> np.ndarray:
        """int64 (D,): 0, then the end of each document, counted in sequences; the last is S."""
        return self._index_part(HEADER.size + 12 * self.num_sequences, self._num_bounds, "<i8")

    @cached_property
    def tokens(self) -> np.ndarray:
        """The ids of the whole shard (num_tokens,)."""
        return map_file(self._bin_path, self.dtype)

    def __len__(self) -> int:
        return int(self.num_sequences)

    def __getitem__(self, i: int) -> np.ndarray:
        """The ids of sequence i (length,), a view of the map; negative i counts from the end."""
        try:  # .item() returns Python integers; with numpy's this would take twice the time
            start = self.offsets.item(i) // self.itemsize
            return self.tokens[start : start + self.lengths.item(i)]
        except IndexError:
            raise IndexError(f"{self.prefix}: sequence {i} of {self.num_sequences:,}") from None

    def take(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths) of many sequences in the order of `indices`: their ids end to end, and int64 (n,) in tokens.

        A copy, made without a loop over sequences. Raises IndexError as numpy does.
        """
        indices = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[indices].astype(np.int64)
        # Position p of the result comes from p plus the shift of its sequence.
        shifts = self.offsets[indices] // self.itemsize - (np.cumsum(lengths) - lengths)
        return self.tokens[np.arange(lengths.sum()) + np.repeat(shifts, lengths)], lengths

    def close(self) -> None:
        """Release the maps, which are made again on the next use. Views handed out stay valid."""
        for name in ("_index", "lengths", "offsets", "documents", "tokens"):
            if name in vars(self):  # cached
                delattr(self, name)

    def check(self, vocab_size: int) -> None:
        """Read the whole shard; raises ValueError at the first violation of the format."""
        if self.num_sequences and self.lengths.min() <= 0:
            raise ValueError(f"{self._idx_path}: a sequence of {self.lengths.min()} tokens")
        # That the last sequence ends with the file was checked on opening.
        ends = np.cumsum(self.lengths, dtype=np.int64) * self.itemsize
        if not np.array_equal(self.offsets, ends - self.lengths.astype(np.int64) * self.itemsize):
            raise ValueError(f"{self._idx_path}: the byte offsets are not the running sum of the lengths")
        documents = self.documents
        if documents[0] != 0 or documents[-1] != self.num_sequences or (np.diff(documents) <= 0).any():
            raise ValueError(f"{self._idx_path}: the document index must rise from 0 to {self.num_sequences:,}")
        for start in range(0, self.num_tokens, 16 * BUFFER_TOKENS):
            block = self.tokens[start : start + 16 * BUFFER_TOKENS]
            if block.min() < 0 or block.max() >= vocab_size:
                raise ValueError(
                    f"{self._bin_path}: ids from {block.min()} to {block.max()}, the vocabulary has {vocab_size:,}"
                )
