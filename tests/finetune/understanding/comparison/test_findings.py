"""Reports of finished groups: tables and files of differences from predictions written by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from finetune.understanding import evaluate
from finetune.understanding.compare import report
from finetune.understanding.comparison.configuration import read_comparison
from finetune.understanding.comparison.plan import Plan, plan
from finetune.understanding.metrics.gold import read_gold
from finetune.understanding.metrics.prediction_files import write_predictions
from finetune.understanding.tasks.catalogues import task_named

SEEDS = (1, 2, 3)
# The first so many of twelve predictions that are wrong, by model, seed and language.
WRONG = {
    ("good", 1): {"en": 1, "de": 2}, ("good", 2): {"en": 0, "de": 3}, ("good", 3): {"en": 2, "de": 2},
    ("bad", 1): {"en": 9, "de": 8}, ("bad", 2): {"en": 8, "de": 8}, ("bad", 3): {"en": 10, "de": 9},
}  # fmt: skip


@pytest.fixture
def planned(xtreme_data: Path, tiny_model: Path, tmp_path: Path) -> Plan:
    data = Path(shutil.copytree(xtreme_data, tmp_path / "data"))
    for side, new in (("en", "en"), ("de", "fi")):  # a second language, so that layers are chosen
        shutil.copyfile(data / f"tatoeba/tatoeba.de-en.{side}", data / f"tatoeba/tatoeba.fi-en.{new}")
    return planned_with(tmp_path, tiny_model, tasks=["xnli", "tatoeba"])


def planned_with(tmp_path: Path, tiny_model: Path, **changes: Any) -> Plan:
    content = {
        "data": str(tmp_path / "data"),
        "models": {name: {"init_from": str(tiny_model)} for name in ("good", "bad")},
        "seeds": list(SEEDS),
        "fields": {"engine": "plain", "max_length": 24},
        **changes,
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return plan(read_comparison(tmp_path / "compare.yaml"), tmp_path / "out")


def predict(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finish the runs of XNLI with the predictions of WRONG, scored by the command."""
    task = task_named("xnli")
    for run in planned.runs:
        if run.group.task != "xnli":
            continue
        assert run.seed is not None
        for language, num_wrong in WRONG[run.model, run.seed].items():
            gold = list(read_gold(task, language, planned.comparison.data))
            others = dict(zip(task.labels, task.labels[1:] + task.labels[:1], strict=True))
            predicted = [others[label] for label in gold[:num_wrong]] + gold[num_wrong:]
            write_predictions(task, language, predicted, run.output / "predictions")
        scoring = planned.stages(run)[-1]
        monkeypatch.setattr("sys.argv", list(scoring.command))
        evaluate.main()


def test_differences_of_finished_groups_alone(planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(planned, monkeypatch)
    differences: dict[Any, Any] = {}
    report(planned, tmp_path / "out", differences)
    (group,) = differences
    assert group.task == "xnli", "nothing is known of Tatoeba yet"
    rows = list(csv.DictReader((tmp_path / "out/significance.csv").open(encoding="utf-8")))
    by_language = {row["language"]: row for row in rows}
    assert set(by_language) == {"en", "de", "avg"} and len(rows) == 3
    for language in ("en", "de"):
        gap = sum(WRONG["bad", seed][language] - WRONG["good", seed][language] for seed in SEEDS) / 3 / 12
        assert float(by_language[language]["difference"]) == pytest.approx(100 * gap)
    averages = {
        model: [50 * sum(12 - wrong for wrong in WRONG[model, seed].values()) / 12 for seed in SEEDS]
        for model in ("good", "bad")
    }
    expected = stats.ttest_rel(averages["good"], averages["bad"])
    assert float(by_language["avg"]["p_value_seeds"]) == pytest.approx(expected.pvalue)
    assert float(by_language["avg"]["low_seeds"]) == pytest.approx(expected.confidence_interval().low)
    assert float(by_language["avg"]["p_value_examples"]) < 0.05 and float(by_language["avg"]["low_examples"]) > 0
    lines = (tmp_path / "out/table.md").read_text(encoding="utf-8").splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("| good − bad"))
    columns = [*(language for language in task_named("xnli").languages if language in ("en", "de")), "avg"]
    gaps = [f"{float(by_language[column]['difference']):+.2f}" for column in columns]
    p_values = [f"{float(by_language[column]['p_value_seeds']):.3f}" for column in columns]
    assert lines[start - 2] == f"| difference |  | {' | '.join(columns)} |"
    assert lines[start] == f"| good − bad |  | {' | '.join(gaps)} |"
    assert lines[start + 3] == f"|  | p, seeds | {' | '.join(p_values)} |"
    content = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["differences"]
    assert [(one["task"], one["language"], one["difference"]) for one in content] == [
        ("xnli", row["language"], float(row["difference"])) for row in rows
    ]


def test_the_map_shows_scores_or_differences_to_the_baseline(
    planned: Plan, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(planned, monkeypatch)
    drawn: dict[str, Any] = {}

    def draw(grid: Any, rows: Any, columns: Any, path: Path, title: str, is_difference: bool = False) -> None:
        drawn.update(grid=grid, rows=rows, columns=columns, title=title, is_difference=is_difference)

    monkeypatch.setattr("finetune.understanding.comparison.findings.draw_grid", draw)
    report(planned, tmp_path / "out", {})
    assert drawn["rows"] == ["good", "bad"] and not drawn["is_difference"]
    scores = dict(zip(drawn["rows"], drawn["grid"], strict=True))
    given = planned_with(tmp_path, tiny_model, tasks=["xnli"], significance={"baseline": "bad", "draws": 0})
    report(given, tmp_path / "out", {})
    assert drawn["rows"] == ["good"] and drawn["columns"][0] == "avg" and drawn["is_difference"]
    assert drawn["grid"][0] == pytest.approx(
        [own - base for own, base in zip(scores["good"], scores["bad"], strict=True)]
    )
    # Without draws, seeds alone are tested.
    text = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert "| p, seeds |" in text and "| p, examples |" not in text


def test_retrieval_whose_layers_are_chosen_has_no_predictions(planned: Plan, tmp_path: Path) -> None:
    for run in planned.runs:
        if run.group.task == "tatoeba":
            path = planned.stages(run)[-1].result
            path.parent.mkdir(parents=True)
            score = {"good": 60.0, "bad": 50.0}[run.model]
            chosen = {language: {"layer": 1, "score": score} for language in ("de", "fi")}
            path.write_text(json.dumps({"layers": {}, "chosen": chosen, "avg": score}), encoding="utf-8")
    differences: dict[Any, Any] = {}
    report(planned, tmp_path / "out", differences)
    ((group, found),) = differences.items()
    assert group.task == "tatoeba"
    assert [(one.language, one.difference, one.over_examples, one.over_seeds) for one in found] == [
        (language, 10.0, None, None) for language in ("de", "fi", "avg")
    ]
