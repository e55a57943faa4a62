"""The libraries that compute the states of an exported encoder, on the CPU: CTranslate2 and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from finetune.ctranslate2_library import import_ctranslate2
from finetune.exported.settings import EngineName

CT2_DIRECTORY, ONNX_FILE = "ct2", "model.onnx"
INPUT_IDS, ATTENTION_MASK, STATES = "input_ids", "attention_mask", "states"  # names in the ONNX graph


class Engine(Protocol):
    """An encoder cut at a layer."""

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """The states float32 (B, T, D) of ids (B, T), padded behind; those of padding mean nothing."""


class Ct2Engine:
    """An encoder in CTranslate2, which computes nothing for padding. `num_threads` compute one batch."""

    def __init__(self, directory: Path, num_threads: int) -> None:
        library = import_ctranslate2()
        self._views = library.StorageView
        torch_threads = torch.get_num_threads()
        self._encoder = library.Encoder(str(directory / CT2_DIRECTORY), device="cpu", intra_threads=num_threads)
        torch.set_num_threads(torch_threads)  # CTranslate2 has changed OpenMP's number, which torch uses too

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        ids, lengths = (np.ascontiguousarray(x, np.int32) for x in (input_ids, attention_mask.sum(axis=1)))
        found = self._encoder.forward_batch(self._views.from_array(ids), lengths=self._views.from_array(lengths))
        return np.array(found.last_hidden_state)


class OnnxEngine:
    """An encoder in ONNX Runtime. `num_threads` compute one batch."""

    def __init__(self, directory: Path, num_threads: int) -> None:
        library = import_onnxruntime()
        options = library.SessionOptions()
        options.intra_op_num_threads = num_threads
        path = directory / ONNX_FILE
        self._session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        inputs = {INPUT_IDS: input_ids.astype(np.int64), ATTENTION_MASK: attention_mask.astype(np.int64)}
        (found,) = self._session.run([STATES], inputs)
        return np.asarray(found)


ENGINES: Mapping[EngineName, type[Ct2Engine] | type[OnnxEngine]] = {
    EngineName.CTRANSLATE2: Ct2Engine,
    EngineName.ONNX: OnnxEngine,
}


def open_engine(name: EngineName, directory: Path) -> Engine:
    """The engine of an exported encoder, with as many threads as torch has.

    Raises ValueError where its library is not installed, and for files that it cannot read.
    """
    try:
        return ENGINES[name](directory, torch.get_num_threads())
    except ValueError:
        raise
    except Exception as error:  # each library has exceptions of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{directory}: its {name} files cannot be opened ({reason}); export the encoder again"
        ) from None


def import_onnxruntime() -> Any:
    """The library. Raises ValueError if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("ONNX Runtime is not installed: pip install 'veco[onnx]'") from None
    return onnxruntime
