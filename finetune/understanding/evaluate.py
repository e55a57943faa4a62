"""Score prediction files as the script of a benchmark does, by task and language.

    python -m finetune.understanding.evaluate [--benchmark xtreme | --task TASK …] --predictions DIR --labels DIR
        [--json FILE] [--markdown FILE] [--plot PNG] [--zip FILE] [--languages LIST] [--split dev]

Predictions are `{task}/test-{language}.tsv`, for questions and pools `.json`, or named as a task file says; those of
--split dev are `{task}/dev-{language}`. Labels are files of the same names (for questions in SQuAD's form), or the data
directory itself. A task is scored if the predictions have its directory. The overall score is the mean of the tasks'
scores, and given only if all are complete in all their languages.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
from data_tools.text.lines import open_text
from finetune.understanding.comparison.report import TaskScores, draw_heat_map, markdown
from finetune.understanding.metrics.gold import has_gold, read_shown_gold
from finetune.understanding.metrics.prediction_files import has_predictions, prediction_path, read_predictions
from finetune.understanding.metrics.scoring import AVERAGE, Gold, average, score, task_score
from finetune.understanding.readers.files import existing
from finetune.understanding.readers.languages import languages_named
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.split_flag import add_split_flag
from finetune.understanding.tasks.catalogues import (
    SUFFIXES,
    XTREME,
    Catalogue,
    catalogue_named,
    catalogue_names,
    task_named,
)
from finetune.understanding.tasks.task import Split, Task

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # so that equal predictions make equal archives


@dataclass(frozen=True)
class Evaluation:
    """Scores by task, language and metric, in percent, and the languages of each task that are not scored.

    `catalogue` has the tasks that could be scored. `notes` report what else may surprise: questions without
    prediction, directories that are no task.
    """

    catalogue: Catalogue
    scores: TaskScores
    unlabelled: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def overall(self) -> float | None:
        """The mean of the tasks' scores; None unless all are scored in all languages."""
        tasks = self.catalogue.tasks
        if not self.catalogue.has_overall or set(self.scores) != set(tasks) or any(self.unlabelled.values()):
            return None
        return sum(task_score(task, self.scores[name][AVERAGE]) for name, task in tasks.items()) / len(tasks)

    def as_json(self) -> dict[str, Any]:
        """{task: {language: {metric: x}, "avg": {metric: x}}, "overall": x or None}."""
        return {**self.scores, "overall": self.overall}


def evaluate(
    predictions: Path, labels: Root, catalogue: Catalogue, wanted: Collection[str] = (), split: Split = Split.TEST
) -> Evaluation:
    """Scores of all tasks of a benchmark that have a directory below `predictions`.

    `wanted` are the languages to score, empty for all. Those whose labels are hidden are skipped, with a note. Raises
    ValueError for a missing or bad file.
    """
    if not predictions.is_dir():
        raise ValueError(f"{predictions}: no such directory")
    known = catalogue.tasks
    tasks = [task for task in known.values() if has_predictions(task, predictions, split)]
    if not tasks:
        raise ValueError(f"{predictions}: has no directory of a task; expected {', '.join(known)}")
    scores, unlabelled = {}, {}
    expected = {prediction_path(Path(), task, one).parts[0] for task in known.values() for one in task.languages}
    unknown = sorted(path.name for path in predictions.iterdir() if path.is_dir() and path.name not in expected)
    notes = [f"{predictions / name}: not the name of a task" for name in unknown if catalogue.name]
    for task in tasks:
        asked = [language for language in task.languages if not wanted or language in wanted]
        if not asked:
            notes.append(f"{task.name}: has none of {', '.join(wanted)}; not scored")
            continue
        gold, hidden = read_shown_gold(
            task, (one for one in asked if has_gold(task, one, labels, split)), labels, split
        )
        languages = list(gold)
        if not languages:
            among = f" in {', '.join(wanted)}" if wanted else ""
            why = f"; they are hidden: {next(iter(hidden.values()))}" if hidden else ""
            raise ValueError(
                f"{labels}: has no {split} labels of {task.name}{among}, whose predictions are in {predictions}{why}"
            )
        notes += [f"{task.name} in {one}: this copy hides the labels ({reason})" for one, reason in hidden.items()]
        check_languages(task, languages, predictions, split)
        notes += files_of_no_language(task, predictions, split)
        by_language = {}
        for language in tqdm(languages, desc=task.name, unit=" languages", disable=None, leave=False):
            by_language[language], of_language = score_language(task, language, predictions, gold[language], split)
            notes += of_language
        scores[task.name] = {**by_language, AVERAGE: average(task, by_language)}
        unlabelled[task.name] = [language for language in task.languages if language not in languages]
    if not scores:
        raise ValueError(f"{predictions}: none of the tasks found has a {split} set in {', '.join(wanted)}")
    return Evaluation(catalogue, scores, unlabelled, notes)


