"""Lexicons and thesauri that a recipe names become word lists over the pieces of the data's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.files.formats import compressed_suffix
from data_tools.lexicons.bilingual import read_lexicon
from data_tools.lexicons.entries import Entries
from data_tools.lexicons.mythes import read_thesaurus
from data_tools.text.languages import has_spaces, normal_form
from data_tools.tokenizers.encoder import open_encoder
from pretrain.words.lexicons import NO_LINKS, Lexicons
from pretrain.words.pieces import WordPieces
from pretrain.words.word_list import Links, Numbered, joined
from training.launch import tell

HUB_LANGUAGE = "en"  # of a lexicon whose name is one language: de.txt
LEXICON_SUFFIXES = (".txt", ".tsv", ".dic")
# th_de_DE_v2.part1.dat and thes_fr.dat, as LibreOffice and Debian name them, or de.dat.
THESAURUS_NAME = re.compile(r"(?:th(?:es)?_)?([a-z]{2,3})(?:_[A-Z]{2})?(?:_v\d+)?(?:\.\w+)*\.dat")


@dataclass(frozen=True)
class NamedFile:
    """A file of a recipe's field, what it is called ("de", "en-de"), and whether the recipe names it itself."""

    name: str
    path: Path
    is_named: bool


def read_lexicons(data_dir: Path, pairs: Sequence[str], lexicon: str, thesaurus: str | None) -> Lexicons:
    """The word lists of the data's language pairs ("de-en", …) from the files that a recipe's two fields name.

    Tells on standard error what was read and what was skipped. Raises ValueError for a file that is not there, has no
    good line, or is of languages that the data do not have, and where no file is of languages that they have.
    """
    languages = list(dict.fromkeys(language for pair in pairs for language in pair.split("-")))
    of_pairs = wanted_lexicons(lexicon, pairs)
    of_languages = wanted_thesauri(thesaurus, languages) if thesaurus else {}
    numbered = {language: Numbered() for language in languages}
    told: list[str] = []
    translations = {pair: read_translations(pair, files, numbered, told) for pair, files in of_pairs.items()}
    synonyms = {name: read_synonyms(name, paths, numbered[name], told) for name, paths in of_languages.items()}
    without = [pair for pair in pairs if pair not in translations]
    tell("; ".join([*told, *([f"no lexicon for {', '.join(without)}"] if without else [])]))

    sizes = {language: len(words) for language, words in numbered.items()}
    related = {pair: with_synonyms(pair, links, synonyms, sizes) for pair, links in translations.items()}
    encoder = open_encoder(data_dir / "tokenizer")
    word_pieces = WordPieces.of(encoder)
    word_lists = {language: words.word_list(encoder, word_pieces) for language, words in numbered.items()}
    turned = {"-".join(reversed(pair.split("-"))): links.turned for pair, links in translations.items()}
    return Lexicons(word_pieces, word_lists, translations | turned, related, synonyms)


def read_translations(
    pair: str, files: Sequence[tuple[Path, bool]], numbered: Mapping[str, Numbered], told: list[str]
) -> Links:
    """The links of a language pair's files, as `wanted_lexicons` gives them; a summary of each is added to `told`."""
    links = NO_LINKS
    for path, is_turned in files:
        found = read_lexicon(path)
        first, second = pair.split("-")[:: -1 if is_turned else 1]
        of_file = numbered_links(found, numbered[first], numbered[second])
        links |= of_file.turned if is_turned else of_file
        told.append(summary("lexicon", pair, path, found))
    return links


def read_synonyms(language: str, paths: Sequence[Path], numbered: Numbered, told: list[str]) -> Links:
    """The links of a language's files, both ways; a summary of each is added to `told`."""
    links = NO_LINKS
    for path in paths:
        found = read_thesaurus(path)
        links |= numbered_links(found, numbered, numbered)
        told.append(summary("thesaurus", language, path, found))
    return links.symmetric


def summary(field: str, name: str, path: Path, found: Entries) -> str:
    """What was read of a file, and what was not."""
    single = sum(" " not in first and " " not in second for first, second in found.pairs)
    broken = f", {found.num_broken:,} broken lines skipped" if found.num_broken else ""
    phrases = f"{len(found.pairs) - single:,} with phrases left out"
    return f"{field} {name}, {path}: {single:,} pairs of words, {phrases}{broken}"


