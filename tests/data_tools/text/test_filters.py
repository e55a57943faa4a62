import gzip
import json
import os
import re
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from language_models import train_language_model

from data_tools.stages.text_batches import TextBatch, TokenBatch, TokenSide
from data_tools.text.filters import (
    Filters,
    LanguageFilter,
    LengthFilter,
    ScriptFilter,
    TextFilter,
    TokenFilter,
    is_copied,
)
from data_tools.text.languages import scripts_of
from data_tools.tokenizers.special_ids import SpecialIds

OFF = Filters(copied=False, length_ratio=None)
SENTENCES = ["ein Haus", "EIN  Haus ", "дом", "我的家", "7 + 8 = 15", "https://a.de", "siehe www.a.de jetzt", "…!"]
LINES = ["", " \u3000", *SENTENCES]

SPECIAL = SpecialIds.xlm_r(99)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> Path:
    path = tmp_path_factory.mktemp("model") / "lid.bin"
    train_language_model(path, {language: lines[::3] for language, lines in sentences.items()})
    return path


def text_batch(*sides: list[str], document_ends: list[int] | None = None) -> TextBatch:
    return TextBatch(sides, np.array(document_ends or range(1, len(sides[0]) + 1), dtype=np.int64))


def token_batch(*lengths: list[int], document_ends: list[int] | None = None) -> TokenBatch:
    """Sentences of the given lengths; each token is the number of its sentence."""
    sides = tuple(
        TokenSide(np.repeat(np.arange(len(side), dtype=np.int32), side), np.array(side), SPECIAL) for side in lengths
    )
    return TokenBatch(sides, np.array(document_ends or range(1, len(lengths[0]) + 1), dtype=np.int64))


def parse(text: str, base: Path = Path()) -> tuple[Filters, list[str]]:
    problems: list[str] = []
    return Filters.parse(yaml.safe_load(text), problems.append, base), problems


# --- what the YAML says ---


def test_default_filters() -> None:
    assert parse("") == parse("{}") == (Filters(), [])
    assert Filters().copied and Filters().length_ratio == 9
    assert parse("copied: false\nlength_ratio: false\ndigits: false\nscript: false") == (OFF, [])


def test_every_filter_is_read(tmp_path: Path) -> None:
    (tmp_path / "lid.bin").touch()
    text = """
        length_ratio: 3
        length: {min: 2, max: 250}
        digits: 0.25
        punctuation: 1
        urls: 0
        script: {min_share: 0.75, scripts: {sr: [Cyrl, Latn], kk: Arab}}
        language: {model: lid.bin, min_probability: 0.25, labels: {'no': nob_Latn}}
    """
    expected = Filters(
        copied=True,
        length_ratio=3.0,
        length=LengthFilter(2, 250),
        digits=0.25,
        punctuation=1.0,
        urls=0.0,
        script=ScriptFilter(0.75, (("kk", ("Arab",)), ("sr", ("Cyrl", "Latn")))),
        language=LanguageFilter(tmp_path / "lid.bin", 0.25, (("no", ("nob_Latn",)),)),
    )
    assert parse(text, tmp_path) == (expected, [])
    assert parse("script: 0.75")[0].script == ScriptFilter(0.75)
    assert parse("language: {model: lid.bin}", tmp_path)[0].language == LanguageFilter(tmp_path / "lid.bin", 0.5)
    assert parse("length: {max: 9}")[0].length == LengthFilter(1, 9)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[digits]", "filters: expected a mapping of copied, length_ratio, .*, found ['digits']"),
        ("digit: 0.5", "filters: expected the keys copied, .*, language, found 'digit'"),
        ("copied: 1", "filters: copied: expected true or false, found 1"),
        ("length_ratio: 0.5", "filters: length_ratio: expected a number of at least 1, found 0.5"),
        ("length_ratio: true", "filters: length_ratio: expected a number of at least 1, found True"),
        ("digits: 1.5", "filters: digits: expected a number from 0 to 1, found 1.5"),
        ("urls: -1", "filters: urls: expected a number from 0 to 1, found -1"),
        ("punctuation: .nan", "filters: punctuation: expected a number from 0 to 1, found nan"),
        ("punctuation: 50%", "filters: punctuation: expected a number from 0 to 1, found '50%'"),
        ("digits:", "filters: digits: expected a number from 0 to 1, found None"),
        ("length: 5", "filters: length: expected a mapping of min, max, found 5"),
        ("length: {min: 0}", "filters: length: min: expected a whole number of tokens, at least 1, found 0"),
        ("length: {max: 2.5}", "filters: length: max: expected a whole number of tokens, at least 1, found 2.5"),
        ("length: {maximum: 2}", "filters: length: expected the keys min, max, found 'maximum'"),
        ("length: {min: 5, max: 4}", "filters: length: expected min not above max, found {'min': 5, 'max': 4}"),
        ("script: Latn", "filters: script: min_share: expected a number from 0 to 1, found 'Latn'"),
        ("script: {scripts: [Latn]}", "filters: script: scripts: expected languages and their names, found ['Latn']"),
        ("script: {scripts: {sr: []}}", "filters: script: scripts: sr: expected a list of names, found []"),
        ("script: {scripts: {sr: Cyrillic}}", "filters: script: scripts: sr: expected ISO 15924 codes .* 'Cyrillic'"),
        ("script: {scripts: {no: Latn}}", "filters: script: scripts: expected language codes, in quotes .* False"),
        ("language: {}", "filters: language: model: expected a model file of fastText, found None"),
        (
            "language: {model: gone.bin}",
            "filters: language: model: expected a model file of fastText, found 'gone.bin'",
        ),
        ("language: lid.bin", "filters: language: expected a mapping of model, min_probability, labels, found"),
    ],
)
def test_problems_are_named(text: str, problem: str) -> None:
    _, problems = parse(text)
    pattern = re.escape(problem).replace(r"\.\*", ".*")
    assert re.match(pattern, problems[0]), problems


