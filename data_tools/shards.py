"""Token shards, the memory-mapped `.bin` + `.idx` pairs that Megatron-core and DeepSpeed read, and their manifest.

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
sequence is one sentence without `<s>` and `</s>`; a sequence or a document without tokens does not exist.
"""

import hashlib
import json
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from data_tools.files import atomic_path, temporary_path

MAGIC = b"MMIDIDX\0\0"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPE_OF_CODE: dict[int, np.dtype[Any]] = {3: np.dtype("<i2"), 4: np.dtype("<i4")}
MAX_INT16_VOCAB = 32_767
BUFFER_TOKENS = 1 << 20

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1


def dtype_code(vocab_size: int) -> int:
    """The code of the narrowest id type for a vocabulary: 3 (int16) up to 32,767 pieces, else 4 (int32)."""
    return 3 if vocab_size <= MAX_INT16_VOCAB else 4


def shard_path(prefix: Path, suffix: str) -> Path:
    """The path `PREFIX.bin` or `PREFIX.idx`; a dot inside the prefix (`00000.de`) is part of the name."""
    return prefix.with_name(f"{prefix.name}.{suffix}")


@dataclass(frozen=True)
class ShardInfo:
    """What the manifest says of one shard. `prefix` is relative to the data directory, with forward slashes."""

    prefix: str
    num_sequences: int
    num_documents: int
    num_tokens: int
    bin_sha256: str
    idx_sha256: str


