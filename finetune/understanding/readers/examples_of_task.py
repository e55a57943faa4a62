"""The examples of a task, from files or the hub's Parquet: one function for each kind of example.

`root` is a directory in the layout of XTREME's download scripts (files plain, .gz, .xz, .zst or .bz2), a copy of the
hub's directories of Parquet files, or `hub:google/xtreme`. Examples are streamed, and only files of the requested split
are opened: a reader for training never sees a test file. All functions raise a one-line ValueError for a language
without a file, rows of another form, unknown labels and empty files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from finetune.understanding.readers.bitext import retrieval_set_of_files
from finetune.understanding.readers.conll import tagged_of_file
from finetune.understanding.readers.files import find_file, not_empty
from finetune.understanding.readers.hub import hub_pairs, hub_questions, hub_retrieval, hub_tagged
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.readers.squad import held_out, questions_of_file, with_unique_ids
from finetune.understanding.readers.tsv import pairs_of_file
from finetune.understanding.tasks.examples import Example, LabelledText, Question, RetrievalSet, TaggedSentence
from finetune.understanding.tasks.task import TRAINING, Head, Split, Task


def read_pairs(task: Task, split: Split, language: str, root: Root) -> Iterator[LabelledText]:
    """Pairs of sentences; in dev and test, an incomplete one raises ValueError."""
    if is_hub(str(root)):
        pairs = hub_pairs(task, split, language, str(root))
    else:
        path = find_file(task, split, language, Path(root))
        pairs = pairs_of_file(path, task, language, takes_empty=split in TRAINING)
    return not_empty(pairs, _where(task, split, language, root))


def read_tagged(task: Task, split: Split, language: str, root: Root) -> Iterator[TaggedSentence]:
    """Tagged sentences; their tags are None where the file has only words."""
    if is_hub(str(root)):
        sentences = hub_tagged(task, split, language, str(root))
    else:
        sentences = tagged_of_file(find_file(task, split, language, Path(root)), task, language)
    return not_empty(sentences, _where(task, split, language, root))


def read_questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """Questions, with answers as the file has them."""
    questions = _questions(task, split, language, root)
    if task.dev_from_train and split in (Split.TRAIN, Split.DEV):
        questions = held_out(questions, split)
    return not_empty(questions, _where(task, split, language, root))


def read_partners(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """Examples that include the translations of a split's examples, from the files of another root.

    Held-out questions are chosen by the text of their context, which differs in translation: all are read, to be
    matched by their ids.
    """
    if task.dev_from_train:
        return not_empty(_questions(task, split, language, root), _where(task, split, language, root))
    return read(task, split, language, root)


def question_ids(task: Task, split: Split, language: str, root: Root) -> set[str]:
    """The ids in the files of a split; in those of train, dev's are included: see `Task.dev_from_train`."""
    return {question.id for question in _questions(task, split, language, root)}


def _questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """All questions in the files of a split; where XTREME cuts the ids of training questions, they are made unique."""
    if is_hub(str(root)):
        questions = hub_questions(task, split, language, str(root))
    else:
        questions = questions_of_file(find_file(task, split, language, Path(root)), language)
    return with_unique_ids(questions) if task.dev_from_train and split is not Split.TEST else questions


def read_retrieval(task: Task, split: Split, language: str, root: Root) -> RetrievalSet:
    """The sentences of both languages, and their gold pairs where known."""
    if is_hub(str(root)):
        return hub_retrieval(task, split, language, str(root))
    return retrieval_set_of_files(task, split, language, Path(root))


def read(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """The examples of any task but retrieval, for which see `read_retrieval`."""
    readers: dict[Head, Callable[[Task, Split, str, Root], Iterator[Example]]] = {
        Head.SEQUENCE: read_pairs,
        Head.TOKEN: read_tagged,
        Head.SPAN: read_questions,
    }
    if task.head not in readers:
        raise ValueError(f"{task.name} has two sets of sentences rather than examples: use read_retrieval")
    return readers[task.head](task, split, language, root)


def _where(task: Task, split: Split, language: str, root: Root) -> str:
    return f"{root}: {split} of {task.name} in {language!r}"