def files_of_no_language(task: Task, predictions: Path, split: Split) -> list[str]:
    """A note for each prediction file that is of none of the task's languages."""
    own = {prediction_path(predictions, task, language, split) for language in task.languages}
    pattern = prediction_path(predictions, task, "*", split)
    prefix, _, suffix = pattern.name.partition("*")
    files = sorted(pattern.parent.glob(f"{prefix}*" if prefix else f"*{suffix}"))
    plain = {path: path.with_name(path.name.removesuffix(path.suffix)) for path in files}
    return [
        f"{path}: not of a language of {task.name}; not scored"
        for path, without in plain.items()
        if path not in own and without not in own
    ]


def check_languages(task: Task, languages: Sequence[str], predictions: Path, split: Split) -> None:
    """Raise ValueError that names all languages with labels but without predictions."""
    missing = [
        language for language in languages if existing(prediction_path(predictions, task, language, split)) is None
    ]
    if missing:
        example = prediction_path(predictions, task, missing[0], split)
        raise ValueError(f"{task.name} has no predictions for {', '.join(missing)}; expected {example} and so on")


def score_language(
    task: Task, language: str, predictions: Path, gold: Gold, split: Split
) -> tuple[dict[str, float], list[str]]:
    """({metric: percent}, a note on questions without prediction, if any). Raises ValueError that names the file."""
    path = prediction_path(predictions, task, language, split)
    predicted = read_predictions(task, language, predictions, split)
    notes = []
    if isinstance(gold, Mapping) and isinstance(predicted, Mapping) and (missing := gold.keys() - predicted.keys()):
        notes.append(f"{path}: {len(missing):,} of {len(gold):,} questions have no prediction and count 0")
    if isinstance(gold, Mapping) and isinstance(predicted, Mapping) and (unknown := predicted.keys() - gold.keys()):
        notes.append(
            f"{path}: {len(unknown):,} answers are to unknown questions, such as {min(unknown)}, and count nothing"
        )
    try:
        return score(task, gold, predicted, language), notes
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_zip(predictions: Path, path: Path) -> None:
    """Write an archive for the leaderboard: `{task}/test-{language}.*` of all nine tasks.

    Raises ValueError that names the missing files, because the leaderboard accepts no partial submission.
    """
    names = [
        prediction_path(Path(), task, language).as_posix()
        for task in catalogue_named(XTREME).tasks.values()
        for language in task.languages
    ]
    missing = [name for name in names if existing(predictions / name) is None]
    if missing:
        raise ValueError(
            f"{predictions}: a submission needs all tasks and languages; {len(missing)} files are missing: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
        )
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            file = existing(predictions / name)
            assert file is not None, f"{name} existed a moment ago"
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            with open_text(file) as lines:
                archive.writestr(info, "".join(f"{line}\n" for line in lines))


