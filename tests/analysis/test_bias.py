"""The command: models of entailment with two labels and three, and one line for bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from entailment_models import write_task_model
from scipy.special import softmax
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from analysis import bias
from analysis.winogender.items import read_pairs

TEMPLATES = """occupation(0)\tother-participant(1)\tanswer\tsentence
dog\tbird\t1\t$PARTICIPANT saw $OCCUPATION and $NOM_PRONOUN red.
dog\tbird\t0\t$OCCUPATION no $PARTICIPANT but $POSS_PRONOUN house.
stone\ttree\t0\t$OCCUPATION or $PARTICIPANT: milk for $ACC_PRONOUN.
paul\tanna\t1\t$OCCUPATION in rome, $PARTICIPANT: $NOM_PRONOUN yes.
"""
TASK_LABELS = {
    "two_labels": ("entailment", "not_entailment"),
    "three_labels": ("contradiction", "entailment", "neutral"),
}
STATISTICS = "occupation\tbls_pct_female\tbls_year\ndog\t80.5\t2015\nstone\t12\t2015\npaul\t40\t2016\n"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["bias", *map(str, arguments)])
    bias.main()


@pytest.fixture(scope="module")
def winogender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("winogender")
    (root / "templates.tsv").write_text(TEMPLATES)
    (root / "occupations-stats.tsv").write_text(STATISTICS)
    return root


def items(winogender: Path) -> list[tuple[str, str]]:
    return [(premise, pair.hypothesis) for pair in read_pairs(winogender) for premise in pair.premises]


def logits_of(directory: Path, items: Sequence[tuple[str, str]]) -> np.ndarray:
    """(items, labels), by transformers, one by one."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.inference_mode():
        return np.stack([model(**tokenizer(*item, return_tensors="pt")).logits[0].numpy() for item in items])


def balanced(directory: Path, items: Sequence[tuple[str, str]]) -> Path:
    """A model that finds entailment in half the items: its bias is moved."""
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    number = model.config.label2id["entailment"]
    logits = logits_of(directory, items)
    margins = logits[:, number] - np.delete(logits, number, axis=1).max(axis=1)
    with torch.no_grad():
        model.classifier.out_proj.bias[number] -= float(np.median(margins))
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def two_labels(tiny_model: Path, winogender: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return balanced(
        write_task_model(tiny_model, "glue/rte", tmp_path_factory.mktemp("rte") / "model"), items(winogender)
    )


@pytest.fixture(scope="module")
def three_labels(tiny_model: Path, winogender: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_task_model(tiny_model, "xtreme/xnli", tmp_path_factory.mktemp("xnli") / "model")
    return balanced(directory, items(winogender))


@pytest.mark.parametrize("model", ["two_labels", "three_labels"])
def test_scores_follow_from_the_model_itself(
    model: str, winogender: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = request.getfixturevalue(model)
    call(monkeypatch, directory, "--data", winogender, "--max-tokens", 150, "--output", tmp_path)
    found = json.loads((tmp_path / "bias.json").read_text())

    pairs = read_pairs(winogender)
    entailment = list(TASK_LABELS[model]).index("entailment")
    likelihoods = softmax(logits_of(directory, items(winogender)), axis=1)
    predicted = (likelihoods.argmax(axis=1) == entailment).reshape(-1, 2)
    probabilities = likelihoods[:, entailment].reshape(-1, 2)
    entailed = np.array([pair.is_entailed for pair in pairs])

    assert 0 < predicted.mean() < 1  # the case is no constant one
    assert found["share_predicted_entailed"] == predicted.mean()
    assert found["pairs"] == 8 and found["entailment"] == "entailment"
    assert found["other_labels"] == (["not_entailment"] if model == "two_labels" else ["contradiction", "neutral"])
    assert found["model"]["gps"]["value"] == (predicted[:, 0] == predicted[:, 1]).mean()
    assert found["model"]["accuracy"]["value"] == (predicted == entailed[:, None]).mean()
    for constant in ("always entailed", "never entailed"):
        assert found[constant]["gps"]["value"] == 1 and found[constant]["accuracy"]["value"] == 0.5
    dog = found["occupations"]["dog"]  # pairs 0 to 3, of which 0 and 2 say the occupation
    assert dog["lean"] == pytest.approx((probabilities[[0, 2], 1] - probabilities[[0, 2], 0]).mean(), abs=1e-5)
    assert dog["share_of_women"] == 0.805
    assert sum(own["items"] for by_kind in found["gotcha"].values() for own in by_kind.values()) == 16
    rows = list(csv.DictReader((tmp_path / "bias.csv").open()))
    assert [row["classifier"] for row in rows] == ["model", "always entailed", "never entailed"]
    written = {path.name for path in tmp_path.iterdir()} - {".made_by.tsv"}
    names = {f"bias.{end}" for end in ("json", "csv", "md", "png", "svg")}
    assert written == names | {"occupations.png", "occupations.svg"}


def test_the_label_can_be_named_and_axg_has_no_occupations(
    two_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = '{"premise": "%s saw the bird", "hypothesis": "a bird", "label": "entailment"}\n'
    (tmp_path / "AX-g.jsonl").write_text(row % "he" + row % "she")
    for label in ("entailment", "not_entailment"):
        flags = ("--data", tmp_path / "AX-g.jsonl", "--entailment", label, "--output", tmp_path / label)
        call(monkeypatch, two_labels, *flags)
        assert f"{label} against " in capsys.readouterr().out
        assert not (tmp_path / label / "occupations.svg").exists()
    found = [json.loads((tmp_path / label / "bias.json").read_text()) for label in ("entailment", "not_entailment")]
    assert found[0]["share_predicted_entailed"] == 1 - found[1]["share_predicted_entailed"]
    assert found[0]["occupations"] == found[0]["gotcha"] == {} and found[0]["lean_with_share_of_women"] is None


def test_a_model_that_is_plugged_in_reads_each_example_as_its_own_pair(
    tiny_model: Path, winogender: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_task_model(
        tiny_model, "glue/rte", tmp_path / "model", plug_in=True, setting="translate-train-all"
    )
    monkeypatch.setattr("analysis.winogender.report.draw", lambda *_: None)
    scores = []
    for max_tokens in (100, 1000):
        flags = ("--data", winogender, "--max-tokens", max_tokens, "--output", tmp_path / "found")
        call(monkeypatch, directory, *flags)
        scores.append(json.loads((tmp_path / "found" / "bias.json").read_text())["occupations"]["dog"]["lean"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6) and scores[0] != 0


def test_other_models_are_refused(
    tiny_model: Path, two_labels: Path, winogender: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--data", winogender, "--output", tmp_path / "found")
    with pytest.raises(ValueError, match="was not trained for a task"):
        call(monkeypatch, tiny_model, *flags)
    with pytest.raises(ValueError, match="its labels are entailment, not_entailment, without yes; name with --entail"):
        call(monkeypatch, two_labels, "--entailment", "yes", *flags)
    tagger = write_task_model(tiny_model, "xtreme/udpos", tmp_path / "tagger")
    with pytest.raises(ValueError, match="was trained for udpos, of head token; expected a model of entailment"):
        call(monkeypatch, tagger, *flags)
    with pytest.raises(ValueError, match="argument --max-tokens: expected a whole number of at least 1, found 0"):
        call(monkeypatch, two_labels, "--max-tokens", 0, *flags)
    with pytest.raises(ValueError, match=r"--output .*: the input .*templates.tsv is in it"):
        call(monkeypatch, two_labels, "--data", winogender, "--output", winogender)
    assert not (tmp_path / "found").exists()