def test_languages_unknown_to_filters_are_named(model: Path, tmp_path: Path) -> None:
    problems: list[str] = []
    Filters().check_languages(["de", "elvish"], problems.append)
    assert ScriptFilter(scripts=(("srp_Cyrl", ("Latn",)),)).scripts_of("sr") == {"Latn"}, "by any code"
    script = ScriptFilter(scripts=(("toy", ("Latn",)),))
    replace(OFF, script=script).check_languages(["de", "toy"], problems.append)
    named = (("toy", ("__label__en", "ru")),)
    replace(OFF, language=LanguageFilter(model, labels=named)).check_languages(["de", "ru", "toy"], problems.append)
    assert not problems

    replace(OFF, script=script).check_languages(["de", "elvish", "xx"], problems.append)
    assert problems == [
        "filters: script: scripts: toy is not a language of this corpus; it has de, elvish, xx",
        "filters: script: the script of elvish, xx is unknown; give it, for example as scripts: {elvish: [Latn]}",
    ]
    problems.clear()
    wrong = (("de", ("en", "deu_Latn")),)
    replace(OFF, language=LanguageFilter(model, labels=wrong)).check_languages(["de", "sw", "xx"], problems.append)
    assert problems[0] == "filters: language: labels: de: the model has no label deu_Latn"
    assert re.fullmatch(
        r"filters: language: .*lid\.bin: no label for sw, xx among its 3 \(__label__.., __label__.., __label__.., …\); "
        r"use another model, or give labels, for example as labels: \{sw: \[..\]\}",
        problems[1],
    )
    problems.clear()
    (tmp_path / "lid.bin").write_text("<html>404</html>")
    replace(OFF, language=LanguageFilter(tmp_path / "lid.bin")).check_languages(["de"], problems.append)
    assert len(problems) == 1 and re.match(r"filters: language: .*lid\.bin: not a fastText model", problems[0])


