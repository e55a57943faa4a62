"""MTEB's own evaluation of a stand-in task against correlations computed here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from inference import SentenceEncoder
from inference.mteb_encoder import MtebEncoder

HAS_MTEB = importlib.util.find_spec("mteb") is not None
LEFT = ["hund", "haus baum vogel", "milch nacht", "rot rot", "stein", "baum hund"]
RIGHT = ["hund baum", "haus vogel", "nacht", "stein", "stein milch haus", "vogel"]
SCORES = [4.0, 3.5, 3.0, 0.0, 2.0, 1.0]


def stand_in_task() -> Any:
    """A task of similarity with the sentences above, which downloads nothing."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class StandIn(AbsTaskSTS):
        metadata = TaskMetadata(
            **{"type": "STS", "name": "StandIn", "main_score": "cosine_spearman", "description": "a few words"},
            **{"dataset": {"path": "none", "revision": "none"}, "category": "t2t", "modalities": ["text"]},
            **{"eval_splits": ["test"], "eval_langs": ["deu-Latn"], "license": "cc-by-4.0", "domains": []},
            **{"date": ("2022-12-22", "2022-12-22"), "dialect": [], "task_subtypes": [], "bibtex_citation": ""},
            **{"annotations_creators": "derived", "sample_creation": "created", "reference": None},
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            rows = {"sentence1": LEFT, "sentence2": RIGHT, "score": SCORES}
            self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
            self.data_loaded = True

    return StandIn()


@pytest.mark.skipif(not HAS_MTEB, reason="mteb is not installed")
def test_a_task_is_scored(tiny_model: Path) -> None:
    import mteb

    encoder = SentenceEncoder(tiny_model)
    result = mteb.evaluate(MtebEncoder(encoder, "test/tiny"), stand_in_task(), cache=None, show_progress_bar=False)
    cosines = (encoder.encode(LEFT) * encoder.encode(RIGHT)).sum(axis=1)
    (scores,) = result.task_results[0].scores["test"]
    assert scores["cosine_spearman"] == pytest.approx(spearmanr(cosines, SCORES).statistic, abs=1e-6)
    assert scores["spearman"] == pytest.approx(scores["cosine_spearman"], abs=1e-6), "by our own similarity"
    assert result.model_name == "test/tiny"


@pytest.mark.skipif(not HAS_MTEB, reason="mteb is not installed")
def test_similarities(tiny_model: Path) -> None:
    from mteb.models import EncoderProtocol

    model = MtebEncoder(SentenceEncoder(tiny_model), "test/tiny")
    assert isinstance(model, EncoderProtocol)
    x, y = np.array([[1, 0], [3, 4]], np.float32), np.array([[0, 2], [2, 0]], np.float32)
    assert model.similarity(x, y) == pytest.approx(np.array([[0, 1], [0.8, 0.6]]))
    assert model.similarity_pairwise(x, y) == pytest.approx([0, 0.6])


def test_names(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="name 'mine': expected ORGANISATION/MODEL"):
        MtebEncoder(SentenceEncoder(tiny_model), "mine")


@pytest.mark.skipif(HAS_MTEB, reason="mteb is installed")
def test_mteb_is_missing(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match=r"mteb is not installed: pip install 'veco\[mteb\]'"):
        MtebEncoder(SentenceEncoder(tiny_model), "test/tiny")
