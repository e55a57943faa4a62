"""Tasks in YAML files, those of users as those that come with the project.

    name: topics
    head: sequence        # sequence, multilabel, regression, context_word, ranking, choice, token, span, search, mining
    languages: [en, de, sw]                  # of dev and test
    train_languages: [en]                    # default: the first language
    files: {train: "train-{language}.tsv", dev: "dev-{language}.tsv", test: "test-{language}.tsv"}    # below --data
    format: {kind: tsv, header: true, text_a: text, label: category}
    labels: null                             # null: those of train, sorted
    metrics: [accuracy, macro_f1]            # the first is the score

`format` has the kind of the files (tsv, csv, jsonl, json, parquet, conll, squad, lines) and the column of each field of
an example, by name or by number from 0. A file may have a form of its own, and several names of which the first that
exists counts: `train: [{path: "old/{language}.csv", kind: csv, …}, "train-{language}.tsv"]`. `score` lists the metrics
whose mean is the score, if it is not the first. docs/tasks.md has all keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_tools.files.yaml_files import MarkedMapping, is_null, read_marked_mapping
from finetune.understanding.tasks.section import Place, Section, described
from finetune.understanding.tasks.task import (
    FIELDS,
    METRICS,
    OF_POOLS,
    OF_TEXTS,
    RETRIEVAL,
    WITH_LABELS,
    AnswerTokens,
    Columns,
    FileKind,
    FilePlace,
    Format,
    Head,
    HubPlace,
    Split,
    Task,
)

EXPECTED = "a task, as docs/tasks.md describes it"
SPLITS = {"train": Split.TRAIN, "translate_train": Split.TRANSLATE_TRAIN, "dev": Split.DEV, "test": Split.TEST}
OF_POOL = (FileKind.SQUAD, FileKind.JSONL)  # the forms of files that have queries for one pool
BY_NAME = (FileKind.JSONL, FileKind.JSON, FileKind.PARQUET)
LABEL_KEYS = ("labels", "other_labels", "positive_label")
MAPPINGS = ("label_spellings", "codes", "phrases")  # whose keys are labels, languages or answers
NAME = re.compile(r"\w[\w.-]*")
DEFAULT_DELIMITER = ","
KEYS_OF_HEADS = {
    "phrases": (Head.CHOICE,),
    "answer_tokens": (Head.SPAN,),
    "aligned_files": (Head.SEARCH,),
    "pool": (Head.SEARCH,),
    "candidates": (Head.SEARCH,),
    "positive_label": (Head.SEQUENCE, Head.CONTEXT_WORD),
    "label_spellings": (*OF_TEXTS, Head.CHOICE, Head.TOKEN),
    "other_labels": WITH_LABELS,
    "untranslated": OF_TEXTS,
}
TABLES = (FileKind.TSV, FileKind.CSV)
KEYS_OF_KINDS = {
    "records": (FileKind.JSON,),
    "quoted": (FileKind.TSV,),
    "delimiter": (FileKind.CSV,),
    "comments": (FileKind.CONLL,),
    "originals": TABLES,
    "header": TABLES,
    "more_columns": (*TABLES, FileKind.CONLL),
}
WITHOUT_COLUMNS = (FileKind.SQUAD, FileKind.LINES)
FORMAT_KEYS = (
    "kind",
    "header",
    "delimiter",
    "quoted",
    "more_columns",
    "originals",
    "comments",
    "records",
    "separator",
    "choices",
)
PLACE_KEYS = ("path", "labels")
HUB_KEYS = ("config", "split", "language_column", "id_prefix", "without")
KEYS = (
    *("name", "title", "head", "languages", "train_languages", "files", "format", "hub", "labels", "other_labels"),
    *("label_spellings", "positive_label", "metrics", "score", "codes", "answer_tokens", "phrases", "aligned_files"),
    *("dev_from_train", "pool", "candidates", "predictions", "source", "untranslated"),
)


def read_task(path: Path) -> Task:
    """The task of a file; raises ValueError that names file, line and column of each mistake."""
    read = read_marked_mapping(path, EXPECTED)
    return task_of(with_labels_as_written(read), read.place, default_name=path.stem)


def with_labels_as_written(read: MarkedMapping) -> dict[Any, Any]:
    """The content of a file whose labels and languages are texts: 010 is no number, and neither yes nor no is a truth.

    That holds for lists of labels and for the keys of mappings, whose values are checked to be texts.
    """
    content = dict(read.content)
    for key in MAPPINGS:
        names = [keys[1] for keys in read.marks if len(keys) == 2 and keys[0] == key]
        if isinstance(content.get(key), dict) and len(names) == len(content[key]):  # else two spellings are one key
            content[key] = dict(zip(names, content[key].values(), strict=True))
    for key in LABEL_KEYS:
        value = content.get(key)
        if isinstance(value, list):
            content[key] = [read.written.get((key, number), item) for number, item in enumerate(value)]
        elif value is not None:
            content[key] = read.written.get((key,), value)
    return content


def task_of(content: Mapping[Any, Any], place: Place, default_name: str = "") -> Task:
    """The task that a mapping describes; raises ValueError with all mistakes and their places."""
    top = Section(content, (), place, [])
    top.check_keys(KEYS)
    head = top.one_of("head", Head)
    if head is None:
        raise ValueError("; ".join(dict.fromkeys(top.problems)))
    task = _task(top, Head(head), default_name)
    if top.problems:
        raise ValueError("; ".join(dict.fromkeys(top.problems)))
    return task


def content_of(task: Task) -> dict[str, Any]:
    """The mapping from which `task_of` makes the same task, for JSON."""
    content: dict[str, Any] = {
        key: value
        for key, value in asdict(task).items()
        if value and key not in ("files", "hub", "main_metrics", "prediction_file")
    }
    names = {split: name for name, split in SPLITS.items()}
    content["score"] = task.main_metrics
    content["predictions"] = task.prediction_file
    content["files"] = {names[split]: [_place_content(one) for one in places] for split, places in task.files.items()}
    content["hub"] = {names[split]: _flat(asdict(place)) for split, place in task.hub.items()}
    if task.head is not Head.SPAN:
        del content["answer_tokens"]  # which has a default
    return _plain({key: value for key, value in content.items() if value})


def _place_content(place: FilePlace) -> dict[str, Any]:
    labels = {"labels": _place_content(place.labels)} if place.labels else {}
    path = [place.path, *place.further] if place.further else place.path
    return {"path": path, **_flat(asdict(place.format)), **labels}


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """A form or a place with its columns beside its other keys, as in files."""
    columns = content.pop("columns")
    has_header = content.get("kind") in TABLES  # false says something there: names of columns mean a header
    return {**{key: value for key, value in content.items() if value or (key == "header" and has_header)}, **columns}


def _plain(value: Any) -> Any:
    """Tuples as lists and enumerations as texts, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _task(top: Section, head: Head, default_name: str) -> Task:
    name = top.text("name", default_name or None)
    languages = top.texts("languages")
    if not languages:
        top.complain("languages", "languages is missing")

    train_languages = top.texts("train_languages") or languages[:1]
    source = "".join(train_languages[:1])
    pool = top.flag("pool", False)
    if pool and head is not Head.SEARCH:
        top.complain("pool", f"pool: expected the head {Head.SEARCH}, found {head}")
    known_metrics = METRICS[head]
    if head is Head.SEARCH:
        known_metrics = tuple(metric for metric in known_metrics if (metric in OF_POOLS) == pool)
    metrics = top.texts("metrics") or known_metrics[:1]
    main_metrics = top.texts("score") or metrics[:1]
    labels = top.texts("labels")
    for key, values, known in (("metrics", metrics, known_metrics), ("score", main_metrics, metrics)):
        if unknown := [value for value in values if value not in known]:
            where = f"the head {head}{' with pool' if pool else ''}"
            top.complain(key, f"{key}: {', '.join(unknown)} is none of {', '.join(known)} of {where}")
    if head in (Head.MINING, Head.SEARCH) and len(main_metrics) > 1:
        top.complain("score", f"score: expected one metric, by which the head {head} chooses a layer")
    if labels and head not in WITH_LABELS:
        top.complain("labels", f"labels: the head {head} has none")
    if len(labels) == 1:
        top.complain("labels", f"labels: expected two or more, found only {labels[0]!r}")
    spellings = top.texts_by_key("label_spellings")
    if labels and (unknown := sorted(set(spellings.values()) - set(labels))):
        top.complain("label_spellings", f"label_spellings: {unknown[0]!r} is none of the labels")
    positive = top.text("positive_label", labels[-1] if len(labels) == 2 else "")
    if positive and labels and positive not in labels:
        top.complain("positive_label", f"positive_label {positive!r} is none of the labels")
    if not positive and "f1" in metrics and head in (Head.SEQUENCE, Head.CONTEXT_WORD):
        top.complain("metrics", "metrics: f1 is that of one label; name it by positive_label, or list two labels")
    if not NAME.fullmatch(name):
        top.complain("name", f"name {name!r}: expected letters, digits, '.', '-' and '_', since it names directories")
    if marked := [label for label in labels if any(mark in label for mark in "\t\r\n")]:
        top.complain("labels", f"labels: {marked[0]!r} has a tab or a line end")
    _check_use(top, head)
    files, hub = _files(top, head), _hub(top, head)
    if pool:
        _check_pool(top, files)
    elif source in languages and any("{side}" in place.path for places in files.values() for place in places):
        top.complain(
            "languages",
            f"languages: {source} is what the others are paired with; name another one in "
            "train_languages, or leave it out here",
        )
    if not files and not hub:
        top.complain("files", "files is missing: where train, dev and test are, below --data")
    return Task(
        name=name,
        title=top.text("title", name),
        head=head,
        languages=languages,
        train_languages=train_languages,
        metrics=metrics,
        main_metrics=main_metrics,
        files=files,
        hub=hub,
        labels=labels,
        other_labels=top.texts("other_labels"),
        untranslated=top.texts("untranslated"),
        label_spellings=spellings,
        positive_label=positive,
        codes=top.texts_by_key("codes"),
        answer_tokens=AnswerTokens(top.one_of("answer_tokens", AnswerTokens, AnswerTokens.SQUAD) or AnswerTokens.SQUAD),
        phrases=top.texts_by_key("phrases"),
        aligned_files=top.texts("aligned_files"),
        dev_from_train=top.flag("dev_from_train", False),
        pool=pool,
        candidates=_candidates(top),
        prediction_file=_prediction_file(top, languages),
        source=top.text("source", ""),
    )