def summary(evaluation: Evaluation) -> str:
    """A line for each task, with the averages of its metrics."""
    tasks = evaluation.catalogue.tasks
    lines = []
    for name, by_language in evaluation.scores.items():
        averages = by_language[AVERAGE]
        metrics = "  ".join(f"{metric} {value:.2f}" for metric, value in averages.items())
        lines.append(
            f"{name:<9} {task_score(tasks[name], averages):6.2f}  {metrics}  ({len(by_language) - 1} languages)"
        )
    if evaluation.catalogue.has_overall:
        overall = evaluation.overall
        all_needed = f"all {len(tasks)} tasks in all languages are needed"
        lines.append(f"overall   {all_needed if overall is None else f'{overall:6.2f}'}")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m finetune.understanding.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument(
        "--benchmark", default=XTREME, metavar="NAME", help=f"{', '.join(catalogue_names())} (default %(default)s)"
    )
    tasks.add_argument("--task", nargs="+", default=[], metavar="TASK", help="such as mine.yaml or glue/rte")
    parser.add_argument("--predictions", type=Path, required=True, metavar="DIR", help="directory of prediction files")
    parser.add_argument(
        "--labels", metavar="DIR", help="directory of label files, or of XTREME's data, or hub:NAME; needed for scores"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables beside the paper's figures")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw a heat map of tasks and languages")
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that have labels)")
    add_split_flag(parser)
    parser.add_argument("--zip", type=Path, metavar="FILE", help="pack the predictions for XTREME's leaderboard")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    check_outputs(outputs_of(arguments), files_read(arguments))
    if arguments.zip is not None:
        write_zip(arguments.predictions, arguments.zip)
    if arguments.labels is not None:
        catalogue = catalogue_of(arguments)
        known = catalogue.languages
        wanted = languages_named(arguments.languages, known) if arguments.languages else []
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"--languages {', '.join(unknown)}: no task of {catalogue.title} has a test in it")
        report(evaluate(arguments.predictions, arguments.labels, catalogue, wanted, arguments.split), arguments)
    elif arguments.zip is None or arguments.json or arguments.markdown or arguments.plot:
        raise ValueError("--labels is missing: without it, predictions can only be packed, with --zip FILE")


def catalogue_of(arguments: argparse.Namespace) -> Catalogue:
    """The benchmark of the flags, or one of the given tasks."""
    if not arguments.task:
        return catalogue_named(arguments.benchmark)
    tasks: dict[str, Task] = {}
    for name in arguments.task:
        task = task_named(name)
        if task.name in tasks:
            raise ValueError(
                f"--task {' '.join(arguments.task)}: two tasks have the name {task.name}; score them apart"
            )
        tasks[task.name] = task
    return Catalogue("", ", ".join(task.title for task in tasks.values()), tasks, has_overall=False, source="")


def outputs_of(arguments: argparse.Namespace) -> dict[str, Path | None]:
    """The files that are written, by flag."""
    return {
        "--json": arguments.json,
        "--markdown": arguments.markdown,
        "--plot": arguments.plot,
        "--zip": arguments.zip,
    }


def files_read(arguments: argparse.Namespace) -> list[Path]:
    """The files of predictions and labels."""
    labels = [] if arguments.labels is None or is_hub(arguments.labels) else Path(arguments.labels).rglob("*")
    predictions = (
        existing(prediction_path(arguments.predictions, task, language, split))
        for task in catalogue_of(arguments).tasks.values()
        for language in task.languages
        for split in (Split.TEST, Split.DEV)
    )
    tasks = [Path(task) for task in arguments.task if task.endswith(SUFFIXES)]
    return [*filter(None, predictions), *labels, *tasks]


def report(evaluation: Evaluation, arguments: argparse.Namespace) -> None:
    """Print the scores and write the requested files."""
    print(summary(evaluation))
    for name, languages in evaluation.unlabelled.items():
        if languages:
            reason = f"no labels, hidden labels, or not requested: {', '.join(languages)}; not in its average"
            sys.stderr.write(f"{name}: {reason}\n")
    for note in evaluation.notes:
        sys.stderr.write(f"{note}\n")
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(evaluation.as_json(), indent=2) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        with atomic_path(arguments.markdown) as temporary:
            temporary.write_text(
                markdown(evaluation.scores, evaluation.overall, evaluation.catalogue), encoding="utf-8"
            )
    if arguments.plot is not None:
        draw_heat_map(evaluation.scores, arguments.plot, evaluation.catalogue)


if __name__ == "__main__":
    run_main(main)
