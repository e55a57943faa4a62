"""The command as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from launching import run_module

from data_tools.shards.manifest import Manifest
from pretrain.plan import main
from pretrain.planning.cards import GIB

RECIPE = """\
data: ${NOWHERE}/data
mono_max_length: 16
bilingual_max_length: 16
mono_batch_pairs: 8
bilingual_batch_pairs: 16
steps: 100
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_tables_and_json_say_the_same(recipe: Path, random_data: Path, tmp_path: Path) -> None:
    flags = ["--gpus", "2", "--gpu", "h100-80", "--data", str(random_data), "--mfu", "0.5"]
    result = run_module("pretrain.plan", str(recipe), *flags, "--json", str(tmp_path / "plan.json"))
    assert result.returncode == 0, result.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [(way["stage"], way["recompute"]) for way in plan["ways"]] == [
        (stage, recompute) for stage in range(4) for recompute in (False, True)
    ]
    choice = plan["choice"]
    assert (choice["stage"], choice["micro_batch_pairs"]) == (1, {"mono": 4, "bilingual": 8})
    parts = {name: size for name, size in choice["memory"].items() if name not in ("moment", "total")}
    assert sum(parts.values()) == pytest.approx(choice["memory"]["total"])
    for size in parts.values():
        assert f"{size / GIB:.2f}" in result.stdout
    manifest = Manifest.load(random_data)
    assert f"{manifest.vocab_size:,} pieces" in result.stdout
    flops = sum(kind["flops"] for kind in plan["kinds"].values()) / 2
    assert choice["seconds_of_an_update"] == pytest.approx(flops / (2 * 0.5 * 989.4e12))
    assert {language["name"] for language in plan["languages"]} == {"de", "en", "de-en"}
    assert "50 % of the peak" in result.stdout
    fragment = yaml.safe_load(plan["recipe"])
    assert (fragment["accumulation_steps"], fragment["micro_batch_tokens"]) == ("auto", 8 * 2 * 16)
    assert "accumulation_steps: auto  # 1 on 2" in plan["recipe"] and plan["recipe"] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "2"], "expected either --gpu (v100-32, a100-40, a100-80, h100-80, h200-141, l4, rtx4090), or both"),
        (["--gpus", "2", "--gpu", "h100"], "--gpu 'h100': expected one of v100-32"),
        (
            ["--gpus", "3", "--gpu", "l4"],
            "mono_batch_pairs 8 and bilingual_batch_pairs 16 cannot be divided evenly by 3",
        ),
        (["--gpus", "0", "--gpu", "l4"], "--gpus 0 must be at least 1"),
        (["--gpus", "2", "--gpu", "l4", "--mfu", "40"], "--mfu 40 must be above 0 and at most 1"),
        (["--gpus", "2", "--gpu", "l4", "--data", "{missing}"], "{missing}/manifest.json: no such file"),
        (["--gpus", "2", "--gpu", "l4", "--json", "{recipe}"], "is the input {recipe}, which would be lost"),
        (["--gpu", "l4"], "the following arguments are required: --gpus"),
        (["--gpus", "2", "--gpu", "l4", "--set", "steps"], "--set steps: expected FIELD=VALUE, such as steps=100000"),
        (["--gpus", "2", "--gpu", "l4", "--set", "steps=1", "steps=2"], "--set steps=2: is set twice"),
        (["--gpus", "2", "--gpu", "l4", "--set", "objective=mlm+tml"], "unknown objective 'tml', did you mean"),
    ],
)
def test_bad_input_is_told(
    arguments: list[str], message: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"missing": str(tmp_path / "missing"), "recipe": str(recipe)}
    filled = [argument.format(**places) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["plan", str(recipe), *filled])
    with pytest.raises(ValueError, match=re.escape(message.format(**places))):
        main()
    assert recipe.read_text() == RECIPE


def test_fields_take_the_place_of_the_files(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective of one sweep takes less time than CA-MLM + TLM, and a third of the updates a third of the run."""
    seconds = {}
    for name, fields in (("file", []), ("set", ["--set", "objective=mlm", "steps=30"])):
        flags = ["--gpus", "2", "--gpu", "h100-80", "--vocab_size", "1000", *fields]
        monkeypatch.setattr("sys.argv", ["plan", str(recipe), *flags, "--json", str(tmp_path / f"{name}.json")])
        main()
        plan = json.loads((tmp_path / f"{name}.json").read_text())
        seconds[name] = plan["choice"]["seconds_of_an_update"]
        assert plan["updates"] == (30 if fields else 100)
    assert seconds["set"] < 0.6 * seconds["file"]


def test_bad_input_is_one_line(recipe: Path) -> None:
    recipe.write_text(RECIPE + "batch_size: 3\nalpha: 2\n")
    result = run_module("pretrain.plan", str(recipe), "--gpus", "2", "--gpu", "l4")
    assert result.returncode == 2 and not result.stdout
    told = f"error: recipe {recipe}: unknown field 'batch_size'; alpha 2.0 must lie between 0 and 1\n"
    assert result.stderr == told


def test_where_nothing_fits_the_exit_code_is_1(recipe: Path) -> None:
    result = run_module("pretrain.plan", str(recipe), "--gpus", "1", "--memory", "0.01", "--tflops", "1")
    assert result.returncode == 1
    assert result.stderr.startswith("nothing fits card: take more GPUs") and "does not" not in result.stdout
    assert "ds_config" in result.stdout  # the tables are there to see what is wanting
