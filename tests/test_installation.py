"""The wheel, installed where the checkout cannot be found: its content, its commands, and a training run."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from finetune.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TOP = ("veco", "data_tools", "training", "pretrain", "finetune", "inference", "analysis", "ds_configs")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built in a copy of the project, since setuptools writes files beside setup.py."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    for name in (*TOP, "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(output), str(source)]
    subprocess.run(command, check=True, cwd=output)
    (path,) = output.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel's packages and, in bin/, its commands."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    return target


def version_of(wheel: Path) -> str:
    """The version in a wheel's name."""
    return wheel.name.split("-")[1]


def run_installed(installed: Path, command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an installed command in another directory, with the project's packages in `installed` only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {**kept, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(installed / "bin" / command), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
        timeout=900,
    )


def test_wheel_contains_all_packages_and_nothing_else(wheel: Path) -> None:
    files = (path.relative_to(ROOT) for name in TOP for path in (ROOT / name).rglob("*") if path.is_file())
    expected = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == expected


def test_every_program_is_a_command() -> None:
    """The modules that end in `if __name__ == "__main__"` are those that have a command's name."""
    programs = set()
    for path in (path for name in TOP for path in (ROOT / name).rglob("*.py")):
        if "\nif __name__ ==" in path.read_text(encoding="utf-8") and path != ROOT / "finetune" / "commands.py":
            programs.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"))
    assert set(COMMANDS.values()) == programs
    assert len(programs) == len(COMMANDS)


def test_commands_run_from_elsewhere(wheel: Path, installed: Path, tmp_path: Path) -> None:
    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_installed(installed, command, *arguments, cwd=tmp_path)

    assert {path.name for path in (installed / "bin").iterdir()} == {"veco", *(f"veco-{name}" for name in COMMANDS)}
    assert run("veco", "--version").stdout == f"veco {version_of(wheel)}\n"
    assert all(f"python -m {module}" in run("veco").stdout for module in COMMANDS.values())
    unknown = run("veco", "trian")
    assert unknown.returncode == 2 and unknown.stderr.startswith("error: no command 'trian'; expected one of ")

    recipe = run("veco-pretrain", "--config", "tiny", "--ds_config", "zero1_bf16.json", "--validate_only")
    assert recipe.returncode == 0, recipe.stderr
    assert "ds_config: zero1_bf16.json" in recipe.stdout and "hidden_size: 128" in recipe.stdout
    again = run("veco", "pretrain", "--config", "tiny", "--ds_config", "zero1_bf16.json", "--validate_only")
    assert again.stdout == recipe.stdout
    wrong = run("veco-pretrain", "--config", "tiny", "--ds_config", "zero9.json", "--validate_only")
    assert wrong.returncode == 2 and "ds_configs/ has cpu.json" in wrong.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_tiny_recipe_trains_from_elsewhere(wheel: Path, installed: Path, tmp_path: Path) -> None:
    flags = ["--engine", "plain", "--ds_config", "cpu.json", "--steps", "2", "--log_every", "1", "--output", "run"]
    trained = run_installed(installed, "veco-pretrain", *flags, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line.get("mono/loss", line.get("bilingual/loss"))) for line in lines)
    exported = run_installed(installed, "veco-export", "run", "--output", "model", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert f'"veco": "{version_of(wheel)}"' in (tmp_path / "model" / "README.md").read_text()
    made = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".json", ".yaml", ".jsonl")]
    assert made and not any(str(ROOT) in path.read_text(encoding="utf-8") for path in made)
