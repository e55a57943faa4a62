"""Scores against sacreBLEU's own command line and against multi-bleu's definition, written down independently."""

import gzip
import io
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from digits import write_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import TER

from finetune.mt import score as score_module
from finetune.mt.score import (
    compare_lines,
    left_out,
    multi_bleu_score,
    parse_arguments,
    score_files,
    score_lines,
    table,
    tokenized_scores,
)

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


def sacrebleu_command(*arguments: str | Path) -> list[dict[str, Any]]:
    """The output of sacreBLEU's own command line, by metric."""
    printed = json.loads(run("sacrebleu", *arguments, "-w", "6").stdout)
    return printed if isinstance(printed, list) else [printed]


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
    assert multi_bleu_score(["a b c d e"], ["a b c d e f"], lowercase=False)[0] == pytest.approx(100 * math.exp(-0.2))
    # 1-grams 5/6, 2-grams 3/5, 3-grams 2/4, 4-grams 1/3 (a b c d | x d).
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert multi_bleu_score(["a b c d x d"], ["a b c d d e"], lowercase=False)[0] == pytest.approx(expected)
    assert multi_bleu_score(["a b c"], ["a b c"], lowercase=False)[0] == 0.0  # no 4-gram at all: multi-bleu prints 0


def test_multi_bleu_of_a_published_example() -> None:
    """Example 1 of Papineni et al. (2002): they print modified precisions 17/18 and 10/17, NLTK's manual 0.5046."""
    candidate = "it is a guide to action which ensures that the military always obeys the commands of the party"
    references = [
        "it is a guide to action that ensures that the military will forever heed party commands",
        "it is the guiding principle which guarantees the military forces always being under the command of the party",
        "it is the practical guide for the army always to heed the directions of the party",
    ]
    value, detail = multi_bleu_score([candidate], *([reference] for reference in references), lowercase=False)
    assert value == pytest.approx(50.45666840058485)
    assert value == pytest.approx(100 * (17 / 18 * 10 / 17 * 7 / 16 * 4 / 15) ** 0.25)
    assert detail.startswith("94.4/58.8/43.8/26.7 (BP = 1.000")


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(*[st.lists(st.sampled_from("abcD"), max_size=9).map(" ".join)] * 2),
        min_size=1,
        max_size=6,
    )
)
def test_multi_bleu_matches_its_definition(pairs: list[tuple[str, str]]) -> None:
    system, references = [list(side) for side in zip(*pairs, strict=True)]
    assert multi_bleu_score(system, references, lowercase=False)[0] == pytest.approx(
        multi_bleu_by_definition(system, references), abs=1e-9
    )
    lowered = [[line.lower() for line in side] for side in (system, references)]
    assert multi_bleu_score(system, references, lowercase=True)[0] == pytest.approx(
        multi_bleu_by_definition(lowered[0], lowered[1]), abs=1e-9
    )


def test_multi_bleu_lowercases_only_a_to_z() -> None:
    reference = ["der ärmste mann der welt"]
    assert multi_bleu_score(["DER ärmste MANN der welt"], reference, lowercase=True)[0] == pytest.approx(100.0)
    assert multi_bleu_score(["der Ärmste mann der welt"], reference, lowercase=True)[0] < 50


def test_tokenized_bleu_tokenises_with_moses_first() -> None:
    scores = tokenized_scores(["Well , it is 3.5 m ."], ["Well, it is 3.5 m."], language="en")
    assert scores["tokenized_bleu"].value == pytest.approx(100.0)
    assert "tok:moses-en" in scores["tokenized_bleu"].signature and "case:mixed" in scores["tokenized_bleu"].signature


def test_agrees_with_the_command_line_of_sacrebleu(tmp_path: Path) -> None:
    system, reference = write_lines(tmp_path / "system", SYSTEM), write_lines(tmp_path / "reference", REFERENCE)
    theirs = sacrebleu_command(reference, "-i", system, "-m", "bleu", "chrf", "ter")
    theirs += sacrebleu_command(reference, "-i", system, "-m", "bleu", "-lc")
    ours = score_lines(SYSTEM, REFERENCE)
    for name, printed in zip(("sacrebleu", "chrf", "ter", "sacrebleu_lc"), theirs, strict=True):
        assert ours[name].value == pytest.approx(printed["score"], abs=1e-6), name
        assert ours[name].signature == printed["signature"], name
    assert re.match(r"nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:", ours["sacrebleu"].signature)
    assert ours["sacrebleu"].detail.startswith(theirs[0]["verbose_score"][:10])


