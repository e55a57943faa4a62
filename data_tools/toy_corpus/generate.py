"""Generating documents and aligned sentences, and the files of the embedded corpus."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import combinations, islice
from pathlib import Path

from data_tools.files.atomic import atomic_path
from data_tools.files.directories import claim
from data_tools.toy_corpus import english, french, german, russian
from data_tools.toy_corpus.lexicon import LANGUAGES
from data_tools.toy_corpus.meaning import Sentence
from data_tools.toy_corpus.sentences import draw_document, draw_sentence

Quadruple = dict[str, str]
_REALISERS: dict[str, Callable[[Sentence], str]] = {
    "en": english.sentence,
    "de": german.sentence,
    "fr": french.sentence,
    "ru": russian.sentence,
}
_MAX_FRUITLESS_DRAWS = 100_000  # in a row, after which the grammar counts as exhausted


def realise(meaning: Sentence, language: str) -> str:
    """The sentence that expresses `meaning` in `language`; raises ValueError for an unknown language."""
    if language not in _REALISERS:
        raise ValueError(f"no language {language!r} in the embedded corpus; it has {', '.join(LANGUAGES)}")
    return _REALISERS[language](meaning)


def generate_quadruples(
    count: int, seed: int, excluded: Collection[str] = (), num_words: int | None = None
) -> Iterator[Quadruple]:
    """`count` sentences in all four languages, by language; no sentence is repeated in any language.

    Sentences in `excluded`, of any language, do not occur. `num_words` limits the words that are possible in each place
    to the most common ones; None is no limit. Raises ValueError if the grammar has no more sentences.
    """
    seen: set[str] = set()
    generator = random.Random(f"pairs {seed}")
    found = fruitless = 0
    while found < count:
        meaning = draw_sentence(generator, num_words)
        quadruple = {language: realise(meaning, language) for language in LANGUAGES}
        # Sentences of two languages can be equal only by accident, so one set serves all.
        if any(text in seen or text in excluded for text in quadruple.values()):
            fruitless += 1
            if fruitless > _MAX_FRUITLESS_DRAWS:
                raise ValueError(f"the grammar gave no new sentence after {found:,} of {count:,}; ask for fewer")
            continue
        seen.update(quadruple.values())
        found, fruitless = found + 1, 0
        yield quadruple


def generate_pairs(
    source: str, target: str, count: int, seed: int, excluded: Collection[str] = (), num_words: int | None = None
) -> Iterator[tuple[str, str]]:
    """`count` sentences in `source` with their translations in `target`; see `generate_quadruples`."""
    for quadruple in generate_quadruples(count, seed, excluded, num_words):
        yield quadruple[source], quadruple[target]


def generate_documents(
    language: str, count: int, seed: int, excluded: Collection[str] = (), num_words: int | None = None
) -> Iterator[list[str]]:
    """`count` documents in `language`, each a list of sentences; sentences in `excluded` are dropped.

    Documents of different languages differ for the same seed. Within a document no sentence is repeated. `num_words` as
    in `generate_quadruples`.
    """
    generator = random.Random(f"documents {language} {seed}")
    for _ in range(count):
        sentences: list[str] = []
        while not sentences:
            texts = [realise(meaning, language) for meaning in draw_document(generator, num_words)]
            sentences = [text for text in dict.fromkeys(texts) if text not in excluded]
        yield sentences


def write_corpus(
    directory: Path,
    documents: int,
    pairs: int,
    splits: dict[str, int],
    seed: int,
    languages: Sequence[str] = LANGUAGES,
    num_words: int | None = None,
) -> dict[str, int]:
    """Write the corpus below `directory`, in the layout of `__main__`'s help; returns the number of lines of each file.

    `documents` are per language, `pairs` per pair of languages, `splits` gives the number of sentences of each held-out
    file. All sentences of a run come from one stream without repetition, so the held-out ones are in no other file, and
    no two language pairs share a sentence. `num_words` as in `generate_quadruples`. Raises ValueError for unknown and
    repeated languages.
    """
    if repeated := [language for language, times in Counter(languages).items() if times > 1]:
        raise ValueError(f"language {repeated[0]} is given twice; name each once")
    if unknown := [language for language in languages if language not in LANGUAGES]:
        raise ValueError(f"no language {unknown[0]!r} in the embedded corpus; it has {', '.join(LANGUAGES)}")
    language_pairs = tuple(combinations(sorted(languages), 2))
    held_out = sum(splits.values())
    total = held_out + pairs * len(language_pairs)
    stream = generate_quadruples(total, seed, num_words=num_words)
    claim(directory, file_names(languages, splits), "data_tools.toy_corpus")
    for folder in ("mono", "parallel", "mt"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    lines: dict[str, int] = {}
    excluded: set[str] = set()
    for split, size in splits.items():
        quadruples = list(islice(stream, size))
        excluded.update(text for quadruple in quadruples for text in quadruple.values())
        for language in languages:
            texts = [quadruple[language] for quadruple in quadruples]
            lines[f"mt/{split}.{language}"] = _write_lines(directory / "mt" / f"{split}.{language}", texts)
    for first, second in language_pairs:
        quadruples = list(islice(stream, pairs))
        for language in (first, second):
            name = f"parallel/{first}-{second}.{language}"
            lines[name] = _write_lines(directory / name, (quadruple[language] for quadruple in quadruples))
    for language in languages:
        name = f"mono/{language}.txt"
        lines[name] = _write_lines(directory / name, _document_lines(language, documents, seed, excluded, num_words))
    _write_lines(directory / "corpus.yaml", _corpus_yaml(languages, language_pairs))
    return lines


def file_names(languages: Sequence[str], splits: Collection[str]) -> list[str]:
    """The names of the files of a corpus, relative to its directory."""
    names = [f"mt/{split}.{language}" for split in splits for language in languages]
    for pair in combinations(sorted(languages), 2):
        names += [f"parallel/{'-'.join(pair)}.{language}" for language in pair]
    return [*names, *(f"mono/{language}.txt" for language in languages), "corpus.yaml"]


def _document_lines(
    language: str, count: int, seed: int, excluded: Collection[str], num_words: int | None
) -> Iterator[str]:
    """The sentences of the documents, with an empty line between documents."""
    for index, sentences in enumerate(generate_documents(language, count, seed, excluded, num_words)):
        if index:
            yield ""
        yield from sentences


def _corpus_yaml(languages: Sequence[str], language_pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The lines of the CORPUS.yaml that `data_tools.prepare` reads, paths relative to it."""
    yield "# The embedded corpus, written by data_tools.toy_corpus; paths are relative to this file."
    yield "tokenizer: tokenizer"
    yield "mono:"
    for language in languages:
        yield f"  {language}: [mono/{language}.txt]"
    yield "parallel:"
    for first, second in language_pairs:
        pair = f"{first}-{second}"
        yield f"  {pair}:"
        yield f"    - {{source: parallel/{pair}.{first}, target: parallel/{pair}.{second}}}"


def _write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines to `path`, whole or not at all; returns the number of sentences."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(f"{line}\n")
            count += bool(line)
    return count