def _check_use(top: Section, head: Head) -> None:
    """Complain of keys that mean nothing for the head."""
    for key, heads in KEYS_OF_HEADS.items():
        if top.has(key) and top.content[key] and head not in heads:
            top.complain(key, f"{key} is for the head {' or '.join(heads)}, not for {head}")


def _check_patterns(section: Section, key: str, patterns: Sequence[str], has_sides: bool = False) -> None:
    """Complain of patterns with other placeholders than {language}, {code} and, of pairs of files, {side}."""
    known = ("language", "code", "side") if has_sides else ("language", "code")
    for pattern in patterns:
        try:
            pattern.format(**dict.fromkeys(known, ""))
        except (LookupError, ValueError):
            told = ", ".join(f"{{{name}}}" for name in known)
            section.complain(key, f"{key} {pattern!r}: expected no other placeholders than {told}")


def _candidates(top: Section) -> str:
    """The pattern of the file of a pool's candidates."""
    pattern = top.text("candidates", "")
    _check_patterns(top, "candidates", [pattern])
    return pattern


def _check_pool(top: Section, files: Mapping[Split, tuple[FilePlace, ...]]) -> None:
    """Complain of forms that a pool is not read from."""
    kinds = {place.format.kind for places in files.values() for place in places}
    if wrong := [kind for kind in kinds if kind not in OF_POOL]:
        top.complain("format", f"format: a pool is read from {' or '.join(OF_POOL)}, not from {wrong[0]}")
    if FileKind.JSONL in kinds and not top.has("candidates"):
        top.complain("candidates", "candidates is missing: the file of the pool's candidates")


