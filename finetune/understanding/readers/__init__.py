"""Examples of the tasks, from XTREME's files or the hub's Parquet: one function for each kind of example.

`root` is a directory in the layout of XTREME's download scripts (files plain, .gz, .xz, .zst or .bz2), a copy of the
hub's directories of Parquet files, or `hub:google/xtreme`. Examples come in a stream, and only the files of the split
that is asked for are opened: a reader for training never sees a test file. All raise ValueError in one line for a
language without a file, rows of another form, unknown labels and empty files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from finetune.understanding.readers.files import find_file, has_file, not_empty
from finetune.understanding.readers.hub import has_config, hub_pairs, hub_questions, hub_retrieval, hub_tagged, is_hub
from finetune.understanding.readers.pairs import pairs_of_file
from finetune.understanding.readers.questions import held_out, questions_of_file, with_ids_of_their_own
from finetune.understanding.readers.sentences import retrieval_set_of_files
from finetune.understanding.readers.tags import tagged_of_file
from finetune.understanding.tasks.examples import Example, Question, RetrievalSet, SentencePair, TaggedSentence
from finetune.understanding.tasks.table import Head, Split, Task

Root = Path | str
TRAINING = (Split.TRAIN, Split.TRANSLATE_TRAIN)


def read_pairs(task: Task, split: Split, language: str, root: Root) -> Iterator[SentencePair]:
    """Pairs of sentences of XNLI or PAWS-X; outside of training text, one that is not complete raises ValueError."""
    if is_hub(str(root)):
        pairs = hub_pairs(task, split, language, str(root))
    else:
        path = find_file(task, split, language, Path(root))
        pairs = pairs_of_file(path, task, language, takes_empty=split in TRAINING)
    return not_empty(pairs, _where(task, split, language, root))


def read_tagged(task: Task, split: Split, language: str, root: Root) -> Iterator[TaggedSentence]:
    """Sentences of udpos or panx; their tags are None where the file has words alone."""
    if is_hub(str(root)):
        sentences = hub_tagged(task, split, language, str(root))
    else:
        sentences = tagged_of_file(find_file(task, split, language, Path(root)), task, language)
    return not_empty(sentences, _where(task, split, language, root))


def read_questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """Questions of XQuAD, MLQA or TyDiQA, with answers as the file has them."""
    questions = _questions(task, split, language, root)
    if task.dev_from_train and split in (Split.TRAIN, Split.DEV):
        questions = held_out(questions, split)
    return not_empty(questions, _where(task, split, language, root))


def read_partners(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """Examples among which the translations of a split's are, in the files of another root.

    What is held out goes by the text of a question, which is another in the translation: all are read, and their ids
    tell.
    """
    if task.dev_from_train:
        return not_empty(_questions(task, split, language, root), _where(task, split, language, root))
    return read(task, split, language, root)


def question_ids(task: Task, split: Split, language: str, root: Root) -> set[str]:
    """The ids in the files of a split, in those of train those of dev as well: see `Task.dev_from_train`."""
    return {question.id for question in _questions(task, split, language, root)}


def _questions(task: Task, split: Split, language: str, root: Root) -> Iterator[Question]:
    """All questions of the files of a split, in training with ids of their own where XTREME cuts them."""
    if is_hub(str(root)):
        questions = hub_questions(task, split, language, str(root))
    else:
        questions = questions_of_file(find_file(task, split, language, Path(root)), language)
    return with_ids_of_their_own(questions) if task.dev_from_train and split is not Split.TEST else questions


def read_retrieval(task: Task, split: Split, language: str, root: Root) -> RetrievalSet:
    """Both sides of BUCC or Tatoeba."""
    if is_hub(str(root)):
        return hub_retrieval(task, split, language, str(root))
    return retrieval_set_of_files(task, split, language, Path(root))


def read(task: Task, split: Split, language: str, root: Root) -> Iterator[Example]:
    """The examples of any task but those of retrieval, for which see `read_retrieval`."""
    readers: dict[Head, Callable[[Task, Split, str, Root], Iterator[Example]]] = {
        Head.SEQUENCE: read_pairs,
        Head.TOKEN: read_tagged,
        Head.SPAN: read_questions,
    }
    if task.head not in readers:
        raise ValueError(f"{task.name} has two sets of sentences and no single examples: use read_retrieval")
    return readers[task.head](task, split, language, root)


def languages_with(task: Task, split: Split, root: Root) -> tuple[str, ...]:
    """The languages of the task, in its order, that have the split; no file is opened."""
    if is_hub(str(root)):
        return tuple(language for language in task.languages if has_config(task, split, language, str(root)))
    return tuple(language for language in task.languages if has_file(task, split, language, Path(root)))


def _where(task: Task, split: Split, language: str, root: Root) -> str:
    return f"{root}: {split} of {task.name} in {language!r}"