def numbered_links(entries: Entries, first: Numbered, second: Numbered) -> Links:
    """The links of entries whose words get numbers; those with phrases are left out."""
    numbers = np.array([(first.number(a), second.number(b)) for a, b in entries.pairs], np.int64)
    return Links.of(numbers[:, 0], numbers[:, 1])


def with_synonyms(pair: str, links: Links, synonyms: Mapping[str, Links], sizes: Mapping[str, int]) -> Links:
    """Links of a pair, with those from a word to the synonyms of its translations, and from its synonyms to these."""
    x, y = pair.split("-")
    found = links
    if y in synonyms:
        found |= joined(links, synonyms[y], (sizes[x], sizes[y], sizes[y]))
    if x in synonyms:
        found |= joined(synonyms[x], links, (sizes[x], sizes[x], sizes[y]))
    return found


def wanted_lexicons(text: str, pairs: Sequence[str]) -> dict[str, list[tuple[Path, bool]]]:
    """The files of each of the data's pairs, and whether they have its languages the other way round."""
    forms = {tuple(map(normal_form, pair.split("-"))): pair for pair in pairs}
    found: dict[str, list[tuple[Path, bool]]] = {}
    for file in named_files("lexicon", text):
        first, _, second = file.name.partition("-")
        languages = tuple(map(normal_form, (first, second) if second else (HUB_LANGUAGE, first)))
        for form, is_turned in ((languages, False), (languages[::-1], True)):
            if form in forms:
                check_has_words(file, languages)
                found.setdefault(forms[form], []).append((file.path, is_turned))
                break
        else:
            check_is_needless("lexicon", file, "-".join(languages), pairs)
    if not found:
        raise ValueError(
            f"lexicon {text}: found no file for the data's pairs {', '.join(pairs)}; expected such names as de.txt, "
            "which is English and German, or en-de.txt, perhaps compressed"
        )
    return found


def wanted_thesauri(text: str, languages: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each of the data's languages."""
    forms = {normal_form(language): language for language in languages}
    found: dict[str, list[Path]] = {}
    for file in named_files("thesaurus", text):
        form = normal_form(file.name)
        if form in forms:
            check_has_words(file, (form,))
            found.setdefault(forms[form], []).append(file.path)
        else:
            check_is_needless("thesaurus", file, form, languages)
    if not found:
        raise ValueError(
            f"thesaurus {text}: found no file for the data's languages {', '.join(languages)}; expected such names as "
            "th_de_DE_v2.dat or de.dat, perhaps compressed"
        )
    return found


def named_files(field: str, text: str) -> list[NamedFile]:
    """The files that a field names: directories, files, and NAME=FILE, separated by commas."""
    found: list[NamedFile] = []
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, path = item.partition("=")
        if equals and "/" not in name:
            found.append(NamedFile(name.strip(), Path(path.strip()), True))
        elif Path(item).is_dir():
            in_order = sorted(path for path in Path(item).iterdir() if path.is_file())
            found += [NamedFile(told, path, False) for path in in_order if (told := name_of(field, path))]
        elif not Path(item).exists():
            raise ValueError(f"{field} {item}: no such file or directory")
        elif told := name_of(field, Path(item)):
            found.append(NamedFile(told, Path(item), True))
        else:
            example = "en-de" if field == "lexicon" else "de"
            raise ValueError(
                f"{field} {item}: its name does not tell its language; write, for example, {example}={item}"
            )
    return found


def name_of(field: str, path: Path) -> str | None:
    """The language, or the languages, that the name of a file tells; None for one of another kind."""
    name = path.name.removesuffix(compressed_suffix(path.name))
    if field == "lexicon":
        return path.name.split(".")[0] if name.endswith(LEXICON_SUFFIXES) else None
    match = THESAURUS_NAME.fullmatch(name)
    return match[1] if match else None


def check_has_words(file: NamedFile, languages: Iterable[str]) -> None:
    """Raise ValueError for languages that put no spaces between words: their words would not be found."""
    if without := [language for language in languages if not has_spaces(language)]:
        raise ValueError(
            f"{file.path}: {without[0]} has no spaces between words, so that words of a lexicon are not found in "
            "its text; leave it out"
        )


def check_is_needless(field: str, file: NamedFile, languages: str, known: Sequence[str]) -> None:
    """Raise ValueError for a file that the recipe names itself, although the data have no such languages."""
    if file.is_named:
        raise ValueError(
            f"{field} {file.path}: it is of {languages}, of which the data have nothing, only {', '.join(known)}; "
            "leave it out"
        )