SECOND = [
    "A cat was sitting on the mat.",
    "A man, old as he is, rides a bike to the market!",
    "there are 3.5 million inhabitants in Über-Town",
    "Zwei Hunde spielen im Schnee.",
    "One more line.",
]
# 13a, and TER without Asian support, take each of these lines for one word: nothing is right.
CHINESE = (
    ["我们今天去北京大学看书。", "他说：“明天再见！”然后走了。"],
    [
        "我们今天去北京大学读书。",
        "他说：“明天见！”然后就走了。",
    ],
)
JAPANESE = ["私は昨日、新しい本を買いました。"], ["私は昨日、新しい辞書を買いました。"]
KOREAN = ["나는 어제 새 책을 샀습니다."], ["나는 어제 새 사전을 샀습니다."]


def test_several_references_as_on_the_command_line_of_sacrebleu(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / f"{i}", lines) for i, lines in enumerate((REFERENCE, SECOND))]
    system = write_lines(tmp_path / "system", SYSTEM)
    ours = score_lines(SYSTEM, REFERENCE, SECOND)
    theirs = sacrebleu_command(*files, "-i", system, "-m", "bleu", "chrf", "ter")
    for name, printed in zip(("sacrebleu", "chrf", "ter"), theirs, strict=True):
        assert ours[name].value == pytest.approx(printed["score"], abs=1e-6), name
        assert ours[name].signature == printed["signature"] and "nrefs:2|" in printed["signature"], name


def test_several_references_by_one_flag_or_several(tmp_path: Path) -> None:
    system = str(write_lines(tmp_path / "system", SYSTEM))
    first, second = (str(write_lines(tmp_path / f"{i}", lines)) for i, lines in enumerate((REFERENCE, SECOND)))
    both = score_files(parse_arguments(["--system", system, "--reference", first, second, "--baseline", first]))
    again = score_files(
        parse_arguments(["--reference", first, "--system", system, "--reference", second, "--baseline", first])
    )
    assert both == again and both["references"] == [first, second]
    assert both["scores"]["tokenized_bleu"]["signature"].startswith("nrefs:2|")
    expected = score_lines(SYSTEM, REFERENCE, SECOND)
    assert {name: score["value"] for name, score in both["scores"].items()} == {
        name: score.value for name, score in expected.items()
    }
    assert expected["sacrebleu"].value > score_lines(SYSTEM, REFERENCE)["sacrebleu"].value
    assert both["comparison"]["sacrebleu"]["baseline"] == pytest.approx(100.0), "the baseline is the first reference"
    short = str(write_lines(tmp_path / "short", SECOND[:4]))
    with pytest.raises(ValueError, match=r"system has 5 lines but .*short has 4"):
        score_files(parse_arguments(["--system", system, "--reference", first, short]))
    with pytest.raises(ValueError, match=r"--reference .*0 is given twice"):
        score_files(parse_arguments(["--system", system, "--reference", first, first]))
    with pytest.raises(ValueError, match="--comet takes one --reference, found 2"):
        score_files(parse_arguments(["--system", system, "--reference", first, second, "--source", first, "--comet"]))


@pytest.mark.parametrize(
    ("codes", "text", "tokenizer"),
    [
        ("zh ZH cmn zho zho_Hans zh-CN zh_Hant yue", CHINESE, "zh"),
        ("ja jpn jpn_Jpan JA ja_JP", JAPANESE, "char"),
        ("ko kor kor_Hang KO", KOREAN, "13a"),
        ("de deu_Latn DE de_AT", (SYSTEM, REFERENCE), "13a"),
    ],
)
def test_a_language_may_have_any_code(codes: str, text: tuple[list[str], list[str]], tokenizer: str) -> None:
    first, *others = codes.split()
    expected = score_lines(*text, target_language=first)
    assert f"|tok:{tokenizer}|" in expected["sacrebleu"].signature
    assert expected["sacrebleu"].value > 10 and expected["ter"].value < 60
    for code in others:
        assert score_lines(*text, target_language=code) == expected, code


