"""Predictions for a task's tests, in the files that XTREME's script scores: `{task}/test-{language}.tsv` or `.json`.

    python -m finetune.understanding.predict MODEL --data ROOT --output PREDICTIONS [--task TASK]

MODEL is a run of finetune/understanding/train.py or finetune.understanding.search (its best checkpoint is taken, and
named), a checkpoint, or the directory of a model; it says itself for which task, and whether plugged in or out. A model
of XQuAD predicts MLQA, too, and the other way round: both are trained on SQuAD. A model that is plugged in sees each
example beside its translation into English, where --translated-test has one, and else beside itself.

The retrieval tasks, tatoeba and bucc2018, take any VECO, a finished run of pre-training among them, plugged out:
sentences are compared by the mean of a layer's states. BUCC's are mined above a threshold that is tuned on its dev set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from finetune.model_directory import model_directory
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.heads.question_answering import QuestionAnswering
from finetune.understanding.metrics import prediction_path, write_predictions
from finetune.understanding.readers import languages_with, read_retrieval
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.rows.data import EvaluationSet, check_is_there
from finetune.understanding.tasks.table import Split, Task, languages_named, task_named
from training.launch import quiet_libraries
from training.runs.kinds import Kind

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ENCODERS = (Kind.PRETRAINING, Kind.TASK)  # runs whose models embed sentences


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model")
    parser.add_argument("--task", help="default: the one that the model was trained for")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PREDICTIONS", help="directory of the predictions"
    )
    add_data_flags(parser)
    trained = parser.add_argument_group("tasks with training")
    trained.add_argument(
        "--translated-test", default="", metavar="ROOT", help="English translations of the tests, in the same layout"
    )
    trained.add_argument("--nbest", action="store_true", help="also write the best answers of questions with scores")
    retrieval = parser.add_argument_group("tatoeba and bucc2018")
    retrieval.add_argument("--layer", type=int, help="whose states; 0 = embeddings (default: 0.6 of all layers)")
    add_retrieval_flags(retrieval)
    return parser.parse_args()


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Nothing; adds what every prediction needs: which data, in which languages, in which batches."""
    parser.add_argument(
        "--data", required=True, metavar="ROOT", help="XTREME's files, its Parquet, or hub:google/xtreme"
    )
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that have a test)")
    parser.add_argument("--max-tokens", type=int, default=8192, help="largest batch in tokens (default %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default %(default)s)")


def add_retrieval_flags(parser: argparse._ActionsContainer) -> None:
    """Nothing; adds how sentences are embedded and compared, but for the layer."""
    parser.add_argument("--max-length", type=int, help="longest sentence in tokens (default: the model's)")
    parser.add_argument(
        "--similarity",
        choices=[similarity.value for similarity in Similarity],
        default=Similarity.COSINE.value,
        help="(default %(default)s)",
    )
    parser.add_argument("--centre", action="store_true", help="take the mean vector of each language away")
    parser.add_argument("--whiten", action="store_true", help="and give all directions the same variance")


def languages_of(task: Task, data: str, wanted: str) -> Sequence[str]:
    """The languages to predict, each once: `wanted`, such as "de,fr", or all that have a test.

    Raises ValueError for none, for one that the task does not have, and for one without a test file.
    """
    found = languages_with(task, Split.TEST, data)
    if not found:
        raise ValueError(f"{data}: has no test file of {task.name} in any language")
    languages = languages_named(wanted, task.languages) if wanted else found
    if unknown := [language for language in languages if language not in task.languages]:
        raise ValueError(f"languages: {task.name} has no {', '.join(unknown)}, only {', '.join(task.languages)}")
    if missing := [language for language in languages if language not in found]:
        raise ValueError(f"{data}: has no test file of {task.name} in {', '.join(missing)}")
    return languages


