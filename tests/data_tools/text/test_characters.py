import sys
import unicodedata
from collections.abc import Callable

import pytest
from fontTools.unicodedata import script as script_of
from hypothesis import given
from hypothesis import strategies as st

from data_tools.text.characters import digit_shares, punctuation_shares, script_shares, url_shares

# Letters, marks, digits, spaces and signs of many scripts; any other code point too, surrogates among them.
MIXED = "aZß é1２٣१๔ \t\u00a0\u3000\u2028\x1f\u200b.,!?«»。「」؟।€+ДжΩ漢々かカー한ไทย์العربكِक्षि🙂𠀀\u0301"
any_text = st.text(st.sampled_from(MIXED) | st.characters(exclude_categories=[]), max_size=30)
SCRIPTS = [frozenset({"Latn"}), frozenset({"Hani", "Hira", "Kana"}), frozenset({"Arab", "Deva", "Thai"})]


@pytest.mark.parametrize(
    ("line", "digits", "punctuation"),
    [
        ("", 0, 0),
        (" \t", 0, 0),
        ("ab 12!", 2 / 5, 1 / 5),
        ("«Да», 7 €", 1 / 7, 4 / 7),
        ("第３章。", 1 / 4, 1 / 4),
        ("「五本」", 0, 2 / 4),
        ("한국 2024년?", 4 / 8, 1 / 8),
        ("๑๒๓ คน๛", 3 / 6, 1 / 6),
        ("٣٤ كتب؟", 2 / 6, 1 / 6),
        ("१२ घर।", 2 / 5, 1 / 5),
        ("x²½Ⅷ①", 0, 0),  # numbers, but no decimal digits
    ],
)
def test_shares_of_digits_and_punctuation(line: str, digits: float, punctuation: float) -> None:
    assert digit_shares([line]).tolist() == [digits]
    assert punctuation_shares([line]).tolist() == [punctuation]


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("", 0),
        ("no address", 0),
        ("see https://a.de/x.", 14 / 18),
        ("(HTTP://A.DE)", 11 / 13),
        ("请访问https://a.de查看", 12 / 17),
        ("ดูwww.a.deนะ", 8 / 12),
        ("www.a.de ftp://b.de/?q=1", 1),
        ("awww.that www. https://", 0),
    ],
)
def test_shares_of_urls(line: str, share: float) -> None:
    assert url_shares([line]).tolist() == [share]


def test_urls_end_with_their_line() -> None:
    assert url_shares(["https://a", "", "b.de/x", "www.", "de"]).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "scripts", "share"),
    [
        ("", "Latn", 1),
        ("1984: 50 %", "Latn", 1),  # nothing that speaks for another script
        ("Größe 3 м", "Latn", 5 / 6),
        ("дом house", "Cyrl", 3 / 8),
        ("Git 简史", "Hani", 2 / 5),
        ("漢字とカナー", "Hani Hira Kana", 1),  # the last one, which lengthens, is shared by two scripts
        ("漢字とカナ", "Hani", 2 / 5),
        ("한국어 韓國語 OK", "Hang Hani", 6 / 8),
        ("ไทย์ ok", "Thai", 4 / 6),
        ("كِتاب book", "Arab", 4 / 8),  # the vowel sign is taken from the character before
        ("क्षि x", "Deva", 4 / 5),
        ("e\u0301 \u200b", "Latn", 1),
    ],
)
def test_shares_of_scripts(line: str, scripts: str, share: float) -> None:
    assert script_shares([line], frozenset(scripts.split())).tolist() == [share]


def slow_share(line: str, wanted: Callable[[str], bool]) -> float:
    return sum(map(wanted, line)) / max(1, sum(not character.isspace() for character in line))


@given(st.lists(any_text, max_size=8))
def test_shares_equal_those_of_single_characters(lines: list[str]) -> None:
    assert digit_shares(lines).tolist() == [
        slow_share(line, lambda c: unicodedata.category(c) == "Nd") for line in lines
    ]
    assert punctuation_shares(lines).tolist() == [
        slow_share(line, lambda c: unicodedata.category(c)[0] in "PS") for line in lines
    ]
    for scripts in SCRIPTS:
        expected = []
        for line in lines:
            found = [script_of(c) for c in line if script_of(c) not in ("Zyyy", "Zinh", "Zzzz")]
            expected.append(sum(name in scripts for name in found) / len(found) if found else 1)
        assert script_shares(lines, scripts).tolist() == expected


@given(st.lists(st.lists(st.sampled_from([*MIXED, "https://", "www.", "a.de", "/x"])).map("".join), max_size=8))
def test_many_lines_have_the_shares_of_each(lines: list[str]) -> None:
    for shares in (digit_shares, punctuation_shares, url_shares, lambda some: script_shares(some, SCRIPTS[0])):
        assert shares(lines).tolist() == [shares([line])[0] for line in lines]


def test_white_space_is_that_of_python() -> None:
    """White space does not count, so only that leaves both shares of such a line at 1."""
    every_character = list(map(chr, range(sys.maxunicode + 1)))
    is_all_digits = digit_shares([f"1{character}" for character in every_character]) == 1
    is_all_punctuation = punctuation_shares([f"!{character}" for character in every_character]) == 1
    assert (is_all_digits & is_all_punctuation).tolist() == [character.isspace() for character in every_character]
