"""An encoder as ONNX Runtime reads it: model.onnx, and model.onnx.data with its weights."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from finetune.exported.engines import ATTENTION_MASK, INPUT_IDS, ONNX_FILE, STATES, import_onnxruntime
from veco.model import VecoModel

LARGEST_INT8 = 127
EXAMPLE_SHAPE = (2, 3)  # of the ids with which the graph is recorded; it then takes any


class StatesAlone(nn.Module):
    """Tensors in, a tensor out: what the exporter wants."""

    def __init__(self, model: VecoModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids, attention_mask).last_hidden_state
        return states


class Int8Embedding(nn.Module):
    """An embedding (V, D) in 8 bits with a scale for each row; ONNX Runtime would take one scale for all of them."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        rows = embedding.weight.detach()
        scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny) / LARGEST_INT8
        self.rows = nn.Buffer(torch.round(rows / scales).to(torch.int8))
        self.scales = nn.Buffer(scales)

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows[ids].float() * self.scales[ids]


def check_onnx() -> None:
    """Raise ValueError where what writes or reads such files is not installed."""
    import_onnxruntime()
    for library in ("onnx", "onnxscript"):
        try:
            importlib.import_module(library)
        except ImportError:
            raise ValueError(f"{library} is not installed, which writes ONNX: pip install 'veco[onnx]'") from None


@torch.no_grad()
def write_onnx(model: VecoModel, directory: Path, precision: str) -> None:
    """Write all layers of a model, plugged out, which it changes.

    In int8 the products with weights are of bytes: weights have a scale for each matrix, states one for each product,
    found as it is computed.
    """
    model.skip_padding = False  # packing depends on the ids
    path = directory / ONNX_FILE
    if precision == "float32":
        export_graph(model, path)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model.embeddings.add_module("word_embeddings", Int8Embedding(model.embeddings.word_embeddings))
    exact = directory / f"exact-{ONNX_FILE}"
    export_graph(model, exact)
    with quiet(logging.getLogger()):
        # Unsigned: signed weights overflow in the products of CPUs without VNNI.
        quantize_dynamic(
            exact,
            path,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QUInt8,
            use_external_data_format=True,
        )
    for file in directory.glob(f"{exact.name}*"):
        file.unlink()


def export_graph(model: VecoModel, path: Path) -> None:
    """Write the graph of a model in float32, for any number of rows and tokens up to its longest sequence."""
    ids = torch.full(EXAMPLE_SHAPE, model.config.vocab_size - 1)
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=model.config.max_tokens)}
    with quiet(logging.getLogger("torch.onnx")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            StatesAlone(model).eval(),
            (ids, torch.ones_like(ids)),
            path,
            input_names=[INPUT_IDS, ATTENTION_MASK],
            output_names=[STATES],
            dynamic_shapes=(shape, shape),
            dynamo=True,
            external_data=True,
            verbose=False,
        )


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep a library's advice to developers off the terminal."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
