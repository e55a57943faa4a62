"""Bitexts from text and from shards: pairs kept, truncated, counted, refused."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_directories import make_data
from digits import write_lines
from number_bitext import FRAME, TAG, bitext_of, encode

from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import PieceEncoder
from data_tools.tokenizers.unigram_training import train_model
from finetune.mt.bitext import Bitext, BitextReport, JoinedSides, tagged_encoder

BACK_TRANSLATED = 6

TAGGED: dict[str, Any] = {"decoder_start_token_id": TAG, "frame": FRAME}


def test_files_plain_or_compressed_empty_and_long_lines_are_counted(tmp_path: Path) -> None:
    source = ["1 2 3", "", "4", "5 6 7 8 9", "1", "   "]
    target = ["1", "2", " ", "3 4 5 6 7 8", "1 2 3 4", ""]
    with gzip.open(tmp_path / "a.x.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in source)
    bitext = Bitext.from_files(
        tmp_path / "a.x.gz", write_lines(tmp_path / "a.y", target), encode, **TAGGED, max_length=5
    )
    # max_length 5 holds <s> x x x </s>, and tag y y y y | y y y y </s>.
    assert [ids.tolist() for ids in map(bitext.source.__getitem__, range(3))] == [[1, 2, 3], [5, 6, 7], [1]]
    assert [ids.tolist() for ids in map(bitext.target.__getitem__, range(3))] == [[1], [3, 4, 5, 6], [1, 2, 3, 4]]
    assert bitext.report == BitextReport(num_lines=6, num_empty=3, num_cut_source=1, num_cut_target=1)
    assert len(bitext) == 3
    both = Bitext.concatenate([bitext, bitext])
    assert len(both) == 6 and both.report.num_lines == 12
    assert both.source[4].tolist() == [5, 6, 7] and both.target[5].tolist() == [1, 2, 3, 4]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.x has 9,001 lines but .*a\.y has 5,000"):
        bitext_of(tmp_path, ["1"] * 9001, ["1"] * 5000)
    with pytest.raises(ValueError, match=r"no sentence pair in .* 2 pairs with an empty side"):
        bitext_of(tmp_path, ["1", ""], ["", "1"])
    with pytest.raises(ValueError, match="no sentence pair"):
        bitext_of(tmp_path, [], [])
    with pytest.raises(ValueError, match="at least 3"):
        bitext_of(tmp_path, ["1"], ["1"], max_length=2)
    with pytest.raises(FileNotFoundError):
        Bitext.from_files(tmp_path / "none", tmp_path / "a.y", encode, **TAGGED, max_length=9)


def test_other_formats_are_not_trained_on(tmp_path: Path) -> None:
    fine = write_lines(tmp_path / "a.en", ["one"])
    for name, text, message in [
        ("a.de", '{"text": "eins"}', "JSON, expected plain text"),
        ("a.tsv", "eins\tone", "by its suffix tsv, expected plain text"),
        ("b.de", "ei\0ns", "line 1 holds a NUL byte"),
    ]:
        path = write_lines(tmp_path / name, [text])
        for source, target in ((path, fine), (fine, path)):
            with pytest.raises(ValueError, match=f"{name}: {message}"):
                Bitext.from_files(source, target, encode, max_length=8, **TAGGED)


def test_a_tag_in_front_of_a_source_line(tmp_path: Path) -> None:
    bitext = Bitext.from_files(
        write_lines(tmp_path / "a.x", ["__bt__ 11 12 13", "11 12", "__bt__", "__bt__ "]),
        write_lines(tmp_path / "a.y", ["1", "2", "3", "4"]),
        encode,
        **TAGGED,
        max_length=5,
        source_tags={"__bt__": BACK_TRANSLATED},
    )
    assert [ids.tolist() for ids in map(bitext.source.__getitem__, range(2))] == [[BACK_TRANSLATED, 11, 12], [11, 12]]
    # A tag alone is an empty side; the tag counts towards the length.
    assert bitext.report == BitextReport(num_lines=4, num_empty=2, num_cut_source=1, num_cut_target=0)
    assert tagged_encoder(encode, {}) is encode


def test_the_fingerprint_is_that_of_ids_and_tags(tmp_path: Path) -> None:
    first = bitext_of(tmp_path, ["1 2", "3"], ["4", "5"])
    assert bitext_of(tmp_path, ["1 2", "3"], ["4", "5"]).fingerprint == first.fingerprint
    others = [
        bitext_of(tmp_path, ["1", "2 3"], ["4", "5"]),
        bitext_of(tmp_path, ["3", "1 2"], ["5", "4"]),
        Bitext.from_files(
            tmp_path / "a.x", tmp_path / "a.y", encode, **{**TAGGED, "decoder_start_token_id": 9}, max_length=64
        ),
        Bitext.concatenate([first, first]),
    ]
    assert first.fingerprint not in {other.fingerprint for other in others}


def test_joined_sides() -> None:
    parts = [[np.array([1]), np.array([2, 3])], [np.array([4, 5, 6])]]

    class Listed(list):
        lengths = property(lambda self: np.array(list(map(len, self))))

    side = JoinedSides([Listed(part) for part in parts])
    assert len(side) == 3 and side.lengths.tolist() == [1, 2, 3]
    assert [side[i].tolist() for i in range(3)] == [[1], [2, 3], [4, 5, 6]]


@pytest.fixture(scope="module")
def sentences() -> dict[str, list[str]]:
    """Numbers spelt digit by digit, line by line the same in both languages."""
    words = {"de": ["null", "eins", "zwei", "drei", "vier"], "en": ["zero", "one", "two", "three", "four"]}
    return {
        lang: [" ".join(names[i // 5**k % 5] for k in range(2 + i % 7)) for i in range(700)]
        for lang, names in words.items()
    }


@pytest.fixture(scope="module")
def tokenizer_dir(sentences: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    lines = [line for side in sentences.values() for line in side]
    write_tokenizer(train_model(iter(lines), 30, character_coverage=1.0), directory, lines[:20])
    return directory


@pytest.fixture(scope="module")
def shards(tokenizer_dir: Path, sentences: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards") / "data"
    make_data(directory, tokenizer_dir, sentences)
    return directory


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "de")])
def test_shards_hold_what_the_text_holds(
    shards: Path, sentences: dict[str, list[str]], source: str, target: str, tmp_path: Path
) -> None:
    """In both directions of the pair, equally truncated, in the training split and the held-out one."""
    encoder = PieceEncoder(shards / "tokenizer")
    for split, start, end in (("train", 400, 450), ("valid", 600, 605)):
        files = [write_lines(tmp_path / lang, sentences[lang][start:end]) for lang in (source, target)]
        options = {**TAGGED, "max_length": 9}
        from_text = Bitext.from_files(*files, encoder.encode_lines, **options)
        prepared = Bitext.from_shards(shards, split, source, target, **options)
        assert prepared.report == from_text.report and prepared.report.num_cut_source > 0
        for side in ("source", "target"):
            ours, theirs = getattr(prepared, side), getattr(from_text, side)
            assert ours.lengths.tolist() == theirs.lengths.tolist()
            assert [ours[i].tolist() for i in range(len(ours))] == [theirs[i].tolist() for i in range(len(theirs))]
        assert prepared.decoder_start_ids.tolist() == [TAG] * (end - start)


def test_shards_are_found_by_any_code_of_their_languages(shards: Path) -> None:
    options = {**TAGGED, "max_length": 64, "frame": FRAME}
    expected = Bitext.from_shards(shards, "train", "de", "en", **options)
    for source, target in (("deu_Latn", "eng"), ("DE", "en_US"), ("ger", "en_XX")):
        found = Bitext.from_shards(shards, "train", source, target, **options)
        assert found.fingerprint == expected.fingerprint, "the same data for a run that goes on"
        assert found.source[7].tolist() == expected.source[7].tolist()
    turned = Bitext.from_shards(shards, "train", "eng_Latn", "deu", **options)
    assert turned.source[7].tolist() == expected.target[7].tolist()
    with pytest.raises(ValueError, match="no pairs of de_CH and en in its train split; it has: de-en"):
        Bitext.from_shards(shards, "train", "de_CH", "en", **options)


def test_shards_are_pickled_as_their_path(shards: Path) -> None:
    prepared = Bitext.from_shards(shards, "train", "de", "en", **TAGGED, max_length=64)
    prepared.source[0]  # mapped now
    assert len(pickle.dumps(prepared.source)) < 1000


def test_missing_shards(shards: Path, tmp_path: Path) -> None:
    options = {**TAGGED, "max_length": 64}
    with pytest.raises(ValueError, match="no pairs of de and fr in its train split; it has: de-en"):
        Bitext.from_shards(shards, "train", "de", "fr", **options)
    with pytest.raises(ValueError, match="no such file; expected a directory that data_tools.prepare"):
        Bitext.from_shards(tmp_path, "train", "de", "en", **options)
