"""What a call of a study does beside its steps: one at a time, and what was found before may be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from small_study import StudyMaker

from finetune.steps import Step, held
from finetune.study import __main__ as study_command
from finetune.study.plan import StudyPlan, plan_of

Content = dict[str, object]
PROBE: Content = {"command": "analysis.syntax", "flags": {}, "results": {"UUAS": "syntax.json:uuas"}}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that would be run; none is."""
    names: list[str] = []

    def run_none(
        steps: Sequence[Step], report: Callable[[], None], parallel: int, processes: int, own_logs: bool
    ) -> None:
        names.extend(step.name for step in steps)

    monkeypatch.setattr(study_command, "run_steps", run_none)
    return names


def test_a_call_beside_another_changes_nothing(planned: StudyPlan, tmp_path: Path, begun: list[str]) -> None:
    output = tmp_path / "out"
    with held(output), pytest.raises(ValueError, match="another call is at work in it"):
        study_command.run_study(planned, output, parallel=1)
    assert not begun and not list(output.iterdir())
    study_command.run_study(planned, output, parallel=1)
    assert begun and (output / "pretraining.yaml").is_file() and (output / "table.md").is_file()


@pytest.mark.usefixtures("without_commands")
def test_a_probe_that_found_no_number_is_told_and_the_rest_is_done(
    study: StudyMaker, tmp_path: Path, begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when its files are those of an earlier call."""
    output = tmp_path / "out"
    plan = plan_of(study(probes={"syntax": PROBE}), output)
    study_command.run_study(plan, output, parallel=1)
    made = output / "probes" / "syntax-found" / "results" / "syntax.json"
    made.parent.mkdir(parents=True)
    made.write_text(json.dumps({"other": 1.0}))
    begun.clear()
    (output / "table.md").unlink()
    with pytest.raises(ValueError, match="^probe syntax found: UUAS is to be a number at uuas of "):
        study_command.run_study(plan, output, parallel=1)
    assert "tokenizer en" in begun and "probe syntax found" not in begun and (output / "table.md").is_file()
