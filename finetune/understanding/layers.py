"""Choose the layer whose states are used for retrieval: for each language, on all the others.

    python -m finetune.understanding.layers MODEL --task tatoeba --data ROOT --output DIR

Tatoeba has no dev set, and it would not be fair to choose the layer on the test itself. So a language is scored with
the layer whose mean score over all other languages is highest (the lowest such layer), and models are compared by the
mean of these scores over the languages. MODEL is any encoder, as for finetune.understanding.predict.
Each sentence is encoded once for all layers.

DIR/{task}.md has a table of layers and languages, DIR/{task}.json the same for programs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from finetune.model_directory import model_directory
from finetune.understanding.comparison.report import table_line
from finetune.understanding.flags import (
    ENCODERS,
    add_data_flags,
    add_retrieval_flags,
    load_retriever,
    numbers,
    report_truncated,
)
from finetune.understanding.metrics.scoring import AVERAGE, gold_of, score, task_score
from finetune.understanding.readers.languages import languages_tested
from finetune.understanding.retrieval.embeddings import num_layers
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Task
from training.launch import quiet_libraries


@dataclass(frozen=True)
class LayerScores:
    """The score of each layer in each language, and the layers chosen by them."""

    layers: Sequence[int]
    scores: Mapping[str, Sequence[float]]  # {language: percent with each of `layers`}

    @property
    def averages(self) -> list[float]:
        """The mean over the languages of each layer."""
        return [_mean(of_layer) for of_layer in zip(*self.scores.values(), strict=True)]

    @property
    def chosen(self) -> dict[str, tuple[int, float]]:
        """{language: (the best layer on the other languages, the language's score with it)}."""
        places = {language: best_elsewhere(self.scores, language) for language in self.scores}
        return {language: (self.layers[place], self.scores[language][place]) for language, place in places.items()}

    @property
    def average(self) -> float:
        """The mean over the languages, each with its chosen layer."""
        return _mean([own for _, own in self.chosen.values()])

    def as_json(self) -> dict[str, Any]:
        """{"layers": {layer: {language: x, "avg": x}}, "chosen": {language: {"layer": n, "score": x}}, "avg": x}."""
        by_layer = {
            str(layer): {**{language: own[place] for language, own in self.scores.items()}, AVERAGE: mean}
            for place, (layer, mean) in enumerate(zip(self.layers, self.averages, strict=True))
        }
        chosen = {language: {"layer": layer, "score": own} for language, (layer, own) in self.chosen.items()}
        return {"layers": by_layer, "chosen": chosen, AVERAGE: self.average}

    def markdown(self, title: str) -> str:
        """A table with a column for each language; rows for all layers, the chosen layers, and the scores with them."""
        lines = [table_line([title, *self.scores, AVERAGE]), table_line(["---"] * (len(self.scores) + 2))]
        for place, (layer, mean) in enumerate(zip(self.layers, self.averages, strict=True)):
            figures = [own[place] for own in self.scores.values()]
            lines.append(table_line([f"layer {layer}", *(f"{figure:.1f}" for figure in (*figures, mean))]))
        chosen = self.chosen.values()
        lines.append(table_line(["best layer of the others", *(str(layer) for layer, _ in chosen), ""]))
        figures = [own for _, own in chosen]
        lines.append(table_line(["**with that layer**", *(f"{figure:.1f}" for figure in (*figures, self.average))]))
        return "\n".join(lines) + "\n"


def best_elsewhere(scores: Mapping[str, Sequence[float]], language: str) -> int:
    """The first place among those whose mean score over all other languages is highest."""
    others = [own for other, own in scores.items() if other != language]
    # Exact sums: whatever the order of the languages, equal scores have equal means.
    sums = [math.fsum(at_place) for at_place in zip(*others, strict=True)]
    return sums.index(max(sums))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def scores_of(retriever: Retriever, languages: Sequence[str], data: str) -> Iterator[tuple[str, list[float]]]:
    """Each language with the percent of each layer on its test; raises ValueError if its labels are hidden."""
    task = retriever.task
    for test, of_layers in retriever.predictions_in(languages, data):
        gold = gold_of(task, test)
        yield test.language, [task_score(task, score(task, gold, own, test.language)) for own in of_layers]


def check_languages(task: Task, languages: Sequence[str]) -> None:
    """Raise ValueError for a single language, which has no others to choose on."""
    if len(languages) < 2:
        raise ValueError(
            f"{task.name}: a layer is chosen on the other languages, and there is only {languages[0]}; expected two "
            "or more (if you know the layer, use --layer of finetune.understanding.predict)"
        )


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m finetune.understanding.layers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model")
    parser.add_argument("--task", required=True, help="a task of retrieval, such as xtreme/tatoeba or mine.yaml")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the tables")
    parser.add_argument(
        "--layers",
        default="",
        help="such as 6,7,8; 0 = embeddings (default: all, whose embeddings are in memory at once: give fewer for "
        "BUCC's many sentences)",
    )
    add_data_flags(parser)
    add_retrieval_flags(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    task = task_named(options.task)
    if not task.is_retrieval:
        raise ValueError(f"--task {options.task}: has training; expected a task of retrieval, such as xtreme/tatoeba")
    languages = languages_tested(task, options.data, options.languages)
    check_languages(task, languages)
    model = model_directory(options.model, ENCODERS)
    layers = sorted(numbers("layers", options.layers, int)) if options.layers else list(range(num_layers(model) + 1))
    retriever = load_retriever(task, model, layers, options)
    check_filled_directory(options.output, options.data)
    claim(options.output, file_names(task), "finetune.understanding.layers")
    scores = scores_of(retriever, languages, options.data)
    found = LayerScores(
        layers, dict(tqdm(scores, total=len(languages), desc=task.name, unit=" languages", disable=None))
    )
    report_truncated(retriever.embedder)
    write(found, task, model, options)


def file_names(task: Task) -> tuple[str, str]:
    """The files that are written: the table for people, and the same for programs."""
    return f"{task.name}.md", f"{task.name}.json"


def write(found: LayerScores, task: Task, model: Path, options: argparse.Namespace) -> None:
    """Write both files and print the table."""
    (metric,) = task.main_metrics
    table = found.markdown(f"{task.title}, {metric}")
    content = {
        **{"task": task.name, "metric": metric, "model": str(model), "similarity": options.similarity},
        **{"centre": options.centre, "whiten": options.whiten, **found.as_json()},
    }
    texts = (table, json.dumps(content, indent=1) + "\n")
    write_texts(options.output, dict(zip(file_names(task), texts, strict=True)))
    print(table, end="")


if __name__ == "__main__":
    run_main(main)
