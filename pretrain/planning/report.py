"""A plan as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table

from pretrain.planning.cards import CARDS, GIB, PRECISIONS
from pretrain.planning.choice import USABLE, Plan, Way, recipe_fragment
from pretrain.planning.epochs import Reading
from pretrain.planning.memory import PARTS

UNLIMITED = 10_000  # columns: a number is never cut


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], num_names: int = 1) -> Table:
    """A table whose first columns are names and whose others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < num_names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def cards_table() -> Table:
    rows = [
        [
            card.name,
            card.source,
            f"{card.memory / GIB:.1f}",
            *(f"{card.peak_tflops[name]:g}" if name in card.peak_tflops else "–" for name in PRECISIONS),
        ]
        for card in CARDS.values()
    ]
    return table_of(
        "cards: GiB, dense TFLOP/s", ["--gpu", "source of the peaks", "GiB", *PRECISIONS], rows, num_names=2
    )


def run_table(plan: Plan) -> Table:
    """The workload in a few lines."""
    workload, card = plan.workload, plan.card
    config, recipe = workload.config, workload.recipe
    rows = [
        (
            "model",
            f"{workload.parameters.model:,} parameters, {config.num_hidden_layers} layers of {config.hidden_size}",
        ),
        ("vocabulary", f"{config.vocab_size:,} pieces"),
        ("cards", f"{plan.gpus} x {card.name} of {card.memory / GIB:.1f} GiB"),
        ("peak", f"{card.peak_tflops[plan.precision]:g} TFLOP/s in {plan.precision} ({card.source})"),
        ("assumed", f"{100 * plan.share_of_peak:g} % of the peak (--mfu), {100 * USABLE:g} % of the memory"),
        ("run", f"{recipe.total_steps:,} updates, {' and '.join(workload.kinds)} in turn"),
        *([("stages", f"{len(recipe.stages)}")] if recipe.stages else []),
    ]
    for name, kind in workload.kinds.items():
        flops = kind.batch_pairs * workload.flops(kind.average, recompute=False)
        shape = f"{kind.average.length} tokens each on average, {kind.longest.length} at most"
        rows.append((f"{name} update", f"{kind.batch_pairs:,} pairs of {shape}: {flops:.3g} FLOP"))
    rows += [("note", note) for note in workload.notes]
    return table_of("the run", ["", ""], rows, num_names=2)


def ways_table(plan: Plan) -> Table:
    """Memory and time of each stage, with and without recomputation."""
    columns = [
        "stage",
        "recompute",
        "ds_config",
        *PARTS,
        "GiB in all",
        "fits",
        *(f"{kind} pairs" for kind in plan.workload.kinds),
    ]
    columns += ["accumulation", "s/update", "days", "GB a checkpoint"]
    rows = [
        [
            f"{way.zero.stage}{' *' if way is plan.choice else ''}",
            "yes" if way.recompute else "no",
            way.zero.ds_config or "none is shipped",
            *(f"{asdict(way.memory)[part] / GIB:.2f}" for part in PARTS),
            f"{way.memory.total / GIB:.1f}",
            "yes" if way.fits else "no",
            *map(str, way.pairs.values()),
            str(way.accumulation),
            f"{way.time.seconds:.3g}",
            f"{way.time.days:.3g}",
            f"{way.checkpoints.one / 1e9:.2f}",
        ]
        for way in plan.ways
    ]
    title = "a rank at its fullest moment, in GiB, with the largest micro-batch that fits (* to choose)"
    return table_of(title, columns, rows, num_names=3)


def readings_table(found: Sequence[Reading]) -> Table:
    rows = [
        [
            reading.name,
            reading.kind,
            f"{reading.sentences:,}",
            f"{reading.probability:.4f}",
            f"{reading.samples:,.0f}",
            f"{reading.tokens / 1e6:,.1f}",
            f"{reading.epochs:,.2f}",
        ]
        for reading in found
    ]
    columns = ["language", "batches", "sentences", "probability", "samples drawn", "M tokens", "epochs"]
    return table_of("read over the whole run", columns, rows, num_names=2)


def print_plan(plan: Plan, found: Sequence[Reading]) -> None:
    """Print all tables as wide as they are, and the recipe's lines."""
    console = Console(width=UNLIMITED)
    tables = [run_table(plan), ways_table(plan), *([readings_table(found)] if found else [])]
    with console.capture() as captured:
        console.print(Group(*tables))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
    if plan.choice is not None:
        sizes = plan.choice.checkpoints
        print(f"disk: up to {sizes.most} checkpoints plus the model, {sizes.total / 1e9:,.0f} GB")
        print(f"\n{recipe_fragment(plan)}")


def plan_as_json(plan: Plan, found: Sequence[Reading]) -> dict[str, Any]:
    """Everything that the tables show; bytes, seconds, operations."""
    workload = plan.workload
    return {
        "parameters": workload.parameters.model,
        "trained_parameters": workload.parameters.trained,
        "updates": workload.recipe.total_steps,
        "gpus": plan.gpus,
        "card": {**asdict(plan.card), "usable_share": USABLE},
        "precision": plan.precision,
        "assumed_share_of_peak": plan.share_of_peak,
        "notes": list(workload.notes),
        "kinds": {
            name: {
                "batch_pairs": kind.batch_pairs,
                "longest_tokens": kind.longest.length,
                "average_tokens": kind.average.length,
                "flops": kind.batch_pairs * workload.flops(kind.average, recompute=False),
            }
            for name, kind in workload.kinds.items()
        },
        "ways": [way_as_json(way) for way in plan.ways],
        "choice": None if plan.choice is None else way_as_json(plan.choice),
        "recipe": recipe_fragment(plan),
        "languages": [asdict(reading) for reading in found],
    }


def way_as_json(way: Way) -> dict[str, Any]:
    return {
        "stage": way.zero.stage,
        "recompute": way.recompute,
        "ds_config": way.zero.ds_config,
        "fits": way.fits,
        "micro_batch_pairs": way.pairs,
        "accumulation_steps": way.accumulation,
        "memory": {**asdict(way.memory), "total": way.memory.total},
        "flops_of_an_update": way.time.flops,
        "seconds_of_an_update": way.time.seconds,
        "days": way.time.days,
        "checkpoints": asdict(way.checkpoints),
    }
