"""`python -m veco.convert`, run within this process."""

from __future__ import annotations

import json
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_encoders import POSITIONS, write_encoder
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    RobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaTokenizer,
)
from xlm_roberta import random_xlm_roberta

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from veco import VecoConfig, VecoForMaskedLM
from veco.convert.__main__ import main
from veco.convert.fairseq_settings import check_settings, read_setting
from veco.sentence_transformers_files import recorded_settings, write_sentence_files

PAGE = Path(__file__).resolve().parents[3] / "docs" / "encoders.md"


@pytest.fixture
def xlm_roberta_dir(config: VecoConfig, tmp_path: Path) -> Path:
    """XLM-R with a tokenizer of 60 ids, tokenizer.json alone."""
    torch.manual_seed(0)
    directory = tmp_path / "xlm-r"
    random_xlm_roberta(XLMRobertaForMaskedLM, config).save_pretrained(directory)
    XLMRobertaTokenizer(vocab=vocabulary()).save_pretrained(directory)
    return directory


def vocabulary(third: str = "p3", seventh: str = "p7") -> list[tuple[str, float]]:
    """60 pieces and their scores."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    names = {3: third, 7: seventh}
    return [*special, *((f"▁{names.get(i, f'p{i}')}", -5.0 - i) for i in range(55)), ("<mask>", 0.0)]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["veco.convert", *map(str, arguments)])
    run_main(main)


def test_xlm_roberta_there_and_back(xlm_roberta_dir, config, padded_batch, monkeypatch, capsys, tmp_path: Path) -> None:
    run(monkeypatch, "xlm-roberta", xlm_roberta_dir, tmp_path / "veco")
    assert "veco: VecoForMaskedLM, 0.04M parameters" in capsys.readouterr().out
    write_sentence_files(tmp_path / "veco", config, layer=3)
    run(monkeypatch, "to-xlm-roberta", tmp_path / "veco", tmp_path / "back")
    assert recorded_settings(tmp_path / "back") == (3, "mean", config.max_tokens, False)
    captured = capsys.readouterr()
    assert "note: SentenceTransformer uses layer 3" in captured.err
    assert "back: XLMRobertaForMaskedLM, 0.03M parameters" in captured.out
    assert "dropped from each of 3 layers: cross_attention.k_proj.bias, cross_attention.k_proj.weight" in captured.err
    ids, mask = padded_batch
    for name in ("veco", "back"):
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        assert tokenizer("p3 p7")["input_ids"] == [0, 7, 11, 2]
        assert tokenizer.model_max_length == 64  # 66 positions, of which padding and the one before it are two
    logits = [
        AutoModelForMaskedLM.from_pretrained(directory)(ids, attention_mask=mask).logits[mask.bool()]
        for directory in (xlm_roberta_dir, tmp_path / "veco", tmp_path / "back")
    ]
    for converted in logits[1:]:
        torch.testing.assert_close(converted, logits[0], rtol=0, atol=1e-5)


TEXTS = (["das Haus", "ein Buch ist das"], ["ein rotes Haus", "x"])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_an_encoder_there_and_back(kind: str, monkeypatch, capsys, tmp_path: Path) -> None:
    source, veco, back = (tmp_path / name for name in ("source", "veco", "back"))
    write_encoder(kind, source)
    run(monkeypatch, kind, source, veco)
    notes = capsys.readouterr().err
    assert f"note: a {kind} has no cross-attention: it is initialised at random\n" in notes
    assert ("note: dropped: next-sentence head, pooler\n" in notes) == (kind == "bert")
    assert ("note: the checkpoint has no masked-LM head: " in notes) == (kind == "distilbert")
    assert ("note: from the tokenizer: bos_token_id 2, eos_token_id 3\n" in notes) == (kind != "roberta")
    run(monkeypatch, f"to-{kind}", veco, back)
    tokenizer = AutoTokenizer.from_pretrained(source)
    batch = tokenizer(*TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)  # VECO does not have them; the tokenizer beside it does not give them
    real = batch["attention_mask"].bool()
    assert not real.all()
    encoders, logits = [], []
    for directory in (source, veco, back):
        copied = AutoTokenizer.from_pretrained(directory)
        assert copied.get_vocab() == tokenizer.get_vocab()
        encoders.append(AutoModel.from_pretrained(directory).eval())
        if directory != source:
            assert copied.model_max_length == POSITIONS
            assert copied.model_input_names == ["input_ids", "attention_mask"]
            found = copied(*TEXTS, padding=True, return_tensors="pt")
            assert all(torch.equal(found[name], batch[name]) for name in found)
        if directory != source or kind != "distilbert":
            logits.append(AutoModelForMaskedLM.from_pretrained(directory).eval()(**batch).logits[real])
    states = [encoder(**batch).last_hidden_state[real] for encoder in encoders]
    for found, expected in (*((one, states[0]) for one in states[1:]), *((one, logits[0]) for one in logits[1:])):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    config = AutoConfig.from_pretrained(veco)
    framed = tokenizer("x")["input_ids"]
    assert (config.bos_token_id, config.eos_token_id) == (framed[0], framed[-1])
    assert config.pad_token_id == tokenizer.pad_token_id


def test_the_example_of_the_page_runs(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_encoder("bert", tmp_path / "models" / "bert-base-multilingual-cased")
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    assert (names["model"].config.bos_token_id, type(names["bert"]).__name__) == (2, "BertForMaskedLM")


def test_random_weights_follow_from_the_seed(monkeypatch, capsys, tmp_path: Path) -> None:
    write_encoder("distilbert", tmp_path / "source")
    for name, seed in (("first", "5"), ("again", "5"), ("other", "6")):
        run(monkeypatch, "distilbert", tmp_path / "source", tmp_path / name, "--seed", seed)
        assert f"note: initialised at random with --seed {seed}\n" in capsys.readouterr().err
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again", "other"))
    assert first == again != other


def test_a_model_may_have_more_rows_than_its_tokenizer_pieces(xlm_roberta_dir, monkeypatch, capsys, tmp_path) -> None:
    model = XLMRobertaForMaskedLM.from_pretrained(xlm_roberta_dir)
    model.resize_token_embeddings(64)
    model.save_pretrained(xlm_roberta_dir)
    run(monkeypatch, "xlm-roberta", xlm_roberta_dir, tmp_path / "veco")
    assert "note: 4 rows of the model have no piece in its tokenizer\n" in capsys.readouterr().err


def test_a_tokenizer_without_a_fast_version_is_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    """PhoBERT's: its pieces are in vocab.txt and bpe.codes alone."""
    write_encoder("roberta", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PhobertTokenizer"}))
    (tmp_path / "vocab.txt").write_text("a 5\nb 4\n")
    (tmp_path / "bpe.codes").write_text("a b 3\n")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(monkeypatch, "roberta", tmp_path, tmp_path / "veco")
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {tmp_path}: PhobertTokenizer has no fast version (tokenizer.json), which preparing"
    )


