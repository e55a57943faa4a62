"""A step of datatrove's whose task stands in the plan of a data directory."""

from functools import lru_cache
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from data_tools.stages.plan import TOKENIZER_NAME, Plan, PlannedTask
from data_tools.tokenizers.sentence_piece import PieceEncoder


class PlanStep(PipelineStep):
    """A step that looks up its task in the plan of a data directory.

    It travels to workers with the plan's name only: thousands of tasks would each carry thousands of others.
    """

    type = "VECO"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.output = plan.output
        self.plan_key = plan.key

    @property
    def plan(self) -> Plan:
        """The plan as it lies on disk; raises ValueError if that is another one by now."""
        return load_plan(self.output, self.plan_key)

    @property
    def encoder(self) -> PieceEncoder:
        """The tokenizer of the data directory."""
        return load_encoder(self.output / TOKENIZER_NAME, self.plan_key)

    def task(self, rank: int) -> PlannedTask:
        return self.plan.tasks[rank]


# Every task of a worker needs both of these, and reading them takes longer than a small task.
@lru_cache(maxsize=1)
def load_encoder(tokenizer_dir: Path, plan_key: str) -> PieceEncoder:
    """The tokenizer of the plan with that key."""
    return PieceEncoder(tokenizer_dir)


@lru_cache(maxsize=1)
def load_plan(output: Path, key: str) -> Plan:
    """The plan of a data directory; raises ValueError if it is not the one of that key."""
    plan = Plan.load(output)
    if plan.key != key:
        raise ValueError(f"{output}: begun anew with another corpus or other settings; this task belongs to none of it")
    return plan
