"""Commands that take an exported encoder in the place of a model find the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from xtreme_files import GERMAN, write_lines, write_xtreme

import analysis.alignment
import finetune.understanding.predict
from analysis.options import command_parser, layers_of, load_embedder

LAYER = 2


def run(module: object, *arguments: object) -> None:
    with mock.patch.object(sys, "argv", ["command", *map(str, arguments)]):
        module.main()  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ["ct2", "onnx"])
def test_retrieval(engine: str, tiny_model: Path, exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    write_xtreme(tmp_path / "data")
    flags = ("--task", "tatoeba", "--data", tmp_path / "data")
    run(finetune.understanding.predict, exported(engine, "float32"), *flags, "--output", tmp_path / "fast")
    run(finetune.understanding.predict, tiny_model, *flags, "--layer", LAYER, "--output", tmp_path / "model")
    (found,), (expected,) = (list((tmp_path / name).rglob("test-*.tsv")) for name in ("fast", "model"))
    assert found.read_text() == expected.read_text() != ""


def test_alignment(tiny_model: Path, exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    write_lines(tmp_path / "text.en", ["the red house", "dog tree milk", "bird"])
    words = {english: german for german, english in GERMAN.items()}
    lines = (tmp_path / "text.en").read_text().splitlines()
    write_lines(tmp_path / "text.de", [" ".join(words.get(word, word) for word in line.split()) for line in lines])
    flags = ("--source", tmp_path / "text.en", "--target", tmp_path / "text.de", "--methods", "argmax")
    run(analysis.alignment, exported("ct2", "float32"), *flags, "--output", tmp_path / "fast")
    run(analysis.alignment, tiny_model, *flags, "--layers", LAYER, "--output", tmp_path / "model")
    name = f"links.argmax.layer{LAYER}.txt"
    assert (tmp_path / "fast" / name).read_text() == (tmp_path / "model" / name).read_text()
    assert json.loads((tmp_path / "fast" / "alignment.json").read_text())["layers"] == [LAYER]


def test_what_an_exported_encoder_lacks(exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    directory = exported("ct2", "float32")
    parser = command_parser("analysis.any", "Any.")

    def options(*flags: str) -> object:
        return parser.parse_args([str(directory), "--output", str(tmp_path), *flags])

    assert layers_of(options(), directory) == [LAYER] == layers_of(options(), directory, [0, 1])
    with pytest.raises(ValueError, match="--layers 1,2: .* has layer 2 alone, at which it was exported, but no 1"):
        layers_of(options("--layers", "1,2"), directory)
    with pytest.raises(ValueError, match="an exported encoder has no cross-attention to plug in; use the model"):
        load_embedder(options(), directory, [LAYER], plug_in=True)
    with pytest.raises(ValueError, match="an exported encoder has no other precision"):
        load_embedder(options("--dtype", "bfloat16"), directory, [LAYER])
    embedder = load_embedder(options(), directory, [LAYER])
    with pytest.raises(ValueError, match="computes the states of its layer alone, and takes no output_attentions"):
        embedder.model(input_ids=None, attention_mask=None, output_attentions=True)
