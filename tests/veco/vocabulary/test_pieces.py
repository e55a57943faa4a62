"""Pieces of different tokenizers, their special ones and their spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from json_tokenizers import TOKENIZERS
from word_tokenizers import write_word_pieces, write_words

from veco.vocabulary.pieces import Pieces, ordinary_matches, special_matches

XLM_R = ["<s>", "<pad>", "</s>", "<unk>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def opened(kind: str, names: list[str], directory: Path) -> Pieces:
    write = write_word_pieces if kind == "bert" else write_words
    write(names, directory, tags=["__de__"])
    return Pieces.open(directory)


def test_pieces_of_two_kinds_of_tokenizer_match(tmp_path: Path) -> None:
    old = opened("bytes", [*XLM_R, "Ġder", "ung", "ĠBÃ¤r", "Haus", "Ã", "<mask>"], tmp_path / "old")
    new = opened("bert", [*BERT, "der", "##ung", "ung", "Bär", "haus"], tmp_path / "new")
    assert old.spellings[4:9] == ["▁der", "ung", "▁Bär", "Haus", "\udcc3"], "a byte that is part of a character"
    assert new.spellings[5:10] == ["▁der", "ung", "▁ung", "▁Bär", "▁haus"]
    assert special_matches(old, new) == {2: 0, 0: 1, 3: 2, 1: 3, 4: 9, 10: 10}, "by what they do, and by name"
    assert ordinary_matches(old, new) == {5: 4, 6: 5, 8: 6}
    assert ordinary_matches(old, new, is_fuzzy=True) == {5: 4, 6: 5, 7: 5, 8: 6, 9: 7}


def test_a_fuzzy_match_is_in_lower_case_inside_a_word_or_of_the_lowest_id(tmp_path: Path) -> None:
    old = opened("bytes", [*XLM_R, "ĠDie", "Ġdie", "die", "ĠUnd", "Ġund", "<mask>"], tmp_path / "old")
    new = opened("bytes", [*XLM_R, "DIE", "UND", "Ġund", "<mask>"], tmp_path / "new")
    assert ordinary_matches(old, new, is_fuzzy=True) == {4: 6, 5: 7, 6: 8}


def test_tags_match_by_name(tmp_path: Path) -> None:
    write_words([*XLM_R, "Ġa", "<mask>"], tmp_path / "old", tags=["__de__", "__en__"])
    write_words([*XLM_R, "Ġb", "<mask>"], tmp_path / "new", tags=["__fr__", "__de__"])
    old, new = Pieces.open(tmp_path / "old"), Pieces.open(tmp_path / "new")
    assert special_matches(old, new) == {**{i: i for i in (0, 1, 2, 3, 5)}, 7: 6}
    assert old.ordinary.tolist() == [4]


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its tokenizer has no mask_token, which pre-training needs"):
        opened("bytes", [*XLM_R, "Ġa"], tmp_path)


def test_of_two_pieces_that_match_one_the_one_with_the_role_is_last(tmp_path: Path) -> None:
    """The configuration takes its id; the other one has the name of the old piece."""
    write_words([*XLM_R, "Ġa", "<mask>"], tmp_path / "old", tags=["[CLS]"])
    write_word_pieces([*BERT, "a"], tmp_path / "new", tags=["<s>"])
    old, new = Pieces.open(tmp_path / "old"), Pieces.open(tmp_path / "new")
    matches = special_matches(old, new)
    assert matches[6] == matches[2] == 0 and {old_id: i for i, old_id in matches.items()}[0] == 2


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pieces]:
    """Tokenizers of every kind of tokenizer.json."""
    found = {}
    for kind, write in TOKENIZERS.items():
        directory = tmp_path_factory.mktemp(kind)
        write(directory)
        found[kind] = Pieces.open(directory)
    return found


def test_what_is_called_unknown_matches_where_no_text_is(kinds: dict[str, Pieces]) -> None:
    """Byte-level BPE has pieces for any text, and `<unk>` nevertheless."""
    byte_level, wordpiece = kinds["bpe"], kinds["wordpiece"]
    assert "unk" not in byte_level.roles
    ids = byte_level.names.index("<unk>"), wordpiece.names.index("[UNK]")
    assert special_matches(wordpiece, byte_level)[ids[0]] == ids[1]
    assert special_matches(byte_level, wordpiece)[ids[1]] == ids[0]


def test_tokenizers_of_all_kinds_have_pieces_in_common(kinds: dict[str, Pieces]) -> None:
    for old in kinds.values():
        for new in kinds.values():
            roles = old.roles.keys() & new.roles.keys()
            assert {new.roles[role]: old.roles[role] for role in roles}.items() <= special_matches(old, new).items()
            matches = ordinary_matches(old, new)
            texts = [(old.encoder.decode([i]).strip(), new.encoder.decode([j]).strip()) for j, i in matches.items()]
            assert texts and all(ours.strip("#") == theirs.strip("#") for ours, theirs in texts)
            if old is new:
                assert len(matches) == len(old.ordinary)
