"""Cards that torch can use, cannot use, and is not to use. A stand-in for nvidia-smi makes a machine with a card."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from launching import ROOT, run

from training.devices import cards_told, machine_has_card, use_device, why_no_card

LISTED = "#!/bin/sh\necho 'GPU 0: Tesla V100-SXM2-32GB (UUID: GPU-1)'\n"
UNLISTED = "#!/bin/sh\necho 'No devices were found'\nexit 6\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of nvidia-smi, first on PATH, on a machine where nothing hides a card from programs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path / "nvidia-smi"


def write(program: Path, content: str) -> None:
    program.write_text(content)
    program.chmod(0o755)


def test_run_is_refused_where_torch_cannot_use_the_card(machine: Path) -> None:
    write(machine, LISTED)
    assert machine_has_card()
    with pytest.raises(ValueError, match=r"torch cannot use .* --device cpu") as error:
        use_device("auto")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has a card")
def test_machine_without_a_card_trains_on_the_cpu(machine: Path) -> None:
    """Also where somebody installed the driver's tools."""
    write(machine, UNLISTED)
    use_device("auto")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(("name", "value"), [("CUDA_VISIBLE_DEVICES", "-1"), ("DS_ACCELERATOR", "cpu")])
def test_who_hides_the_cards_is_not_asked_why(
    name: str, value: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(machine, LISTED)
    monkeypatch.setenv(name, value)
    use_device("auto")
    with pytest.raises(ValueError, match="hides all cards"):
        use_device("cuda")


def test_cpu_of_a_machine_with_cards_is_used_if_the_recipe_says_so(machine: Path) -> None:
    write(machine, LISTED)
    use_device("cpu")
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["DS_ACCELERATOR"]) == ("", "cpu")


@pytest.mark.parametrize(
    ("cuda", "warned", "told"),
    [
        (None, [], "torch 2.13.0 is built for the CPU alone"),
        ("13.0", [], "built for CUDA 13.0, which the driver may be too old for; update"),
        (
            "13.0",
            ["CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). Please update"],
            "too old for (The NVIDIA driver on your system is too old (found version 12020)); update the driver",
        ),
    ],
)
def test_reason_is_told(machine: Path, cuda: str | None, warned: list[str], told: str) -> None:
    assert told in why_no_card("2.13.0", cuda, warned)


def test_cards_are_counted_with_their_memory() -> None:
    assert cards_told("NVIDIA H100 80GB HBM3", [79.2 * 2**30] * 8) == "8 x NVIDIA H100 80GB HBM3 (79.2 GiB)"
    assert cards_told("A100", [39.5 * 2**30] * 2 + [79.1 * 2**30]) == "2 x A100 (39.5 GiB), 1 with 79.1 GiB"


@pytest.mark.parametrize("script", ["pretrain/train.py", "finetune/mt/train.py", "finetune/understanding/train.py"])
def test_commands_end_with_that_line(script: str, machine: Path, tmp_path: Path) -> None:
    """Fine-tuning, too, before it looks for its model."""
    write(machine, LISTED)
    recipes = {"mt": ["--config", "demo_en_de"], "understanding": ["--config", "xnli", "--task", "xnli"]}
    arguments = [*recipes.get(Path(script).parent.name, []), "--output", str(tmp_path / "run")]
    variables = {
        "PATH": os.environ["PATH"],
        "DS_ACCELERATOR": "",
        "CUDA_VISIBLE_DEVICES": "99",
    }  # not hidden, not there
    variables |= dict.fromkeys(("VECO_CORPORA", "VECO_MODEL", "VECO_RUNS"), str(tmp_path))
    ended = run([sys.executable, str(ROOT / script), *arguments], variables)
    assert ended.returncode == 2 and "--device cpu" in ended.stderr, ended.stderr
    assert not (tmp_path / "run").exists()
