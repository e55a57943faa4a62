"""The paper's figures, for comparison: VECO (ACL 2021), table 2, test sets of XTREME, averages over languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# {metric: x} under the names of Task.main_metrics.
Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Published:
    """A row of the table; `average` as printed there."""

    setting: str  # transfer, or translate-train-all
    model: str
    scores: Figures
    average: float


def _row(setting: str, model: str, figures: str, average: float) -> Published:
    """`figures` in the order of the table; for questions F1/EM."""
    xnli, pawsx, udpos, panx, xquad, mlqa, tydiqa, bucc2018, tatoeba = figures.split()
    questions = {"xquad": xquad, "mlqa": mlqa, "tydiqa": tydiqa}
    scores: dict[str, dict[str, float]] = {"xnli": {"accuracy": float(xnli)}, "pawsx": {"accuracy": float(pawsx)}}
    scores |= {"udpos": {"f1": float(udpos)}, "panx": {"f1": float(panx)}}
    for task, pair in questions.items():
        f1, exact_match = pair.split("/")
        scores[task] = {"exact_match": float(exact_match), "f1": float(f1)}
    scores |= {"bucc2018": {"f1": float(bucc2018)}, "tatoeba": {"accuracy": float(tatoeba)}}
    return Published(setting, model, scores, average)


PUBLISHED = (
    _row("transfer", "XLM-R", "79.2 86.4 72.6 65.4 76.6/60.8 71.6/53.2 65.1/45.0 66.0 57.3", 68.1),
    # The mean of the nine figures in this row is 73.3.
    _row("transfer", "VECO, plug-out", "79.9 88.7 75.1 65.7 77.3/61.8 71.7/53.2 67.6/49.1 85.0 75.1", 73.1),
    _row("translate-train-all", "XLM-R", "82.8 90.2 72.6 65.4 80.0/65.8 73.0/54.3 74.5/58.3 80.2 75.2", 74.4),
    _row("translate-train-all", "VECO, plug-out", "83.0 91.1 75.1 65.7 79.9/66.3 73.1/54.9 75.0/58.9 89.3 86.9", 77.2),
    _row("translate-train-all", "VECO, plug-in", "84.3 92.8 79.8 71.0 83.9/70.9 77.5/59.3 79.4/63.7 92.6 91.1", 81.0),
)
