"""Predictions for a task's tests, in the files that XTREME's script scores: `{task}/test-{language}.tsv` or `.json`.

    python -m finetune.xtreme.predict MODEL --data ROOT --output PREDICTIONS [--task TASK]

MODEL is a run of finetune/xtreme/train.py or finetune.xtreme.search (its best checkpoint is taken), a checkpoint, or
the directory of a model; it says itself for which task, and whether plugged in or out. A model of XQuAD predicts MLQA,
too, and the other way round: both are trained on SQuAD. A model that is plugged in sees each example beside its
translation into English, where --translated-test has one, and else beside itself.

The retrieval tasks, tatoeba and bucc2018, take any VECO, plugged out: sentences are compared by the mean of a layer's
states. BUCC's are mined above a threshold that is tuned on its dev set.
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

from data_tools.cli import run_main
from data_tools.files import atomic_path
from finetune.xtreme.data import EvaluationSet
from finetune.xtreme.embeddings import Embedder
from finetune.xtreme.examples import RetrievalSet
from finetune.xtreme.metrics import prediction_path, write_predictions
from finetune.xtreme.predictor import Predictor
from finetune.xtreme.question_answering import QuestionAnswering
from finetune.xtreme.readers import languages_with, read_retrieval
from finetune.xtreme.retrieval import Similarity, mine_set, named, prepare, search, tuned_threshold
from finetune.xtreme.tasks import Head, Split, Task, task_named
from pretrain.launch import quiet_libraries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model")
    parser.add_argument("--task", help="default: the one that the model was trained for")
    parser.add_argument(
        "--data", required=True, metavar="ROOT", help="XTREME's files, its Parquet, or hub:google/xtreme"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PREDICTIONS", help="directory of the predictions"
    )
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that have a test)")
    parser.add_argument("--max-tokens", type=int, default=8192, help="largest batch in tokens (default %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default %(default)s)")
    trained = parser.add_argument_group("tasks with training")
    trained.add_argument(
        "--translated-test", default="", metavar="ROOT", help="English translations of the tests, in the same layout"
    )
    trained.add_argument("--nbest", action="store_true", help="also write the best answers of questions with scores")
    retrieval = parser.add_argument_group("tatoeba and bucc2018")
    retrieval.add_argument("--layer", type=int, help="whose states; 0 = embeddings (default: 0.6 of all layers)")
    retrieval.add_argument("--max-length", type=int, help="longest sentence in tokens (default: the model's)")
    retrieval.add_argument(
        "--similarity",
        choices=[similarity.value for similarity in Similarity],
        default=Similarity.COSINE.value,
        help="(default %(default)s)",
    )
    retrieval.add_argument("--centre", action="store_true", help="take the mean vector of each language away")
    retrieval.add_argument("--whiten", action="store_true", help="and give all directions the same variance")
    return parser.parse_args()


def languages_of(task: Task, data: str, wanted: str) -> Sequence[str]:
    """The languages to predict: `wanted`, such as "de,fr", or all that have a test. Raises ValueError for none."""
    languages = [name.strip() for name in wanted.split(",")] if wanted else languages_with(task, Split.TEST, data)
    if not languages:
        raise ValueError(f"{data}: has no test file of {task.name} in any language")
    if unknown := [language for language in languages if language not in task.languages]:
        raise ValueError(f"languages: {task.name} has no {', '.join(unknown)}, only {', '.join(task.languages)}")
    return languages


def predict(predictor: Predictor, language: str, options: argparse.Namespace) -> None:
    """Nothing; writes the predictions of a language."""
    evaluated = predictor.read(Split.TEST, language, options.data, options.translated_test)
    if evaluated.is_own_pair:
        print(f"{language}: without translations into English, each example is its own pair", file=sys.stderr)
    results = predictor.results(evaluated)
    predictions = predictor.head.predictions(results, evaluated.rows, evaluated.examples)
    path = write_predictions(predictor.task, language, predictions, options.output)
    if options.nbest and isinstance(predictor.head, QuestionAnswering):
        write_best(predictor.head, results, evaluated, path.with_name(f"nbest-{language}.json"))


def write_best(head: QuestionAnswering, results: dict[str, np.ndarray], evaluated: EvaluationSet, path: Path) -> None:
    """Nothing; writes {question's id: its best answers with scores and probabilities}."""
    best = head.best_answers(results, evaluated.rows, evaluated.examples)
    content = {
        question.id: [asdict(answer) for answer in answers]
        for question, answers in zip(evaluated.examples, best, strict=True)
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def retrieve(embedder: Embedder, task: Task, language: str, options: argparse.Namespace) -> None:
    """Nothing; writes the translations of a language's sentences that are found."""
    similarity = Similarity(options.similarity)

    def vectors(sentences: RetrievalSet) -> tuple[np.ndarray, np.ndarray]:
        own, english = sentences.source_sentences, sentences.target_sentences
        x, y = (embedder.embed(side, f"{task.name} {language}")[0] for side in (own, english))
        return prepare(x, y, centre=options.centre, whiten=options.whiten)

    test = read_retrieval(task, Split.TEST, language, options.data)
    if task.head is Head.SEARCH:
        found = [test.target_ids[row] for row in search(*vectors(test), similarity)]
        write_predictions(task, language, found, options.output)
        return
    dev = read_retrieval(task, Split.DEV, language, options.data)
    threshold = tuned_threshold(mine_set(dev, *vectors(dev), similarity), dev)
    pairs = mine_set(test, *vectors(test), similarity)
    write_predictions(task, language, named(pairs, test, threshold), options.output)


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    dtype = DTYPES[options.dtype]
    task = task_named(options.task) if options.task else None
    if task is not None and task.is_retrieval:
        languages = languages_of(task, options.data, options.languages)
        embedder = Embedder.load(options.model, options.layer, options.max_length, options.max_tokens, dtype)
        for language in tqdm(languages, desc=task.name, unit=" languages", disable=None):
            retrieve(embedder, task, language, options)
        if embedder.num_cut:
            print(f"{embedder.num_cut:,} sentences cut to {embedder.max_length} tokens", file=sys.stderr)
    else:
        predictor = Predictor.load(options.model, task, options.max_tokens, dtype)
        languages = languages_of(predictor.task, options.data, options.languages)
        for language in tqdm(languages, desc=predictor.task.name, unit=" languages", disable=None):
            predict(predictor, language, options)
    print(prediction_path(options.output, task or predictor.task, languages[0]).parent)


if __name__ == "__main__":
    run_main(main)