def test_ter_of_chinese_and_japanese_is_that_of_sacrebleu(tmp_path: Path) -> None:
    system, reference = (chinese + japanese for chinese, japanese in zip(CHINESE, JAPANESE, strict=True))
    files = [write_lines(tmp_path / name, lines) for name, lines in (("r", reference), ("s", system))]
    (theirs,) = sacrebleu_command(files[0], "-i", files[1], "-m", "ter", "--ter-normalized", "--ter-asian-support")
    for language in ("zh", "jpn_Jpan"):
        ours = score_lines(system, reference, target_language=language)["ter"]
        assert ours.value == pytest.approx(theirs["score"], abs=1e-6) and ours.signature == theirs["signature"]
    assert TER().corpus_score(system, [reference]).score == 100.0, "what it is without that"
    # Three of Chinese's 24 characters and signs are other ones, one is in the way, one is missing.
    assert score_lines(*CHINESE, target_language="zh")["ter"].value < 20


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("zh", ["tokenized_bleu", "tokenized_bleu_lc"]),
        ("jpn_Jpan", ["tokenized_bleu", "tokenized_bleu_lc"]),
        ("tha_Thai", ["ter", "tokenized_bleu", "tokenized_bleu_lc"]),
        ("my", ["ter", "tokenized_bleu", "tokenized_bleu_lc"]),
        ("ko", []),
        ("de", []),
    ],
)
def test_metrics_that_find_no_words_are_left_out_with_a_reason(tmp_path: Path, language: str, names: list[str]) -> None:
    assert list(left_out(language)) == names
    assert not set(names) & set(score_lines(["ก"], ["ก"], target_language=language))
    files = [str(write_lines(tmp_path / name, ["ก ข"])) for name in ("s", "r")]
    flags = ["--system", files[0], "--reference", files[1], "--target-language", language]
    told = [line for line in table(score_files(parse_arguments(flags))).splitlines() if "left out" in line]
    assert [line.split()[0] for line in told] == names
    assert all("sacrebleu" in line or "chrf" in line for line in told), "and where to look instead"


def test_unknown_languages_and_tokenizers_are_refused(tmp_path: Path) -> None:
    files = [
        "--system",
        str(write_lines(tmp_path / "s", ["a"])),
        "--reference",
        str(write_lines(tmp_path / "r", ["a"])),
    ]
    for word in ("german", "zh-CN-en", ""):
        with pytest.raises(
            ValueError, match=f"--target-language {word}: no language code; expected one such as de, zh"
        ):
            score_files(parse_arguments([*files, "--target-language", word]))
    with pytest.raises(ValueError, match=r"(?s)--tokenize ja-mecab: .*pip install sacrebleu\[ja\]"):
        score_module.sacrebleu_metric(False, "ja-mecab")


