import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from data_tools.tokenizers.sentence_piece import PieceEncoder

SPECIAL_TOKENS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "▁"]
TRICKY_LINES = [
    "",
    " ",
    "  two  spaces and\ta tab ",
    "non-breaking\u00a0space, zero\u200bwidth, ideographic\u3000space",
    "ﬁne ½ ① Ａ",  # compatibility characters, which NFKC rewrites
    "e\u0301 é",
    "unknown to it: 漢字 🙂 ∮",
    "письмо 12 Äpfel",
    "nul\0in the middle",
    "\0",
    "two\nlines\r\n",
    "the old farmer " * 70_000,  # a line of a megabyte
]


def test_ids_equal_those_of_transformers(tokenizer_dir: Path, sentences: dict[str, list[str]]) -> None:
    lines = [*TRICKY_LINES, *(line for group in sentences.values() for line in group)]
    encoder = PieceEncoder(tokenizer_dir)
    expected = AutoTokenizer.from_pretrained(tokenizer_dir)(lines, add_special_tokens=False)["input_ids"]
    for num_threads in (1, 2):
        assert [ids.tolist() for ids in encoder.encode_lines(lines, num_threads)] == expected
    ids, lengths = encoder.encode_flat(lines)
    assert ids.tolist() == [i for line in expected for i in line]
    assert lengths.tolist() == [len(line) for line in expected]
    assert {3, 4} <= set(ids.tolist())  # unknown and first piece, on both sides of the place where the ids shift


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="VECO_CORPORA names no folder of real text")
@pytest.mark.parametrize("language", ["cs", "de", "en", "fr", "ru", "zh"])
def test_ids_equal_those_of_transformers_on_real_text(tokenizer_dir: Path, language: str) -> None:
    path = Path(os.environ["VECO_CORPORA"]) / "mono" / f"{language}.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n")[:2000] if "<" not in line]
    expected = AutoTokenizer.from_pretrained(tokenizer_dir)(lines, add_special_tokens=False, verbose=False)["input_ids"]
    found = [ids.tolist() for ids in PieceEncoder(tokenizer_dir).encode_lines(lines)]
    assert found == expected


@settings(max_examples=200)
@given(parts=st.lists(st.one_of(st.sampled_from(SPECIAL_TOKENS), st.text(st.characters(exclude_categories=["Cs"])))))
def test_raw_text_never_yields_special_ids(tokenizer_dir: Path, parts: list[str]) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    (ids,) = encoder.encode_lines(["".join(parts)])
    assert ids.dtype == np.int32
    assert not {0, 1, 2, encoder.special.mask} & set(ids.tolist())
    assert ((ids >= 3) & (ids < encoder.vocab_size)).all()


def test_words_are_counted_by_their_first_pieces(tokenizer_dir: Path, sentences: dict[str, list[str]]) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    assert encoder.table.starts_word.dtype == bool
    assert encoder.table.starts_word.tolist() == [
        tokenizer.convert_ids_to_tokens(i).startswith("▁") for i in range(encoder.vocab_size)
    ]
    ids, _ = encoder.encode_flat([*sentences["de"], "漢字 漢"])
    assert np.count_nonzero(encoder.table.starts_word[ids]) == sum(len(line.split()) for line in sentences["de"]) + 2


def test_half_a_surrogate_pair_is_refused(tokenizer_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2 of 3: character 4 is half of a surrogate pair \(U\+D83D\)"):
        PieceEncoder(tokenizer_dir).encode_lines(["fine 🙂", "not\ud83d fine", "\ude42"])


def test_decoding_gives_the_text_back(tokenizer_dir: Path, sentences: dict[str, list[str]]) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    for line in [*sentences["de"][:20], *sentences["ru"][:20]]:
        (ids,) = encoder.encode_lines([line])
        with_specials = [0, *ids.tolist(), 2, 1, encoder.special.mask, encoder.vocab_size + 3]
        assert encoder.decode(ids) == encoder.decode(with_specials) == line
    (unknown,) = encoder.encode_lines(["漢"])
    assert encoder.decode(unknown).strip() == "⁇"


def test_an_encoder_has_size_and_hash_and_can_be_pickled(tokenizer_dir: Path) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    assert encoder.vocab_size == len(tokenizer)
    assert encoder.special.mask == tokenizer.mask_token_id
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.tokenizer_sha256 == encoder.tokenizer_sha256
    assert copy.encode_lines(["die Lehrerin"])[0].tolist() == encoder.encode_lines(["die Lehrerin"])[0].tolist()
    assert encoder.encode_lines([]) == []


def test_directories_without_such_a_model_are_refused(tmp_path: Path, sentences: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model: no such file"):
        PieceEncoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"only tokenizer\.json; .* -m data_tools\.import_tokenizer "):
        PieceEncoder(tmp_path)
    path = tmp_path / "sentencepiece.bpe.model"
    for content, message in [
        (b"no model", "not a SentencePiece model, or cut short; fetch it again"),
        (b"", "not a SentencePiece model, or cut short"),
        (b"PK\x03\x04", "a zip archive, expected a SentencePiece model; unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, expected a SentencePiece model"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"sentencepiece\.bpe\.model: {message}") as caught:
            PieceEncoder(tmp_path)
        assert "INTERNAL" not in str(caught.value)
    with path.open("wb") as file:  # T5's order of special ids
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences["en"]),
            model_writer=file,
            vocab_size=100,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    with pytest.raises(ValueError, match=r"\(2, -1, 1\), expected XLM-R's \(0, 1, 2\); .*import_tokenizer"):
        PieceEncoder(tmp_path)
