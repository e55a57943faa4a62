"""Make the small XTREME data behind the figures in docs/results.md: text for pre-training, files of the tasks.

    python benchmarks/xtreme_data.py corpus SOURCE DIR [--languages de fr]
    python benchmarks/xtreme_data.py files SOURCE/xtreme ROOT [--languages de fr]
    python benchmarks/xtreme_data.py captions SOURCE/mt/multi30k ROOT

SOURCE has mono/LANG.txt.gz, mt/multi30k/{train,val,test_2016_flickr}.LANG.gz, parallel/*/X-Y.{X,Y}.gz and xtreme/ in
XTREME's layout.

`corpus`: DIR gets corpus.yaml for data_tools and pairs/X-Y.tsv: the hypotheses and premises of XNLI's training files,
which are translations of each other row by row in all of its languages, and the questions of SQuAD's. Labels, answers
and all dev and test files are excluded. All pairs are with English: if the pairs were spread over all combinations of
fifteen languages, a small model would see too few of each to learn to use the other sentence. `--languages` keeps
English and some others.

`files`: ROOT links to XTREME's files, and adds files that make all settings and modes possible:

- a dev and a test set of MLQA, split by article from its dev set;
- PAWS-X's training translations with their English originals, which are recovered by the order of the rows: each
  language lacks the rows that were not translated;
- untagged words of translated text for POS and NER, for a teacher to label: the sentences of `corpus`, from XNLI's and
  SQuAD's training files, since their own training text has no translations;
- in ROOT/english the English originals of dev and test of XNLI, PAWS-X, XQuAD and MLQA under the names of their
  translations: input of plug-in when a test set is translated into English, here the original text.

`captions`: ROOT has retrieval tasks in XTREME's layout for a model trained on captions alone. Tatoeba's sentences are
those of test_2016_flickr, row by row. BUCC's dev set is val and its test set is test_2016_flickr: the first two thirds
of one language, the last two thirds of English, so that half of each side has a translation on the other.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import os
import re
import string
import zlib
from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import yaml
from row_alignment import align_rows

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.directories import atomic_directory, claim
from data_tools.files.formats import compressed_suffix
from data_tools.text.languages import has_spaces
from data_tools.text.lines import open_text
from finetune.understanding.readers.examples_of_task import read_questions, read_texts
from finetune.understanding.readers.files import find_file
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.task import Head, Split

TASKS = catalogue_named(XTREME).tasks
ENGLISH = "en"

ORIGINALLY_ENGLISH = [TASKS[name] for name in ("xnli", "xquad", "mlqa")]  # their translations have the same rows or ids
TAGGED = [task for task in TASKS.values() if task.head is Head.TOKEN]
SIGNS = re.escape(string.punctuation + "“”„«»‘’…–—¿¡€،؛؟।॥")
# A word with an apostrophe at its end (l', qu'), or one other sign. \w would split Hindi at its vowel signs.
WORD = re.compile(rf"[^\s{SIGNS}]+(?:[-.][^\s{SIGNS}]+)*['’]?|\S")


def translated_sentences(root: Path) -> dict[str, dict[str, str]]:
    """Language -> key of a sentence, the same in all languages -> its text."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    xnli, xquad = TASKS["xnli"], TASKS["xquad"]
    for split in (Split.TRAIN, Split.TRANSLATE_TRAIN):
        for language in languages_with(xnli, split, root):
            for number, pair in enumerate(read_texts(xnli, split, language, root)):
                if pair.is_complete:  # one text of a translation can be missing
                    found[language][f"premise {number // 3}"] = pair.text_a  # each premise has three hypotheses
                    found[language][f"hypothesis {number}"] = pair.texts[1]
        for language in languages_with(xquad, split, root):
            for question in read_questions(xquad, split, language, root):
                found[language][f"question {question.id}"] = question.question
    return found


def write_pairs(sentences: dict[str, dict[str, str]], directory: Path) -> tuple[dict[str, list[dict[str, str]]], int]:
    """Write pairs/X-Y.tsv; return their `parallel` section and the number of pairs in them."""
    directory.mkdir(parents=True, exist_ok=True)
    section, num_pairs = {}, 0
    for x, y in (sorted((ENGLISH, language)) for language in sorted(sentences) if language != ENGLISH):
        keys = [key for key in sentences[x] if key in sentences[y]]
        rows = ((" ".join(sentences[side][key].split()) for side in (x, y)) for key in keys)
        with atomic_path(directory / f"{x}-{y}.tsv") as temporary:
            temporary.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
        section[f"{x}-{y}"] = [{"tsv": f"{directory.name}/{x}-{y}.tsv"}]
        num_pairs += len(keys)
    return section, num_pairs