def _prediction_file(top: Section, languages: Sequence[str]) -> str:
    """The pattern of the names of prediction files: another one for each language, all below their directory."""
    pattern = top.text("predictions", "")
    try:
        names = [pattern.format(task="task", language=language, code=language) for language in languages]
    except (LookupError, ValueError):
        names = []
    is_below = not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
    if pattern and (len(set(names)) < len(languages) or not is_below):
        top.complain(
            "predictions", f"predictions {pattern!r}: expected the name of a file with {{language}}, maybe {{task}}"
        )
    return pattern


def _files(top: Section, head: Head) -> dict[Split, tuple[FilePlace, ...]]:
    """The places of each split's files."""
    section = top.section("files")
    section.check_keys(SPLITS)
    shared = top.section("format")
    return {
        split: tuple(_file(own, item, shared, head) for own, item in section.items(name))
        for name, split in SPLITS.items()
        if section.has(name)
    }


def _file(own: Section, item: Any, shared: Section, head: Head) -> FilePlace:
    """A place: a pattern in the form that all files share, or a mapping with a pattern and a form of its own."""
    if isinstance(item, str):
        _check_patterns(own, "path", [item], head in RETRIEVAL)
        return FilePlace(path=item, format=_format(shared, head))
    if not isinstance(item, Mapping):
        own.problems.append(f"{own.place(own.keys)}: expected the pattern of a name, found {described(item)}")
        return FilePlace(path="", format=Format(kind=FileKind.TSV))
    paths = own.texts("path")
    if not paths:
        own.complain("path", "path is missing")
    _check_patterns(own, "path", paths, head in RETRIEVAL)
    merged = Section({**_inherited(own, shared), **own.content}, own.keys, own.place, own.problems)
    labels = None
    if own.has("labels"):
        of_labels = own.section("labels")
        # Its form is that of the examples, but for what it says itself; its columns are its own, of label and id.
        form = {key: value for key, value in merged.content.items() if key in FORMAT_KEYS}
        labelled = Section({**form, **of_labels.content}, of_labels.keys, own.place, own.problems)
        _check_patterns(of_labels, "path", [of_labels.text("path")])
        labels = FilePlace(path=of_labels.text("path"), format=_format(labelled, None))
    return FilePlace(path=paths[0] if paths else "", further=paths[1:], format=_format(merged, head), labels=labels)