def test_command(tmp_path: Path) -> None:
    write_lines(tmp_path / "system", SYSTEM)
    with gzip.open(tmp_path / "reference.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in REFERENCE)
    write_lines(tmp_path / "source", ["x", "y", "z", SYSTEM[3], ""])
    inputs = ["--reference", tmp_path / "reference.gz", "--source", tmp_path / "source"]
    good = run("finetune.mt.score", "--system", tmp_path / "system", *inputs, "--json", tmp_path / "scores.json")
    assert good.returncode == 0, good.stderr
    report = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (report["num_lines"], report["num_empty_system_lines"], report["num_copied_lines"]) == (5, 1, 1)
    assert set(report["scores"]) == {"sacrebleu", "sacrebleu_lc", "chrf", "ter", "tokenized_bleu", "tokenized_bleu_lc"}
    for score in report["scores"].values():
        assert f"{score['value']:.2f}  {score['signature']}" in good.stdout
    assert report["scores"]["sacrebleu"]["value"] == pytest.approx(score_lines(SYSTEM, REFERENCE)["sacrebleu"].value)
    assert report["scores"]["sacrebleu_lc"]["value"] > report["scores"]["sacrebleu"]["value"]
    short = write_lines(tmp_path / "short", SYSTEM[:3])
    bad = run("finetune.mt.score", "--system", short, *inputs, "--json", tmp_path / "never.json")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1
    assert re.search(r"short has 3 lines but .*reference\.gz has 5", bad.stderr)
    assert not (tmp_path / "never.json").exists()


@pytest.mark.parametrize("flag", ["--system", "--reference", "--source", "--baseline"])
def test_no_input_is_overwritten_with_scores(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: str(write_lines(tmp_path / name[2:], SYSTEM)) for name in ("--system", "--reference", flag)}
    words = [word for pair in files.items() for word in pair]
    for json_file, message in ((files[flag], "is the input"), (str(tmp_path / "no" / "a.json"), "there is no dir")):
        monkeypatch.setattr(sys, "argv", ["score", *words, "--json", json_file])
        with pytest.raises(ValueError, match=f"{re.escape(json_file)}: {message}"):
            score_module.main()
    assert Path(files[flag]).read_text(encoding="utf-8").splitlines() == SYSTEM


def test_none_of_several_references_is_overwritten_with_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, *references = (str(write_lines(tmp_path / name, SYSTEM)) for name in ("s", "first", "second"))
    words = ["--system", system, "--reference", *references, "--json", references[1]]
    monkeypatch.setattr(sys, "argv", ["score", *words])
    with pytest.raises(ValueError, match="second: is the input"):
        score_module.main()


@pytest.mark.parametrize("flag", ["--system", "--reference", "--source", "--baseline"])
def test_any_text_may_come_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    texts = {"--system": SYSTEM, "--reference": REFERENCE, "--source": REFERENCE, "--baseline": REFERENCE}
    paths = {name: str(write_lines(tmp_path / name, lines)) for name, lines in texts.items()}
    printed = []
    for name in (paths[flag], "-"):
        content = Path(paths[flag]).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        monkeypatch.setattr(sys, "argv", ["score", *(word for pair in {**paths, flag: name}.items() for word in pair)])
        score_module.main()
        printed.append(capsys.readouterr().out.replace(paths[flag], "standard input"))
    assert printed[0] == printed[1]


def test_standard_input_is_read_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--system", "-", "--reference", str(write_lines(tmp_path / "r", REFERENCE)), "--baseline", "-"]
    monkeypatch.setattr(sys, "argv", ["score", *words])
    with pytest.raises(ValueError, match=r"^standard input \(-\) is given twice"):
        score_module.main()


def test_standard_input_without_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    words = ["--system", "-", "--reference", str(write_lines(tmp_path / "r", REFERENCE))]
    monkeypatch.setattr(sys, "argv", ["score", *words])
    with pytest.raises(ValueError, match=r"^standard input has no line: nothing to score$"):
        score_module.main()


def test_scores_follow_the_table_on_standard_output(tmp_path: Path) -> None:
    files = ["--system", write_lines(tmp_path / "s", SYSTEM), "--reference", write_lines(tmp_path / "r", REFERENCE)]
    printed = run("finetune.mt.score", *files, "--json", "/dev/stdout")
    assert printed.returncode == 0, printed.stderr
    table_lines, _, content = printed.stdout.partition("{\n")
    assert "sacrebleu " in table_lines
    assert json.loads("{" + content)["num_lines"] == 5


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 system lines but 1 reference"):
        score_lines(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no line"):
        score_lines([], [])
    files = ["--system", str(write_lines(tmp_path / "s", ["a"])), "--reference", str(write_lines(tmp_path / "r", []))]
    with pytest.raises(ValueError, match="r has no line"):
        score_files(parse_arguments(files))
    other = str(write_lines(tmp_path / "o", ["a", "b"]))
    files[3:] = [files[1], "--source", other]
    with pytest.raises(ValueError, match=r"s has 1 lines but .*o has 2: is it the source"):
        score_files(parse_arguments(files))
    files[4:] = ["--baseline", other]
    with pytest.raises(ValueError, match=r"s has 1 lines but .*o has 2: do both systems"):
        score_files(parse_arguments(files))
    files[4:] = ["--comet"]
    with pytest.raises(ValueError, match="--comet needs --source"):
        score_files(parse_arguments(files))
    (tmp_path / "latin").write_bytes("ü\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 1 is not UTF-8"):
        score_files(parse_arguments(["--system", files[1], "--reference", str(tmp_path / "latin")]))


def test_table_does_not_wrap_signatures(tmp_path: Path) -> None:
    files = [
        "--system",
        str(write_lines(tmp_path / "s", SYSTEM)),
        "--reference",
        str(write_lines(tmp_path / "r", REFERENCE)),
    ]
    report = score_files(parse_arguments(files))
    lines = table(report).splitlines()
    assert "5 lines, 1 empty" in lines[0]
    assert sum(line.startswith(("sacrebleu", "chrf", "tokenized")) for line in lines) == 5


def varied(number: int) -> tuple[list[str], list[str], list[str]]:
    """(references, a good system, a worse one): with every fifth and every second line changed."""
    references = [
        f"the {i} dogs of number {i * 7} run over the long green field near house {i % 9}" for i in range(number)
    ]
    good = [line.replace("run over", "walk on") if i % 5 == 0 else line for i, line in enumerate(references)]
    worse = [line.replace("long green", "big") if i % 2 == 0 else line for i, line in enumerate(references)]
    return references, good, worse


def test_paired_bootstrap_is_that_of_sacrebleu(tmp_path: Path) -> None:
    """Score, p-value, mean and interval of its own command line on the same files."""
    references, good, worse = varied(60)
    files = [
        write_lines(tmp_path / name, lines) for name, lines in (("ref", references), ("worse", worse), ("good", good))
    ]
    flags = ["-m", "bleu", "chrf", "--paired-bs", "-f", "text", "-w", "4"]
    printed = run("sacrebleu", files[0], "-i", *files[1:], *flags).stdout  # its JSON fails with numpy 2
    theirs = [(float(x), float(y), float(z)) for x, y, z in re.findall(r"│ (\S+) \((\S+) ± (\S+)\)", printed)]
    p_values = [float(value) for value in re.findall(r"p = (\S+?)\)", printed)]
    assert len(theirs) == 4 and len(p_values) == 2
    compared = compare_lines(good, worse, references)
    for column, ours in enumerate((compared["sacrebleu"], compared["chrf"])):
        numbers = [
            (ours.baseline, ours.baseline_mean, ours.baseline_interval),
            (ours.system, ours.system_mean, ours.system_interval),
        ]
        assert numbers[0] == pytest.approx(theirs[column], abs=1e-4)
        assert numbers[1] == pytest.approx(theirs[2 + column], abs=1e-4)
        assert ours.p_value == pytest.approx(p_values[column], abs=1e-4) and ours.p_value < 0.05
        assert "bs:1000|seed:12345" in ours.signature
    assert compare_lines(good, good, references)["sacrebleu"].p_value > 0.9  # no difference at all
    spaced = [f"{line} " for line in good]  # none that BLEU sees
    assert compare_lines(spaced, good, references)["sacrebleu"].p_value > 0.9


def test_comparison_in_the_report(tmp_path: Path) -> None:
    references, good, worse = varied(30)
    pairs = (("--reference", references), ("--system", good), ("--baseline", worse))
    flags = [word for flag, lines in pairs for word in (flag, str(write_lines(tmp_path / flag.strip("-"), lines)))]
    report = score_files(parse_arguments(flags))
    assert report["comparison"]["sacrebleu"]["system"] == pytest.approx(report["scores"]["sacrebleu"]["value"])
    lines = table(report).splitlines()
    assert lines[-3].endswith("baseline, paired bootstrap:")
    assert re.match(r"sacrebleu +\+\d+\.\d\d  p = 0\.\d{4}  \(", lines[-2])


class FakeComet:
    """COMET's interface, where a translation's score is the fraction of the reference's words that it contains."""

    @staticmethod
    def load_from_checkpoint(path: str) -> "FakeComet":
        assert path == "checkpoint of Some/model"
        return FakeComet()

    @staticmethod
    def download_model(name: str) -> str:
        return f"checkpoint of {name}"

    def predict(self, data: list[dict[str, str]]) -> SimpleNamespace:
        assert all(row["src"] for row in data)
        shares = [len(set(row["mt"].split()) & set(row["ref"].split())) / len(row["ref"].split()) for row in data]
        return SimpleNamespace(system_score=sum(shares) / len(shares))


def test_comet_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, reference = write_lines(tmp_path / "s", ["a b", "c"]), write_lines(tmp_path / "r", ["a b", "c d"])
    flags = [
        "--system",
        str(system),
        "--reference",
        str(reference),
        "--source",
        str(reference),
        "--comet",
        "Some/model",
    ]
    monkeypatch.setitem(sys.modules, "comet", None)
    with pytest.raises(ValueError, match="COMET is not installed: pip install unbabel-comet"):
        score_files(parse_arguments(flags))
    monkeypatch.setitem(sys.modules, "comet", FakeComet)
    monkeypatch.setattr(score_module, "version", lambda name: f"version of {name}")
    score = score_files(parse_arguments(flags))["scores"]["comet"]
    assert score["value"] == pytest.approx(75.0)
    assert score["signature"] == "model:Some/model|comet:version of unbabel-comet"
