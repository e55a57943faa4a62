"""Exported encoders against transformers' XLM-R of the same weights, and what cannot be exported."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from small_encoders import ODD_TEXTS
from transformers import AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaModel
from xlm_roberta import random_xlm_roberta
from xtreme_files import write_model

from data_tools.files.atomic import sha256_of
from finetune.exported.settings import EngineName, Pooling
from finetune.understanding.retrieval.embeddings import Embedder
from inference.export_encoder import ExportOptions, export_encoder, main
from veco import VecoConfig, VecoForMaskedLM
from veco.convert import to_xlm_roberta
from veco.tokenizer import save_tokenizer

LAYER = 2
SENTENCES = ["hund", "haus baum vogel", "milch nacht", "rot " * 30, "stein", *ODD_TEXTS]
EVERY = [(engine, precision) for engine in EngineName for precision in ("float32", "int8")]
EXACT = 1e-5
CT2_FILES = ("ct2/config.json", "ct2/model.bin", "ct2/vocabulary.json")
LEAST_COSINE = 0.9998  # of vectors in 8 bits to those in float32


def states_by_hand(model: XLMRobertaModel, directory: Path, layer: int, sentences: list[str]) -> list[np.ndarray]:
    """transformers' states (tokens, D) of each sentence, alone in its batch."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        return [
            model.eval()(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True)
            .hidden_states[layer][0]
            .numpy()
            for sentence in sentences
        ]


@pytest.fixture(scope="module")
def states(tiny_model: Path) -> list[np.ndarray]:
    return states_by_hand(to_xlm_roberta(tiny_model).roberta, tiny_model, LAYER, SENTENCES)


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


@pytest.mark.parametrize(("engine", "precision"), EVERY)
def test_vectors_are_those_of_transformers(
    engine: str, precision: str, exported: Callable[[str, str], Path], states: list[np.ndarray]
) -> None:
    expected = np.stack([own.mean(axis=0) for own in states])
    for max_tokens in (100, 1000):  # in batches of several lengths, and all in one
        (found,) = Embedder.load(exported(engine, precision), None, None, max_tokens).embed(SENTENCES)
        assert cosines(found, expected).min() > (LEAST_COSINE if precision == "int8" else 1 - 1e-6)
        if precision == "float32":
            assert found == pytest.approx(expected, abs=EXACT)
        else:
            assert np.abs(found - expected).max() > EXACT, "nothing was rounded"


