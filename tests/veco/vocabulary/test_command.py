"""`change` and `extend` as commands: reports, files, and one line for bad input."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_directories import make_data
from scipy.optimize import nnls
from sentencepiece import SentencePieceTrainer
from transformers import AutoTokenizer, XLMRobertaTokenizer
from word_tokenizers import write_word_pieces, write_words

from data_tools.cli import run_main
from veco import VecoConfig, VecoForMaskedLM
from veco.tokenizer import MODEL_FILE, TOKENIZER_JSON
from veco.vocabulary.__main__ import main
from veco.vocabulary.focus import FastTextSettings
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import frequencies

ENGLISH = ["the red cat eats a fish", "the blue dog eats the fish", "a cat is nice", "the dog is red"] * 30
GERMAN = ["die rote katze isst den fisch", "der hund isst den fisch", "die katze ist nett", "der hund ist rot"] * 30
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "dog", "fish", "is", "red", "nice", "eats", "a", "##s", "rot", "un"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A German model with an XLM-R tokenizer (`de`), an English WordPiece tokenizer (`en`), text of both."""
    root = tmp_path_factory.mktemp("inputs")
    (root / "de").mkdir()
    with open(root / "de" / MODEL_FILE, "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(GERMAN),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
        )
    tokenizer = XLMRobertaTokenizer.from_pretrained(root / "de")
    tokenizer.save_pretrained(root / "de")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = VecoConfig(vocab_size=len(tokenizer), max_position_embeddings=34, **shape)
    VecoForMaskedLM(config).save_pretrained(root / "de")
    write_word_pieces([*BERT, *WORDS], root / "en")
    write_words(["<s>", "<pad>", "</s>", "<unk>", "Ġa"], root / "no_mask")
    for name, lines in (("de.txt", GERMAN), ("en.txt", ENGLISH)):
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(sys, "argv", ["veco.vocabulary", *command.split()])
    run_main(main)


