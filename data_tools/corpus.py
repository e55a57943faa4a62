"""CORPUS.yaml as frozen dataclasses: which files belong to which language or language pair.

    tokenizer: ../tokenizer                   # a directory of data_tools.train_tokenizer, or XLM-R's
    mono:
      de: [news/*.de.gz, ${CORPORA}/wiki.de.jsonl]
    parallel:
      de-en:                                  # `source` is de, `target` is en
        - {source: europarl/*.de.gz, target: europarl/*.en.gz}
        - {tsv: crawl/de-en.*.tsv}            # first column de, second en

Relative paths start at the directory of the file; `${NAME}` stands for an environment variable; globs know `**`. The
format follows from the name: `.jsonl` holds objects with a `text`, everything else is one sentence a line with blank
lines between documents; each plain, .gz, .xz or .zst.
"""

import glob
import os
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_tools.files import COMPRESSED_SUFFIXES

TOP_KEYS = ("tokenizer", "mono", "parallel")
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
VARIABLE = re.compile(r"\$\{([^}]*)\}")
FORMAT_OF_SUFFIX = {".jsonl": "jsonl", ".parquet": "parquet", ".tmx": "tmx", ".tsv": "tsv"}
# Named in the contract and to come; until then they are refused by name and not read as something else.
UNSUPPORTED_FORMATS = ("parquet", "tmx")
UNSUPPORTED_KEYS = ("hub", "tmx")


@dataclass(frozen=True)
class Input:
    """One file of text, or one pair of files. `languages` are ("de",) or ("de", "en"); `paths` are one or two.

    `format` is "text" (two paths for a pair), "jsonl" (one language) or "tsv" (a pair in one file).
    """

    languages: tuple[str, ...]
    paths: tuple[Path, ...]
    format: str

    @property
    def name(self) -> str:
        """Where its shards belong in the data directory: `mono/de` or `parallel/de-en`."""
        return f"mono/{self.languages[0]}" if len(self.languages) == 1 else f"parallel/{'-'.join(self.languages)}"