def test_identity_follows_the_content_of_the_model(tmp_path: Path) -> None:
    def identity(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        chosen = Filters(script=ScriptFilter(scripts=(("sr", ("Cyrl",)),)), language=LanguageFilter(tmp_path / name))
        assert hash(chosen) == hash(replace(chosen))
        return json.dumps(chosen.identity())

    assert identity("a.bin", "one") == identity("b.bin", "one") != identity("b.bin", "two")
    assert json.dumps(Filters().identity()) != json.dumps(OFF.identity())


# --- text ---


def test_blank_sentences_and_sides_are_dropped() -> None:
    batch = text_batch(["a", " ", "", "\u3000\t", "b", "c"], document_ends=[2, 4, 6])
    found = TextFilter(Filters(), ("de",))(batch)
    assert found.sides == (["a", "b", "c"],)
    assert found.document_ends.tolist() == [1, 3]
    assert found.dropped == {"empty": 3}

    pairs = TextFilter(Filters(), ("de", "en"))(text_batch(["a", " ", "b", ""], ["x", "y", "", ""]))
    assert (pairs.sides, pairs.dropped) == ((["a"], ["x"]), {"empty_side": 3})


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("Das Haus", "das  HAUS ", True),
        ("\u3000Straße", "STRASSE", True),
        ("ﬁne Ⅷ ½", "FINE VIII 1⁄2", True),
        ("e\u0301tat", "État", True),
        ("ÅNGSTRÖM", "\u212bngstro\u0308m", True),
        ("ＡＢＣ　１２", "abc 12", True),
        ("Дом", "ДОМ", True),
        ("ΌΣΟΣ", "όσος", True),
        ("ｶﾞｽ", "ガス", True),
        ("\u1112\u1161\u11ab국", "한국", True),
        ("\u0301\u0323a", "\u0323\u0301A", True),  # marks above and below stand in either order
        ("\u00b4a", "\u0301A", True),  # NFKC takes the acute accent for a space with a mark
        ("कि", "कि", True),
        ("كتاب", "ﻛﺘﺎﺏ", True),
        ("\u0e19\u0e33", "\u0e19\u0e4d\u0e32", True),  # the Thai vowel am
        ("Das Haus", "Das Haus.", False),
        ("das Haus", "dasHaus", False),
        ("été", "ete", False),
        ("我", "你", False),
    ],
)
def test_copied_pairs_are_found(source: str, target: str, expected: bool) -> None:
    assert is_copied([source, "a"], [target, "b"]).tolist() == [expected, False]
    found = TextFilter(Filters(), ("de", "en"))(text_batch([source], [target]))
    assert found.dropped == ({"copied": 1} if expected else {})
    assert len(TextFilter(OFF, ("de", "en"))(text_batch([source], [target]))) == 1


