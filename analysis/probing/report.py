"""The scores of probes by layer: syntax.json, .csv and .md, and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.figures import Curve, draw_curves
from analysis.probing.probing_run import Found
from analysis.results import Cell, Column, Table, number_or_none, write_results

NAME = FIGURE = "syntax"
AVERAGE = "avg"
CORRELATIONS = {"dspr": "DSpr", "depth_spearman": "depth Spearman"}
PERCENT = {"uuas": "UUAS", "root_accuracy": "root accuracy"}
CONTROL = "_control_accuracy"


def with_selectivity(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics, and how much better a tag is read than the control task's (Hewitt and Liang, 2019)."""
    found = dict(metrics)
    for control in (name for name in metrics if name.endswith(CONTROL)):
        tag = control.removesuffix(CONTROL)
        found[f"{tag}_selectivity"] = metrics[f"{tag}_accuracy"] - metrics[control]
    return found


def scores_of(found: Found) -> dict[int, dict[str, dict[str, float]]]:
    """{layer: {test: {metric: value}}}, with the average over several tests."""
    scores = {}
    for layer, by_test in found.metrics.items():
        scores[layer] = {test: with_selectivity(metrics) for test, metrics in by_test.items()}
        if len(by_test) > 1:
            own = list(scores[layer].values())
            scores[layer][AVERAGE] = {name: math.fsum(one[name] for one in own) / len(own) for name in own[0]}
    return scores


def write_report(output: Path, settings: Mapping[str, Any], found: Found) -> None:
    """Write all scores, the layers of lowest development loss, and a figure of the averages over tests."""
    scores = scores_of(found)
    tests = list(next(iter(scores.values())))
    main = tests[-1]  # the average, or the only test
    metrics = list(scores[min(scores)][main])
    chosen = {task: found.best_layer(task) for task in found.dev_loss}
    columns = [
        *(Column("test"), Column("layer")),
        *(
            Column(name, is_percent=name not in CORRELATIONS, decimals=2 if name in CORRELATIONS else 1)
            for name in metrics
        ),
    ]
    rows: list[Sequence[Cell]] = [
        [test, layer, *(scores[layer][test][name] for name in metrics)] for test in tests for layer in scores
    ]
    losses = Table(
        "Development loss by layer",
        [Column("probe"), *(Column(f"layer {layer}", decimals=4) for layer in scores), Column("best layer")],
        [[task, *own.values(), chosen[task]] for task, own in found.dev_loss.items()],
    )
    table = Table("Scores on the tests by layer", columns, rows)
    content = {
        **settings,
        **{name: {str(layer): number_or_none(scores[layer][main][name]) for layer in scores} for name in metrics},
        "scores": {
            str(layer): {
                test: {name: number_or_none(value) for name, value in own.items()} for test, own in by_test.items()
            }
            for layer, by_test in scores.items()
        },
        "dev_loss": {task: {str(layer): loss for layer, loss in own.items()} for task, own in found.dev_loss.items()},
        "chosen": {
            task: {
                "layer": layer,
                **{name: number_or_none(scores[layer][main][name]) for name in found.names[task]},
            }
            for task, layer in chosen.items()
        },
    }
    draw(output, {layer: by_test[main] for layer, by_test in scores.items()}, metrics)
    write_results(output, NAME, f"Probes on the states of {settings['model']}", content, [losses, table], table)


def draw(output: Path, by_layer: Mapping[int, Mapping[str, float]], metrics: Sequence[str]) -> None:
    """Draw shares and correlations by layer, a panel for each kind."""
    shares = [
        Curve(PERCENT.get(name, name.replace("_", " ")), list(by_layer), [100 * own[name] for own in by_layer.values()])
        for name in metrics
        if name not in CORRELATIONS
    ]
    correlations = [
        Curve(CORRELATIONS[name], list(by_layer), [own[name] for own in by_layer.values()])
        for name in metrics
        if name in CORRELATIONS
    ]
    panels = {"%": shares, "Spearman's correlation": correlations}
    draw_curves(
        output,
        FIGURE,
        {label: own for label, own in panels.items() if own},
        "layer (0 = embeddings)",
        "probes by layer",
    )