def test_a_tokenizer_that_pads_otherwise_than_the_positions_is_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    write_encoder("roberta", tmp_path)
    RobertaConfig.from_pretrained(tmp_path, pad_token_id=3).save_pretrained(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(monkeypatch, "roberta", tmp_path, tmp_path / "veco")
    assert "error: the model finds positions by 3, the id of its padding, its tokenizer pads with 1" in (
        capsys.readouterr().err
    )


def test_a_link_to_the_destination_is_followed_and_kept(
    xlm_roberta_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/veco")
    run(monkeypatch, "xlm-roberta", xlm_roberta_dir, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "veco" / "config.json").is_file()
    for place in (tmp_path / "link", xlm_roberta_dir):
        before = (place / "config.json").read_bytes()
        with pytest.raises(SystemExit):
            run(monkeypatch, "xlm-roberta", xlm_roberta_dir, place)
        assert "exists already; choose another output" in capsys.readouterr().err
        assert (place / "config.json").read_bytes() == before


def test_fairseq_with_settings_and_a_tokenizer(xlm_roberta_dir, config, monkeypatch, capsys, tmp_path: Path) -> None:
    weights = fairseq_weights(XLMRobertaForMaskedLM.from_pretrained(xlm_roberta_dir))
    torch.save({"args": Namespace(activation_fn="gelu"), "model": weights}, tmp_path / "model.pt")
    arguments = ("fairseq", tmp_path / "model.pt", tmp_path / "veco", "--tokenizer", xlm_roberta_dir)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ") and error.count("\n") == 1 and "lacks the settings encoder_attention_heads" in error
    )
    assert not (tmp_path / "veco").exists()
    run(monkeypatch, *arguments, "--set", "encoder_attention_heads=4")
    assert "note: XLM-R has no cross-attention: it is initialised at random\n" in capsys.readouterr().err
    assert VecoForMaskedLM.from_pretrained(tmp_path / "veco").config.num_attention_heads == 4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "veco")
    assert (len(tokenizer), tokenizer.model_max_length) == (60, 64)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder_attention_head=4", "unknown setting encoder_attention_head; did you mean encoder_attention_heads?"),
        ("arch=veco", "unknown setting arch; expected one of encoder_attention_heads, "),
        ("encoder_attention_heads=4.0", "setting encoder_attention_heads: expected an integer, found '4.0'"),
        ("encoder_attention_heads=true", "setting encoder_attention_heads: expected an integer, found 'true'"),
        ("no_scale_embedding=Fals", "setting no_scale_embedding: expected true or false, found 'Fals'"),
        ("dropout=low", "setting dropout: expected a number, found 'low'"),
        ("task", "--set task: expected name=value"),
    ],
)
def test_other_settings_of_fairseq_are_refused(setting: str, message: str, monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "fairseq", tmp_path / "model.pt", tmp_path / "veco", "--set", setting)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((f"no_scale_embedding={text}", False) for text in ("False", "false", "no", "off")),
        *((f"prepend_bos={text}", True) for text in ("True", "true", "yes", "ON")),
        ("encoder_attention_heads=16", 16),
        ("dropout=1e-1", 0.1),
        ("source_lang=no", "no"),
        ("source_lang=None", None),
        ("no_scale_embedding=null", None),
    ],
)
def test_settings_of_fairseq_are_read_by_their_type(text: str, value: object) -> None:
    name, found = read_setting(text)
    assert (found, type(found)) == (value, type(value))
    check_settings({name: found})


