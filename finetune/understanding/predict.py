"""Predict the tests of a task into files that evaluate scores: `{task}/test-{language}.tsv`, .json or .jsonl.

A task file may name them otherwise, such as XGLUE's `{task}/{language}.prediction`.

    python -m finetune.understanding.predict MODEL --data ROOT --output PREDICTIONS [--task TASK] [--split dev]

MODEL is a run of finetune/understanding/train.py or finetune.understanding.search (whose best checkpoint is used and
named), a checkpoint, or the directory of a model, which knows its task and whether it is plugged in. A model of XQuAD
also predicts MLQA, and vice versa: both are trained on SQuAD. A model that is plugged in reads each example with its
translation into English, where --translated-test has one, and else with itself.

A model that was trained with --adapter on top of --language_adapter reads other languages with their own adapters:

    python -m finetune.understanding.predict MODEL … --language-adapters sw=runs/sw/adapter tr=runs/tr/adapter

The retrieval tasks, such as tatoeba and bucc2018, take any encoder, also a finished run of pre-training, plugged out,
or what inference.export_encoder made of one: sentences are compared by the mean of a layer's states. BUCC's are mined
above a threshold that is tuned on its dev set. Of one pool of candidates in all languages, the 20 that are most similar
to each query are written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from finetune.model_directory import model_directory
from finetune.placement import Placement
from finetune.understanding.flags import (
    add_data_flags,
    add_retrieval_flags,
    encoder_directory,
    load_retriever,
    report_truncated,
)
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.heads.question_answering import QuestionAnswering
from finetune.understanding.language_adapters import LanguageAdapters, read_directories
from finetune.understanding.metrics.prediction_files import prediction_path, write_predictions
from finetune.understanding.readers.languages import languages_tested
from finetune.understanding.readers.roots import check_root
from finetune.understanding.rows.evaluation import EvaluationSet
from finetune.understanding.split_flag import add_split_flag
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split, Task
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model")
    parser.add_argument("--task", help="default: the task that the model was trained for")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PREDICTIONS", help="directory of the predictions"
    )
    add_data_flags(parser)
    add_split_flag(parser)
    trained = parser.add_argument_group("tasks with training")
    trained.add_argument(
        "--translated-test", default="", metavar="ROOT", help="English translations of the tests, in the same layout"
    )
    trained.add_argument(
        "--nbest", action="store_true", help="also write the best answers to each question with scores"
    )
    trained.add_argument(
        "--language-adapters",
        nargs="+",
        default=[],
        metavar="LANGUAGE=DIR",
        help="adapters of languages, each put in the place of the one that the model was trained with (MAD-X)",
    )
    retrieval = parser.add_argument_group("retrieval, such as tatoeba and bucc2018")
    retrieval.add_argument(
        "--layer", type=int, help="layer whose states are used; 0 = embeddings (default: 0.6 of all layers)"
    )
    add_retrieval_flags(retrieval)
    return parser.parse_args()


def claim_predictions(task: Task, languages: Sequence[str], options: argparse.Namespace) -> None:
    """Claim the files of the predictions. Raises ValueError for files of others, and if --output is the data."""
    check_filled_directory(options.output, options.data)
    paths = [prediction_path(options.output, task, language, options.split) for language in languages]
    if options.nbest:
        paths += [nbest_path(path, language) for path, language in zip(paths, languages, strict=True)]
    for parent in dict.fromkeys(path.parent for path in paths):
        claim(parent, [path.name for path in paths if path.parent == parent], "finetune.understanding.predict")


def nbest_path(predictions: Path, language: str) -> Path:
    """The file of the best answers, beside the predictions of a language."""
    return predictions.with_name(f"nbest-{language}.json")


def predict(
    predictor: Predictor, language: str, adapters: LanguageAdapters | None, options: argparse.Namespace
) -> None:
    """Write the predictions of a language, by its own adapter where there is one."""
    if adapters is not None and not adapters.use(language):
        print(f"{language}: by the adapter {adapters.trained[0]}, as trained", file=sys.stderr)
    evaluated = predictor.read(options.split, language, options.data, options.translated_test)
    if evaluated.is_own_pair:
        print(f"{language}: without translations into English, each example is its own pair", file=sys.stderr)
    if evaluated.truncated:
        print(f"{language}: {'; '.join(evaluated.truncated)}", file=sys.stderr)
    results = predictor.results(evaluated)
    predictions = predictor.head.predictions(results, evaluated.rows, evaluated.examples)
    path = write_predictions(predictor.task, language, predictions, options.output, options.split)
    if options.nbest and isinstance(predictor.head, QuestionAnswering):
        write_best(predictor.head, results, evaluated, nbest_path(path, language))


def write_best(head: QuestionAnswering, results: dict[str, np.ndarray], evaluated: EvaluationSet, path: Path) -> None:
    """Write {question id: its best answers with scores and probabilities}."""
    best = head.best_answers(results, evaluated.rows, evaluated.examples)
    content = {
        question.id: [asdict(answer) for answer in answers]
        for question, answers in zip(evaluated.examples, best, strict=True)
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def predict_trained(task: Task | None, options: argparse.Namespace) -> Path:
    """Write the predictions of a fine-tuned model; return their directory. `task` None is the model's."""
    directory = model_directory(options.model, [Kind.TASK])
    predictor = Predictor.load(directory, task, options.max_tokens, Placement.of(options.dtype))
    if options.translated_test and not predictor.is_plugged_in:
        raise ValueError(f"{directory}: was not trained plugged in and takes no --translated-test; leave it out")
    check_root(options.translated_test, "--translated-test")
    directories = read_directories(options.language_adapters)
    adapters = LanguageAdapters(predictor.model, directories) if directories else None
    languages = languages_tested(predictor.task, options.data, options.languages, options.split)
    claim_predictions(predictor.task, languages, options)
    for language in tqdm(languages, desc=predictor.task.name, unit=" languages", disable=None):
        predict(predictor, language, adapters, options)
    return prediction_path(options.output, predictor.task, languages[0]).parent


def predict_retrieval(task: Task, options: argparse.Namespace) -> Path:
    """Write the predictions of a retrieval task; return their directory."""
    if options.language_adapters:
        raise ValueError(f"--language-adapters: {task.name} has no training, and so no task's adapter above them")
    if options.split is not Split.TEST:
        raise ValueError(f"--split {options.split}: {task.name} has no training, and tests alone are predicted")
    directory = encoder_directory(options.model)
    languages = languages_tested(task, options.data, options.languages)
    retriever = load_retriever(task, directory, options.layer, options)
    claim_predictions(task, languages, options)
    found = retriever.predictions_in(languages, options.data, options.split)
    for test, (predictions,) in tqdm(found, total=len(languages), desc=task.name, unit=" languages", disable=None):
        write_predictions(task, test.language, predictions, options.output, options.split)
    report_truncated(retriever.embedder)
    return prediction_path(options.output, task, languages[0]).parent


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    task = task_named(options.task) if options.task else None
    if task is not None and task.is_retrieval:
        print(predict_retrieval(task, options))
    else:
        print(predict_trained(task, options))


if __name__ == "__main__":
    run_main(main)
