"""Vectors of sentences from a model and from what was exported of it; blocks and order do not show."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import inference.sentences
from finetune.understanding.retrieval.embeddings import Embedder
from inference import Placement, SentenceEncoder
from veco import VecoConfig
from veco.sentence_transformers_files import copy_sentence_files, write_sentence_files

SENTENCES = ["hund", "haus baum vogel", "milch nacht", "rot " * 30, "stein"]


def test_vectors_are_means_of_length_one(tiny_model: Path) -> None:
    (means,) = Embedder.load(tiny_model, 1, None, 1000).embed(SENTENCES)
    found = SentenceEncoder(tiny_model, layer=1).encode(SENTENCES)
    assert found.dtype == np.float32
    assert found == pytest.approx(means / np.linalg.norm(means, axis=1, keepdims=True), abs=1e-6)
    assert SentenceEncoder(tiny_model, layer=1, normalise=False).encode(SENTENCES) == pytest.approx(means, abs=1e-6)


def test_the_first_token_alone(tiny_model: Path) -> None:
    embedder = Embedder.load(tiny_model, 0, None, 1000)
    rows = embedder.rows(SENTENCES)
    assert len({int(rows.tokens[number][0]) for number in range(len(rows))}) == 1
    found = SentenceEncoder(str(tiny_model), layer=0, pooling="cls").encode(SENTENCES)
    assert found == pytest.approx(np.repeat(found[:1], len(SENTENCES), axis=0), abs=1e-6), "all begin with <s>"
    assert not np.allclose(SentenceEncoder(tiny_model, layer=2, pooling="cls").encode(SENTENCES)[0], found[0])


@pytest.mark.parametrize("engine", ["ct2", "onnx"])
def test_engines_are_used_like_models(engine: str, tiny_model: Path, exported: Callable[[str, str], Path]) -> None:
    expected = SentenceEncoder(tiny_model, layer=2).encode(SENTENCES)
    encoder = SentenceEncoder(exported(engine, "float32"))
    assert encoder.encode(SENTENCES) == pytest.approx(expected, abs=1e-5)
    assert encoder.width == 32
    lengths = np.linalg.norm(SentenceEncoder(exported(engine, "int8"), normalise=False).encode(SENTENCES), axis=1)
    assert np.abs(lengths - 1).max() > 0.01


def test_a_model_that_lacks_weights_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """transformers would draw them at random; of cross-attention and head nothing is needed."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    plugged_out = {name: weight for name, weight in weights.items() if ".cross_attention" not in name}
    save_file(plugged_out, model / "model.safetensors", {"format": "pt"})
    assert np.array_equal(SentenceEncoder(model).encode(SENTENCES), SentenceEncoder(tiny_model).encode(SENTENCES))
    lacking = {name: weight for name, weight in weights.items() if ".layers.0.feed_forward." not in name}
    save_file(lacking, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="model: lacks weights of PluggedOutEncoder: layers.0.feed_forward"):
        SentenceEncoder(model)


