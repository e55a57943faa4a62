"""Files mapped into memory as plain numpy arrays that hold no file handle.

Python's mmap duplicates the file's handle for as long as the map lives, and np.memmap is built on it: a corpus of 2,000
shards would need 4,000 handles, where 1,024 is a common limit. The kernel needs none: a map outlives the handle it was
made with. Slices of a plain array also cost a third of those of np.memmap, which is a subclass.
"""

import ctypes
import mmap
import os
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


def map_file(path: Path | str, dtype: np.dtype[Any]) -> np.ndarray:
    """The content of a file, read-only (size of the file / itemsize,); the memory goes with the last view of it.

    Holds no file handle on Unix. The file may be renamed or deleted while it is mapped, but not shortened. Raises
    OSError if it cannot be opened or mapped, ValueError if its size is not a multiple of the items'.
    """
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes % dtype.itemsize:
            raise ValueError(f"{path}: {num_bytes:,} bytes is not a multiple of {dtype.itemsize}-byte items")
        if num_bytes == 0:  # nothing to map: the kernel refuses
            return np.frombuffer(b"", dtype=dtype)
        if sys.version_info >= (3, 13):
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, trackfd=False), dtype=dtype)
        if os.name == "posix":
            return np.asarray(_Region(path, file.fileno(), num_bytes)).view(dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


class _Region:
    """The memory of a mapped file, which numpy takes for an array; unmapped when the last array on it is gone."""

    def __init__(self, path: Path | str, descriptor: int, num_bytes: int) -> None:
        libc = _libc()
        address = libc.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (num_bytes,), "data": (address, True)}
        # Not at exit: other threads may still read then, and the memory goes with the process anyway.
        weakref.finalize(self, libc.munmap, address, num_bytes).atexit = False


@cache
def _libc() -> ctypes.CDLL:
    """The C library of this process, with the signatures of mmap and munmap."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    # The last is off_t, a long wherever a program is not built for large files on a 32-bit machine.
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
