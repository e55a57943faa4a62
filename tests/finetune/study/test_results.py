"""Tables and figures of a study, from scores written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_study import StudyMaker, write_scores

from finetune.study.__main__ import report
from finetune.study.cells import Kind
from finetune.study.costs import Cost, costs_of
from finetune.study.figures import KIND_COLOURS, curves_of
from finetune.study.plan import StudyPlan, plan_of
from finetune.study.results import Findings, comparisons_of
from finetune.study.tables import markdown, results_json, score_table

SCORES = {
    "en": {"pawsx": [80.0, 84.0], "pos": [70.0, 70.0]},
    "found": {"pawsx": [81.0, 81.0], "pos": [60.0, 61.0]},
    "control": {"pawsx": [50.0, 52.0], "pos": [61.0, 61.0]},
}


def test_the_table_has_means_deviations_and_kinds(planned: StudyPlan) -> None:
    write_scores(planned, SCORES)
    lines = markdown(Findings(planned), Findings(planned).cells()).splitlines()
    # sd of 80 and 84: 2 * sqrt(2).
    assert "| en | **82.00 ± 2.83** | **70.00 ± 0.00** | 76.00 |" in lines
    assert "| found | 81.00 ± 0.00 | 60.50 ± 0.71 | 70.75 |" in lines
    assert "| control | *51.00 ± 1.41* | *61.00 ± 0.00* | 56.00 |" in lines
    assert "- Own language above foreign language in 2 of 2 pairs of cells of a column (100 %)." in lines
    assert "- Foreign language above control in 1 of 2 pairs of cells of a column (50 %)." in lines


def test_averages_are_over_the_tasks_that_they_name(study: StudyMaker, without_commands: None, tmp_path: Path) -> None:
    averages = {"pairs": ["pawsx"], "both": ["pos", "pawsx"]}
    plan = plan_of(study(table={"models": ["en", "found"], "averages": averages}), tmp_path / "out")
    write_scores(plan, SCORES)
    lines = score_table(Findings(plan).cells(), plan)
    assert lines[0].endswith("| pairs | both |")
    assert lines[3].endswith("| 82.00 | 76.00 |")  # pawsx of en 82, pos 70


def test_unfinished_cells_are_told_and_not_averaged(planned: StudyPlan) -> None:
    write_scores(planned, {"en": {"pawsx": [80.0, 84.0]}, "control": {"pawsx": [50.0], "pos": [61.0]}})
    cells = Findings(planned).cells()
    text = markdown(Findings(planned), cells)
    assert "| en | **82.00 ± 2.83** | – | – |" in text and "| found | – | – | – |" in text
    assert "| control | *50.00* | *61.00* | 55.50 |" in text and "2 cells lack seeds." in text
    assert "4 of 16 steps are done." in text
    assert [(one.held, one.total) for one in comparisons_of(cells)] == [(1, 1)]


def test_what_chose_the_checkpoints_is_told(
    study: StudyMaker, content: dict[str, Any], without_commands: None, tmp_path: Path
) -> None:
    tasks = {**content["tasks"], "pawsx": {**content["tasks"]["pawsx"], "report": "dev"}}
    told = "The best checkpoints were chosen by the scores that are shown: pawsx."
    for keep_best in (0, 1):
        finetuning = {**content["finetuning"], "keep_best": keep_best, "keep_checkpoints": 1}
        plan = plan_of(study(tasks=tasks, finetuning=finetuning, control={"from": "en"}), tmp_path / "out")
        text = markdown(Findings(plan), [])
        assert "On dev: pawsx." in text and (told in text) == bool(keep_best)


def test_all_files_of_the_report(study: StudyMaker, without_commands: None, tmp_path: Path) -> None:
    probes = {"syntax": {"command": "a.b", "flags": {"layer": 2}, "results": {"UUAS": "syntax.json:all.uuas"}}}
    probes["syntax"]["by_layer"] = {"DSpr": "syntax.json:dspr"}
    plan = plan_of(study(probes=probes, table={"models": ["en", "found"], "draws": 0}), tmp_path / "out")
    probe, model = plan.steps[-1], str(plan.places.model("found"))
    assert probe.name == "probe syntax found" and probe.stages[0].command[:4] == ("a.b", model, "--layer", "2")
    probe.stages[0].result.parent.mkdir(parents=True)
    probe.stages[0].result.write_text(json.dumps({"all": {"uuas": 61.5}, "dspr": {"2": 0.5, "10": 0.25}}))
    write_scores(plan, SCORES)
    output = tmp_path / "out"
    report(Findings(plan), output, is_over=True)
    rows = list(csv.DictReader((output / "table.csv").read_text().splitlines()))
    assert [row["kind"] for row in rows] == ["own", "own", "foreign", "foreign", "control", "control"]
    assert rows[1] == {
        **{"model": "en", "task": "pos", "language": "en", "kind": "own", "score": "f1", "seeds": "2"},
        **{"mean": "70.0", "sd": "0.0"},
    }
    differences = list(csv.DictReader((output / "differences.csv").read_text().splitlines()))
    found = {(row["task"], row["model"], row["baseline"]): float(row["difference"]) for row in differences}
    assert found == {
        **{("pawsx", "en", "control"): 31.0, ("pawsx", "found", "control"): 30.0},
        **{("pos", "en", "control"): 9.0, ("pos", "found", "control"): -0.5},
    }
    content = json.loads((output / "results.json").read_text())
    assert content["cells"][0]["scores"] == {"1": 80.0, "2": 84.0} and content["probes"] == {"found": {"UUAS": 61.5}}
    assert content["comparisons"][0]["share"] == 100.0
    table = (output / "table.md").read_text()
    assert "| found | 61.5 |" in table
    assert "### DSpr by layer\n\n|  | 2 | 10 |\n| --- | --- | --- |\n| found | 0.5 | 0.25 |" in table
    assert content["by_layer"] == {"DSpr": {"found": {"2": 0.5, "10": 0.25}}}
    assert Image.open(output / "by_layer.png").width > 400
    seen = {colour for _, colour in Image.open(output / "table.png").convert("RGB").getcolors(1 << 24) or []}
    for kind in (Kind.OWN, Kind.FOREIGN, Kind.CONTROL):
        assert tuple(bytes.fromhex(KIND_COLOURS[kind][1:])) in seen
    drawn = (output / "table.svg").read_bytes()
    report(Findings(plan), output, is_over=True)
    assert (output / "table.svg").read_bytes() == drawn


def test_a_probe_without_its_number_fails_alone(study: StudyMaker, without_commands: None, tmp_path: Path) -> None:
    results = {"UUAS": "syntax.json:uuas", "DSpr": "syntax.json:dspr"}
    probes = {"syntax": {"command": "a.b", "results": results, "models": ["en"]}}
    plan = plan_of(study(probes=probes), tmp_path / "out")
    plan.steps[-1].stages[0].result.parent.mkdir(parents=True)
    plan.steps[-1].stages[0].result.write_text('{"uuas": {"1": 0.5}, "dspr": 0.25}')
    expected = "probe syntax en: UUAS is to be a number at uuas of .*syntax.json, found the keys 1; change results"
    with pytest.raises(ValueError, match=expected):
        plan.steps[-1].settle()
    probes["syntax"] |= {"results": {}, "by_layer": {"UUAS": "syntax.json:dspr"}}
    with pytest.raises(ValueError, match=r"UUAS is to be numbers by layer at dspr of .*, found 0.25; change by_layer"):
        plan_of(study(probes=probes), tmp_path / "out").steps[-1].settle()
    # The report after other steps goes on.
    report(Findings(plan), tmp_path / "out")
    assert "| en | 0.25 |" in (tmp_path / "out" / "table.md").read_text()


def test_what_pretraining_took(planned: StudyPlan) -> None:
    """Two updates of 100 tokens in 4 s and two of 200 in 5 s, in a stage of embeddings and one of the rest."""
    run = planned.places.model_part("longer", "pretrain").parent
    run.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {
            "step": 2,
            "updates": 2,
            "seconds": 4.0,
            "tokens_per_second": 50.0,
            "parameters": 1000,
            "trained_parameters": 300,
        },
        {"step": 2, "valid/mono_loss": 3.5},
        {
            "step": 4,
            "updates": 2,
            "seconds": 5.0,
            "tokens_per_second": 80.0,
            "parameters": 1000,
            "trained_parameters": 700,
        },
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (cost,) = costs_of(planned).values()
    assert cost == Cost(updates=4, tokens=600.0, seconds=9.0, parameters=1000, trained=(300, 700))
    text = markdown(Findings(planned), [])
    assert "|  | updates | million tokens | parameters | trained | minutes |" in text
    assert "| longer | 4 | 0.00 | 1,000 | 300 → 700 | 0.1 |" in text  # 0.15 minutes, rounded half to even
    assert json.loads(results_json(Findings(planned), []))["costs"]["longer"]["tokens"] == 600.0
    # Stopped after update 6 and resumed from the checkpoint there: the next line is of 7 and 8 alone.
    lines.append({"step": 8, "updates": 2, "seconds": 3.0, "tokens_per_second": 100.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert costs_of(planned)["longer"] == Cost(8, 900.0 * 8 / 6, 12.0 * 8 / 6, 1000, (300, 700))


def test_a_model_with_an_older_run_has_no_costs(planned: StudyPlan) -> None:
    """Lines of earlier versions have no seconds."""
    run = planned.places.model_part("en", "pretrain").parent
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "tokens_per_second": 4.0}\n')
    assert costs_of(planned) == {} and "Pre-training" not in markdown(Findings(planned), [])


def test_learning_curves_are_means_over_kinds_of_batches(planned: StudyPlan, tmp_path: Path) -> None:
    run = planned.places.model_part("en", "pretrain").parent
    run.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"step": 1, "train/mono_loss": 4.0, "train/bilingual_loss": 2.0, "train/mono_perplexity": 50.0},
        {"step": 2, "train/mono_loss": 3.0},
        {"step": 2, "valid/mono_loss": 3.5, "valid/en/mlm": 3.5},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curves_of("en", planned) == {"training": [(1, 3.0), (2, 3.0)], "held out": [(2, 3.5)]}
    assert curves_of("longer", planned) == {}
    report(Findings(planned), tmp_path / "out")
    assert (tmp_path / "out" / "learning_curves.svg").is_file() and not (tmp_path / "out" / "table.png").exists()