class ShardWriter:
    """Writes one shard; used as a context manager.

    On clean exit `.bin`, then `.idx` get their names (so an `.idx` means a whole shard); on an error nothing remains.
    A last document that was not ended is ended on exit. Memory: 4 bytes a sequence, 8 a document, and a buffer.
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
        self._file: IO[bytes] | None = None

    @property
    def num_sequences(self) -> int:
        return len(self._lengths)

    def __enter__(self) -> Self:
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(temporary_path(self._bin_path), "wb")
        return self

    def add_sequence(self, ids: np.ndarray) -> None:
        """Nothing; appends the ids (n,) of one sentence, n > 0."""
        self.add_sequences(ids, np.array([len(ids)]))

    def add_sequences(
        self, ids: np.ndarray, lengths: np.ndarray, document_ends: Sequence[int] | np.ndarray = ()
    ) -> None:
        """Nothing; appends sentences given as their ids end to end (sum of lengths,) and their lengths (n,), all > 0.

        `document_ends`, ascending: a document ends after so many of these sentences, 0 to n; documents without a
        sentence do not count. Raises ValueError for an id outside the vocabulary, an empty sequence, or lengths that
        do not add up.
        """
        if self._file is None:
            raise RuntimeError("ShardWriter is a context manager: write inside `with ShardWriter(…) as writer:`")
        start = len(self._lengths)
        if len(lengths):
            self._append(ids, lengths)
        ends = np.unique(np.asarray(document_ends, dtype=np.int64)) + start
        self._documents.frombytes(ends[ends > self._documents[-1]].tobytes())

    def _append(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        if lengths.min() <= 0:
            raise ValueError(f"{self.prefix}: empty sequences are not written; drop them before")
        if int(lengths.sum()) != len(ids):
            raise ValueError(f"{self.prefix}: the lengths add up to {int(lengths.sum()):,} but {len(ids):,} ids came")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(
                f"{self.prefix}: ids go from {ids.min()} to {ids.max()}, the vocabulary has {self.vocab_size:,} pieces"
            )
        self._lengths.frombytes(lengths.astype(np.intc).tobytes())
        self._buffer.append(ids.astype(self._dtype))  # a copy: the caller may reuse its array
        self._buffered_tokens += len(ids)
        self.num_tokens += len(ids)
        if self._buffered_tokens >= BUFFER_TOKENS:
            self._flush()

    def end_document(self) -> None:
        """Nothing; the sequences since the last call are one document. Without any since, there is no document."""
        if self._documents[-1] != len(self._lengths):
            self._documents.append(len(self._lengths))

    def info(self, prefix: str) -> ShardInfo:
        """The manifest entry under the name `prefix`; call it after the writer has closed."""
        assert self._idx_sha256, "info() is known once the shard is closed"
        return ShardInfo(
            prefix=prefix,
            num_sequences=len(self._lengths),
            num_documents=len(self._documents) - 1,
            num_tokens=self.num_tokens,
            bin_sha256=self._bin_sha256.hexdigest(),
            idx_sha256=self._idx_sha256,
        )

    def _flush(self) -> None:
        assert self._file is not None
        if self._buffer:
            data = np.concatenate(self._buffer).data
            self._file.write(data)
            self._bin_sha256.update(data)
            self._buffer.clear()
            self._buffered_tokens = 0

    def _index_bytes(self) -> bytes:
        lengths = np.frombuffer(self._lengths, dtype=np.intc).astype("<i4")
        offsets = np.zeros(len(lengths), dtype="<i8")
        np.cumsum(lengths[:-1], dtype=np.int64, out=offsets[1:])
        offsets *= self._dtype.itemsize
        documents = np.frombuffer(self._documents, dtype=np.int64).astype("<i8")
        header = HEADER.pack(MAGIC, VERSION, self.code, len(lengths), len(documents))
        return header + lengths.tobytes() + offsets.tobytes() + documents.tobytes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        temporary = temporary_path(self._bin_path)
        try:
            if error is None:
                self.end_document()
                self._flush()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                with atomic_path(self._idx_path) as idx_temporary:
                    index = self._index_bytes()
                    idx_temporary.write_bytes(index)
                    os.replace(temporary, self._bin_path)
                self._idx_sha256 = hashlib.sha256(index).hexdigest()
        finally:
            self._file.close()
            self._file = None
            temporary.unlink(missing_ok=True)


class Shard:
    """One shard, memory-mapped on first use; also a sequence of id arrays.

    Opening reads the header and the sizes of both files only, whatever their size. A mapped shard holds two file
    handles (Python's mmap keeps one for each map) until `close()`; it maps itself again when used after that.
    Raises ValueError naming the file for a foreign or damaged shard; OSError if a file is missing.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = Path(prefix)
        self._bin_path = shard_path(self.prefix, "bin")
        self._idx_path = shard_path(self.prefix, "idx")
        advice = "run data_tools.prepare again"
        with open(self._idx_path, "rb") as file:
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
        self.dtype = DTYPE_OF_CODE[code]
        self.itemsize = self.dtype.itemsize
        expected = HEADER.size + 12 * self.num_sequences + 8 * self._num_bounds
        if idx_bytes != expected or self._num_bounds < 1:
            raise ValueError(
                f"{self._idx_path}: {idx_bytes:,} bytes, but {self.num_sequences:,} sequences and a document index of "
                f"{self._num_bounds:,} need {expected:,}; {advice}"
            )
        bin_bytes = self._bin_path.stat().st_size
        if bin_bytes % self.itemsize:
            raise ValueError(
                f"{self._bin_path}: {bin_bytes:,} bytes is not a multiple of its {self.itemsize}-byte ids; {advice}"
            )
        self.num_tokens = bin_bytes // self.itemsize
        self.num_documents = self._num_bounds - 1

    @cached_property
    def _index(self) -> np.ndarray:
        return np.memmap(self._idx_path, dtype=np.uint8, mode="r")

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
        """int64 (D,): 0, the end of each document in sequences, so that it ends with S."""
        return self._index_part(HEADER.size + 12 * self.num_sequences, self._num_bounds, "<i8")

    @cached_property
    def tokens(self) -> np.ndarray:
        """The ids of the whole shard (num_tokens,)."""
        if self.num_tokens == 0:
            return np.zeros(0, dtype=self.dtype)  # an empty file cannot be mapped
        return np.memmap(self._bin_path, dtype=self.dtype, mode="r")

    def __len__(self) -> int:
        return int(self.num_sequences)

    def __getitem__(self, i: int) -> np.ndarray:
        """The ids of sequence i (length,), a view of the map; negative i counts from the end."""
        if not -self.num_sequences <= i < self.num_sequences:
            raise IndexError(f"{self.prefix}: sequence {i} of {self.num_sequences:,}")
        start = int(self.offsets[i]) // self.itemsize
        return self.tokens[start : start + int(self.lengths[i])]

    def close(self) -> None:
        """Nothing; lets go of the maps. Views handed out stay valid and keep their map alive."""
        for name in ("_index", "lengths", "offsets", "documents", "tokens"):
            self.__dict__.pop(name, None)

    def check(self, vocab_size: int) -> None:
        """Nothing; reads the whole shard and raises ValueError at the first thing that is not as the format says."""
        if self.num_sequences:
            if self.lengths.min() <= 0:
                raise ValueError(f"{self._idx_path}: a sequence of {self.lengths.min()} tokens")
            ends = np.cumsum(self.lengths, dtype=np.int64) * self.itemsize
            if self.offsets[0] != 0 or not np.array_equal(self.offsets[1:], ends[:-1]):
                raise ValueError(f"{self._idx_path}: the byte offsets are not the running sum of the lengths")
            if ends[-1] != self.num_tokens * self.itemsize:
                raise ValueError(
                    f"{self._bin_path}: {self.num_tokens:,} tokens, but the index says {ends[-1] // self.itemsize:,}"
                )
        elif self.num_tokens:
            raise ValueError(f"{self._bin_path}: {self.num_tokens:,} tokens, but the index says 0")
        documents = self.documents
        if documents[0] != 0 or documents[-1] != self.num_sequences or (np.diff(documents) <= 0).any():
            raise ValueError(f"{self._idx_path}: the document index must rise from 0 to {self.num_sequences:,}")
        for start in range(0, self.num_tokens, 16 * BUFFER_TOKENS):
            block = self.tokens[start : start + 16 * BUFFER_TOKENS]
            if block.min() < 0 or block.max() >= vocab_size:
                raise ValueError(
                    f"{self._bin_path}: ids go from {block.min()} to {block.max()}, the vocabulary has {vocab_size:,}"
                )


@dataclass(frozen=True)
class Manifest:
    """What a data directory holds; `DATA/manifest.json`, written last.

    `parallel["de-en"][k]` is shard number k, {"de": info, "en": info}. `dropped` counts lines left out, by corpus
    ("mono/de") and reason. The content depends on the text and the tokenizer only, not on the machine or the day.
    """

    version: int
    tokenizer_sha256: str
    vocab_size: int
    mono: dict[str, list[ShardInfo]]
    parallel: dict[str, list[dict[str, ShardInfo]]]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, data_dir: Path | str) -> "Manifest":
        """The manifest of a data directory; raises ValueError if there is none, or one of another version."""
        path = Path(data_dir) / MANIFEST_NAME
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected a directory that data_tools.prepare has finished")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != MANIFEST_VERSION:
                raise ValueError(
                    f"{path}: version {content['version']}, expected {MANIFEST_VERSION}; run data_tools.prepare again"
                )
            mono = {lang: [ShardInfo(**info) for info in infos] for lang, infos in content.pop("mono").items()}
            parallel = {
                pair: [{lang: ShardInfo(**info) for lang, info in sides.items()} for sides in shards]
                for pair, shards in content.pop("parallel").items()
            }
            return cls(mono=mono, parallel=parallel, **content)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not a manifest of data_tools.prepare ({error!r}); run it again") from None

    def save(self, data_dir: Path | str) -> None:
        """Nothing; writes `manifest.json`, whole or not at all."""
        with atomic_path(Path(data_dir) / MANIFEST_NAME) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the content: equal for equal data and tokenizer, wherever and in whatever way it was made."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