@pytest.mark.parametrize("flags", ["--by rank --source-text de.txt", "--by mean --keep-overlap", "--by random"])
def test_a_model_takes_over_another_tokenizer(inputs: Path, monkeypatch, tmp_path: Path, capsys, flags: str) -> None:
    monkeypatch.chdir(inputs)
    destination, report_file = tmp_path / "model", tmp_path / "report.json"
    run(monkeypatch, f"change de {destination} --tokenizer en --text en.txt --match fuzzy --json {report_file} {flags}")
    model, tokenizer = VecoForMaskedLM.from_pretrained(destination), AutoTokenizer.from_pretrained(destination)
    assert model.config.vocab_size == len(tokenizer) == 17
    assert (model.config.bos_token_id, model.config.pad_token_id, model.config.eos_token_id) == (2, 0, 3)
    encoded = tokenizer(["the cat eats", "dogs"], padding=True, return_tensors="pt")
    assert model(**encoded).logits.shape == (2, 5, 17)

    report = json.loads(report_file.read_text())
    words = " ".join(ENGLISH).split()
    unknown = words.count("blue") / len(words)
    inside_words = {name.replace("▁", "").lower() for name in AutoTokenizer.from_pretrained("de").get_vocab()}
    num_same = sum(word.removeprefix("##") in inside_words for word in WORDS)
    assert 0 < num_same == report["overlap"]["pieces"]
    num_copied = {"rank": 17, "mean": 5 + num_same, "random": 5}[flags.split()[1]]
    assert report["rows"] == {"copied": num_copied, "combined": 0, "drawn": 17 - num_copied}
    assert report["after"]["unknown_share"] == pytest.approx(unknown)
    assert report["after"]["pieces_per_word"] == 1.0 and report["before"]["pieces_per_word"] > 1.5
    assert report["after"]["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert report["before"]["parameters"] - report["after"]["parameters"] == (report["before"]["pieces"] - 17) * 17 + 16
    out = capsys.readouterr().out
    assert "unknown pieces" in out and f"{unknown:.2%}" in out and f"{17 - num_copied} drawn" in out
    assert out.splitlines()[-1].startswith(f"{destination}: {report['before']['pieces']} ids -> 17, ")


def test_a_model_is_extended_from_another_tokenizer(inputs: Path, monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.chdir(inputs)
    command = f"extend de {tmp_path}/model --from-tokenizer en --text en.txt --num-pieces 5 --json {tmp_path}/r.json"
    run(monkeypatch, f"{command} --rows mean --seed 3")
    report = json.loads((tmp_path / "r.json").read_text())
    before, after = report["before"], report["after"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    added = set(tokenizer.get_vocab()) - set(AutoTokenizer.from_pretrained("de").get_vocab())
    assert after["pieces"] - before["pieces"] == len(added) == 5 and "▁the" in added
    assert after["pieces_per_word"] < before["pieces_per_word"] and after["unknown_share"] <= before["unknown_share"]
    assert report["overlap"] is report["rows"] is None
    assert "pieces per word" in capsys.readouterr().out
    old, new = (VecoForMaskedLM.from_pretrained(path) for path in ("de", tmp_path / "model"))
    first = before["pieces"] - 1
    assert torch.equal(
        new.veco.embeddings.word_embeddings.weight[:first], old.veco.embeddings.word_embeddings.weight[:-1]
    )


def make_small_letters(source: Path, directory: Path) -> None:
    """A copy of a WordPiece tokenizer whose tokenizer.json makes letters small, as its other file does not."""
    shutil.copytree(source, directory)
    content = json.loads((directory / TOKENIZER_JSON).read_text())
    changed = {**content, "normalizer": {**content["normalizer"], "lowercase": not content["normalizer"]["lowercase"]}}
    (directory / TOKENIZER_JSON).write_text(json.dumps(changed))


def test_spare_rows_are_told_and_dropped(inputs: Path, monkeypatch, tmp_path: Path, capsys) -> None:
    """As those of published models that have many more rows than pieces; they do not count in what is drawn."""
    shutil.copytree(inputs / "de", tmp_path / "padded")
    model = VecoForMaskedLM.from_pretrained(inputs / "de")
    num_pieces = model.config.vocab_size
    model.resize_token_embeddings(num_pieces + 201)
    with torch.no_grad():
        model.get_input_embeddings().weight[num_pieces:] = 1e3
    model.save_pretrained(tmp_path / "padded")
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, f"change padded changed --tokenizer {inputs}/en --by mean")
    run(monkeypatch, f"cut padded cut --text {inputs}/de.txt")
    run(monkeypatch, "extend padded extended --tokens __de__")
    assert capsys.readouterr().err.count("note: 201 rows of the model have no piece in its tokenizer: dropped\n") == 3
    for name, size in (("changed", 17), ("extended", num_pieces + 1)):
        rows = VecoForMaskedLM.from_pretrained(name).get_input_embeddings().weight
        assert rows.shape[0] == size and rows.abs().max() < 10
    assert VecoForMaskedLM.from_pretrained("cut").config.vocab_size <= num_pieces


CHANGE = "change de model --tokenizer en --by focus --match fuzzy"
EXTEND = "extend de model --from-tokenizer en --rows focus"


@pytest.mark.parametrize(("command", "names"), [(CHANGE, ["cat", "eats"]), (EXTEND, ["▁cat", "▁eats"])])
def test_rows_begin_by_focus(inputs: Path, monkeypatch, tmp_path: Path, command: str, names: list[str]) -> None:
    """With the flags' settings of fastText, and rows that are sums of old ones."""
    chosen = []

    def planted(pieces: Pieces, text: list[Path], settings: FastTextSettings) -> np.ndarray:
        chosen.append((pieces.directory, text, settings))
        return np.random.default_rng(0).normal(size=(len(pieces), 4)).astype(np.float32)

    monkeypatch.setattr("veco.vocabulary.commands.train_vectors", planted)
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, f"{command} --text en.txt --threads 3 --min-count 2")
    assert chosen == [(Path("en"), [Path("en.txt")], FastTextSettings(num_threads=3, min_count=2))]
    old, new = (VecoForMaskedLM.from_pretrained(path).lm_head.decoder for path in ("de", "model"))
    ids = AutoTokenizer.from_pretrained("model").convert_tokens_to_ids(names)
    for row in new.weight[ids].detach().numpy():
        assert nnls(old.weight.detach().numpy().T.astype(float), row)[1] < 1e-5, "a sum with weights of 0 and more"


def test_frequencies_come_from_shards_too(inputs: Path, tmp_path: Path) -> None:
    pieces = Pieces.open(inputs / "de")
    make_data(tmp_path / "data", inputs / "de", {"de": GERMAN, "en": ENGLISH})
    text, shards = inputs / "de.txt", tmp_path / "data" / "mono" / "de"
    from_text = frequencies(pieces, [text])
    assert from_text.sum() > len(GERMAN) and np.array_equal(frequencies(pieces, [shards, text]), 2 * from_text)
    with pytest.raises(ValueError, match="de: prepared with another tokenizer than that in .*en; give text"):
        frequencies(Pieces.open(inputs / "en"), [shards])
    with pytest.raises(ValueError, match="de-en: expected one language's shards, as in DATA/mono/fi"):
        frequencies(pieces, [tmp_path / "data" / "parallel" / "de-en"])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("change de new --tokenizer en --by rank --text en.txt", "--by rank needs frequencies: text of the model's"),
        ("change de new --tokenizer en --by rank --source-text de.txt", "--by rank needs frequencies"),
        ("change de new --tokenizer en --by mean --source-text de.txt", "--by mean has no use for it: leave it out"),
        (
            "change de new --tokenizer en --by mean --threads 1",
            "--threads is for the vectors of --by focus: leave it out",
        ),
        ("extend de new --tokens __x__ --min-count 2", "--min-count is for the vectors of --rows focus: leave it out"),
        ("change de new --tokenizer en --by focus", "--by focus trains fastText vectors: expected text"),
        (
            "change de new --tokenizer no_mask --by mean",
            "no_mask: its tokenizer has no mask_token, which pre-",
        ),
        ("change de new --tokenizer nowhere --by mean", "nowhere"),
        ("change de new --tokenizer en --by mean --text none.txt", "none.txt"),
        ("change mixed new --tokenizer en --by mean", "mixed: 117 pieces, but the model has "),
        ("change de new --tokenizer en --by rank --text en.txt --source-text empty.txt", "empty.txt: no text there"),
        ("change de new --tokenizer en --by rank --text empty.txt --source-text de.txt", "empty.txt: no text there"),
        (
            "change de new --tokenizer en --by rank --text greek.txt --source-text de.txt",
            "greek.txt: no piece of en",
        ),
        ("cut de new --text empty.txt", "empty.txt: no text there"),
        ("cut de new --text lines", "lines: JSON, expected plain text, one sentence a line"),
        (
            "change de new --tokenizer en --by rank --text en.txt --source-text lines",
            "lines: JSON, expected plain text, one sentence a line",
        ),
        ("change de new --tokenizer en --by mean --text pipe", "pipe: a pipe or device; name a file"),
        ("extend de new --from-tokenizer en --text pipe", "pipe: a pipe or device; name a file"),
        (
            "change de new --tokenizer en --by rank --text en.txt --source-text pipe",
            "pipe: a pipe or device; name a file",
        ),
        ("cut de new --text pipe", "pipe: a pipe or device; name a file"),
        ("change de new --tokenizer en --by mean --text no_mask", "no_mask: a directory; name its files"),
        (
            "change de new --tokenizer en --by focus --text en.txt --threads 0",
            "--threads: expected a whole number of at",
        ),
        (
            "extend de new --from-tokenizer en --text en.txt --num-pieces -5",
            "--num-pieces: expected a whole number of at",
        ),
        ("cut de new --text en.txt --min-count 0", "--min-count: expected a whole number of at least 1, found 0"),
        ("cut de new --text en.txt --json en.txt", "--json en.txt: is the input en.txt, which would be lost"),
        ("extend de new --pieces en.txt --json en.txt", "--json en.txt: is the input en.txt, which would be lost"),
        ("extend de new --tokens __a__ --json de/config.json", "--json de/config.json: is a file of the input de;"),
        (
            "change de new --tokenizer en --by mean --json en/tokenizer.json",
            "is a file of the input en; choose another",
        ),
        ("change de new --tokenizer en --by mean --json new", "--json new: is the directory of the new model"),
        (
            "change de new --tokenizer small --by mean",
            "small: tokenizer.json and transformers' BertTokenizer cut ",
        ),
        ("extend de new --from-tokenizer en --num-pieces 5", "--num-pieces chooses pieces of a tokenizer for a text"),
        ("extend de new --from-tokenizer en --rows focus", "--rows focus trains vectors of another tokenizer's pieces"),
        ("extend de new --from-tokenizer en --pieces de.txt", "both name the new pieces: give one of them"),
    ],
)
def test_bad_input_is_one_line(inputs: Path, monkeypatch, capsys, tmp_path: Path, command: str, message: str) -> None:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    shutil.copytree(inputs / "de", tmp_path / "mixed")
    (tmp_path / "mixed" / MODEL_FILE).unlink()
    write_word_pieces([*BERT, *WORDS, *(f"w{number}" for number in range(100))], tmp_path / "mixed")
    make_small_letters(tmp_path / "en", tmp_path / "small")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "lines").write_text('{"text": "der Hund"}\n')
    (tmp_path / "greek.txt").write_text("αυτό\n", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, command)
    assert stop.value.code == 2 and not (tmp_path / "new").exists()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_vocabulary_is_cut_to_the_shards_of_a_language(inputs: Path, monkeypatch, tmp_path: Path) -> None:
    make_data(tmp_path / "data", inputs / "de", {"de": GERMAN, "en": ENGLISH})
    run(monkeypatch, f"cut {inputs}/de {tmp_path}/by-shards --text {tmp_path}/data/mono/de --json {tmp_path}/cut.json")
    agreement = json.loads((tmp_path / "cut.json").read_text())["agreement"]
    assert agreement["lines"] > 0 and agreement["other_pieces"] == agreement["largest_difference"] == 0
    run(monkeypatch, f"cut {inputs}/de {tmp_path}/by-text --text {inputs}/de.txt")
    by_shards, by_text = (VecoForMaskedLM.from_pretrained(tmp_path / name) for name in ("by-shards", "by-text"))
    assert torch.equal(by_shards.get_input_embeddings().weight, by_text.get_input_embeddings().weight)
