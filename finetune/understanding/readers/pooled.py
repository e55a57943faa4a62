"""Queries and one pool of candidates in all languages: LAReQA, Mewsli-X, and files of one's own.

The file of a language is in SQuAD's form with `sentence_breaks`, whose sentences are the candidates (LAReQA's XQuAD-R,
Roy et al., EMNLP 2020), or has a JSON object a line. Those are queries with id, text and the ids of the right
candidates, in the columns that the task names, or without columns mentions in their contexts (Mewsli-X, Ruder et al.,
EMNLP 2021). The candidates of both are in the task's file `candidates`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from data_tools.text.lines import open_text, read_text
from finetune.understanding.readers.files import existing, find_file
from finetune.understanding.readers.json_records import records_of_json_lines
from finetune.understanding.readers.records import Record, shown
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.tasks.examples import PooledSet
from finetune.understanding.tasks.task import FileKind, Format, Split, Task

T = TypeVar("T")
MARKED = re.compile(r"\{(.*?)\}")  # which would look like the mark around a mention


@dataclass
class Candidates:
    """The candidates of a pool in the order of their files, with the language of each, empty where it is not known."""

    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)

    def add(self, id: str, text: str, language: str) -> None:
        self.ids.append(id)
        self.texts.append(text)
        self.languages.append(language)


@dataclass(frozen=True)
class Query:
    """A query and the ids of its right candidates, none where they are hidden."""

    id: str
    text: str
    targets: tuple[str, ...]


def read_pooled(task: Task, split: Split, languages: Sequence[str], root: Root) -> dict[str, PooledSet]:
    """The queries of each language with the pool, which is that of all languages of the task, and the same for all.

    Raises ValueError for a language without a file, a file of another form, repeated ids, and right candidates that are
    not in the pool.
    """
    if is_hub(str(root)):
        raise ValueError(f"{root}: {task.name} has one pool, which is read from files; expected their directory")
    if split not in task.files:
        raise ValueError(f"{task.name} has no {split} split")
    pool = Candidates()
    is_squad = task.files[split][0].format.kind is FileKind.SQUAD
    queries = (_squad_queries if is_squad else _queries_of_lines)(task, split, Path(root), pool)
    known = set(pool.ids)
    if len(known) < len(pool.ids):
        raise ValueError(f"{root}: {len(pool.ids) - len(known):,} ids of candidates of {task.name} are repeated")
    return {language: _pooled_set(language, queries[language], pool, known, root) for language in languages}


def _pooled_set(language: str, queries: Sequence[Query], pool: Candidates, known: set[str], root: Root) -> PooledSet:
    ids = [query.id for query in queries]
    if not ids:
        raise ValueError(f"{root}: no query in {language!r}")
    if len(set(ids)) < len(ids):
        raise ValueError(f"{root}: {len(ids) - len(set(ids)):,} ids of queries in {language!r} are repeated")
    if unknown := [target for query in queries for target in query.targets if target not in known]:
        raise ValueError(
            f"{root}: {len(unknown):,} right candidates of queries in {language!r} are not in the pool: {unknown[0]}, …"
        )
    lacking = [query.id for query in queries if not query.targets]
    if lacking and len(lacking) < len(ids):
        raise ValueError(
            f"{root}: {len(lacking):,} queries in {language!r} have no right candidate, such as {lacking[0]}"
        )
    return PooledSet(
        language,
        ids,
        [query.text for query in queries],
        pool.ids,
        pool.texts,
        pool.languages,
        gold=None if lacking else {query.id: query.targets for query in queries},
    )


def _squad_queries(task: Task, split: Split, root: Path, pool: Candidates) -> dict[str, list[Query]]:
    """The questions of all languages; their right candidates are the answer sentences in every language.

    Candidates are named `{language}_{paragraph}_{sentence}`, paragraphs from 1 and sentences from 0, as in LAReQA.
    """
    questions: dict[str, dict[str, str]] = {}
    targets: dict[str, list[str]] = {}
    for language in task.languages:
        path = find_file(task, split, language, root).path
        questions[language] = {}
        for id, text, own in _in_form(path, "SQuAD with sentence_breaks", _questions, path, language, pool):
            if id in questions[language]:
                raise ValueError(f"{path}: the question id {id} is repeated")
            questions[language][id] = text
            targets.setdefault(id, []).extend(own)
    return {
        language: [Query(id, text, tuple(dict.fromkeys(targets[id]))) for id, text in own.items()]
        for language, own in questions.items()
    }


def _questions(path: Path, language: str, pool: Candidates) -> list[tuple[str, str, list[str]]]:
    """(id, question, names of the sentences with its answers) of a file, whose sentences are added to the pool."""
    found = []
    articles = json.loads(read_text(path))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    for number, paragraph in enumerate(paragraphs, start=1):
        breaks = [(int(start), int(end)) for start, end in paragraph["sentence_breaks"]]
        for place, (start, end) in enumerate(breaks):
            pool.add(f"{language}_{number}_{place}", paragraph["context"][start:end], language)
        for item in paragraph["qas"]:
            own = []
            for answer in item.get("answers", ()):
                within = [place for place, (start, end) in enumerate(breaks) if start <= answer["answer_start"] < end]
                if not within:
                    raise ValueError(f"question {item['id']}: its answer is in no sentence")
                own.append(f"{language}_{number}_{within[0]}")
            question = Record({"question": item["question"]}, f"question {item['id']}").text("question")
            found.append((str(item["id"]), question, own))
    return found


def _queries_of_lines(task: Task, split: Split, root: Path, pool: Candidates) -> dict[str, list[Query]]:
    """The queries of all languages from objects a line, in a file for each language or, of Mewsli-X, in one for all."""
    path = existing(root / task.candidates)
    if path is None:
        raise ValueError(f"{root}: no file {task.candidates} with the candidates of {task.name}")
    found = {language: find_file(task, split, language, root) for language in task.languages}
    form = next(iter(found.values())).place.format
    paths = {language: one.path for language, one in found.items()}
    read_queries: Callable[[Path, Format], list[tuple[str, Query]]] = _own_queries if form.columns else _mentions
    read_candidates = _own_candidates if form.columns else _entities
    for candidate in read_candidates(path, form):
        pool.add(*candidate)
    if form.columns and len(set(paths.values())) < len(paths):
        raise ValueError(f"{paths[task.languages[0]]}: is of several languages; expected {{language}} in its pattern")
    by_path = {path: read_queries(path, form) for path in dict.fromkeys(paths.values())}
    return {
        language: [query for own, query in by_path[path] if own in ("", language)] for language, path in paths.items()
    }


def _own_candidates(path: Path, form: Format) -> list[tuple[str, str, str]]:
    """(id, text, no language) of each candidate."""
    return [(known_id(record), record.text("text"), "") for record in records_of_json_lines(path, form)]


def _own_queries(path: Path, form: Format) -> list[tuple[str, Query]]:
    """Queries with the ids of their right candidates, one or a list; their language is that of the file."""
    queries = []
    for record in records_of_json_lines(path, form):
        label = record.values.get("label")
        targets = label if isinstance(label, list) else [] if label is None else [label]
        queries.append(("", Query(known_id(record), record.text("text"), tuple(map(str, targets)))))
    return queries


def known_id(record: Record) -> str:
    """The id of a query or a candidate; raises ValueError if it is missing."""
    id = record.cell("id")
    if not id:
        raise ValueError(f"{record.where}: id: expected a text, found {shown(id)}")
    return id


def _entities(path: Path, form: Format) -> list[tuple[str, str, str]]:
    """(id, description, language) of each entity of Mewsli-X."""
    return [_in_form(where, "an entity of Mewsli-X", _entity, item) for where, item in _objects(path)]


def _entity(item: Mapping[str, Any]) -> tuple[str, str, str]:
    sentences = [item["description"][span["start"] : span["end"]] for span in item["sentence_spans"]]
    return item["entity_id"], on_one_line(" ".join(sentences)), item["description_language"]


def _mentions(path: Path, form: Format) -> list[tuple[str, Query]]:
    """(language, query) of each mention of Mewsli-X."""
    found = (_in_form(where, "mentions of Mewsli-X", _in_context, item) for where, item in _objects(path))
    return list(chain.from_iterable(found))


def _in_context(item: Mapping[str, Any]) -> list[tuple[str, Query]]:
    """(language, query) of each mention in a context, one or several."""
    context = item["context"]
    mentions = item["mentions"] if "mentions" in item else [item["mention"]]
    return [
        (
            context["language"],
            Query(
                mention["example_id"],
                marked_mention(context, mention["mention_span"]),
                (mention["entity_id"],) if mention.get("entity_id") else (),
            ),
        )
        for mention in mentions
    ]


def marked_mention(context: Mapping[str, Any], span: Mapping[str, Any]) -> str:
    """The query of XTREME-R for a mention: `Smith: The verdict came back for { Smith }, who stepped down.`

    The mention stands first, so that it is never truncated; its context is the sentence it is in. Raises ValueError if
    it is in none.
    """
    start, end = span["start"], span["end"]
    sentence = next((own for own in context["sentence_spans"] if own["start"] <= start < end <= own["end"]), None)
    if sentence is None:
        raise ValueError(f"the mention {span['text']!r} is in no sentence of its context")
    left, right = context["text"][sentence["start"] : start], context["text"][end : sentence["end"]]
    left, right = (MARKED.sub(r"(\1)", part) for part in (left, right))
    return on_one_line(f"{span['text']}: {left} {{ {span['text']} }} {right}")


def on_one_line(text: str) -> str:
    """A text without line ends, and double spaces as single ones, as XTREME-R makes it."""
    return " ".join(text.splitlines()).replace("  ", " ").strip()


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each line of JSON that is not blank."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield lines.place(number), _in_form(lines.place(number), "JSON", json.loads, line)


def _in_form(where: object, form: str, read: Callable[..., T], *arguments: Any) -> T:
    """The result of `read`; raises ValueError that names the place for content of another form."""
    try:
        return read(*arguments)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error})") from None
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{where}: not in the form of {form} ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