@given(st.text(max_size=8), st.data())
def test_copied_pairs_are_found_however_they_are_spelt(line: str, data: st.DataObject) -> None:
    forms = [lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    spellings = st.sampled_from([str.upper, str.lower, str.title, str.casefold, lambda text: f" {text}\t", *forms])
    other = line
    for spelling in data.draw(st.lists(spellings, max_size=3)):
        other = spelling(other)

    def normal(text: str) -> list[str]:
        return unicodedata.normalize("NFKC", text).casefold().split()

    assert is_copied([line], [other]).tolist() == [normal(line) == normal(other)]


def test_copied_pairs_are_found_whatever_their_first_character() -> None:
    """Pairs are compared only if their first characters allow it, which must not miss any."""
    # Beyond 0x30000 are only ideographs and signs that are their own normal form; surrogates are not text.
    lines = [f"{chr(code)}x" for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    folded = [unicodedata.normalize("NFKC", line).casefold() for line in lines]
    for form in ("NFC", "NFD"):
        others = [unicodedata.normalize(form, line) for line in folded]
        expected = [
            unicodedata.normalize("NFKC", other).casefold().split() == line.split()
            for other, line in zip(others, folded, strict=True)
        ]
        assert is_copied(lines, others).tolist() == expected


@pytest.mark.parametrize(
    ("limits", "dropped"),
    [
        ({}, []),
        ({"digits": 0.5}, ["7 + 8 = 15"]),
        ({"digits": 4 / 6}, []),
        ({"punctuation": 0.99}, ["…!"]),
        ({"punctuation": 0.25}, ["7 + 8 = 15", "https://a.de", "…!"]),
        ({"urls": 0.5}, ["https://a.de"]),
        ({"urls": 0}, ["https://a.de", "siehe www.a.de jetzt"]),
        ({"script": ScriptFilter()}, ["дом", "我的家"]),
    ],
)
def test_each_filter_drops_what_exceeds_its_limit(limits: dict[str, Any], dropped: list[str]) -> None:
    filter_batch = TextFilter(replace(OFF, **limits), ("de",))
    found = filter_batch(text_batch(SENTENCES))
    assert found.sides[0] == [line for line in SENTENCES if line not in dropped]
    assert found.dropped == ({next(iter(limits)): len(dropped)} if dropped else {})
    in_pairs = TextFilter(replace(OFF, **limits), ("de", "de"))
    others = ["Haus"] * len(SENTENCES)
    assert in_pairs(text_batch(SENTENCES, others)).sides[0] == found.sides[0]
    assert in_pairs(text_batch(others, SENTENCES)).sides[1] == found.sides[0]


@pytest.mark.parametrize(
    ("code", "line", "is_kept"),
    [
        ("sr", "Добар дан, Beograd", True),
        ("sr", "Dobar dan", False),
        ("sr_Latn", "Dobar dan", True),
        ("zh_Hant", "漢字 OK", True),
        ("zh", "ひらがな", False),
        ("ja", "漢字とカナ", True),
        ("ko", "한국어 漢字", True),
        ("ko", "漢字とカナ", False),
        ("th", "ภาษาไทย", True),
        ("ar", "العربية", True),
        ("hi", "हिन्दी", True),
        ("ru", "2024 — 50 %", True),  # no letter, no evidence
    ],
)
def test_sentences_in_another_script_are_dropped(code: str, line: str, is_kept: bool) -> None:
    found = TextFilter(replace(OFF, script=ScriptFilter()), (code,))(text_batch([line]))
    assert found.dropped == ({} if is_kept else {"script": 1})


def test_scripts_may_be_given_explicitly() -> None:
    chosen = replace(OFF, script=ScriptFilter(1, (("de", ("Hans", "Cyrl")),)))
    assert TextFilter(chosen, ("de",))(text_batch(SENTENCES)).sides[0] == ["дом", "我的家", "7 + 8 = 15", "…!"]
    assert TextFilter(chosen, ("ru",))(text_batch(SENTENCES)).sides[0] == ["дом", "7 + 8 = 15", "…!"]


def test_the_language_of_both_sides_is_tested(model: Path, sentences: dict[str, list[str]]) -> None:
    german, english, russian = (sentences[code][1::30] for code in ("de", "en", "ru"))
    half = len(german) // 2
    chosen = replace(OFF, language=LanguageFilter(model))
    found = TextFilter(chosen, ("de", "en"))(text_batch(german, english[:half] + russian[half:]))
    assert found.sides == (german[:half], english[:half])
    assert found.dropped == {"language": len(german) - half}
    named = replace(OFF, language=LanguageFilter(model, labels=(("en", ("en", "ru")),)))
    assert not TextFilter(named, ("de", "en"))(text_batch(german, english[:half] + russian[half:])).dropped
    assert len(TextFilter(chosen, ("ru",))(text_batch([]))) == 0


def test_a_unit_counts_under_the_first_filter_that_drops_it() -> None:
    chosen = Filters(digits=0.3, punctuation=0.3, urls=0.3, script=ScriptFilter())
    sources = ["", "12345", "1 2 3 !!!", "!?!", "http://example.de/page", "дом", "ein Haus"]
    targets = ["", "12345", "a house!!", "oh", "дом", "house", "a house"]
    found = TextFilter(chosen, ("de", "en"))(text_batch(sources, targets))
    reasons = ["empty_side", "copied", "digits", "punctuation", "urls", "script"]
    assert list(found.dropped.items()) == [(reason, 1) for reason in reasons]
    assert found.sides == (["ein Haus"], ["a house"])


line_lists = st.lists(st.sampled_from(LINES), min_size=1, max_size=12)
shares = st.none() | st.sampled_from([0.0, 0.3, 0.7])
some_filters = st.builds(
    Filters,
    copied=st.booleans(),
    digits=shares,
    punctuation=shares,
    urls=shares,
    script=st.none() | st.just(ScriptFilter()),
)


@given(st.lists(line_lists, min_size=1, max_size=4), some_filters, st.integers(1, 2))
def test_batches_are_filtered_as_their_units(documents: list[list[str]], chosen: Filters, num_sides: int) -> None:
    filter_batch = TextFilter(chosen, ("de", "ru")[:num_sides])
    expected, dropped = [], Counter({"missing_side": 2})
    for document in documents:
        units = [(line, *LINES[(i + len(line)) % len(LINES) :][: num_sides - 1]) for i, line in enumerate(document)]
        alone = [filter_batch(text_batch(*([side] for side in unit))) for unit in units]
        expected.append([unit for unit, found in zip(units, alone, strict=True) if len(found)])
        dropped += sum((found.dropped for found in alone), Counter())
        assert all(len(found) == 1 - found.dropped.total() for found in alone)
        document[:] = units
    sides = tuple(map(list, zip(*(unit for document in documents for unit in document), strict=True)))
    batch = TextBatch(sides, np.cumsum([len(document) for document in documents]), Counter({"missing_side": 2}))
    found = filter_batch(batch)
    assert [list(zip(*document, strict=True)) for document in found.documents()] == [
        units for units in expected if units
    ]
    assert found.dropped == dropped
    assert len(found) + found.dropped.total() == len(batch) + 2


# --- tokens ---


def test_the_length_ratio_is_that_of_moses() -> None:
    found = TokenFilter(Filters())(token_batch([1, 9, 1, 20, 3], [9, 1, 10, 2, 3]))
    assert [side.ids.tolist() for side in found.sides] == [[0] + [1] * 9 + [4] * 3, [0] * 9 + [1] + [4] * 3]
    assert found.dropped == {"length_ratio": 2}
    assert len(TokenFilter(OFF)(token_batch([1], [99]))) == 1
    assert TokenFilter(Filters(length_ratio=1.5))(token_batch([2, 2], [3, 4])).dropped == {"length_ratio": 1}
    assert not TokenFilter(Filters())(token_batch([1, 99])).dropped


def test_lengths_are_in_tokens() -> None:
    chosen = replace(OFF, length=LengthFilter(2, 4))
    found = TokenFilter(chosen)(token_batch([1, 2, 4, 5, 1], document_ends=[1, 4, 5]))
    assert found.sides[0].lengths.tolist() == [2, 4]
    assert found.document_ends.tolist() == [2]
    assert found.dropped == {"too_short": 2, "too_long": 1}
    pairs = TokenFilter(chosen)(token_batch([1, 2, 3, 5, 1], [2, 2, 9, 1, 9]))
    assert pairs.sides[1].lengths.tolist() == [2]
    assert pairs.dropped == {"too_short": 3, "too_long": 1}
    assert TokenFilter(replace(OFF, length=LengthFilter(max=1)))(token_batch([1, 2])).dropped == {"too_long": 1}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=10))
