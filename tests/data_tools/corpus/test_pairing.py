import pytest

from data_tools.corpus.pairing import odd_pairs


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("train.src", "train.tgt")],
        [("a.de", "b.en")],  # named one by one, so meant
        [("p1.de", "p1.en"), ("p10.de", "p10.en"), ("p2.de", "p2.en")],
        [("de/1.txt", "en/1.txt"), ("de/2.txt", "en/2.txt")],
        [("EP.de-en.de.gz", "EP.de-en.en.gz"), ("News.de-en.de.gz", "News.de-en.en.gz")],
        [("a_src.txt", "a_tgt.txt"), ("b_src.txt", "b_tgt.txt")],
    ],
)
def test_matching_names_are_not_odd(pairs: list[tuple[str, str]]) -> None:
    assert odd_pairs(pairs) == []


@pytest.mark.parametrize(
    ("sources", "targets", "odd"),
    [
        ("a.de b.de c.de", "a.en b.en d.en", [2]),
        ("a.de b.de", "b.en c.en", [1]),  # which of the two are right nobody knows
        ("a.de b.de d.de", "b.en c.en d.en", [0, 1]),
        ("de/1.txt de/2.txt", "en/1.txt en/3.txt", [1]),
        ("x.2019.de x.2020.de x.2021.de", "x.2019.en x.2021.en x.2022.en", [1, 2]),
    ],
)
def test_names_that_do_not_match_are_odd(sources: str, targets: str, odd: list[int]) -> None:
    pairs = list(zip(sources.split(), targets.split(), strict=True))
    assert odd_pairs(pairs) == [pairs[i] for i in odd]
