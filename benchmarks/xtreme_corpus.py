"""A small corpus in XTREME's languages to pre-train on: what docs/results.md reports on XTREME starts from it.

    python benchmarks/xtreme_corpus.py SOURCE DIR

SOURCE holds mono/LANG.txt.gz, mt/multi30k/train.LANG.gz, parallel/*/X-Y.{X,Y}.gz and xtreme/ in XTREME's layout. DIR
gets corpus.yaml for data_tools and pairs/X-Y.tsv: the hypotheses and premises of XNLI's training files, which translate
each other row by row in all of its languages, and the questions of SQuAD's. Labels and answers stay out, and so do all
dev and test files.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from data_tools.cli import run_main
from data_tools.files import atomic_path
from finetune.xtreme.readers import languages_with, read_pairs, read_questions
from finetune.xtreme.tasks import ENGLISH, TASKS, Split


def translated_sentences(root: Path) -> dict[str, dict[str, str]]:
    """Language -> key of a sentence, the same in all languages -> its text."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    xnli, xquad = TASKS["xnli"], TASKS["xquad"]
    for split in (Split.TRAIN, Split.TRANSLATE_TRAIN):
        for language in languages_with(xnli, split, root):
            for number, pair in enumerate(read_pairs(xnli, split, language, root)):
                found[language][f"premise {number // 3}"] = pair.text_a  # each premise comes with three hypotheses
                found[language][f"hypothesis {number}"] = pair.text_b
        for language in languages_with(xquad, split, root):
            for question in read_questions(xquad, split, language, root):
                found[language][f"question {question.id}"] = question.question
    return found


def write_pairs(sentences: dict[str, dict[str, str]], directory: Path) -> dict[str, list[dict[str, str]]]:
    """The `parallel` section for pairs/X-Y.tsv, which are written."""
    directory.mkdir(parents=True, exist_ok=True)
    section = {}
    for x, y in itertools.combinations(sorted(sentences), 2):
        keys = [key for key in sentences[x] if key in sentences[y]]
        rows = ((" ".join(sentences[side][key].split()) for side in (x, y)) for key in keys)
        with atomic_path(directory / f"{x}-{y}.tsv") as temporary:
            temporary.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
        section[f"{x}-{y}"] = [{"tsv": f"{directory.name}/{x}-{y}.tsv"}]
    return section


def add_text_pairs(section: dict[str, list[dict[str, str]]], source: Path) -> None:
    """Nothing; adds Multi30k's training part and all of parallel/ to the section."""
    multi30k = {path.name.split(".")[1]: path for path in sorted((source / "mt" / "multi30k").glob("train.*.gz"))}
    sides = [(f"{x}-{y}", multi30k[x], multi30k[y]) for x, y in itertools.combinations(multi30k, 2)]
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


def make_corpus(source: Path, directory: Path) -> None:
    """Nothing; writes what the module says, and a summary to the screen."""
    sentences = translated_sentences(source / "xtreme")
    if ENGLISH not in sentences:
        raise ValueError(f"{source / 'xtreme'}: no xnli/train-en.tsv; expected XTREME's layout")
    section = write_pairs(sentences, directory / "pairs")
    add_text_pairs(section, source)
    texts = sorted((source / "mono").glob("*.txt.gz"))
    mono = {path.name.removesuffix(".txt.gz"): [str(path.resolve())] for path in texts}
    corpus: dict[str, Any] = {"tokenizer": "tokenizer", "valid": 0.005, "mono": mono, "parallel": section}
    with atomic_path(directory / "corpus.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(corpus, sort_keys=False), encoding="utf-8")
    num_pairs = sum(len(sentences[x].keys() & sentences[y].keys()) for x, y in itertools.combinations(sentences, 2))
    print(f"{directory}: {len(mono)} languages; {len(section)} pairs of languages, {num_pairs:,} pairs in pairs/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args()
    make_corpus(options.source, options.directory)


if __name__ == "__main__":
    run_main(main)
