"""encoder.json, and exported encoders in the place of a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.exported.settings import EngineName, ExportedSettings, Pooling, is_exported

SETTINGS = ExportedSettings(EngineName.ONNX, "int8", 4, 32, 64, Pooling.CLS, False, "mine", 6, {"a": "b"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert not is_exported(tmp_path)
    SETTINGS.write(tmp_path)
    assert is_exported(tmp_path)
    assert ExportedSettings.read(tmp_path) == SETTINGS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, of a newer version; this one reads up to 1"),
        ({"engine": "tensorrt"}, "'tensorrt' is not a valid EngineName"),
        ({"layer": None}, "lacks 'layer'"),
        ({"files": ["a"]}, r'files: expected names with their sizes in bytes, found \["a"\]'),
        ({"files": {"a": "x"}}, 'files: a: expected a whole number of bytes, found "x"'),
        ({"files": {"a": 1, "b": True}}, "files: b: expected a whole number of bytes, found true"),
        ({"files": {"a": 1.5}}, "files: a: expected a whole number of bytes, found 1.5"),
        ({"files": {"a": -1}}, "files: a: expected a whole number of bytes, found -1"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    SETTINGS.write(tmp_path)
    path = tmp_path / "encoder.json"
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(ValueError, match=rf"encoder.json: {message}; export the encoder again"):
        ExportedSettings.read(tmp_path)


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_text('{"engine": ')
    with pytest.raises(ValueError, match=r"encoder.json: .*; export the encoder again"):
        ExportedSettings.read(tmp_path)


def test_files_that_are_null_are_refused(tmp_path: Path) -> None:
    SETTINGS.write(tmp_path)
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": None}))
    with pytest.raises(
        ValueError, match=r"encoder.json: files: expected names .*, found null; export the encoder again"
    ):
        ExportedSettings.read(tmp_path)
