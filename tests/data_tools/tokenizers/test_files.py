import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import AutoTokenizer

from data_tools.tokenizers.files import find_model, model_of_tokenizer_json, read_model, write_tokenizer
from data_tools.tokenizers.sentence_piece import PieceEncoder


def test_a_model_made_of_a_tokenizer_json_is_the_model(tokenizer_dir: Path, tmp_path: Path) -> None:
    rebuilt = ModelProto.FromString(read_model(tokenizer_dir / "tokenizer.json"))
    original = ModelProto.FromString((tokenizer_dir / "sentencepiece.bpe.model").read_bytes())
    assert rebuilt.normalizer_spec.precompiled_charsmap == original.normalizer_spec.precompiled_charsmap
    assert [piece.piece for piece in rebuilt.pieces[:4]] == ["<s>", "<pad>", "</s>", "<unk>"]
    found = [(piece.piece, piece.score, piece.type) for piece in rebuilt.pieces[4:-1]]
    assert found == [(piece.piece, piece.score, piece.type) for piece in original.pieces[3:]], "to the last bit"
    assert rebuilt.pieces[-1].piece == "<mask>"


def test_older_tokenizer_json_are_read(tokenizer_dir: Path, tmp_path: Path) -> None:
    """transformers 4 wrote other names of flags for XLM-R, and another step for white space."""
    settings = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
    before = model_of_tokenizer_json(json.dumps(settings).encode(), tmp_path)
    settings["normalizer"] = {"type": "Sequence", "normalizers": [settings["normalizer"], strip, spaces]}
    settings["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    assert model_of_tokenizer_json(json.dumps(settings).encode(), tmp_path) == before
    settings["normalizer"] = None
    assert not ModelProto.FromString(
        model_of_tokenizer_json(json.dumps(settings).encode(), tmp_path)
    ).normalizer_spec.precompiled_charsmap


def changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings.update(changes)


def changed_model(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings["model"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_model(type="BPE"), "a model of type BPE; expected Unigram"),
        (changed_model(byte_fallback=True), "Unigram with byte fallback; expected Unigram without"),
        (
            changed(normalizer={"type": "Lowercase"}),
            "normalizer: expected XLM-R's Precompiled, found {'type': 'Lowercase'}",
        ),
        (changed(pre_tokenizer=None), "pre_tokenizer: expected XLM-R's Metaspace with a prefix, found "),
        (changed(pre_tokenizer={"type": "ByteLevel"}), "pre_tokenizer: expected XLM-R's Metaspace"),
        (changed(pre_tokenizer={"type": "Metaspace", "prepend_scheme": "never"}), "Metaspace with a prefix"),
        (changed(model={}), r"not a tokenizer.json as expected \(KeyError: 'type'\)"),
        (changed(model=[]), "not a tokenizer.json as expected"),
        (changed_model(vocab=[["a", "b"]]), "not a tokenizer.json as expected"),
        (changed_model(vocab=[["\ud800", 0.0]]), "not a tokenizer.json as expected"),
        (changed_model(vocab=[["<unk>", 0.0], ["a", 0.0], ["a", 0.0]], unk_id=0), "a is already defined"),
    ],
)
def test_tokenizer_json_of_other_models_are_refused(
    tokenizer_dir: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    settings = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    change(settings)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message) as error_info:
        read_model(path)
    assert str(path) in str(error_info.value)


def test_files_that_are_not_models_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.model", b"no model"), ("b.model", b""), ("c.json", b"{"), ("d.json", b"\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: not a (SentencePiece model|tokenizer.json)"):
            read_model(tmp_path / name)


def test_the_model_in_a_directory_is_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a SentencePiece model \(\*.model\) or tokenizer.json in it"):
        find_model(tmp_path)
    for name in ("tokenizer.json", "spiece.model"):
        (tmp_path / name).touch()
        assert find_model(tmp_path) == find_model(tmp_path / name) == tmp_path / name
    (tmp_path / "other.model").touch()
    with pytest.raises(ValueError, match=r"holds other.model, spiece.model; name one of them"):
        find_model(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").touch()
    assert find_model(tmp_path) == tmp_path / "sentencepiece.bpe.model"


def test_a_written_directory_is_read_by_transformers(
    tmp_path: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> None:
    model = (tokenizer_dir / "sentencepiece.bpe.model").read_bytes()
    encoder = write_tokenizer(model, tmp_path, sentences["en"])
    assert isinstance(encoder, PieceEncoder) and encoder.tokenizer_dir == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sentencepiece.bpe.model",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("the farmer <mask> reads").input_ids.count(encoder.special.mask) == 1
    assert tokenizer.model_max_length > 10**9, "no model, no longest sequence"


def test_a_model_that_transformers_cannot_express_is_refused(tmp_path: Path, sentences: dict[str, list[str]]) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences["en"]),
        model_writer=model,
        vocab_size=200,
        split_by_whitespace=False,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match=r"tokenises \d+ of 750 lines differently: its XLM-R tokenizer cannot express"):
        write_tokenizer(model.getvalue(), tmp_path, sentences["en"])
