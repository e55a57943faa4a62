"""A tag for each word: seqeval's F1 and accuracy, and files of a tag a line with blank lines between sentences."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import HiddenLabelsError, TaggedSentence
from finetune.understanding.tasks.task import Task

Tags = Sequence[Sequence[str]]
INSPECTED_LINES = 20  # which show whether a file has tags


def chunk_scores(gold: Tags, predicted: Tags, task: Task, language: str) -> dict[str, float]:
    """{"f1", "precision", "recall"} in percent, over the chunks of all sentences, as seqeval finds them.

    XTREME uses it for udpos as well, whose tags have no B- and I-. seqeval then takes the first letter as the prefix
    and the rest as the type: a run of equal tags is one chunk, and CCONJ and SCONJ have one type. Raises ValueError
    for unequal numbers of sentences or words.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # imports scikit-learn: a second

    check_sizes(gold, predicted)
    # seqeval recognises a sentence only by the type list.
    gold, predicted = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*seems not to be NE tag")
        precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
    return {"f1": float(f1) * 100, "precision": float(precision) * 100, "recall": float(recall) * 100}


def word_accuracy(gold: Tags, predicted: Tags, task: Task, language: str) -> dict[str, float]:
    """{"accuracy"} in percent of the words; raises ValueError for unequal numbers of sentences or words."""
    from seqeval.metrics import accuracy_score

    check_sizes(gold, predicted)
    return {"accuracy": float(accuracy_score([list(tags) for tags in gold], [list(tags) for tags in predicted])) * 100}


def check_sizes(gold: Tags, predicted: Tags) -> None:
    """Raise ValueError for unequal numbers of sentences, or of words in a sentence."""
    if len(gold) != len(predicted):
        raise ValueError(f"{len(predicted):,} predicted sentences but {len(gold):,} with labels")
    for number, (tags, predictions) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(tags) != len(predictions):
            raise ValueError(f"sentence {number}: {len(predictions)} predicted tags but {len(tags)} words with labels")


def gold_tags(sentences: Iterable[TaggedSentence]) -> Tags:
    """The tags of the sentences; raises HiddenLabelsError if there are none, as in XTREME's copy of its tests."""
    tags = []
    for sentence in sentences:
        if sentence.tags is None:
            raise HiddenLabelsError(f"a sentence in {sentence.language!r} has no tags")
        tags.append(sentence.tags)
    return tags


def read_tags(path: Path, task: Task) -> Tags:
    """The last column of each line, by sentence: the tags in XTREME's prediction and data files alike.

    Raises ValueError that names the line for a tag that the task does not have.
    """
    sentences: list[list[str]] = [[]]
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                sentences[-1].append(known_label(line.rpartition("\t")[2], task, lines.place(number)))
            elif sentences[-1]:
                sentences.append([])
    if not sentences[-1]:
        sentences.pop()
    if not sentences:
        raise ValueError(f"{path}: empty; expected a tag a line and a blank line between sentences")
    return sentences


def read_gold_tags(path: Path, task: Task) -> Tags:
    """The tags of a tag or data file; raises HiddenLabelsError for words without tags, as in XTREME's tests."""
    with open_text(path) as lines:
        first = list(itertools.islice(filter(str.strip, lines), INSPECTED_LINES))
    known = [line for line in first if "\t" in line or line.strip() in (*task.labels, *task.other_labels)]
    if len(known) < len(first) / 2:  # a word may look like a tag, and a tag may be misspelt
        raise HiddenLabelsError(f"{path}: words, and no tags")
    return read_tags(path, task)


def write_tags(path: Path, sentences: Tags) -> None:
    """Write a tag a line, and a blank line after each sentence."""
    path.write_text("".join("\n".join(tags) + "\n\n" for tags in sentences), encoding="utf-8")
