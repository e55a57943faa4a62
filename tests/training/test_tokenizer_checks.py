"""Data and models with the same tokenizer, in whatever files, and with another one of the same size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data_directories import make_data
from digits import digit_lines
from json_tokenizers import TOKENIZERS
from transformers import BertTokenizer

from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import MODEL_FILE, TOKENIZER_JSON
from data_tools.tokenizers.unigram_training import train_model
from pretrain.models.initial_model import check_special_ids, check_vocabulary
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training.run import train_run
from training.tokenizer_checks import check_data_pieces
from veco import VecoConfig
from veco.tokenizer import open_tokenizer

SIZE = 26


def tokenizer_of(directory: Path, lines: list[str]) -> Path:
    directory.mkdir()
    write_tokenizer(train_model(iter(lines), vocab_size=SIZE, character_coverage=1.0), directory, lines[:20])
    return directory


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, prepared with `ours`; `theirs` has as many pieces."""
    root = tmp_path_factory.mktemp("prepared")
    lines = digit_lines(700, seed=0)
    tokenizer_of(root / "ours", lines)
    tokenizer_of(root / "theirs", [line.translate(str.maketrans("0123456789", "abcdefghij")) for line in lines])
    make_data(root / "data", root / "ours", {"de": lines, "en": lines})
    return root


@pytest.mark.parametrize("kept", [MODEL_FILE, TOKENIZER_JSON, "both"])
def test_pieces_are_compared_whatever_files_hold_them(prepared: Path, tmp_path: Path, kept: str) -> None:
    """transformers 5 writes tokenizer.json alone."""
    manifest, data = Manifest.load(prepared / "data"), prepared / "data"
    for name in ("ours", "theirs"):
        shutil.copytree(prepared / name, tmp_path / name)
        for file in {MODEL_FILE, TOKENIZER_JSON} - {kept}:
            if kept != "both":
                (tmp_path / name / file).unlink()
    check_vocabulary(SIZE, tmp_path / "ours", data, manifest)
    check_data_pieces(data, manifest, open_tokenizer(tmp_path / "ours"), "model")
    message = r"was prepared with another tokenizer \(26 pieces\) than that of .*theirs \(26 pieces\): \d+ pieces have"
    with pytest.raises(ValueError, match=message):
        check_vocabulary(SIZE, tmp_path / "theirs", data, manifest)


def test_model_may_have_tags_that_no_text_becomes(prepared: Path) -> None:
    tokenizer = open_tokenizer(prepared / "ours")
    tokenizer.add_special_tokens({"additional_special_tokens": ["__de__"]})
    check_data_pieces(prepared / "data", Manifest.load(prepared / "data"), tokenizer, "model")


def test_data_with_more_pieces_are_refused(prepared: Path) -> None:
    with pytest.raises(ValueError, match="the data's vocabulary has 26 pieces, the model's only 25; prepare the data"):
        check_vocabulary(SIZE - 1, prepared / "ours", prepared / "data", Manifest.load(prepared / "data"))


def test_model_without_tokenizer_is_compared_by_size_and_that_is_told(prepared: Path, tmp_path: Path, capsys) -> None:
    manifest = Manifest.load(prepared / "data")
    check_vocabulary(SIZE, tmp_path, prepared / "data", manifest)
    assert "has no tokenizer: whether" in capsys.readouterr().err
    with pytest.raises(ValueError, match="was prepared with another tokenizer than the model's"):
        check_vocabulary(SIZE + 2, tmp_path, prepared / "data", manifest)


def test_tokenizer_that_was_put_in_place_of_the_datas_own(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "data", tmp_path / "data")
    shutil.copy(prepared / "theirs" / MODEL_FILE, tmp_path / "data" / "tokenizer" / MODEL_FILE)
    recipe = PretrainRecipe(output=str(tmp_path / "run"), engine="plain")
    with pytest.raises(ValueError, match="data/tokenizer: not the tokenizer that .*data was prepared with"):
        train_run(recipe, PretrainingTask.on(tmp_path / "data"))
    assert not (tmp_path / "run").exists()


def test_tokenizer_with_the_same_pieces_that_cuts_otherwise_is_refused(tmp_path: Path) -> None:
    """BERT's, of which one makes letters small and the other does not."""
    (tmp_path / "bert").mkdir()
    TOKENIZERS["bert"](tmp_path / "bert")
    make_data(tmp_path / "data", tmp_path / "bert", {"de": digit_lines(700, 0), "en": digit_lines(700, 0)})
    data, manifest = tmp_path / "data", Manifest.load(tmp_path / "data")
    check_data_pieces(data, manifest, open_tokenizer(tmp_path / "bert"), "model")
    cased = BertTokenizer(open_tokenizer(tmp_path / "bert").get_vocab(), do_lower_case=False)
    with pytest.raises(ValueError, match="has the pieces of model's but cuts text otherwise"):
        check_data_pieces(data, manifest, cased, "model")
    (data / "tokenizer" / TOKENIZER_JSON).write_text("{}")
    with pytest.raises(ValueError, match="data/tokenizer: not the tokenizer that .*data was prepared with"):
        check_data_pieces(data, manifest, cased, "model")


def test_model_with_other_special_ids_than_the_data_is_refused(prepared: Path, tmp_path: Path) -> None:
    """Its positions would count from another id of padding."""
    manifest = Manifest.load(prepared / "data")
    check_special_ids(VecoConfig(vocab_size=SIZE), tmp_path, manifest)
    with pytest.raises(ValueError, match=r"its config.json has the special ids .*'pad_token_id': 0.*: 1.*correct"):
        check_special_ids(VecoConfig(vocab_size=SIZE, pad_token_id=0), tmp_path, manifest)