@pytest.mark.parametrize("engine", EngineName)
def test_states_of_tokens_are_those_of_transformers(
    engine: str, exported: Callable[[str, str], Path], states: list[np.ndarray]
) -> None:
    embedder = Embedder.load(exported(engine, "float32"), LAYER, None, 1000)
    rows = embedder.rows(SENTENCES)
    for number, expected in enumerate(states):
        ids = torch.tensor(rows.tokens[number]).long()[None]
        (found,) = embedder.states({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        assert found[0].numpy() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("engine", EngineName)
def test_eight_bits_take_a_fraction_of_the_memory(engine: str, exported: Callable[[str, str], Path]) -> None:
    sizes = [
        sum(path.stat().st_size for name in ("ct2/model.bin", "model.onnx.data") for path in directory.glob(name))
        for directory in (exported(engine, "float32"), exported(engine, "int8"))
    ]
    assert sizes[1] < 0.4 * sizes[0]


def test_sums_of_products_of_bytes_do_not_overflow(tiny_model: Path, tmp_path: Path) -> None:
    """Neighbouring weights that are all as large as any: on CPUs without VNNI their products exceed 16 bits."""
    model = VecoForMaskedLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for layer in model.veco.layers:
            up = layer.feed_forward.up_proj.weight
            up[:, :16], up[:, 16:] = 0.1, -0.1
    model.save_pretrained(tmp_path / "model")
    save_tokenizer(AutoTokenizer.from_pretrained(tiny_model), tiny_model, tmp_path / "model", max_tokens=64)
    export_encoder(tmp_path / "model", tmp_path / "int8", ExportOptions(EngineName.CTRANSLATE2, "int8", LAYER))
    (expected,) = Embedder.load(tmp_path / "model", LAYER, None, 1000).embed(SENTENCES)
    (found,) = Embedder.load(tmp_path / "int8", None, None, 1000).embed(SENTENCES)
    assert cosines(found, expected).min() > LEAST_COSINE


def test_what_is_written(tiny_model: Path, exported: Callable[[str, str], Path]) -> None:
    directory = exported("ct2", "int8")
    assert json.loads((directory / "encoder.json").read_text()) == {
        **{"engine": "ct2", "precision": "int8", "layer": LAYER, "hidden_size": 32, "max_length": 64},
        **{"pooling": "mean", "normalise": True, "source": "model", "source_num_layers": 3},
        "source_sha256": {"model.safetensors": sha256_of(tiny_model / "model.safetensors")},
        "format": 1,
        "files": {path: (directory / path).stat().st_size for path in CT2_FILES},
    }
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert {"ct2/model.bin", "tokenizer.json", "sentencepiece.bpe.model"} < names
    assert not [name for name in names if name.endswith((".pt", ".bin", ".pkl")) and name != "ct2/model.bin"]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.model_max_length == 64 and tokenizer("haus baum") == AutoTokenizer.from_pretrained(tiny_model)(
        "haus baum"
    )


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_limit_of_protobuf_is_not_one_of_models(
    precision: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of protobuf are limited to less than one tenth of the weights, as 2 GiB would be of 20 GiB."""
    onnx = pytest.importorskip("onnx")
    veco = VecoForMaskedLM.from_pretrained(tiny_model)
    wide = VecoForMaskedLM(VecoConfig(**{**veco.config.to_dict(), "intermediate_size": 16_384}))
    wide.save_pretrained(tmp_path / "model")
    save_tokenizer(AutoTokenizer.from_pretrained(tiny_model), tiny_model, tmp_path / "model", max_tokens=64)
    limit = 2 * 32 * 16_384 * LAYER * (4 if precision == "float32" else 1) // 10
    serializer = onnx.serialization.registry.get("protobuf")
    written: list[int] = []

    def limited(serialize: Callable[[object], bytes], proto: object) -> bytes:
        result = serialize(proto)
        if len(result) > limit:
            raise ValueError(f"{len(result):,} bytes are more than protobuf's {limit:,}")
        written.append(len(result))
        return result

    monkeypatch.setattr(serializer, "serialize_proto", partial(limited, serializer.serialize_proto))
    export_encoder(tmp_path / "model", tmp_path / "out", ExportOptions(EngineName.ONNX, precision, LAYER))
    assert written, "the libraries write by this function"
    files = json.loads((tmp_path / "out" / "encoder.json").read_text())["files"]
    assert list(files) == ["model.onnx", "model.onnx.data"]
    assert files["model.onnx"] <= limit < files["model.onnx.data"] // 10
    (expected,) = Embedder.load(tmp_path / "model", LAYER, None, 1000).embed(SENTENCES)
    (found,) = Embedder.load(tmp_path / "out", None, None, 1000).embed(SENTENCES)
    assert cosines(found, expected).min() > (1 - EXACT if precision == "float32" else 0.99)


def test_files_that_are_not_whole_are_told(exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    copied = shutil.copytree(exported("onnx", "float32"), tmp_path / "copied")
    data = copied / "model.onnx.data"
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"model.onnx.data: has {size - 1:,}, expected {size:,} bytes; copy all files"):
        Embedder.load(copied, None, None, 1000)
    data.unlink()
    with pytest.raises(ValueError, match=f"model.onnx.data: is missing, expected {size:,} bytes; copy all files"):
        Embedder.load(copied, None, None, 1000)


def test_exports_of_earlier_versions_are_read(exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    """They do not name their files."""
    older = shutil.copytree(exported("ct2", "float32"), tmp_path / "older")
    settings = json.loads((older / "encoder.json").read_text())
    del settings["files"]
    (older / "encoder.json").write_text(json.dumps(settings))
    (found,), (expected,) = (
        Embedder.load(one, None, None, 1000).embed(SENTENCES) for one in (older, exported("ct2", "float32"))
    )
    assert np.array_equal(found, expected)


def test_an_xlm_roberta_is_exported_with_its_token_type(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = random_xlm_roberta(XLMRobertaForMaskedLM, VecoConfig.from_pretrained(tiny_model))
    model.save_pretrained(tmp_path / "model")
    save_tokenizer(AutoTokenizer.from_pretrained(tiny_model), tiny_model, tmp_path / "model", max_tokens=64)
    export_encoder(
        tmp_path / "model", tmp_path / "out", ExportOptions(EngineName.CTRANSLATE2, layer=3, pooling=Pooling.CLS)
    )
    (found,) = Embedder.load(tmp_path / "out", None, None, 100).embed(SENTENCES)
    expected = [own[0] for own in states_by_hand(model.roberta, tiny_model, 3, SENTENCES)]
    assert found == pytest.approx(np.array(expected), abs=EXACT)


def run(*arguments: object) -> None:
    with mock.patch.object(sys, "argv", ["export_encoder", *map(str, arguments)]):
        main()


def test_the_command_takes_the_usual_layer(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--to", "ct2", "--int8", "--output", tmp_path / "out", "--max-length", "20", "--no-normalise")
    run(tiny_model, *flags)
    assert "layer 2 of 3 for ct2, int8" in capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert (settings["layer"], settings["max_length"], settings["normalise"]) == (2, 20, False)
    embedder = Embedder.load(tmp_path / "out", None, None, 100)
    embedder.embed(["rot " * 30])
    assert embedder.max_length == 20 and embedder.num_truncated == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layer", "4"), "--layer 4: .* has layers 1 to 3"),
        (("--layer", "0"), "--layer 0: .* has layers 1 to 3"),
        (("--max-length", "65"), "max-length 65: expected 3 to 64 tokens"),
    ],
)
def test_bad_flags_are_one_line(tiny_model: Path, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tiny_model, "--to", "ct2", "--output", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert", "expected a veco or xlm-roberta, found a bert; python -m veco.convert bert makes a veco of it"),
        ("modernbert", "a modernbert rotates queries and keys"),
    ],
)
def test_other_encoders_are_refused(
    name: str, message: str, encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_encoder(encoder_directory(name), tmp_path / "out", ExportOptions(EngineName.CTRANSLATE2))
    assert not (tmp_path / "out").exists()


def test_an_activation_that_the_engine_lacks(tmp_path: Path) -> None:
    write_model(tmp_path / "model", hidden_act="tanh")
    with pytest.raises(ValueError, match="hidden_act 'tanh': CTranslate2 has only gelu"):
        export_encoder(tmp_path / "model", tmp_path / "out", ExportOptions(EngineName.CTRANSLATE2))


@pytest.mark.parametrize(
    ("engine", "library", "extra"),
    [("ct2", "ctranslate2", "ct2"), ("onnx", "onnxruntime", "onnx"), ("onnx", "onnxscript", "onnx")],
)
def test_a_missing_library_names_the_extra(
    engine: str, library: str, extra: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"is not installed.*: pip install 'veco\[{extra}\]'"):
        export_encoder(tiny_model, tmp_path / "out", ExportOptions(EngineName(engine)))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_is_left_half_done(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        export_encoder(tiny_model, tmp_path / "out", ExportOptions(EngineName.CTRANSLATE2))
    assert os.listdir(tmp_path / "out") == ["mine.txt"]

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("inference.export_encoder.save_tokenizer", fail)
    with pytest.raises(OSError, match="no space"):
        export_encoder(tiny_model, tmp_path / "new", ExportOptions(EngineName.CTRANSLATE2))
    assert sorted(os.listdir(tmp_path)) == ["out"]
