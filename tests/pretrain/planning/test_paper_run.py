"""The figures of docs/planning.md are the planner's. Table 6 of the paper is in tests/golden/veco_table_6.tsv."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from pretrain.planning.cards import CARDS, GIB
from pretrain.planning.choice import Way, make_plan
from pretrain.planning.epochs import Content, mean_lengths, readings
from pretrain.planning.workload import Workload, plan_workload, read_recipe
from pretrain.sources import MonoSource, OpenShards

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
BYTES_A_TOKEN = 3.8


def cells(name: str) -> list[list[str]]:
    """The rows of the page's tables whose first cell is `name`, without that."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"]
    return [row[1:] for row in rows if row[0] == name]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.fixture(scope="module")
def paper() -> Workload:
    return plan_workload(read_recipe(ROOT / "pretrain" / "recipes" / "large.yaml"), None, [], None)


@pytest.fixture(scope="module")
def table_6() -> dict[str, Content]:
    with open(ROOT / "tests" / "golden" / "veco_table_6.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    window = MonoSource(OpenShards(ROOT), [], 510).window_tokens
    found = {}
    for language, documents, sentences, gigabytes in rows:
        tokens = float(gigabytes) * 1e9 / BYTES_A_TOKEN
        samples = float(documents) * 1e6 + tokens / window
        found[language] = Content(round(float(sentences) * 1e6), round(samples), round(tokens))
    return found


@pytest.mark.parametrize(("column", "gpus", "card"), [(0, 64, "v100-32"), (1, 8, "h100-80")])
def test_pretraining(paper: Workload, column: int, gpus: int, card: str) -> None:
    plan = make_plan(paper, CARDS[card], gpus, "bf16", 0.35)
    ways: dict[bool, Way] = {way.recompute: way for way in plan.ways if way.zero.stage == 1}
    way = ways[False]
    assert way.fits

    def shown(name: str) -> list[float]:
        (row,) = cells(name)
        return numbers(row[column])

    assert cells("precision")[0][column] == plan.precision
    assert shown("micro-batch, monolingual and bilingual pairs") == list(way.pairs.values())
    assert shown("accumulation steps") == [way.accumulation]
    memory = way.memory
    state = [memory.weights / GIB, memory.gradients / GIB, memory.optimizer / GIB]
    assert shown("weights, gradients, optimizer, GiB a rank") == pytest.approx(state, abs=0.06)
    held = [memory.activations / GIB, memory.logits / GIB]
    assert shown("activations, logits, GiB a rank") == pytest.approx(held, rel=0.03)
    assert shown("seconds an update") == pytest.approx([way.time.seconds], rel=0.01)
    assert shown("days") == pytest.approx([way.time.days], abs=0.06)
    assert shown("days with recomputation, which neither needs") == pytest.approx([ways[True].time.days], abs=0.06)
    assert shown("a checkpoint, GB") == pytest.approx([way.checkpoints.one / 1e9], rel=0.001)


def test_languages(table_6: dict[str, Content]) -> None:
    assert len(table_6) == 50
    assert sum(content.sentences for content in table_6.values()) == pytest.approx(6_475.444e6, rel=1e-5)  # its total
    contents = {"mono": table_6}
    recipe = read_recipe(ROOT / "pretrain" / "recipes" / "large.yaml")
    workload = plan_workload(recipe, None, [{**mean_lengths(contents, 0.5), "bilingual": 128.0}] * 2, None)
    assert f"({workload.kinds['mono'].average.length} tokens)" in PAGE
    found = {reading.name: reading for reading in readings(workload, [contents] * 2)}
    for name in ("en", "ru", "zh", "de", "hi", "sw", "gd", "yo"):
        (row,) = cells(name)
        reading = found[name]
        expected = [reading.sentences / 1e6, reading.probability, reading.samples / 1e6, reading.tokens / 1e9]
        assert [f"{value:.{places}f}" for value, places in zip(expected, (1, 4, 2, 2), strict=True)] == row[:4]
        assert f"{reading.epochs:.2f}" == row[4]
    assert f"All languages: {sum(reading.tokens for reading in found.values()) / 1e9:.1f} G tokens" in PAGE


def test_cards() -> None:
    for card in CARDS.values():
        (row,) = cells(f"`{card.name}`")
        peaks = [
            f"{card.peak_tflops[name]:g}" if name in card.peak_tflops else "none"
            for name in ("bf16", "fp16", "float32")
        ]
        assert row[:4] == [f"{card.memory / GIB:.1f}", *peaks]