@dataclass(frozen=True)
class Corpus:
    """A parsed CORPUS.yaml: the tokenizer directory, and the inputs in the order in which shards are numbered."""

    path: Path
    tokenizer: Path
    inputs: tuple[Input, ...]

    @classmethod
    def load(cls, path: Path | str) -> "Corpus":
        """The corpus that a YAML file describes; raises ValueError with all that is wrong with it at once."""
        reader = _Reader(Path(path))
        content = reader.content()
        for key in content:
            if key not in TOP_KEYS:
                reader.complain(f"unknown key {key!r}; expected {', '.join(TOP_KEYS)}")
        tokenizer = reader.tokenizer(content.get("tokenizer"))
        inputs = [*reader.mono(content.get("mono")), *reader.parallel(content.get("parallel"))]
        if not inputs and not reader.problems:
            reader.complain("names no text: expected files under mono or parallel")
        if reader.problems:
            raise ValueError(f"{path}: " + "; ".join(reader.problems))
        return cls(path=Path(path), tokenizer=tokenizer, inputs=tuple(inputs))


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error; PyYAML would keep the last and lose the rest without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Reader:
    """Turns the YAML's content into dataclasses and collects what is wrong in `problems`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.absolute().parent
        self.problems: list[str] = []

    def complain(self, problem: str) -> None:
        self.problems.append(problem)

    def content(self) -> dict[Any, Any]:
        """The top-level mapping; raises ValueError for what is not YAML."""
        if not self.path.is_file():
            raise ValueError(f"{self.path}: no such file")
        try:
            content = yaml.load(self.path.read_text(encoding="utf-8"), Loader=_StrictLoader)
        except yaml.MarkedYAMLError as error:
            line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise ValueError(f"{self.path}:{line} not YAML as expected: {error.problem}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}: not YAML ({error})") from None
        if not isinstance(content, dict):
            raise ValueError(f"{self.path}: expected the keys {', '.join(TOP_KEYS)}, found {type(content).__name__}")
        return content

    def expanded(self, text: str) -> str | None:
        """`text` with environment variables and `~` filled in; None if one is not set, which is told once for each."""
        unset = [name for name in VARIABLE.findall(text) if name not in os.environ]
        for name in unset:
            problem = f"the environment variable {name} is not set"
            if problem not in self.problems:
                self.complain(problem)
        if unset:
            return None
        return os.path.expanduser(VARIABLE.sub(lambda match: os.environ[match.group(1)], text))

    def tokenizer(self, value: Any) -> Path:
        if not isinstance(value, str):
            self.complain("tokenizer: expected a directory")
            return self.base
        expanded = self.expanded(value)
        directory = self.base / (expanded or "")
        if expanded is not None and not directory.is_dir():
            self.complain(f"tokenizer: {directory}: no such directory; make one with data_tools.train_tokenizer")
        return directory

    def files(self, where: str, pattern: Any) -> list[Path]:
        """The files of a glob, sorted."""
        if not isinstance(pattern, str):
            self.complain(f"{where}: expected a file name or glob, found {pattern!r}")
            return []
        expanded = self.expanded(pattern)
        if expanded is None:
            return []
        paths = [self.base / match for match in sorted(glob.glob(expanded, root_dir=self.base, recursive=True))]
        if not paths and (self.base / expanded).exists():  # a name with [ or ] in it, meant literally
            paths = [self.base / expanded]
        if not paths:
            self.complain(f"{where}: {expanded}: no such file")
        for path in paths:
            if path.is_dir():
                self.complain(f"{where}: {path}: a directory; name its files, for example {path.name}/*")
        return [path for path in paths if not path.is_dir()]

    def format(self, where: str, path: Path) -> str:
        suffixes = [suffix for suffix in path.suffixes if suffix not in COMPRESSED_SUFFIXES]
        name = FORMAT_OF_SUFFIX.get(suffixes[-1], "text") if suffixes else "text"
        if name in UNSUPPORTED_FORMATS:
            self.complain(f"{where}: {path}: {name} files are not supported yet")
        return name

    def section(self, where: str, value: Any) -> list[tuple[str, list[Any]]]:
        """(language or pair, entries) of `mono` or `parallel`."""
        if value is None:
            return []
        if not isinstance(value, dict):
            self.complain(f"{where}: expected languages and their files, found {type(value).__name__}")
            return []
        found = []
        for key, entries in value.items():
            if not isinstance(key, str):  # `no:` is false in YAML 1.1, which has surprised Norwegians before
                self.complain(f"{where}: the key {key!r} is not text; put the language in quotes, for example 'no'")
            elif not entries:
                self.complain(f"{where}/{key}: names no files")
            else:
                found.append((key, entries if isinstance(entries, list) else [entries]))
        return found

    def mono(self, value: Any) -> list[Input]:
        inputs = []
        for language, entries in self.section("mono", value):
            where = f"mono/{language}"
            if not LANGUAGE.fullmatch(language):
                self.complain(f"{where}: expected a language code of letters, digits and _")
            for entry in entries:
                if isinstance(entry, dict):
                    self.unknown_entry(where, entry, "a file name or glob")
                    continue
                for path in self.files(where, entry):
                    name = self.format(where, path)
                    if name == "tsv":
                        self.complain(f"{where}: {path}: a .tsv holds pairs; name it under parallel")
                    inputs.append(Input(languages=(language,), paths=(path,), format=name))
        self.twice(inputs)
        return inputs

    def parallel(self, value: Any) -> list[Input]:
        inputs = []
        seen: set[frozenset[str]] = set()
        for pair, entries in self.section("parallel", value):
            where = f"parallel/{pair}"
            languages = tuple(pair.split("-"))
            if len(languages) != 2 or not all(map(LANGUAGE.fullmatch, languages)) or len(set(languages)) != 2:
                self.complain(f"{where}: expected two languages with a hyphen between, such as de-en")
            if frozenset(languages) in seen:
                self.complain(f"{where}: the same two languages come twice; put all files under one key")
            seen.add(frozenset(languages))
            for entry in entries:
                inputs.extend(self.pair_entry(where, languages, entry))
        self.twice(inputs)
        return inputs

    def pair_entry(self, where: str, languages: tuple[str, ...], entry: Any) -> list[Input]:
        """The inputs of one `{source, target}` or `{tsv}`."""
        if isinstance(entry, dict) and set(entry) == {"source", "target"}:
            sources, targets = self.files(where, entry["source"]), self.files(where, entry["target"])
            if sources and targets and len(sources) != len(targets):
                self.complain(
                    f"{where}: {entry['source']} matches {len(sources)} files, {entry['target']} matches "
                    f"{len(targets)}; they are paired in sorted order, so expected as many"
                )
            pairs = list(zip(sources, targets, strict=False))
            for path in [*sources, *targets]:
                if self.format(where, path) != "text":
                    self.complain(f"{where}: {path}: source and target are text files, one sentence a line")
            return [Input(languages=languages, paths=paths, format="text") for paths in pairs]
        if isinstance(entry, dict) and set(entry) == {"tsv"}:
            return [Input(languages=languages, paths=(path,), format="tsv") for path in self.files(where, entry["tsv"])]
        self.unknown_entry(where, entry, "{source: …, target: …} or {tsv: …}")
        return []

    def unknown_entry(self, where: str, entry: Any, expected: str) -> None:
        unsupported = [key for key in UNSUPPORTED_KEYS if isinstance(entry, dict) and key in entry]
        if unsupported:
            self.complain(f"{where}: {unsupported[0]} is not supported yet; expected {expected}")
        else:
            self.complain(f"{where}: expected {expected}, found {entry!r}")

    def twice(self, inputs: list[Input]) -> None:
        """Nothing; complains of a file that two globs of one language match: its sentences would count twice."""
        seen = set()
        for item in inputs:
            key = (item.name, item.paths)
            if key in seen:
                self.complain(f"{item.name}: {item.paths[0]} is named twice")
            seen.add(key)
