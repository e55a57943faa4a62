"""CORPUS.yaml as frozen dataclasses: which text belongs to which language or pair, and what to do with it.

    tokenizer: ../tokenizer           # of data_tools.train_tokenizer, or any directory with a fast tokenizer
    valid: 0.001                      # share of documents and pairs held out, chosen by hash; 0 by default
    filters: {script: 0.5}            # see data_tools.text.filters
    deduplicate: {exact: true}        # see data_tools.deduplicate.settings
    mono:
      de:
        - news/*.de.gz                # one sentence a line, blank lines between documents; the suffix gives the format
        - {text: running/*.txt.xz, split_sentences: true}
        - {jsonl: ${CRAWL}/*.jsonl.zst, column: content, split_sentences: true}
        - {tsv: forum.tsv, column: 3}   # a number from 1, or a name in the first row
        - {parquet: s3://bucket/de/*.parquet}
        - {hub: wikimedia/wikipedia, config: 20231101.de, split: train, split_sentences: true}
    parallel:
      de-en:                          # the first side is de, the second en
        - {source: europarl/*.de.gz, target: europarl/*.en.gz}
        - {tsv: crawl/de-en.*.tsv}    # first column de, second en
        - {csv: mined.csv, column: [german, english]}
        - {tmx: memory/*.tmx.gz, codes: {de: de-CH}}    # the code of a language in the file, if another
        - {opus: OPUS/*.de-en.txt.zip}
        - {hub: Helsinki-NLP/opus-100, config: de-en, column: translation}
        - {jsonl: crawl/*.jsonl, column: [german, english]}

Relative paths start at the directory of the file; `${NAME}` stands for an environment variable, `~` for the home
directory; globs may contain `**`; a path may be any URL that fsspec supports. Text, JSONL, TSV, CSV and TMX may be
plain, .gz, .xz, .zst or .bz2. `column` says where the text is. In JSONL, Parquet and data sets it is `text` by default,
for pairs `translation`, which holds {de: …, en: …}. In TSV pairs are in columns 1 and 2 by default; in CSV, and for a
single language in TSV, it must be given.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.cli import one_line
from data_tools.corpus.inputs import TEXT_COLUMN, Input, files_named_twice, plain_input
from data_tools.corpus.pairing import odd_pairs
from data_tools.deduplicate.settings import Deduplication
from data_tools.files.formats import TABLES, check_is_named_as_text
from data_tools.files.locations import check_can_be_read_again, expand
from data_tools.files.yaml_files import all_expanded, expanded, read_mapping
from data_tools.text.filters import Filters
from data_tools.text.languages import normal_form

TOP_KEYS = ("tokenizer", "valid", "filters", "deduplicate", "mono", "parallel")
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
HUB_OPTIONS = ("config", "split", "revision", "column")
# The keys that an entry may have beside the one that says its kind.
MONO_OPTIONS = {
    "text": ("split_sentences",),
    "jsonl": ("column", "split_sentences"),
    "parquet": ("column", "split_sentences"),
    "tsv": ("column", "split_sentences"),
    "csv": ("column", "split_sentences"),
    "hub": (*HUB_OPTIONS, "split_sentences"),
}
PARALLEL_OPTIONS = {
    "source": ("target",),
    "tsv": ("column",),
    "csv": ("column",),
    "tmx": ("codes",),
    "opus": ("codes",),
    "jsonl": ("column", "codes"),
    "parquet": ("column", "codes"),
    "hub": (*HUB_OPTIONS, "codes"),
}
DEFAULT_COLUMN = {"mono": TEXT_COLUMN, "parallel": "translation"}
CHECK_IS_TEXT = partial(check_is_named_as_text, is_said_to_be_text=True)
MAX_NAMED = 3  # pairs of files in a warning
DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class Corpus:
    """A parsed CORPUS.yaml. `inputs` come in the order in which shards are numbered; `valid` is a share in [0, 1).

    `warnings` are lines about what is valid but probably a mistake.
    """

    path: Path
    tokenizer: Path
    inputs: tuple[Input, ...]
    filters: Filters
    deduplication: Deduplication
    valid: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str, needs_tokenizer: bool = True) -> "Corpus":
        """Read the corpus that a YAML file describes; raises ValueError with all its problems at once.

        Without `needs_tokenizer` the tokenizer need not exist yet: it may be trained on this very text.
        """
        reader = _Reader(Path(path))
        content = read_mapping(reader.path, f"the keys {', '.join(TOP_KEYS)}")
        for key in content:
            if key not in TOP_KEYS:
                reader.complain(f"unknown key {key!r}; expected {', '.join(TOP_KEYS)}")
        tokenizer = reader.tokenizer(content.get("tokenizer"), needs_tokenizer)
        valid = reader.valid(content.get("valid", 0))
        filters = Filters.parse(all_expanded(content.get("filters"), reader.complain), reader.complain, reader.base)
        deduplication = Deduplication.parse(content.get("deduplicate"), reader.complain)
        inputs = [*reader.mono(content.get("mono")), *reader.parallel(content.get("parallel"))]
        if not inputs and not reader.problems:
            reader.complain("no text: expected files under mono or parallel")
        if deduplication.minhash and not any(deduplication.minhash_of(item.languages) for item in inputs):
            reader.warnings.append(
                "deduplicate: minhash compares documents of mono alone, and there are none; exact: true removes equal "
                "pairs"
            )
        if not reader.problems:
            filters.check_languages(sorted({code for item in inputs for code in item.languages}), reader.complain)
        if reader.problems:
            raise ValueError(f"{path}: " + "; ".join(reader.problems))
        return cls(
            path=Path(path),
            tokenizer=tokenizer,
            inputs=tuple(inputs),
            filters=filters,
            deduplication=deduplication,
            valid=valid,
            warnings=tuple(reader.warnings),
        )


class _Reader:
    """Turns the content of the YAML file into dataclasses, and collects all problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.absolute().parent
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._spelt: dict[str, tuple[str, str]] = {}  # normal form -> (spelling, where it was used first)

    def complain(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def expanded(self, text: str) -> str | None:
        """`text` with environment variables and `~` expanded; None, and a problem, if a variable is not set."""
        try:
            return expanded(text)
        except ValueError as error:
            self.complain(str(error))
            return None

    def tokenizer(self, value: object, must_exist: bool) -> Path:
        if value is None and not must_exist:
            return self.base
        if not isinstance(value, str):
            self.complain("tokenizer: expected a directory")
            return self.base
        expanded = self.expanded(value)
        directory = self.base / (expanded or "")
        if must_exist and expanded is not None and not directory.is_dir():
            self.complain(f"tokenizer: {directory}: no such directory; make one with data_tools.train_tokenizer")
        return directory

    def valid(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            self.complain(f"valid: expected a share in [0, 1), found {value!r}")
            return 0.0
        return float(value)

    def files(self, where: str, pattern: object) -> list[str]:
        """The files that a name or glob matches, sorted."""
        if not isinstance(pattern, str):
            self.complain(f"{where}: expected a file name or glob, found {pattern!r}")
            return []
        expanded = self.expanded(pattern)
        if expanded is None:
            return []
        try:
            paths = expand(expanded, self.base)
        except (ValueError, OSError) as error:
            self.complain(f"{where}: {one_line(error)}")
            return []
        if not paths:
            self.complain(f"{where}: {expanded}: no such file")
        return [path for path in paths if self.holds(where, check_can_be_read_again, path)]

    def holds(self, where: str, check: Callable[[str], None], path: str) -> bool:
        """Whether a path passes a check; if not, its ValueError becomes a problem."""
        try:
            check(path)
        except ValueError as error:
            self.complain(f"{where}: {error}")
            return False
        return True

    def section(self, where: str, value: object) -> list[tuple[str, list[Any]]]:
        """(language or pair, entries) of `mono` or `parallel`."""
        if value is None:
            return []
        if not isinstance(value, dict):
            self.complain(f"{where}: expected languages and their files, found {type(value).__name__}")
            return []
        found = []
        for key, entries in value.items():
            if not isinstance(key, str):  # `no:`, Norwegian, is false in YAML 1.1
                self.complain(f"{where}: the key {key!r} is not text; put the language in quotes, for example 'no'")
            elif not entries:
                self.complain(f"{where}/{key}: no files given")
            else:
                found.append((key, entries if isinstance(entries, list) else [entries]))
        return found

    def mono(self, value: object) -> list[Input]:
        inputs: list[Input] = []
        for language, entries in self.section("mono", value):
            if not LANGUAGE.fullmatch(language):
                self.complain(f"mono/{language}: expected a language code of letters, digits and _")
            self.one_spelling(f"mono/{language}", language)
            for entry in entries:
                if isinstance(entry, str):
                    inputs.extend(self.plain_files(f"mono/{language}", language, entry))
                else:
                    inputs.extend(self.entry("mono", (language,), entry, MONO_OPTIONS))
        self.twice(inputs)
        return inputs

    def parallel(self, value: object) -> list[Input]:
        inputs: list[Input] = []
        seen: set[frozenset[str]] = set()
        for pair, entries in self.section("parallel", value):
            where = f"parallel/{pair}"
            languages = tuple(pair.split("-"))
            same = frozenset(map(normal_form, languages))
            if len(languages) != 2 or not all(map(LANGUAGE.fullmatch, languages)) or len(same) != 2:
                self.complain(f"{where}: expected two languages with a hyphen between, such as de-en or zh_CN-en")
                continue
            if same in seen:
                self.complain(f"{where}: the same two languages are given twice; put all files under one key")
            else:
                for language in languages:
                    self.one_spelling(where, language)
            seen.add(same)
            for entry in entries:
                inputs.extend(self.entry("parallel", languages, entry, PARALLEL_OPTIONS))
        self.twice(inputs)
        return inputs

    def one_spelling(self, where: str, language: str) -> None:
        """Complain if a language has been given another code before, in this section or the other."""
        other, its_place = self._spelt.setdefault(normal_form(language), (language, where))
        if other != language:
            self.complain(f"{where}: {language} is the same language as {other} of {its_place}; use one code for it")

    def plain_files(self, where: str, language: str, pattern: str) -> list[Input]:
        """The inputs of a name or glob without options: the suffix of each file gives its format."""
        inputs: list[Input] = []
        for path in self.files(where, pattern):
            try:
                inputs.append(plain_input(language, path))
            except ValueError as error:
                self.complain(f"{where}: {error}")
        return inputs

    def entry(
        self, section: str, languages: tuple[str, ...], entry: Any, options_of: dict[str, tuple[str, ...]]
    ) -> list[Input]:
        """The inputs of one mapping such as `{tsv: …}` or `{hub: …, config: …}`."""
        where = f"{section}/{'-'.join(languages)}"
        kinds = [kind for kind in options_of if isinstance(entry, dict) and kind in entry]
        if len(kinds) != 1:
            known = ", ".join(f"{kind}: …" for kind in options_of)
            self.complain(f"{where}: expected an entry with one of {known}; found {entry!r}")
            return []
        kind = kinds[0]
        for key in entry:
            if key != kind and key not in options_of[kind]:
                allowed = f"only {', '.join(options_of[kind])}" if options_of[kind] else "nothing else"
                self.complain(f"{where}: {kind}: unknown key {key!r}; beside {kind} expected {allowed}")
        if kind == "source":
            return self.moses(where, languages, entry)
        split_sentences = entry.get("split_sentences", False)
        if not isinstance(split_sentences, bool):
            self.complain(f"{where}: split_sentences: expected true or false, found {split_sentences!r}")
        columns = self.columns(where, section, entry, kind) if "column" in options_of[kind] else ()
        codes = self.codes(where, languages, entry.get("codes"))
        if kind == "hub":
            return self.hub(where, languages, entry, columns, codes, split_sentences)
        paths = self.files(where, entry[kind])
        if kind == "text":
            paths = [path for path in paths if self.holds(where, CHECK_IS_TEXT, path)]
        return [Input(languages, kind, (path,), columns, split_sentences, codes=codes) for path in paths]

    def moses(self, where: str, languages: tuple[str, ...], entry: dict[str, Any]) -> list[Input]:
        """The inputs of `{source: …, target: …}`, whose files are paired in sorted order."""
        sources, targets = self.files(where, entry["source"]), self.files(where, entry.get("target"))
        if sources and targets and len(sources) != len(targets):
            self.complain(
                f"{where}: {entry['source']} matches {len(sources)} files, {entry['target']} matches {len(targets)}; "
                "they are paired in sorted order, so their numbers must be equal"
            )
        for path in [*sources, *targets]:
            self.holds(where, CHECK_IS_TEXT, path)
        pairs = list(zip(sources, targets, strict=False))
        if odd := odd_pairs(pairs):
            named = ", ".join(f"{source} with {target}" for source, target in odd[:MAX_NAMED])
            more = f" and {len(odd) - MAX_NAMED:,} more" if len(odd) > MAX_NAMED else ""
            self.warnings.append(
                f"{where}: files are paired in sorted order, and the names of some do not match: {named}{more}"
            )
        return [Input(languages, "moses", paths) for paths in pairs]

    def hub(
        self,
        where: str,
        languages: tuple[str, ...],
        entry: dict[str, Any],
        columns: tuple[str | int, ...],
        codes: tuple[str, ...],
        split_them: bool,
    ) -> list[Input]:
        """The input of `{hub: …}`: a name on the hub, or a local directory that `datasets` can load."""
        settings: dict[str, Any] = {"config": None, "split": DEFAULT_SPLIT, "revision": None}
        for key in settings:
            value = entry.get(key, settings[key])
            if value is not None and not isinstance(value, str):
                self.complain(f"{where}: {key}: expected text, found {value!r}; put it in quotes")
                return []
            settings[key] = value
        name = self.expanded(entry["hub"]) if isinstance(entry["hub"], str) else None
        if name is None:
            if not isinstance(entry["hub"], str):
                self.complain(f"{where}: hub: expected the name of a data set, found {entry['hub']!r}")
            return []
        local = self.base / name
        path = str(local) if local.is_dir() else name
        return [Input(languages, "hub", (path,), columns, split_them, codes=codes, **settings)]

    def columns(self, where: str, section: str, entry: dict[str, Any], kind: str) -> tuple[str | int, ...]:
        """One column, or one or two for pairs; in tables names or numbers, and always two for pairs."""
        is_table = kind in TABLES
        if "column" not in entry and is_table and (section == "mono" or kind == "csv"):
            self.complain(f"{where}: {kind}: say which column to read, as column: and a number from 1 or a name")
            return ()
        if "column" not in entry and is_table:
            return ()
        value = entry.get("column", DEFAULT_COLUMN[section])
        columns = value if isinstance(value, list) else [value]
        most = 1 if section == "mono" else 2
        least = most if is_table else 1
        are_names = all(isinstance(column, str) for column in columns)
        are_numbers = all(type(column) is int and column > 0 for column in columns)
        if not least <= len(columns) <= most or not (are_names or (is_table and are_numbers)):
            expected = "a column's name" if most == 1 else "a column's name, or the names of two"
            if is_table:
                expected = f"{most} as numbers from 1, or as names in the first row of the file"
            self.complain(f"{where}: column: expected {expected}, found {value!r}")
            return (DEFAULT_COLUMN[section],)
        return tuple(columns)

    def codes(self, where: str, languages: tuple[str, ...], value: Any) -> tuple[str, ...]:
        """The codes of the languages in the files; empty if the entry gives none."""
        if value is None:
            return ()
        unknown = [key for key in value if key not in languages] if isinstance(value, dict) else []
        if unknown:
            named = ", ".join(map(repr, unknown))
            self.complain(f"{where}: codes: {named}: not a language of this pair; expected {' or '.join(languages)}")
            return ()
        fits = isinstance(value, dict)
        if not fits or not all(isinstance(code, str) and code.strip() for code in value.values()):
            self.complain(
                f"{where}: codes: expected the code of {' or '.join(languages)} in the file, "
                f"for example {{{languages[0]}: {languages[0]}-XX}}, found {value!r}"
            )
            return ()
        return tuple(value.get(language, language) for language in languages)

    def twice(self, inputs: list[Input]) -> None:
        """Complain of files that are given twice for one language."""
        for problem in files_named_twice(inputs):
            self.complain(problem)
