"""What the pre-training of a study's models took: updates, tokens, parameters that learned, time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune.study.plan import StudyPlan
from training.meters import read_metrics
from training.metrics_lines import METRICS_FILE, PARAMETERS, TRAINED_PARAMETERS


@dataclass(frozen=True)
class Cost:
    """What a run of pre-training took, as far as it has come.

    `seconds` are those of updates alone: those of a start, of validations and of checkpoints are not among them.
    Updates that no line has, between the last line before a stop and the checkpoint there, count like the others.
    """

    updates: int
    tokens: float
    seconds: float
    parameters: int  # of the model
    trained: tuple[int, ...]  # of these, those that learned, anew wherever that changes


def pretraining_run(model: str, plan: StudyPlan) -> Path | None:
    """The directory of a model's pre-training, None where it has none, or no metrics yet."""
    run = plan.places.model_part(model, "pretrain").parent
    has_begun = plan.study.models[model].pretrain is not None and (run / METRICS_FILE).is_file()
    return run if has_begun else None


def cost_of(run: Path) -> Cost | None:
    """What a run took, of its metrics.jsonl; None where that has no line that says so."""
    lines = [line for line in read_metrics(run) if "updates" in line]
    if not lines:
        return None
    updates = int(lines[-1]["step"])
    of_each = updates / sum(line["updates"] for line in lines)
    return Cost(
        updates=updates,
        tokens=of_each * sum(line["seconds"] * line["tokens_per_second"] for line in lines),
        seconds=of_each * sum(line["seconds"] for line in lines),
        parameters=int(next((line[PARAMETERS] for line in lines if PARAMETERS in line), 0)),
        trained=tuple(int(line[TRAINED_PARAMETERS]) for line in lines if TRAINED_PARAMETERS in line),
    )


def costs_of(plan: StudyPlan) -> dict[str, Cost]:
    """Model -> what its pre-training took, of all that have begun."""
    runs = {model: run for model in plan.study.models if (run := pretraining_run(model, plan)) is not None}
    return {model: cost for model, run in runs.items() if (cost := cost_of(run)) is not None}