def fairseq_weights(model: XLMRobertaForMaskedLM) -> dict[str, torch.Tensor]:
    """The weights under fairseq's names, as its converter in transformers has them the other way round."""
    renamed = {}
    for name, weight in model.state_dict().items():
        for theirs, fairseqs in (
            ("roberta.encoder.layer.", "encoder.sentence_encoder.layers."),
            ("roberta.embeddings.word_embeddings", "encoder.sentence_encoder.embed_tokens"),
            ("roberta.embeddings.position_embeddings", "encoder.sentence_encoder.embed_positions"),
            ("roberta.embeddings.LayerNorm", "encoder.sentence_encoder.layernorm_embedding"),
            ("attention.self.query", "self_attn.q_proj"),
            ("attention.self.key", "self_attn.k_proj"),
            ("attention.self.value", "self_attn.v_proj"),
            ("attention.output.dense", "self_attn.out_proj"),
            ("attention.output.LayerNorm", "self_attn_layer_norm"),
            ("intermediate.dense", "fc1"),
            ("output.dense", "fc2"),
            ("output.LayerNorm", "final_layer_norm"),
            ("lm_head.", "encoder.lm_head."),
        ):
            name = name.replace(theirs, fairseqs)
        if "token_type" not in name and "lm_head.decoder" not in name:
            renamed[name] = weight
    return renamed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("xlm-roberta", "nowhere", "veco"), "nowhere: no such file or directory"),
        (("fairseq", "text.txt", "veco"), "text.txt: not a file of torch.save, or damaged"),
        (("xlm-roberta", "xlm-r", "full"), "full: exists already; choose another output or remove it"),
        (("to-xlm-roberta", "xlm-r", "veco"), "xlm-r"),
        (("xlm-roberta", "xlm-r", "veco", "--tokenizer", "other"), "other: 5 pieces, but the model has 60 rows"),
        (("xlm-roberta", "xlm-r", "veco", "--tokenizer", "swapped"), "2 of the model's 60 pieces have other ids there"),
        (
            ("fairseq", "model.pt", "veco", "--dictionary", "dict.txt", "--tokenizer", "swapped"),
            "2 of the model's 55 pieces have other ids there, such as ['▁p3', '▁p7']: it is another model's tokenizer",
        ),
        (("fairseq", "model.pt", "veco", "--dictionary", "latin1.txt"), "latin1.txt: line 1 is not UTF-8 "),
        (("xlm-roberta", "other", "veco"), "other: expected a model directory with a config.json"),
        (("xlm-roberta", "broken", "veco"), "the config file at 'broken/config.json' is not a valid JSON file"),
        (("xlm-roberta", "worded", "veco"), "worded: its config.json cannot be opened by transformers: Strict"),
        (("xlm-roberta", "foreign", "veco"), "foreign: a own_kind, a kind of model that transformers does not have"),
        (("xlm-roberta", "no_tokens", "veco"), "no_tokens: its tokenizer cannot be opened by transformers: KeyError"),
        (("xlm-roberta", "cut_tokens", "veco"), "cut_tokens: its tokenizer cannot be opened by transformers: "),
        (("xlm-roberta", "pickled", "veco"), "pickled/pytorch_model.bin: expected model.safetensors; a pickle may run"),
    ],
)
def test_bad_input_is_one_line(xlm_roberta_dir, monkeypatch, capsys, tmp_path: Path, arguments, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("just text\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    XLMRobertaTokenizer().save_pretrained(tmp_path / "other")
    XLMRobertaTokenizer(vocab=vocabulary("p7", "p3")).save_pretrained(tmp_path / "swapped")
    (tmp_path / "dict.txt").write_text("".join(f"▁p{i} 1\n" for i in range(55)), encoding="utf-8")
    (tmp_path / "latin1.txt").write_bytes("fü 1\n".encode("latin-1"))
    weights = fairseq_weights(XLMRobertaForMaskedLM.from_pretrained(xlm_roberta_dir))
    settings = Namespace(activation_fn="gelu", encoder_attention_heads=4)
    torch.save({"args": settings, "model": weights}, tmp_path / "model.pt")
    changes = {
        "broken": {"config.json": "{"},
        "worded": {"config.json": '{"model_type": "xlm-roberta", "hidden_size": "wide"}'},
        "foreign": {"config.json": '{"model_type": "own_kind", "auto_map": {"AutoConfig": "own_code.Config"}}'},
        "no_tokens": {"tokenizer.json": "{}"},
        "cut_tokens": {"tokenizer.json": '{"model": '},
        "pickled": {},
    }
    for name, files in changes.items():
        shutil.copytree(xlm_roberta_dir, tmp_path / name)
        write_texts(tmp_path / name, files)
    torch.save(load_file(tmp_path / "pickled" / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert sorted(tmp_path.iterdir()) == before, "a failed command leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("xlm-roberta", "a", "b", "--set", "x=1"), "--dictionary and --set are for fairseq"),
        (("to-bert", "a", "b", "--seed", "2"), "--seed is for weights initialised at random, to-bert has none"),
    ],
)
def test_flags_belong_to_what_uses_them(arguments: tuple[str, ...], message: str, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