def test_blocks_and_order_do_not_show(tiny_model: Path) -> None:
    encoder = SentenceEncoder(tiny_model)
    at_once = encoder.encode(SENTENCES)
    blocks = list(encoder.encode_in_blocks(iter(SENTENCES), size=2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert np.concatenate(blocks) == pytest.approx(at_once, abs=1e-6)
    assert encoder.encode(SENTENCES[::-1]) == pytest.approx(at_once[::-1], abs=1e-6)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.encode("hund") == pytest.approx(at_once[:1], abs=1e-6)


def test_long_sentences_are_counted(tiny_model: Path) -> None:
    encoder = SentenceEncoder(tiny_model, max_length=10)
    encoder.encode(SENTENCES)
    assert encoder.num_truncated == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_and_near(dtype: str, tiny_model: Path) -> None:
    """Within the rounding of 8 or 11 bits: random weights make the cosines no worse than that."""
    exact = SentenceEncoder(tiny_model).encode(SENTENCES)
    encoder = SentenceEncoder(tiny_model, placement=Placement.of(dtype, "cpu"))
    found = encoder.encode(SENTENCES)
    assert found.dtype == np.float32 and not np.array_equal(found, exact)
    assert (found * exact).sum(axis=1).min() > 0.999


def test_which_sentences_were_cut_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several blocks, of which each is sorted by length."""
    monkeypatch.setattr(inference.sentences, "BLOCK_SENTENCES", 2)
    encoder = SentenceEncoder(tiny_model, max_length=10)
    found = encoder.encode_and_tell(SENTENCES)
    assert found.is_truncated.tolist() == [False, False, False, True, False]
    assert found.vectors == pytest.approx(encoder.encode(SENTENCES), abs=1e-6)
    assert encoder.encode_and_tell([]).is_truncated.shape == (0,)


def test_a_recorded_layer_is_used(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    write_sentence_files(tmp_path / "model", VecoConfig.from_pretrained(tiny_model), layer=1)
    expected = SentenceEncoder(tiny_model, layer=1).encode(SENTENCES)
    assert SentenceEncoder(tmp_path / "model").encode(SENTENCES) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("given", [{}, {"layer": 1}, {"pooling": "mean"}, {"layer": 1, "pooling": "mean"}])
def test_the_recorded_length_is_used_whatever_else_is_given(
    given: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    write_sentence_files(tmp_path / "model", VecoConfig.from_pretrained(tiny_model), layer=1, max_length=8)
    encoder = SentenceEncoder(tmp_path / "model", **given)
    encoder.encode(["hund " * 20])
    assert encoder.num_truncated == 1


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layer", [1, None])
def test_a_model_of_sentence_transformers_is_read_as_it_reads_itself(
    layer: int | None, pooling: str, tiny_model: Path, tmp_path: Path
) -> None:
    """As it saves it, in the names of its newest release; without a layer it is the last one."""
    library = pytest.importorskip("sentence_transformers")
    config = VecoConfig.from_pretrained(tiny_model)
    shutil.copytree(tiny_model, tmp_path / "model")
    write_sentence_files(tmp_path / "model", config, layer or config.num_hidden_layers, pooling)
    if layer is None:
        (tmp_path / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 7, "do_lower_case": false}')
    own = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    own.save(str(tmp_path / "saved"))
    expected = own.encode(SENTENCES, normalize_embeddings=True)
    for name in ("model", "saved"):
        assert SentenceEncoder(tmp_path / name).encode(SENTENCES) == pytest.approx(expected, abs=1e-5)
    same = {"layer": layer or config.num_hidden_layers, "max_length": 7 if layer is None else None}
    expected = SentenceEncoder(tiny_model, **same).encode(SENTENCES)
    assert SentenceEncoder(tmp_path / "saved", pooling="mean").encode(SENTENCES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("normalise", [True, False])
def test_vectors_of_length_1_are_recorded(normalise: bool, tiny_model: Path, tmp_path: Path) -> None:
    """As sentence-transformers makes and saves them, and again of the copy of its files."""
    library = pytest.importorskip("sentence_transformers")
    config = VecoConfig.from_pretrained(tiny_model)
    for name in ("model", "copy"):
        shutil.copytree(tiny_model, tmp_path / name)
    write_sentence_files(tmp_path / "model", config, layer=1, normalise=normalise)
    own = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    expected = own.encode(SENTENCES)
    assert (np.abs(np.linalg.norm(expected, axis=1) - 1) < 1e-5).all() == normalise
    own.save(str(tmp_path / "saved"))
    assert copy_sentence_files(tmp_path / "saved", tmp_path / "copy", config, print) == 1
    again = library.SentenceTransformer(str(tmp_path / "copy"), device="cpu").encode(SENTENCES)
    assert again == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", '{"pooling_mode": ["mean", "max"]}', r"pools by \['mean', 'max'\], expected mean or"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools by max, expected mean or cls"),
        ("modules.json", '[{"type": "x.models.Dense", "path": "2_Dense"}]', "has a module Dense, expected Transformer"),
        ("modules.json", "[{}]", "KeyError 'type'"),
        ("sentence_bert_config.json", '{"do_lower_case": true}', "changes texts before they are read"),
        ("config_sentence_transformers.json", '{"default_prompt_name": "query"}', "changes texts before they are read"),
        ("modules.json", "[", "Expecting value"),
    ],
)
def test_vectors_that_are_made_in_another_way_are_refused(
    name: str, content: str, message: str, tiny_model: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_model, tmp_path / "model")
    write_sentence_files(directory, VecoConfig.from_pretrained(tiny_model))
    (directory / name).write_text(content)
    with pytest.raises(ValueError, match=f"model: its files of sentence-transformers cannot be followed: .*{message}"):
        SentenceEncoder(directory)
    assert SentenceEncoder(directory, layer=1, pooling="mean").width == 32, "what is said need not be recorded"


def test_what_an_exported_encoder_does_not_have(exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer 3: .* has layer 2 alone, at which it was exported"):
        SentenceEncoder(exported("ct2", "float32"), layer=3)
    with pytest.raises(ValueError, match="max-length 99: expected 3 to 64 tokens"):
        SentenceEncoder(exported("ct2", "float32"), max_length=99)
    with pytest.raises(ValueError, match="expected a model, a checkpoint or a run, found nothing"):
        SentenceEncoder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no other precision \(float16\) than its own, int8; use the model"):
        SentenceEncoder(exported("ct2", "int8"), placement=Placement.of("float16"))
    damaged = shutil.copytree(exported("onnx", "float32"), tmp_path / "damaged")
    graph = damaged / "model.onnx"
    graph.write_bytes(b"?" * graph.stat().st_size)
    with pytest.raises(ValueError, match="its onnx files cannot be opened .*; export the encoder again"):
        SentenceEncoder(damaged)