def add_text_pairs(section: dict[str, list[dict[str, str]]], source: Path) -> None:
    """Add Multi30k's training part and all of parallel/ to the section."""
    multi30k = {path.name.split(".")[1]: path for path in sorted((source / "mt" / "multi30k").glob("train.*.gz"))}
    sides = [(f"{ENGLISH}-{x}", multi30k[ENGLISH], path) for x, path in multi30k.items() if x != ENGLISH]
    for first in sorted(source.glob("parallel/*/*-*.gz")):
        stem, language, _ = first.name.rsplit(".", 2)
        x, y = stem.split(".")[0].split("-")
        if language == x and (second := first.with_name(f"{stem}.{y}.gz")).is_file():
            sides.append((f"{x}-{y}", first, second))
    for name, first, second in sides:
        x, y = name.split("-")
        if x > y:
            name, first, second = f"{y}-{x}", second, first
        section.setdefault(name, []).append({"source": str(first.resolve()), "target": str(second.resolve())})


def make_corpus(source: Path, directory: Path, languages: Sequence[str] = ()) -> None:
    """Write corpus.yaml and its pairs, in all languages or in English and some others, and print a summary."""
    texts = sorted((source / "mono").glob("*.txt.gz"))
    mono = {path.name.removesuffix(".txt.gz"): [str(path.resolve())] for path in texts}
    if unknown := sorted(set(languages) - mono.keys()):
        raise ValueError(f"--languages {' '.join(unknown)}: expected some of {' '.join(mono)}, as in {source / 'mono'}")

    def is_wanted(language: str) -> bool:
        return not languages or language in (ENGLISH, *languages)

    sentences = {x: own for x, own in translated_sentences(source / "xtreme").items() if is_wanted(x)}
    if ENGLISH not in sentences:
        raise ValueError(f"{source / 'xtreme'}: no xnli/train-en.tsv; expected XTREME's layout")
    claim(directory, ["pairs", "corpus.yaml"], "benchmarks.xtreme_data")
    section, num_pairs = write_pairs(sentences, directory / "pairs")
    add_text_pairs(section, source)
    section = {pair: files for pair, files in section.items() if all(map(is_wanted, pair.split("-")))}
    mono = {language: paths for language, paths in mono.items() if is_wanted(language)}
    corpus: dict[str, Any] = {"tokenizer": "tokenizer", "valid": 0.005, "mono": mono, "parallel": section}
    with atomic_path(directory / "corpus.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(corpus, sort_keys=False), encoding="utf-8")
    print(f"{directory}: {len(mono)} languages; {len(section)} pairs of languages, {num_pairs:,} pairs in pairs/")


def make_files(source: Path, root: Path, languages: Sequence[str] = ()) -> None:
    """Fill `root` with the files of the tasks, in all languages or in English and some others."""
    if not source.is_dir():
        raise ValueError(f"{source}: no such directory; expected XTREME's files")
    known = {language for task in TASKS.values() for language in task.languages}
    if unknown := sorted(set(languages) - known):
        raise ValueError(f"--languages {' '.join(unknown)}: expected some of {' '.join(sorted(known))}")
    unwanted = known - {ENGLISH, *languages} if languages else set()
    with atomic_directory(root) as directory:
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.is_file() and inside.parts[0] != "mlqa" and not unwanted & set(re.split(r"[.-]", path.name)):
                make_link(directory / inside, path.resolve())
        cut_mlqa(source, directory, unwanted)
        pair_pawsx(directory)
        write_words(directory)
        for task, split in itertools.product(ORIGINALLY_ENGLISH, (Split.DEV, Split.TEST)):
            for language in languages_with(task, split, directory):
                if language != ENGLISH:
                    original = find_file(task, split, ENGLISH, directory).path
                    name = task.files[split][0].path.format(language=language)
                    link = directory / "english" / f"{name}{compressed_suffix(str(original))}"
                    # Relative, because the directory is renamed when it is complete.
                    make_link(link, Path(os.path.relpath(original, link.parent)))


def make_link(link: Path, target: Path) -> None:
    """Make a symbolic link, and its directory if needed."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


def cut_mlqa(source: Path, root: Path, unwanted: Set[str]) -> None:
    """Split MLQA's dev set in `source` into a dev and a test set in `root`, in all but the unwanted languages.

    Questions share their ids with English, and an article goes where the English article of its questions goes, so no
    article is in dev in one language and in test in another.
    """
    task = TASKS["mlqa"]
    others = [x for x in languages_with(task, Split.DEV, source) if x != ENGLISH and x not in unwanted]
    languages = [ENGLISH, *others]  # English decides, so it must be there
    articles = {language: articles_of(find_file(task, Split.DEV, language, source).path) for language in languages}
    english_titles = {id: article["title"] for article in articles[ENGLISH] for id in ids_of(article)}
    for language in languages:
        for split in (Split.DEV, Split.TEST):
            kept = [
                article
                for article in articles[language]
                if is_test(english_titles[ids_of(article)[0]]) == (split is Split.TEST)
            ]
            path = root / f"{task.files[split][0].path.format(language=language)}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps({"data": kept}, ensure_ascii=False).encode(), mtime=0))
            print(f"{path.relative_to(root)}: {sum(len(ids_of(article)) for article in kept)} questions")


def pair_pawsx(root: Path) -> None:
    """Add the English originals of the translations in `root`: of dev and test in `root`/english."""
    task = TASKS["pawsx"]
    for split in (Split.TRAIN, Split.DEV, Split.TEST):
        languages = languages_with(task, split, root)
        originals = list(read_texts(task, split, ENGLISH, root)) if ENGLISH in languages else []
        for language in languages if originals else ():
            if language == ENGLISH:
                continue
            rows = list(read_texts(task, split, language, root))
            partners = align_rows(*([f"{row.text_a} {row.text_b}" for row in side] for side in (originals, rows)))
            pairs = [(None if n is None else originals[n], row) for n, row in zip(partners, rows, strict=True)]
            if split is Split.TRAIN:
                find_file(task, split, language, root).path.unlink()  # a link, which the pairs replace
                path = root / task.files[Split.TRANSLATE_TRAIN][1].path.format(language=language)
                texts = [
                    [original.text_a, original.text_b, row.text_a, row.text_b, str(row.label)]
                    for original, row in pairs
                    if original is not None
                ]
            else:
                path = root / "english" / task.files[split][0].path.format(language=language)
                # A row without an original is paired with itself, like English.
                texts = [[(original or row).text_a, (original or row).text_b] for original, row in pairs]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter="\t", lineterminator="\n").writerows(texts)
            found = [(original, row) for original, row in pairs if original is not None]
            agreeing = sum(original.label == row.label for original, row in found)
            print(
                f"{path.relative_to(root)}: {len(found):,} of {len(rows):,} rows with their originals, of which "
                f"{agreeing:,} have the same label"
            )


def write_words(root: Path) -> None:
    """Write words of translated text for POS and NER, for finetune.understanding.label."""
    for language, sentences in translated_sentences(root).items():
        for task in TAGGED:
            if language == ENGLISH or not has_spaces(language) or language not in task.languages:
                continue
            path = root / task.files[Split.TRANSLATE_TRAIN][0].path.format(language=language)
            path.parent.mkdir(parents=True, exist_ok=True)
            words = ("\n".join(WORD.findall(sentence)) for sentence in sentences.values())
            path.write_text("".join(f"{own}\n\n" for own in words if own), encoding="utf-8")


def articles_of(path: Path) -> list[dict[str, Any]]:
    with open_text(path) as lines:
        return json.loads("\n".join(lines))["data"]


def ids_of(article: dict[str, Any]) -> list[str]:
    return [question["id"] for paragraph in article["paragraphs"] for question in paragraph["qas"]]


def is_test(title: str) -> bool:
    """One half of the articles."""
    return zlib.crc32(title.encode()) % 2 == 0


def make_captions(source: Path, root: Path) -> None:
    """Fill `root` with retrieval tasks of captions."""
    bucc, tatoeba = TASKS["bucc2018"], TASKS["tatoeba"]
    splits = {Split.DEV: "val", Split.TEST: "test_2016_flickr"}
    files = {(split, x): source / f"{name}.{x}.gz" for split, name in splits.items() for x in bucc.languages}
    languages = [x for x in bucc.languages if all(files[split, x].is_file() for split in splits)]
    english = {split: source / f"{name}.{ENGLISH}.gz" for split, name in splits.items()}
    if not languages or not all(path.is_file() for path in english.values()):
        raise ValueError(f"{source}: expected {' and '.join(splits.values())} in en and one of {bucc.languages}")
    with atomic_directory(root) as directory:
        for language, split in itertools.product(languages, splits):
            sides = [lines_of(files[split, language]), lines_of(english[split])]
            if len(sides[0]) != len(sides[1]):
                raise ValueError(f"{files[split, language]}: {len(sides[0])} lines, in {ENGLISH} {len(sides[1])}")
            third = len(sides[0]) // 3
            parts = (range(2 * third), range(third, len(sides[1])))
            mined = {
                side: [f"{side}-{row}\t{texts[row]}" for row in part]
                for side, texts, part in zip((language, ENGLISH), sides, parts, strict=True)
            }
            mined["gold"] = [f"{language}-{row}\t{ENGLISH}-{row}" for row in range(third, 2 * third)]
            for side, lines in mined.items():
                write_lines(directory / bucc.files[split][0].path.format(language=language, side=side), lines)
            if split is Split.TEST:
                for side, texts in zip((language, ENGLISH), sides, strict=True):
                    write_lines(directory / tatoeba.files[split][0].path.format(language=language, side=side), texts)


def lines_of(path: Path) -> list[str]:
    with open_text(path) as lines:
        return list(lines)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = commands.add_parser("corpus", help="text for pre-training")
    files = commands.add_parser("files", help="XTREME's files, and those that they lack")
    captions = commands.add_parser("captions", help="retrieval among Multi30k's captions")
    for command, output in ((corpus, "DIR"), (files, "ROOT"), (captions, "ROOT")):
        command.add_argument("source", type=Path)
        command.add_argument("directory", type=Path, metavar=output)
    for command in (corpus, files):
        command.add_argument("--languages", nargs="+", default=(), help="in addition to English (default: all)")
    options = parser.parse_args()
    if options.command == "corpus":
        make_corpus(options.source, options.directory, options.languages)
    elif options.command == "files":
        make_files(options.source, options.directory, options.languages)
    else:
        make_captions(options.source, options.directory)


if __name__ == "__main__":
    run_main(main)
