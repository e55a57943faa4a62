"""What the parsers of commands refuse is found before the first step, with the key of STUDY.yaml that has it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from small_study import StudyMaker

from finetune.command_stages import Stage
from finetune.commands import COMMANDS
from finetune.study.checking import checks
from finetune.study.checking.flag_check import Parsed, checked, parsed_lines, program_of
from finetune.study.checking.values import Values, place_of
from finetune.study.plan import plan_of

ROOT = Path(__file__).resolve().parents[3]
SYNTAX = {"train": "a", "dev": "b", "test": "c"}
# Section -> entries that are added to it, the key that is wrong, what follows on its place in the message.
Mistake = tuple[dict[str, Any], str, str]
MISTAKES: dict[str, Mistake] = {
    "a method that there is not": (
        {"models": {"a": {"from": "found", "vocabulary": {"tokenizer": "en", "by": "rnak"}}}},
        "by",
        r"model a: vocabulary: argument --by: invalid choice: 'rnak' \(choose from .*rank",
    ),
    "flags that do not go together": (
        {"models": {"a": {"from": "found", "extend": {"from-tokenizer": "en", "rows": "focus"}}}},
        "rows",
        "model a: extend: --rows focus trains vectors of another tokenizer's pieces: expected",
    ),
    "a flag that there is not": (
        {"models": {"a": {"from": "found", "extend": {"from_tokenizr": "en"}}}},
        "from_tokenizr",
        "model a: extend: unknown flag --from-tokenizr, did you mean --from-tokenizer",
    ),
    "a vocabulary of no size": (
        {"tokenizers": {"en": {"text": "en", "vocab_size": "large"}}},
        "vocab_size",
        "tokenizer en: argument --vocab-size: invalid int value: 'large'",
    ),
    "a value out of its range": (
        {"tokenizers": {"en": {"text": "en", "vocab_size": 60, "character-coverage": 2}}},
        "character-coverage",
        r"tokenizer en: --character-coverage 2.0: expected a share in \(0, 1\]",
    ),
    "a kind that cannot be converted": (
        {"models": {"a": {"from": "found", "convert": "brt"}}},
        "convert",
        "model a: convert: argument KIND: invalid choice: 'brt'",
    ),
    "a probe's value": (
        {"probes": {"x": {"command": "analysis.syntax", "flags": {**SYNTAX, "epochs": 0}, "results": {"n": "a:b"}}}},
        "epochs",
        "probe x en: --epochs 0: expected at least 1",
    ),
    "a probe that there is not": (
        {"probes": {"x": {"command": "analysis.sintax", "results": {"n": "a:b"}}}},
        "command",
        "probe x en: there is no command python -m analysis.sintax",
    ),
}


def with_entries(content: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """The sections of a study with further entries."""
    return {section: {**content.get(section, {}), **entries} for section, entries in added.items()}


def place(file: Path, key: str) -> str:
    """The line and the column of the last value of a key."""
    lines = enumerate(file.read_text().splitlines(), start=1)
    *_, (number, line) = [(number, line) for number, line in lines if f" {key}" in line]
    return f"{file}:{number}:{line.index(key) + len(key) + 2}"


@pytest.mark.parametrize("name", MISTAKES)
def test_what_a_command_would_refuse_is_told_with_its_key(
    name: str, study: StudyMaker, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "checked", parsed_lines)  # in this process
    monkeypatch.setattr(checks, "AT_ONCE", 1)  # as sys.argv is
    added, key, expected = MISTAKES[name]
    with pytest.raises(ValueError, match=rf"^\S+mine.yaml:\d+:\d+: {expected}") as told:
        plan_of(study(**with_entries(content, added)), tmp_path / "out")
    assert str(told.value).startswith(place(tmp_path / "mine.yaml", f"{key}:"))
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


def test_what_a_recipe_of_pretraining_refuses_is_told_with_its_key(
    study: StudyMaker, content: dict[str, Any], tmp_path: Path
) -> None:
    """By the commands themselves."""
    added = {"models": {"longer": {"from": "en", "pretrain": {"data": "en", "learning_rate": "fast"}}}}
    expected = "model longer: pretrain: learning_rate: expected a number, found 'fast'$"
    with pytest.raises(ValueError, match=rf"^\S+mine.yaml:\d+:\d+: {expected}") as told:
        plan_of(study(**with_entries(content, added)), tmp_path / "out")
    assert str(told.value).startswith(place(tmp_path / "mine.yaml", "learning_rate:"))


def test_a_process_checks_all_lines_of_a_command() -> None:
    lines = [["C.yaml", "--output", "DATA"], ["C.yaml"], ["C.yaml", "--output", "DATA", "--workers", "0"]]
    found = checked("data_tools.prepare", lines)
    required = "the following arguments are required: --output"
    assert [one.problem for one in found] == ["", required, "--workers 0: expected at least 1"]
    assert [one.values.get("output") for one in found] == ["DATA", None, None]


def test_a_process_reads_all_recipes() -> None:
    lines = [["--config", "tiny", "--num_hidden_layers", number, "--output", "x"] for number in ("3", "few", "5")]
    found = checked("pretrain.train", lines)
    assert [one.values.get("num_hidden_layers") for one in found] == [3, None, 5]
    assert [bool(one.problem) for one in found] == [False, True, False]
    assert "num_hidden_layers: expected a whole number, found 'few'" in found[1].problem


def test_the_launchers_file_of_a_training_is_a_command_but_a_probes_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def parsed(module: str, lines: list[list[str]]) -> list[Parsed]:
        asked.append((module, lines))
        return [Parsed("recipe here.yaml: wrong")] * len(lines)

    monkeypatch.setattr(checks, "checked", parsed)
    monkeypatch.setattr(checks, "AT_ONCE", 1)
    training = Stage("train", ("pretrain/train.py", "--config", "there.yaml"), Path("x"), is_distributed=True)
    probe = Stage("probe", ("analysis/syntax.py", "MODEL"), Path("y"))
    found = checks.parsed_stages([training, probe], {"there.yaml": Path("here.yaml")})
    assert asked == [("pretrain.train", [["--config", "here.yaml"]]), ("analysis/syntax.py", [["MODEL"]])]
    assert found == {"train": Parsed("wrong"), "probe": Parsed("recipe here.yaml: wrong")}


def test_commands_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "probe.py").write_text("def parse_arguments(): pass\nraise SystemExit('run')\n")
    (tmp_path / "somebody" / "other.py").write_text("x = 1\n")
    parser = "argparse.ArgumentParser()\n    parser.add_argument('--n', type=int)\n    return parser.parse_args()\n"
    text = f"import argparse\n\ndef parse_arguments():\n    parser = {parser}"
    (tmp_path / "somebody" / "numbers.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert parsed_lines("somebody.other", [["--anything"]]) == [Parsed()]
    (wrong,) = parsed_lines("somebody.numbers", [["--n", "x"]])
    assert wrong.problem.endswith("error: argument --n: invalid int value: 'x'")
    assert parsed_lines("somebody.numbers", [["--n", "3"]]) == [Parsed(values={"n": 3})]
    assert parsed_lines("somebody.none", [["x"], []]) == [Parsed("there is no command python -m somebody.none")] * 2
    assert "cannot be imported: run" in checked("somebody.probe", [[]])[0].problem


def test_a_script_without_a_parser_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a package; one that only calls or mentions parse_arguments has none."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    runs = f"open({str(tmp_path / 'has run')!r}, 'w').close()\n"
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "__main__.py").write_text(runs)
    (tmp_path / "own_script.py").write_text(f"{runs}x = 'parse_arguments'\ny = parse_arguments\n")
    for module in ("own_package", "own_script"):
        assert checked(module, [["--n", "1"], []]) == [Parsed(), Parsed()]
    assert not (tmp_path / "has run").exists()
    (tmp_path / "own_import.py").write_text(f"from own_parser import parse_arguments\n{runs}")
    (tmp_path / "own_parser.py").write_text("def parse_arguments():\n    raise ValueError('x')\n")
    assert checked("own_import", [[]]) == [Parsed("x")] and (tmp_path / "has run").exists()


@pytest.mark.parametrize("code", [0, 3])
def test_a_module_that_ends_the_process_is_named(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    ends = f"sys.stderr.write('' if {code} else 'a warning')\nsys.exit({code})\n"
    (tmp_path / "own_end.py").write_text(f"import sys\ndef parse_arguments():\n    pass\n{ends}")
    told = "python -m own_end cannot be imported: it ends the process; put what it does under if __name__ == '__main__'"
    assert checked("own_end", [[], []]) == [Parsed(told)] * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def parse_arguments(argv):\n    raise ValueError('x')\n", ""),
        ("def parse_arguments(*, argv):\n    raise ValueError('x')\n", ""),
        ("parse_arguments = None\n", ""),
        ("def parse_arguments(argv=None):\n    raise ValueError('x')\n", "x"),
    ],
)
def test_a_parser_is_one_that_needs_no_argument(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_probe.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    assert checked("own_probe", [["--n", "1"]]) == [Parsed(expected)]


def test_every_command_that_makes_or_looks_into_a_model_has_a_parser_to_check_by() -> None:
    probes = [module for module in COMMANDS.values() if module.startswith("analysis.")]
    makers = ("data_tools.train_tokenizer", "data_tools.prepare", "veco.convert", "veco.vocabulary", "pretrain.train")
    for module in (*makers, *probes):
        text = (ROOT / f"{program_of(module).replace('.', '/')}.py").read_text()
        assert "def parse_arguments()" in text or "import parse_arguments" in text, module


def test_the_section_that_wins_is_named() -> None:
    class Named:
        """A study whose places are the keys themselves."""

        @staticmethod
        def place(keys: tuple[str, ...]) -> str:
            return ".".join(keys)

    sections = [Values(("models", "a"), {"steps": 1}), Values(("finetuning",), {"steps": 1, "max-length": 2})]
    messages = ["steps: expected", "max_length 2 must be at least 8", "no value"]
    found = [place_of(message, sections, Named()) for message in messages]  # type: ignore[arg-type]
    assert found == ["models.a.steps", "finetuning.max-length", "models.a"]
