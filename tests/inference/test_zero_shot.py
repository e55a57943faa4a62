"""Labels without training against transformers' pipeline of the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nli_model import write_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from finetune.placement import Placement
from inference.zero_shot import ZeroShotClassifier, hypotheses_of, templates

TEXTS = ["haus baum vogel", "hund", "milch rot nacht stein", "baum", "rot rot hund"]
PLUGGED_IN = "translate-train-all"  # the setting that has pairs to train on
LABELS = ["hund", "milch rot", "haus"]


@pytest.fixture(scope="module")
def nli(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tiny_model, tmp_path_factory.mktemp("nli") / "model", "xtreme/xnli")


@pytest.mark.parametrize("several", [False, True])
def test_probabilities_are_those_of_transformers(nli: Path, several: bool) -> None:
    found = ZeroShotClassifier(nli, max_tokens=100).probabilities(TEXTS, LABELS, template="ein {}", several=several)
    model = AutoModelForSequenceClassification.from_pretrained(nli)
    oracle = pipeline("zero-shot-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(nli))
    results = oracle(TEXTS, LABELS, hypothesis_template="ein {}", multi_label=several)
    expected = [[own["scores"][own["labels"].index(label)] for label in LABELS] for own in results]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert found.std() > 0.01
    if not several:
        assert found.sum(axis=1) == pytest.approx(1)


def test_blocks_do_not_show(nli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ZeroShotClassifier(nli)
    at_once = classifier.probabilities(TEXTS, LABELS)
    monkeypatch.setattr("inference.zero_shot.PAIRS_AT_ONCE", 6)
    assert classifier.probabilities(iter(TEXTS), LABELS) == pytest.approx(at_once, abs=1e-6)
    assert classifier.probabilities([], LABELS).shape == (0, 3)


def test_a_model_that_is_plugged_in_reads_each_pair_as_its_own(tiny_model: Path, tmp_path: Path) -> None:
    classifier = ZeroShotClassifier(
        write_classifier(tiny_model, tmp_path / "model", "xtreme/xnli", plug_in=True, setting=PLUGGED_IN)
    )
    found = classifier.probabilities(TEXTS, LABELS)
    assert found.shape == (5, 3) and found.sum(axis=1) == pytest.approx(1)
    hypotheses = hypotheses_of(LABELS, "", "ein {}")  # their logits: the probabilities of this model are all near 1
    (together,) = classifier._logits(TEXTS, hypotheses)
    alone = [[next(classifier._logits([text], [one]))[0, 0] for one in hypotheses] for text in TEXTS]
    assert together == pytest.approx(np.array(alone), abs=1e-4)
    assert classifier.num_truncated == 15, "by the English template of the first call, none by the others"
    assert together.std(axis=0).min() > 0.01 and together.std(axis=1).min() > 0.01, "text and label count"


def test_half_precision_is_computed_and_near(nli: Path) -> None:
    exact, found = (
        ZeroShotClassifier(nli, placement=Placement.of(dtype)).probabilities(TEXTS, LABELS, template="ein {}")
        for dtype in ("float32", "float16")
    )
    assert not np.array_equal(found, exact) and found == pytest.approx(exact, abs=0.02)


def test_templates_have_a_place_for_the_label() -> None:
    known = templates()
    assert all(template.count("{}") == 1 for template in known.values())
    assert {"ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"} <= known.keys()
    assert hypotheses_of(["Sport"], "de") == ["In diesem Text geht es um Sport."]


def test_what_cannot_be_asked(nli: Path, tiny_model: Path, tmp_path: Path) -> None:
    classifier = ZeroShotClassifier(nli)
    with pytest.raises(ValueError, match="language 'xx' has no template, only ar, bg, .*; give one as `template`"):
        classifier.probabilities(TEXTS, LABELS, language="xx")
    with pytest.raises(ValueError, match=r"template 'sport': expected {} in the place of the label"):
        classifier.probabilities(TEXTS, LABELS, template="sport")
    with pytest.raises(ValueError, match="labels: expected at least one"):
        classifier.probabilities(TEXTS, [])
    with pytest.raises(ValueError, match="labels: expected at least one, in a list, found 'Sport'"):
        classifier.probabilities(TEXTS, "Sport")
    assert classifier.probabilities(TEXTS[0], LABELS).shape == (1, len(LABELS))
    other = write_classifier(tiny_model, tmp_path / "pawsx", "xtreme/pawsx")
    with pytest.raises(ValueError, match="was trained for pawsx; expected a task of natural language inference"):
        ZeroShotClassifier(other)
