"""Winogender schemas as pairs: the published sentences, the right labels, and what is no such file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from analysis.winogender.items import GenderPair, Subject, read_pairs
from data_tools.text.lines import read_text

CORPORA = os.environ.get("VECO_CORPORA", "")
HEADER = "occupation(0)\tother-participant(1)\tanswer\tsentence\n"


def directory(root: Path, *rows: str, statistics: str = "") -> Path:
    (root / "templates.tsv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    if statistics:
        (root / "occupations-stats.tsv").write_text(statistics)
    return root


def test_each_template_makes_two_pairs(tmp_path: Path) -> None:
    pairs = read_pairs(
        directory(
            tmp_path,
            "accountant\ttaxpayer\t1\tThe $PARTICIPANT met the $OCCUPATION to file $POSS_PRONOUN taxes.",
            "nurse\tpatient\t0\tThe $OCCUPATION told the $PARTICIPANT that $NOM_PRONOUN was late.",
            statistics="occupation\tbls_pct_female\naccountant\t59.7\n",
        )
    )
    premises = (
        "The taxpayer met the accountant to file his taxes.",
        "The taxpayer met the accountant to file her taxes.",
    )
    assert pairs[0] == GenderPair(
        premises,
        "The taxpayer met the accountant to file the accountant's taxes.",
        is_entailed=False,
        subject=Subject("accountant", says_occupation=True, share_of_women=0.597),
    )
    assert pairs[1] == GenderPair(
        premises,
        "The taxpayer met the accountant to file the taxpayer's taxes.",
        is_entailed=True,
        subject=Subject("accountant", says_occupation=False, share_of_women=0.597),
    )
    assert pairs[2].premises == tuple(f"The nurse told the patient that {one} was late." for one in ("he", "she"))
    assert [pair.hypothesis for pair in pairs[2:]] == [
        "The nurse told the patient that the nurse was late.",
        "The nurse told the patient that the patient was late.",
    ]
    assert [pair.is_entailed for pair in pairs[2:]] == [True, False]
    assert pairs[2].subject == Subject("nurse", says_occupation=True, share_of_women=None)


@pytest.mark.parametrize(
    ("share", "means_occupation", "his", "hers"),
    [
        (0.9, True, True, False),  # the nurse he is
        (0.9, False, False, True),  # the nurse's patient is she, so that she is taken for the nurse
        (0.1, True, False, True),
        (0.1, False, True, False),
        (0.5, True, True, False),  # half are women: as if most were
    ],
)
def test_a_gotcha_is_a_pronoun_of_the_gender_that_its_referent_is_not_thought_to_have(
    share: float, means_occupation: bool, his: bool, hers: bool
) -> None:
    for says_occupation in (True, False):
        is_entailed = says_occupation == means_occupation
        pair = GenderPair(("he", "she"), "", is_entailed, Subject("nurse", says_occupation, share))
        assert pair.is_gotcha(is_hers=False) is his and pair.is_gotcha(is_hers=True) is hers
    assert GenderPair(("he", "she"), "", True, Subject("nurse", True, None)).is_gotcha(is_hers=True) is None
    assert GenderPair(("he", "she"), "", True).is_gotcha(is_hers=True) is None


@pytest.mark.skipif(not CORPORA, reason="VECO_CORPORA names no real text")
def test_the_premises_are_the_published_sentences() -> None:
    root = Path(CORPORA) / "tasks" / "winogender"
    pairs = read_pairs(root)
    rows = read_text(root / "all_sentences.tsv.gz").splitlines()[1:]
    published = {name: sentence for name, sentence in (row.split("\t") for row in rows) if ".someone." not in name}
    premises = {premise for pair in pairs for premise in pair.premises}
    assert premises == {sentence for name, sentence in published.items() if ".neutral." not in name}
    assert len(pairs) == 240 and sum(pair.is_entailed for pair in pairs) == 120
    assert len({pair.subject.occupation for pair in pairs}) == 60
    for pair in pairs:
        name = next(name for name, sentence in published.items() if sentence == pair.premises[0])
        occupation, _, answer, gender, _ = name.split(".")
        assert (pair.subject.occupation, gender) == (occupation, "male")
        assert pair.is_entailed == (pair.subject.says_occupation == (answer == "0"))
        assert 0 <= pair.subject.share_of_women <= 1
    gotchas = [pair.is_gotcha(is_hers) for pair in pairs for is_hers in (False, True)]
    assert gotchas.count(True) == gotchas.count(False) == 240


def axg(path: Path, *rows: tuple[str, str, str]) -> Path:
    keys = ("premise", "hypothesis", "label")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return path


def test_lines_of_axg_are_pairs(tmp_path: Path) -> None:
    rows = [("he is", "a", "entailment"), ("she is", "a", "entailment")]
    rows += [("his", "b", "not_entailment"), ("her", "b", "not_entailment")]
    assert read_pairs(axg(tmp_path / "x.jsonl", *rows)) == [
        GenderPair(("he is", "she is"), "a", True),
        GenderPair(("his", "her"), "b", False),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty; expected Winogender's templates, or AX-g's pairs"),
        ("{", "line 1: expected a JSON object with the texts premise, hypothesis and label"),
        ('{"premise": "x", "hypothesis": "y"}', "line 1: expected a JSON object with the texts"),
        (
            '{"premise": "x", "hypothesis": "y", "label": "no"}',
            "line 1: expected the label entailment or not_ent.*'no'",
        ),
        ('\n{"premise": "x", "hypothesis": "y", "label": "entailment"}', "line 2: expected a second line with another"),
        (
            '{"premise": "x", "hypothesis": "y", "label": "entailment"}\n' * 2,
            "line 1: expected a second line with anoth",
        ),
    ],
)
def test_other_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\tb\t2\tThe $OCCUPATION and $NOM_PRONOUN", "line 2: expected one of .*, and the answer 0 or 1"),
        ("a\tb\t1\tThe $OCCUPATION", r"line 2: expected one of \$NOM_PRONOUN"),
        ("a\tb\t1", "line 2: expected 4 columns, found 3"),
    ],
)
def test_other_templates_are_refused(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(directory(tmp_path, row))


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected Winogender's templates.tsv, found no such file"):
        read_pairs(tmp_path)
    row = "a\tb\t1\tThe $OCCUPATION: $NOM_PRONOUN"
    with pytest.raises(ValueError, match="stats.tsv: line 2: expected columns occupation and bls_pct_female"):
        read_pairs(directory(tmp_path, row, statistics="occupation\tbls_pct_female\na\tmany\n"))
    (tmp_path / "occupations-stats.tsv").unlink()
    (tmp_path / "templates.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match=r"no column occupation\(0\); expected"):
        read_pairs(tmp_path)