def _inherited(own: Section, shared: Section) -> Mapping[Any, Any]:
    """The shared form, unless a place has a kind of its own, whose columns are others."""
    return {} if own.has("kind") else shared.content


def _format(section: Section, head: Head | None) -> Format:
    """The form of files; without a head, that of a file of labels."""
    required, optional = ((), ("label", "id")) if head is None else FIELDS[head]
    section.check_keys((*FORMAT_KEYS, *PLACE_KEYS, *required, *optional))
    kind = FileKind(section.one_of("kind", FileKind) or FileKind.TSV)
    columns = _columns(section, (*required, *optional))
    choices = tuple(column for _, column in section.items("choices") if isinstance(column, str | int))
    _check_kinds(section, kind, columns, head)
    if kind not in WITHOUT_COLUMNS:
        for name in required:
            if name not in columns:
                section.complain(name, f"{name} has no column; the head {head} needs {', '.join(required)}")
        if head is Head.CHOICE and len(choices) < 2:
            section.complain("choices", "choices: expected the columns of two choices or more")
    for key, kinds in KEYS_OF_KINDS.items():
        if section.content.get(key) and kind not in kinds and section.content[key] != DEFAULT_DELIMITER:
            section.complain(key, f"{key} is for the kind {' or '.join(kinds)}, not for {kind}")
    is_named = any(isinstance(column, str) for given in (*columns.values(), choices) for column in given)
    return Format(
        kind=kind,
        columns=columns,
        choices=choices,
        header=kind in TABLES and section.flag("header", is_named),
        delimiter=_delimiter(section),
        quoted=section.flag("quoted", False),
        more_columns=section.flag("more_columns", False),
        originals=section.flag("originals", False),
        comments=section.flag("comments", kind is FileKind.CONLL and is_named),
        records=section.text("records", ""),
        separator=section.text("separator", ","),
    )


def _check_kinds(section: Section, kind: FileKind, columns: Mapping[str, Columns], head: Head | None) -> None:
    """Complain of columns by name where files have none, and by number where they have only names."""
    for name, given in columns.items():
        wants_numbers = kind is FileKind.CONLL and head is Head.TOKEN
        wants_names = kind in BY_NAME or (kind is FileKind.CONLL and not wants_numbers)
        if wants_numbers and not all(isinstance(column, int) for column in given):
            section.complain(
                name, f"{name}: expected the number of a column, from 0; CoNLL files have no names for them"
            )
        elif wants_names and not all(isinstance(column, str) for column in given):
            section.complain(name, f"{name}: expected a name; the kind {kind} has no numbered columns")


def _delimiter(section: Section) -> str:
    """The delimiter of CSV, a single character."""
    delimiter = section.text("delimiter", DEFAULT_DELIMITER)
    if len(delimiter) != 1:
        section.complain("delimiter", f"delimiter {delimiter!r}: expected one character")
    return delimiter


def _columns(section: Section, names: tuple[str, ...]) -> dict[str, Columns]:
    """The column of each field that has one; several columns are one text."""
    columns: dict[str, Columns] = {}
    for name in names:
        value = section.content.get(name)
        if is_null(value):
            continue
        several: list[Any] = value if isinstance(value, list) else [value]
        if wrong := [one for one in several if isinstance(one, bool) or not isinstance(one, str | int)]:
            section.complain(name, f"{name}: expected the name or the number of a column, found {described(wrong[0])}")
        else:
            columns[name] = tuple(several)
    return columns


def _hub(top: Section, head: Head) -> dict[Split, HubPlace]:
    """The places of splits on the hub."""
    section = top.section("hub")
    section.check_keys(SPLITS)
    required, optional = FIELDS[head]
    found = {}
    for name, split in SPLITS.items():
        if not section.has(name):
            continue
        own = section.section(name)
        own.check_keys((*HUB_KEYS, "choices", *required, *optional))
        for key in ("config", "id_prefix"):
            _check_patterns(own, key, [own.text(key, "")])
        found[split] = HubPlace(
            config=own.text("config", ""),
            split=own.text("split", name),
            columns=_columns(own, (*required, *optional)),
            choices=own.texts("choices"),
            language_column=own.text("language_column", ""),
            id_prefix=own.text("id_prefix", ""),
            without=own.texts("without"),
        )
    return found
