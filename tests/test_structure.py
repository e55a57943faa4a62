"""Rules of the code base that a machine can check: dependencies, packaging, documentation of commands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from help_in_process import help_in_process

from finetune.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("veco", "data_tools", "training", "pretrain", "finetune", "inference", "analysis")
ALLOWED = {
    "veco": {"veco", "data_tools"},
    "data_tools": {"data_tools"},
    "training": {"veco", "data_tools", "training"},
    "pretrain": {"veco", "data_tools", "training", "pretrain"},
    "finetune": {"veco", "data_tools", "training", "finetune"},
    "inference": {"veco", "data_tools", "training", "finetune", "inference"},
    "analysis": {"veco", "data_tools", "training", "finetune", "inference", "analysis"},
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at whatever place."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
    assert ours <= ALLOWED[package]


def test_deepspeed_is_imported_in_one_file() -> None:
    users = {path for path in MODULES if any(name.split(".")[0] == "deepspeed" for name in imported(path))}
    assert users == {ROOT / "training" / "engine" / "deepspeed_engine.py"}


def test_figures_are_set_up_in_one_file() -> None:
    """Back end, fonts and colours; the others ask it for pyplot."""
    users = {path.relative_to(ROOT).as_posix() for path in MODULES if "matplotlib.use(" in path.read_text("utf-8")}
    users |= {path.relative_to(ROOT).as_posix() for path in MODULES if "matplotlib" in imported(path)}
    assert users == {"training/figures.py"}


def test_no_module_beside_a_train_script_shadows_another() -> None:
    for script in (path for path in MODULES if path.name == "train.py"):
        neighbours = {path.stem for path in script.parent.glob("*.py")}
        assert not neighbours & {*sys.stdlib_module_names, *PACKAGES}, script


def test_every_command_reads_its_flags_by_the_same_parser() -> None:
    users = {
        path.relative_to(ROOT).as_posix() for path in [*MODULES, *ROOT.glob("benchmarks/*.py")] if makes_parser(path)
    }
    assert users == {"data_tools/cli.py"}


def makes_parser(path: Path) -> bool:
    """Whether a file uses argparse's own parser or a class derived from it."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    uses = (node.func for node in nodes if isinstance(node, ast.Call))
    text = path.read_text(encoding="utf-8")
    return "(argparse.ArgumentParser)" in text or any(ast.unparse(use) == "argparse.ArgumentParser" for use in uses)


def test_every_module_has_a_docstring() -> None:
    without = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not without


def test_every_module_is_imported() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if path.name != "__main__.py"]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr


# Pages of docs/ that show commands other than benchmarks.
PAGES = (
    *(
        "analysis",
        "configuration",
        "data",
        "decoding",
        "distillation",
        "encoders",
        "inference",
        "installation",
        "multinode",
        "new_languages",
        "planning",
        "results",
        "resuming",
        "stages",
        "studies",
    ),
    *("tasks", "transformers", "translation", "xtreme", "xtreme_training"),
)


@pytest.mark.filterwarnings("ignore:.* found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize("file", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_commands_in_the_documentation_exist(file: str) -> None:
    """Every module, script and flag in the commands shown exists, as their `--help` says."""
    text = (ROOT / file).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.S)).replace("\\\n", " ")
    commands = re.findall(
        r"(?:(?:python -m|deepspeed --module) (\S+)|^veco-([a-z]\S*)|"
        r"deepspeed (?:--\S+ (?!\S*\.py)\S+ |--no_ssh )*(\S+\.py))([^\n|>]*)",
        blocks,
        re.M,
    )
    assert commands, f"{file} shows no command"
    for module_or_none, command, script, arguments in commands:
        module = COMMANDS[command] if command else module_or_none
        known = help_in_process(module or str(ROOT / script))
        for flag in re.findall(r"(?<!\S)--[\w-]+", arguments):
            assert flag in known, f"{file}: {module or script} has no {flag}"
