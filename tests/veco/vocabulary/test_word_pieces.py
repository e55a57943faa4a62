"""WordPiece vocabularies, extended: pieces by hand, and by the tokenizer itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from word_tokenizers import write_word_pieces, write_words

from veco import VecoConfig, VecoForMaskedLM
from veco.vocabulary import extend_vocabulary
from veco.vocabulary.extending import extensible
from veco.vocabulary.new_pieces import lacking_pieces, most_useful
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.word_pieces import WordPieces

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*BERT, "a", "ab", "c", "##a", "##b", "##ab", ",", "the"]
NEW = [*BERT, "abab", "жa", "cd", "##b", "##ж", "the", ",", "##,", "caba"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_word_pieces(OLD, tmp_path / "old", tags=["<de>"])
    return tmp_path / "old"


def test_pieces_are_split_as_the_tokenizer_splits_words(directory: Path) -> None:
    vocabulary, tokenizer = WordPieces(directory), AutoTokenizer.from_pretrained(directory)
    words = ["abab", "caba", "abba", "жa", "cd", "aabb", "theab"]
    parts = vocabulary.parts_of([f"▁{word}" for word in words])
    assert [*parts.values()] == [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert parts["▁abab"] == [6, 10] and parts["▁жa"] == [1]
    assert vocabulary.parts_of(["aba", "x", "ba"]) == {"aba": [10, 8], "x": [1], "ba": [9, 8]}
    assert (len(vocabulary), vocabulary.first_new, vocabulary.unk_id) == (14, 14, 1)
    assert (vocabulary.name_of("▁ab"), vocabulary.name_of("ab")) == ("ab", "##ab")


@pytest.mark.parametrize(
    ("piece", "problem"),
    [
        ("▁", "is not a piece: expected letters"),
        ("a b", "is not a piece: expected letters"),
        ("a▁b", "is not a piece: expected letters"),
        (",", "',,' is normalised and cut into the words [',', ',']"),
        ("漢", "'漢漢' is normalised and cut into the words ['漢', '漢']"),
        ("▁a,b", "cut into the words ['a', ',', 'b']"),
        ("▁漢字", "cut into the words ['漢', '字']"),
        ("▁" + "a" * 101, "never occurs in text: it is longer than 100 letters"),
    ],
)
def test_pieces_that_no_text_has_are_refused(directory: Path, piece: str, problem: str) -> None:
    vocabulary = WordPieces(directory)
    assert problem in str(vocabulary.problem_of(piece))
    assert (
        vocabulary.problem_of("b" * 60)
        is vocabulary.problem_of("▁ab")
        is vocabulary.problem_of("ж")
        is vocabulary.problem_of("▁漢")
        is None
    )
    with pytest.raises(ValueError, match="never occurs in text|is not a piece"):
        vocabulary.parts_of(["▁ab", piece])


def test_pieces_of_another_tokenizer(directory: Path, tmp_path: Path) -> None:
    """Not `##b`, `the` and `,`, which are there, nor `##,`: punctuation is a word by itself."""
    write_word_pieces(NEW, tmp_path / "other")
    old, other, vocabulary = Pieces.open(directory), Pieces.open(tmp_path / "other"), WordPieces(directory)
    candidates = lacking_pieces(old, other, vocabulary)
    assert candidates == {"▁abab": 5, "▁жa": 6, "▁cd": 7, "ж": 9, "▁caba": 13}
    (tmp_path / "text").write_text("abab abab жa caba\n", encoding="utf-8")
    chosen = most_useful(candidates, 3, old, other, vocabulary, [tmp_path / "text"])
    assert [*chosen] == ["▁жa", "▁abab", "▁caba"], "first the unknown, then 2 x 1 saved, and caba: c ##ab ##a, 1 x 2"


def test_a_model_is_extended(directory: Path, tmp_path: Path) -> None:
    """Old pieces and tags keep rows, logits and ids; a new piece begins as the mean of its parts."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    model = VecoForMaskedLM(VecoConfig(vocab_size=16, max_position_embeddings=34, **ends, **shape)).eval()
    old, text = AutoTokenizer.from_pretrained(directory), "the abb, <de> ca"
    batch = old([text], return_tensors="pt")
    rows = model.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        before = model(input_ids=batch["input_ids"]).logits
        extend_vocabulary(model, directory, tmp_path / "new", {"▁abab": None, "ж": None}, ["<fr>"])
    new = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert new(text)["input_ids"] == batch["input_ids"][0].tolist()
    with torch.no_grad():
        after = model(input_ids=batch["input_ids"]).logits
    assert model.config.vocab_size == 14 + 3, "two spare rows are dropped"
    torch.testing.assert_close(after[..., :14], before[..., :14], rtol=0, atol=0)
    assert new("abab aж <fr>", add_special_tokens=False)["input_ids"] == [14, 5, 15, 16]
    now = model.get_input_embeddings().weight.detach()
    assert torch.equal(now[:14], rows[:14])
    torch.testing.assert_close(now[14], (rows[6] + rows[10]) / 2)
    assert WordPieces(tmp_path / "new").first_new == 17, "it can be extended again"


def test_special_pieces_behind_the_others_still_frame_sentences(tmp_path: Path) -> None:
    """As where they were added to a tokenizer that had none."""
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    backend.add_special_tokens(names)
    frame = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", frame)
    roles = {f"{name[1:-1].lower()}_token": name for name in ["[UNK]", *names]}
    PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(tmp_path / "old")
    vocabulary = WordPieces(tmp_path / "old")
    vocabulary.write_extended(tmp_path / "new", {"▁ab": None}, [], max_tokens=32)
    old, new = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("old", "new"))
    assert old("ab a")["input_ids"] == [4, 1, 2, 1, 5] and new("ab a")["input_ids"] == [4, 7, 1, 5]
    assert Pieces.open(tmp_path / "new").roles == Pieces.open(tmp_path / "old").roles


def test_what_cannot_be_extended_is_refused(directory: Path, tmp_path: Path) -> None:
    write_words(["<s>", "<pad>", "</s>", "<unk>", "Ġa", "<mask>"], tmp_path / "bytes")
    with pytest.raises(ValueError, match=r"bytes: only WordPiece and SentencePiece in XLM-R's layout .*found Unigram"):
        extensible(tmp_path / "bytes")
    with pytest.raises(ValueError, match="expected a directory with a tokenizer"):
        extensible(tmp_path)
    model = VecoForMaskedLM(VecoConfig(vocab_size=14, hidden_size=16, num_attention_heads=2, num_hidden_layers=1))
    with pytest.raises(ValueError, match="ab: exists already, or is given twice"):
        extend_vocabulary(model, directory, tmp_path / "new", {"▁ab": None})
    with pytest.raises(ValueError, match="pieces of WordPiece have no scores, found one of '▁x'"):
        extend_vocabulary(model, directory, tmp_path / "new", {"▁x": -1.0})
    assert not (tmp_path / "new").exists()