def claim_predictions(task: Task, languages: Sequence[str], options: argparse.Namespace) -> None:
    """Raise ValueError if files of others are where predictions go, or if --output is the data."""
    check_filled_directory(options.output, options.data)
    paths = [prediction_path(options.output, task, language) for language in languages]
    if options.nbest:
        paths += [nbest_path(path, language) for path, language in zip(paths, languages, strict=True)]
    claim(paths[0].parent, [path.name for path in paths], "finetune.understanding.predict")


def nbest_path(predictions: Path, language: str) -> Path:
    """Where the best answers go, beside the predictions of a language."""
    return predictions.with_name(f"nbest-{language}.json")


def predict(predictor: Predictor, language: str, options: argparse.Namespace) -> None:
    """Nothing; writes the predictions of a language."""
    evaluated = predictor.read(Split.TEST, language, options.data, options.translated_test)
    if evaluated.is_own_pair:
        print(f"{language}: without translations into English, each example is its own pair", file=sys.stderr)
    if evaluated.cut:
        print(f"{language}: {'; '.join(evaluated.cut)}", file=sys.stderr)
    results = predictor.results(evaluated)
    predictions = predictor.head.predictions(results, evaluated.rows, evaluated.examples)
    path = write_predictions(predictor.task, language, predictions, options.output)
    if options.nbest and isinstance(predictor.head, QuestionAnswering):
        write_best(predictor.head, results, evaluated, nbest_path(path, language))


def write_best(head: QuestionAnswering, results: dict[str, np.ndarray], evaluated: EvaluationSet, path: Path) -> None:
    """Nothing; writes {question's id: its best answers with scores and probabilities}."""
    best = head.best_answers(results, evaluated.rows, evaluated.examples)
    content = {
        question.id: [asdict(answer) for answer in answers]
        for question, answers in zip(evaluated.examples, best, strict=True)
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_retriever(task: Task, layers: Sequence[int] | int | None, options: argparse.Namespace) -> Retriever:
    """What the flags ask for; raises ValueError as `Embedder.load`."""
    embedder = Embedder.load(options.model, layers, options.max_length, options.max_tokens, DTYPES[options.dtype])
    return Retriever(task, embedder, Similarity(options.similarity), options.centre, options.whiten)


def tell_cut(embedder: Embedder) -> None:
    """Nothing; says how many sentences were too long."""
    if embedder.num_cut:
        print(f"{embedder.num_cut:,} sentences cut to {embedder.max_length} tokens", file=sys.stderr)


def retrieve(retriever: Retriever, language: str, options: argparse.Namespace) -> None:
    """Nothing; writes the translations of a language's sentences that are found."""
    test = read_retrieval(retriever.task, Split.TEST, language, options.data)
    (found,) = retriever.predictions(test, options.data)
    write_predictions(retriever.task, language, found, options.output)


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    task = task_named(options.task) if options.task else None
    if task is not None and task.is_retrieval:
        options.model = model_directory(options.model, ENCODERS)
        languages = languages_of(task, options.data, options.languages)
        retriever = load_retriever(task, options.layer, options)
        claim_predictions(task, languages, options)
        for language in tqdm(languages, desc=task.name, unit=" languages", disable=None):
            retrieve(retriever, language, options)
        tell_cut(retriever.embedder)
    else:
        options.model = model_directory(options.model, [Kind.TASK])
        predictor = Predictor.load(options.model, task, options.max_tokens, DTYPES[options.dtype])
        if options.translated_test and not predictor.is_plugged_in:
            raise ValueError(
                f"{options.model}: was not trained plugged in and takes no --translated-test; leave it out"
            )
        check_is_there(options.translated_test, "--translated-test")
        languages = languages_of(predictor.task, options.data, options.languages)
        claim_predictions(predictor.task, languages, options)
        for language in tqdm(languages, desc=predictor.task.name, unit=" languages", disable=None):
            predict(predictor, language, options)
    print(prediction_path(options.output, task or predictor.task, languages[0]).parent)


if __name__ == "__main__":
    run_main(main)
