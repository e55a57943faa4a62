"""Tokenizers of every kind: the ids of transformers, no special id from text, words, unknown text, bad files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from json_tokenizers import LINES, ODD_LINES, SPECIAL_LINES, TOKENIZERS
from transformers import AutoTokenizer

from data_tools.tokenizers.encoder import model_file, open_encoder
from data_tools.tokenizers.sentence_piece import MODEL_FILE, TOKENIZER_JSON, PieceEncoder
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.tokenizer_json import TokenizerJsonEncoder


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory for each kind of tokenizer."""
    root = tmp_path_factory.mktemp("tokenizers")
    for name, write in TOKENIZERS.items():
        (root / name).mkdir()
        write(root / name)
    return {name: root / name for name in TOKENIZERS}


@pytest.fixture(params=TOKENIZERS)
def directory(request: pytest.FixtureRequest, directories: dict[str, Path]) -> Path:
    return directories[request.param]


def lists(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def test_ids_are_those_of_transformers(directory: Path) -> None:
    encoder, tokenizer = open_encoder(directory), AutoTokenizer.from_pretrained(directory)
    assert isinstance(encoder, TokenizerJsonEncoder) and encoder.vocab_size == len(tokenizer)
    lines = [*LINES, *ODD_LINES]
    assert lists(*encoder.encode_flat(lines)) == tokenizer(lines, add_special_tokens=False)["input_ids"]
    again = pickle.loads(pickle.dumps(encoder))
    assert lists(*again.encode_flat(lines)) == lists(*encoder.encode_flat(lines))


def test_special_ids_are_those_that_transformers_puts_around_text(directory: Path) -> None:
    encoder, tokenizer = open_encoder(directory), AutoTokenizer.from_pretrained(directory)
    special = encoder.special
    x, y = lists(*encoder.encode_flat(LINES[:2]))
    between = [special.eos] * special.num_separators
    assert tokenizer(*LINES[:2])["input_ids"] == [special.bos, *x, *between, *y, special.eos]
    assert (special.mask, special.pad) == (tokenizer.mask_token_id, tokenizer.pad_token_id)
    assert special.unk in (tokenizer.unk_token_id, None)
    assert set(tokenizer.all_special_ids) <= set(special.ids.tolist())


def test_text_never_becomes_a_special_id(directory: Path) -> None:
    encoder = open_encoder(directory)
    ids, lengths = encoder.encode_flat(SPECIAL_LINES)
    assert encoder.special.are_ordinary(ids[~encoder.special.are_unknown(ids)]).all()
    assert lengths.min() > 0, "and is not lost"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    theirs = np.concatenate(tokenizer(list(SPECIAL_LINES), add_special_tokens=False)["input_ids"])
    assert not encoder.special.are_ordinary(theirs).all(), "transformers does, or this could not fail"


def test_words_are_counted_as_spaces_separate_them(directory: Path) -> None:
    encoder = open_encoder(directory)
    lines = ["der hund und die katze", "dog cat house", "the big dog sleeps"]
    ids, _ = encoder.encode_flat(lines)
    assert encoder.table.num_words(ids, len(lines)) == sum(len(line.split()) for line in lines)
    assert encoder.table.is_first_unmarked == (directory.name == "roberta")


def test_characters_are_those_of_the_text(directory: Path) -> None:
    """Known and unknown ones together are all that the normalised text has; the unknown ones are named."""
    encoder = open_encoder(directory)
    lines = ["der hund ☃☃ katze", "dog cat, house!", "☃"]
    ids, lengths = encoder.encode_flat(lines)
    records = encoder.unknown_records(lines, ids, lengths)
    found = encoder.table.unknown(ids, records)
    assert found.of_characters == sum(len(line.replace(" ", "")) for line in lines)
    assert found.pieces == np.count_nonzero(encoder.special.are_unknown(ids))
    assert found.characters == (3 if found.pieces else 0)
    assert (found.pieces == 0) == (directory.name in ("bpe", "roberta")), "bytes are always known"


def test_decoding_gives_the_text_without_special_ids(directory: Path) -> None:
    encoder = open_encoder(directory)
    ids, _ = encoder.encode_flat(["der hund und die katze"])
    special = encoder.special
    assert encoder.decode([special.bos, *ids, special.mask, special.eos, special.pad]) == "der hund und die katze"
    if special.unk is not None:
        assert "⁇" in encoder.decode([*ids, special.unk])


def test_layouts(directories: dict[str, Path]) -> None:
    assert open_encoder(directories["bert"]).special == SpecialIds(101, 0, 102, 100, 103, num_separators=1)
    assert open_encoder(directories["wordpiece"]).special == SpecialIds(2, 0, 3, 1, 4, num_separators=1)
    size = open_encoder(directories["roberta"]).vocab_size
    assert open_encoder(directories["roberta"]).special == SpecialIds(0, 1, 2, None, size - 1, others=(3,))
    size = open_encoder(directories["xlm_r"]).vocab_size
    assert open_encoder(directories["xlm_r"]).special == SpecialIds.xlm_r(size)
    assert model_file(directories["camembert"]).name == TOKENIZER_JSON, "its SentencePiece model has other ids"


def test_files_of_early_versions_do_not_name_the_type_of_their_model(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "early")
    path = tmp_path / "early" / TOKENIZER_JSON
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["model"]["type"]
    path.write_text(json.dumps(content), encoding="utf-8")
    encoder, now = open_encoder(tmp_path / "early"), open_encoder(directory)
    assert isinstance(encoder, TokenizerJsonEncoder) and encoder.spellings == now.spellings
    assert lists(*encoder.encode_flat(LINES)) == lists(*now.encode_flat(LINES))


def test_a_directory_in_xlm_r_layout_is_read_by_sentence_piece(tokenizer_dir: Path) -> None:
    assert isinstance(open_encoder(tokenizer_dir), PieceEncoder)


def test_a_model_that_lies_beside_another_tokenizer_is_not_read(
    directories: dict[str, Path], tokenizer_dir: Path, tmp_path: Path
) -> None:
    """As when a tokenizer was trained anew from XLM-R's: the layout is the same, the pieces are not."""
    shutil.copytree(directories["xlm_r"], tmp_path / "mixed")
    shutil.copy(tokenizer_dir / MODEL_FILE, tmp_path / "mixed" / MODEL_FILE)
    encoder = open_encoder(tmp_path / "mixed")
    assert isinstance(encoder, TokenizerJsonEncoder)
    expected = AutoTokenizer.from_pretrained(tmp_path / "mixed")(LINES, add_special_tokens=False)["input_ids"]
    assert lists(*encoder.encode_flat(LINES)) == expected
    (tmp_path / "mixed" / MODEL_FILE).write_bytes(b"broken")
    with pytest.raises(ValueError, match=rf"{MODEL_FILE}: not a SentencePiece model"):
        open_encoder(tmp_path / "mixed")


def test_half_a_surrogate_pair_is_refused(directories: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="line 2 of 2: character 4 is half of a surrogate pair"):
        open_encoder(directories["bert"]).encode_flat(["fine", "not\ud83d"])


def test_tokenizers_that_lack_tokens_are_refused_in_one_line(directories: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(directories["wordpiece"], tmp_path / "t")
    path = tmp_path / "t" / TOKENIZER_JSON
    content = path.read_text(encoding="utf-8").replace("[MASK]", "[OTHER]").replace("[PAD]", "[FILLER]")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"no mask_token and no pad_token, which pre-training needs; .*add_special"):
        open_encoder(tmp_path / "t")
    config = {"mask_token": "[OTHER]", "pad_token": {"content": "[SEP]"}}
    (tmp_path / "t" / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"pad token has the id 3, which is its eos token's too"):
        open_encoder(tmp_path / "t")


def test_slow_and_broken_tokenizers_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(ValueError, match=r"tokenizer.json: no such file; .* of a slow one .*save_pretrained"):
        open_encoder(tmp_path)
    for content in ("{", "[]", "{}", '{"model": {"type": "BPE"}, "added_tokens": []}'):
        (tmp_path / TOKENIZER_JSON).write_text(content)
        with pytest.raises(ValueError, match=r"tokenizer.json: not a tokenizer.json as expected \(\w+: .*\)$"):
            open_encoder(tmp_path)
