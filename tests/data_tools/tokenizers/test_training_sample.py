import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.corpus.inputs import Input
from data_tools.tokenizers.training_sample import (
    MAX_LINE_BYTES,
    LineCounts,
    allocate,
    chosen_lines,
    drawn,
    training_lines,
)

COUNTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**6), max_size=8)


@pytest.mark.parametrize(
    ("num_lines", "alpha", "num_wanted", "expected"),
    [
        # Weights 100, 10 and 1 of 111: the shares are whole numbers, and none is more than there is.
        ({"en": 10_000, "sw": 100, "yo": 1}, 0.5, 111, {"en": 100, "sw": 10, "yo": 1}),
        # Weights 100, 20, 10, 2 of 132, shares 1000, 200, 100, 20. The last two languages give 100 and 4, all they
        # have; of the other 1,216 lines the first has 5/6 = 1013.33 and the second 1/6 = 202.67.
        (
            {"en": 10_000, "de": 400, "sw": 100, "yo": 4},
            0.5,
            1320,
            {"en": 1013, "de": 203, "sw": 100, "yo": 4},
        ),
        # Weights 100, 15, 2 of 117: shares 1495.7, 224.4 and 29.9. Only `yo` is full, but 15/115 of what it leaves,
        # 227.7, fills `sw` too.
        ({"en": 10_000, "sw": 225, "yo": 4}, 0.5, 1750, {"en": 1521, "sw": 225, "yo": 4}),
        ({"en": 700, "sw": 300}, 1.0, 10, {"en": 7, "sw": 3}),  # the corpus's own shares
        ({"en": 700, "sw": 300}, 0.0, 10, {"en": 5, "sw": 5}),
        ({"en": 3, "sw": 2}, 0.3, 5, {"en": 3, "sw": 2}),
        ({"en": 3, "sw": 2, "yo": 0}, 0.3, 99, {"en": 3, "sw": 2, "yo": 0}),
        ({"en": 9, "sw": 9, "yo": 9}, 0.3, 5, {"en": 2, "sw": 2, "yo": 1}),  # equal remainders: the first ones
        ({}, 0.3, 5, {}),
    ],
)
def test_shares_equal_those_computed_by_hand(
    num_lines: dict[str, int], alpha: float, num_wanted: int, expected: dict[str, int]
) -> None:
    assert allocate(num_lines, alpha, num_wanted) == expected


@given(num_lines=COUNTS, alpha=st.floats(0, 1), num_wanted=st.integers(1, 10**7))
def test_languages_with_few_lines_give_all_and_the_rest_is_redistributed(
    num_lines: dict[str, int], alpha: float, num_wanted: int
) -> None:
    given_lines = allocate(num_lines, alpha, num_wanted)
    assert list(given_lines) == list(num_lines)
    assert sum(given_lines.values()) == min(num_wanted, sum(num_lines.values()))
    assert all(0 <= given_lines[language] <= num_lines[language] for language in num_lines)
    # One level for all: who is not full has level * n^alpha, give or take a line, and who is full has less.
    weights = {language: count**alpha for language, count in num_lines.items() if count}
    not_full = [language for language in weights if given_lines[language] < num_lines[language]]
    for language in not_full:
        for other in weights:
            level = (given_lines[language] + 1.001) / weights[language]
            assert given_lines[other] <= level * weights[other] + 1.001


@given(num_lines=st.integers(1, 5000), share=st.floats(0, 1, exclude_min=True), seed=st.text(max_size=3))
def test_a_sample_has_its_size_and_no_line_twice(num_lines: int, share: float, seed: str) -> None:
    num_chosen = max(1, int(num_lines * share))
    chosen = list(chosen_lines(num_lines, num_chosen, seed))
    assert len(chosen) == num_chosen
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0 and chosen[-1] < num_lines


def test_lines_of_a_stretch_are_drawn_equally_often() -> None:
    num_draws = 4000
    counts = Counter(i for seed in range(num_draws) for i in chosen_lines(10, 4, str(seed)))
    # Stretches of 2 or 3 lines, 1 of each is drawn: 0-1, 2-4, 5-6, 7-9. Standard deviation below 32.
    for i in range(10):
        expected = num_draws / (3 if i in (2, 3, 4, 7, 8, 9) else 2)
        assert abs(counts[i] - expected) < 160


def test_lines_are_drawn_by_language_and_in_order() -> None:
    lines = [("en" if i % 4 else "yo", str(i)) for i in range(1000)]
    num_lines, num_drawn = {"en": 750, "yo": 250}, {"en": 30, "yo": 250}

    def draw(seed: int) -> list[tuple[str, str]]:
        return list(drawn(iter(lines), num_lines, num_drawn, seed))

    assert draw(1) == draw(1) != draw(2)
    assert [line for line in draw(1) if line[0] == "yo"] == lines[::4]
    english = [int(line) for language, line in draw(1) if language == "en"]
    assert len(english) == 30 and english == sorted(set(english))
    assert list(drawn(iter(lines), num_lines, {"en": 0, "yo": 0}, 1)) == []


def test_all_text_of_a_corpus_is_read(tmp_path: Path) -> None:
    too_long = "é" * (MAX_LINE_BYTES // 2 + 1)
    as_long_as_can_be = "é" * (MAX_LINE_BYTES // 2)
    (tmp_path / "mono.de.gz").write_bytes(gzip.compress(f"eins\n \nzwei\n{too_long}\n{as_long_as_can_be}".encode()))
    (tmp_path / "running.en").write_text("It rains. We stay here.\n")
    (tmp_path / "pairs.de").write_text("drei\n\nvier\n")
    (tmp_path / "pairs.en").write_text("three\n \nfour\n")
    inputs = [
        Input(("de",), "text", (f"{tmp_path}/mono.de.gz",)),
        Input(("en",), "text", (f"{tmp_path}/running.en",), split_sentences=True),
        Input(("en", "de"), "moses", (f"{tmp_path}/pairs.en", f"{tmp_path}/pairs.de")),
    ]
    counts = LineCounts()
    reports: list[int] = []
    found = list(training_lines(inputs, counts, reports.append))
    assert [line for language, line in found if language == "de"] == ["eins", "zwei", as_long_as_can_be, "drei", "vier"]
    assert [line for language, line in found if language == "en"] == ["It rains.", "We stay here.", "three", "four"]
    assert counts.num_lines == {"de": 5, "en": 4}
    assert counts.num_too_long == 1
    assert counts.num_bytes == sum(len(line.encode()) for _, line in found)
    assert reports[-1] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert reports == sorted(reports)
