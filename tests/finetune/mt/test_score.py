"""Scores against sacreBLEU's own command line and against multi-bleu's definition, written down independently."""

import gzip
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.mt.score import multi_bleu_score, parse_arguments, score_files, score_lines, table, tokenized_scores

SYSTEM = [
    "The cat sat on the mat.",
    "A man, who is old, rides his bike to the well-known market!",
    "there are 3.5 million people in Über-Town",
    "Zwei Hunde spielen im Schnee .",
    "",
]
REFERENCE = [
    "The cat sat upon the mat.",
    "An old man rides his bike to the well-known market.",
    "There are 3.5 million people in über-Town.",
    "Zwei Hunde spielen im tiefen Schnee.",
    "One more.",
]


ROOT = Path(__file__).parents[3]


def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def multi_bleu_by_definition(system: list[str], references: list[str]) -> float:
    """BLEU of Papineni et al. (2002) with one reference and no smoothing, over tokens between spaces."""
    matched, total = [0] * 4, [0] * 4
    for line, reference in zip(system, references, strict=True):
        for n in range(4):
            words, reference_words = line.split(), reference.split()
            grams = Counter(tuple(words[i : i + n + 1]) for i in range(len(words) - n))
            reference_grams = Counter(tuple(reference_words[i : i + n + 1]) for i in range(len(reference_words) - n))
            matched[n] += sum((grams & reference_grams).values())
            total[n] += sum(grams.values())
    if 0 in matched:
        return 0.0
    num_words = sum(len(line.split()) for line in system)
    num_reference_words = sum(len(line.split()) for line in references)
    penalty = 1.0 if num_words >= num_reference_words else math.exp(1 - num_reference_words / num_words)
    return 100 * penalty * math.prod(m / t for m, t in zip(matched, total, strict=True)) ** 0.25


def test_multi_bleu_by_hand() -> None:
    # Matches 5/5, 4/4, 3/3, 2/2; five words against six: BLEU = exp(1 - 6/5).
    assert multi_bleu_score(["a b c d e"], ["a b c d e f"], False)[0] == pytest.approx(100 * math.exp(-0.2))
    # 1-grams 5/6, 2-grams 3/5, 3-grams 2/4, 4-grams 1/3 (a b c d | x d).
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert multi_bleu_score(["a b c d x d"], ["a b c d d e"], False)[0] == pytest.approx(expected)
    assert multi_bleu_score(["a b c"], ["a b c"], False)[0] == 0.0  # no 4-gram at all: multi-bleu prints 0


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(*[st.lists(st.sampled_from("abcD"), max_size=9).map(" ".join)] * 2),
        min_size=1,
        max_size=6,
    )
)
def test_multi_bleu_is_its_definition(pairs: list[tuple[str, str]]) -> None:
    system, references = [list(side) for side in zip(*pairs, strict=True)]
    assert multi_bleu_score(system, references, False)[0] == pytest.approx(
        multi_bleu_by_definition(system, references), abs=1e-9
    )
    lowered = [[line.lower() for line in side] for side in (system, references)]
    assert multi_bleu_score(system, references, True)[0] == pytest.approx(
        multi_bleu_by_definition(lowered[0], lowered[1]), abs=1e-9
    )


def test_lowercase_of_multi_bleu_knows_a_to_z_only() -> None:
    reference = ["der ärmste mann der welt"]
    assert multi_bleu_score(["DER ärmste MANN der welt"], reference, True)[0] == pytest.approx(100.0)
    assert multi_bleu_score(["der Ärmste mann der welt"], reference, True)[0] < 50


def test_moses_tokenisation_comes_first() -> None:
    scores = tokenized_scores(["Well , it is 3.5 m ."], ["Well, it is 3.5 m."], "en")
    assert scores["tokenized_bleu"].value == pytest.approx(100.0)
    assert "tok:moses-en" in scores["tokenized_bleu"].signature and "case:mixed" in scores["tokenized_bleu"].signature


@pytest.mark.parametrize(
    ("name", "flags"),
    [("sacrebleu", ["-m", "bleu"]), ("sacrebleu_lc", ["-m", "bleu", "-lc"]), ("chrf", ["-m", "chrf"])],
)
def test_agrees_with_the_command_line_of_sacrebleu(tmp_path: Path, name: str, flags: list[str]) -> None:
    system, reference = write(tmp_path / "system", SYSTEM), write(tmp_path / "reference", REFERENCE)
    printed = run("sacrebleu", reference, "-i", system, "-w", "6", *flags).stdout
    theirs = json.loads(printed)
    ours = score_lines(SYSTEM, REFERENCE)[name]
    assert ours.value == pytest.approx(theirs["score"], abs=1e-6)
    assert ours.signature == theirs["signature"]
    if name == "sacrebleu":
        assert re.match(r"nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:", ours.signature)
        assert ours.detail.startswith(theirs["verbose_score"][:10])


def test_command(tmp_path: Path) -> None:
    write(tmp_path / "system", SYSTEM)
    with gzip.open(tmp_path / "reference.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in REFERENCE)
    write(tmp_path / "source", ["x", "y", "z", SYSTEM[3], ""])
    inputs = ["--reference", tmp_path / "reference.gz", "--source", tmp_path / "source"]
    good = run("finetune.mt.score", "--system", tmp_path / "system", *inputs, "--json", tmp_path / "scores.json")
    assert good.returncode == 0, good.stderr
    report = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (report["num_lines"], report["num_empty_system_lines"], report["num_copied_lines"]) == (5, 1, 1)
    assert set(report["scores"]) == {"sacrebleu", "sacrebleu_lc", "chrf", "tokenized_bleu", "tokenized_bleu_lc"}
    for score in report["scores"].values():
        assert f"{score['value']:.2f}  {score['signature']}" in good.stdout
    assert report["scores"]["sacrebleu"]["value"] == pytest.approx(score_lines(SYSTEM, REFERENCE)["sacrebleu"].value)
    assert report["scores"]["sacrebleu_lc"]["value"] > report["scores"]["sacrebleu"]["value"]
    short = write(tmp_path / "short", SYSTEM[:3])
    bad = run("finetune.mt.score", "--system", short, *inputs, "--json", tmp_path / "never.json")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1
    assert re.search(r"short has 3 lines but .*reference\.gz has 5", bad.stderr)
    assert not (tmp_path / "never.json").exists()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 system lines but 1 reference"):
        score_lines(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no line"):
        score_lines([], [])
    files = ["--system", str(write(tmp_path / "s", ["a"])), "--reference", str(write(tmp_path / "r", []))]
    with pytest.raises(ValueError, match="r has no line"):
        score_files(parse_arguments(files))
    files[3:] = [files[1], "--source", str(write(tmp_path / "o", ["a", "b"]))]
    with pytest.raises(ValueError, match=r"o has 2 lines but .*s has 1"):
        score_files(parse_arguments(files))
    (tmp_path / "latin").write_bytes("ü\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 1 is not UTF-8"):
        score_files(parse_arguments(["--system", files[1], "--reference", str(tmp_path / "latin")]))


def test_table_keeps_signatures_whole(tmp_path: Path) -> None:
    files = ["--system", str(write(tmp_path / "s", SYSTEM)), "--reference", str(write(tmp_path / "r", REFERENCE))]
    report = score_files(parse_arguments(files))
    lines = table(report).splitlines()
    assert "5 lines, 1 empty" in lines[0]
    assert sum(line.startswith(("sacrebleu", "chrf", "tokenized")) for line in lines) == 5
