"""The base class of all steps of datatrove here: a step whose tasks are those of a plan."""

import os
from functools import lru_cache
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from data_tools.stages.plan import TOKENIZER_NAME, Plan, PlannedTask
from data_tools.tokenizers.encoder import Encoder, open_encoder


class PlanStep(PipelineStep):
    """A step that looks up its task in the plan of a data directory.

    Only the key of the plan is sent to workers: otherwise each of thousands of tasks would carry all the others.
    """

    type = "VECO"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.output = plan.output
        self.plan_key = plan.key

    @property
    def plan(self) -> Plan:
        """The plan on disk; raises ValueError if it has been replaced by another one."""
        return load_plan(self.output, self.plan_key)

    @property
    def encoder(self) -> Encoder:
        """The tokenizer of the data directory."""
        return load_encoder(self.output / TOKENIZER_NAME, self.plan_key)

    def task(self, rank: int) -> PlannedTask:
        return self.plan.tasks[rank]


# Every task of a worker needs both, and reading them takes longer than a small task.
@lru_cache(maxsize=1)
def load_encoder(tokenizer_dir: Path, plan_key: str) -> Encoder:
    """Read the tokenizer of the plan with that key; it uses one thread, since there are other workers."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return open_encoder(tokenizer_dir)


@lru_cache(maxsize=1)
def load_plan(output: Path, key: str) -> Plan:
    """Read the plan of a data directory; raises ValueError if it has another key."""
    plan = Plan.load(output)
    if plan.key != key:
        raise ValueError(f"{output}: started again with another corpus or settings; this task is no longer needed")
    return plan