def test_token_batches_are_filtered_as_their_units(pairs: list[tuple[int, int]]) -> None:
    filter_batch = TokenFilter(Filters(length_ratio=2.5, length=LengthFilter(3, 20)))
    alone = [filter_batch(token_batch([source], [target])) for source, target in pairs]
    found = filter_batch(token_batch([source for source, _ in pairs], [target for _, target in pairs]))
    assert found.sides[0].lengths.tolist() == [s for (s, _), one in zip(pairs, alone, strict=True) if len(one)]
    assert found.dropped == sum((one.dropped for one in alone), Counter())


# --- real text ---

# Pro Git's translations are unfinished: these hold English sentences, and terms in Latin letters.
MAX_DROPPED = {"th": 0.42, "fa": 0.15, "ko": 0.06, "ar": 0.04, "zh": 0.04, "ja": 0.02}


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="VECO_CORPORA names no folder of real text")
def test_the_script_filter_finds_foreign_sentences_in_real_text() -> None:
    paths = sorted((Path(os.environ["VECO_CORPORA"]) / "mono").glob("*.txt.gz"))
    assert len(paths) == 47
    kinds = {code: scripts_of(code) for code in ("ru", "el", "th", "en")}
    for path in paths:
        code = path.name.removesuffix(".txt.gz")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            batch = text_batch(list(filter(str.strip, file.read(1_000_000).split("\n"))))
        own = TextFilter(replace(OFF, script=ScriptFilter()), (code,))(batch)
        assert own.dropped["script"] <= MAX_DROPPED.get(code, 0.01) * len(batch), code
        for other, scripts in kinds.items():
            if scripts.isdisjoint(scripts_of(code)):
                found = TextFilter(replace(OFF, script=ScriptFilter()), (other,))(batch)
                latin_share = MAX_DROPPED.get(code, 0.01) if other == "en" else 0
                assert len(found) <= (0.05 + latin_share) * len(batch), (code, other)
