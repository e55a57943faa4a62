"""Translation quality of a file against a reference: sacreBLEU and chrF with signatures, tokenized BLEU as published.

    python -m finetune.mt.score --system FILE --reference FILE [--source FILE] [--json FILE]

Four kinds of numbers, none comparable with another:
- sacreBLEU (detokenized text, tokenised inside by 13a, cased): the one to quote. The signature that older papers print
  as `BLEU+case.mixed+numrefs.1+smooth.exp+tok.13a` is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` today.
- the same, lowercased.
- chrF (character n-grams, orders 1 to 6).
- tokenized BLEU as `multi-bleu.perl` gives it on text tokenised by Moses' `tokenizer.perl`, cased, and with its `-lc`
  switch ("case-insensitive" in VECO, ACL 2021, table 3). multi-bleu reads bytes, so its `-lc` lowercases the letters A
  to Z and no others; so do we. It does not smooth: without a common 4-gram it is 0.
"""

import argparse
import json
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from sacremoses import MosesTokenizer

from data_tools.cli import run_main
from data_tools.files import atomic_path
from data_tools.text_lines import open_text

# Those that need nothing beside sacreBLEU; "none" and "char" are for text that 13a cannot cut, such as Thai or Chinese.
SACREBLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class Score:
    """One number of a system, 0 to 100, and how it was made."""

    value: float
    signature: str
    detail: str  # n-gram precisions, brevity penalty and lengths, or empty


def sacrebleu_score(system: Sequence[str], references: Sequence[str], lowercase: bool, tokenize: str) -> Score:
    """sacreBLEU of detokenized lines."""
    metric = BLEU(lowercase=lowercase, tokenize=tokenize)
    result = metric.corpus_score(system, [references])
    return Score(float(result.score), str(metric.get_signature()), bleu_detail(result))


def chrf_score(system: Sequence[str], references: Sequence[str]) -> Score:
    """chrF (beta 2, no word n-grams) of detokenized lines."""
    metric = CHRF()
    result = metric.corpus_score(system, [references])
    return Score(float(result.score), str(metric.get_signature()), "")


def multi_bleu_score(system: Sequence[str], references: Sequence[str], lowercase: bool) -> tuple[float, str]:
    """What `multi-bleu.perl [-lc]` prints for lines that are already tokenised: (BLEU, details)."""
    if lowercase:
        system = [line.translate(ASCII_LOWER) for line in system]
        references = [line.translate(ASCII_LOWER) for line in references]
    # force: the lines are tokenised on purpose, no warning wanted.
    result = BLEU(tokenize="none", smooth_method="none", force=True).corpus_score(system, [references])
    return float(result.score), bleu_detail(result)


def tokenized_scores(system: Sequence[str], references: Sequence[str], language: str) -> dict[str, Score]:
    """Tokenized BLEU of detokenized lines, cased and with multi-bleu's -lc."""
    tokenizer = MosesTokenizer(lang=language)
    tokenised = [[tokenizer.tokenize(line, return_str=True) for line in lines] for lines in (system, references)]
    scores = {}
    for name, case in (("tokenized_bleu", "mixed"), ("tokenized_bleu_lc", "lc-ascii")):
        value, detail = multi_bleu_score(tokenised[0], tokenised[1], lowercase=case != "mixed")
        signature = f"nrefs:1|case:{case}|tok:moses-{language}|smooth:none|sacremoses:{version('sacremoses')}"
        scores[name] = Score(value, signature, detail)
    return scores


def bleu_detail(result: object) -> str:
    """Precisions, brevity penalty and lengths as sacreBLEU prints them: all of its line behind the score."""
    return str(result).split(" ", 3)[-1]


def score_lines(
    system: Sequence[str], references: Sequence[str], target_language: str = "en", tokenize: str = "13a"
) -> dict[str, Score]:
    """All scores of detokenized lines by name. Raises ValueError for no line or unequal numbers of lines."""
    if len(system) != len(references):
        raise ValueError(f"{len(system):,} system lines but {len(references):,} reference lines")
    if not system:
        raise ValueError("no line to score")
    return {
        "sacrebleu": sacrebleu_score(system, references, lowercase=False, tokenize=tokenize),
        "sacrebleu_lc": sacrebleu_score(system, references, lowercase=True, tokenize=tokenize),
        "chrf": chrf_score(system, references),
        **tokenized_scores(system, references, target_language),
    }


def read_lines(path: Path) -> list[str]:
    """All lines of a text file; ValueError if there is none."""
    with open_text(path) as lines:
        result = list(lines)
    if not result:
        raise ValueError(f"{path} has no line: nothing to score")
    return result


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Files, line counts and scores as they go to the JSON file."""
    system, references = read_lines(arguments.system), read_lines(arguments.reference)
    if len(system) != len(references):
        raise ValueError(
            f"{arguments.system} has {len(system):,} lines but {arguments.reference} has {len(references):,}: "
            "line i of one must answer line i of the other (was a line lost in translation?)"
        )
    report: dict[str, Any] = {
        "system": str(arguments.system),
        "reference": str(arguments.reference),
        "num_lines": len(system),
        "num_empty_system_lines": sum(not line.strip() for line in system),
    }
    if arguments.source is not None:
        source = read_lines(arguments.source)
        if len(source) != len(system):
            raise ValueError(
                f"{arguments.source} has {len(source):,} lines but {arguments.system} has {len(system):,}: "
                "is it the source of this translation?"
            )
        report["source"] = str(arguments.source)
        report["num_copied_lines"] = sum(
            bool(line.strip()) and line.strip() == original.strip()
            for line, original in zip(system, source, strict=True)
        )
    scores = score_lines(system, references, arguments.target_language, arguments.tokenize)
    report["scores"] = {name: asdict(score) for name, score in scores.items()}
    return report


def table(report: dict[str, Any]) -> str:
    """The scores of `report` as lines of text that stay whole whatever the width of the terminal."""
    copied = f", {report['num_copied_lines']:,} copied from the source" if "num_copied_lines" in report else ""
    rows = [f"{report['system']}: {report['num_lines']:,} lines, {report['num_empty_system_lines']:,} empty{copied}"]
    for name, score in report["scores"].items():
        rows.append(f"{name:<18} {score['value']:6.2f}  {score['signature']}")
        if score["detail"]:
            rows.append(f"{'':<25}  {score['detail']}")
    return "\n".join(rows)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finetune.mt.score", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--system", type=Path, required=True, metavar="FILE", help="translations, detokenized, one a line"
    )
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="FILE", help="reference, detokenized, one a line"
    )
    parser.add_argument("--source", type=Path, metavar="FILE", help="source text: counts lines copied unchanged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all scores to this file")
    parser.add_argument(
        "--target-language",
        default="en",
        metavar="LANG",
        help="for Moses' rules in tokenized BLEU (default: %(default)s)",
    )
    parser.add_argument(
        "--tokenize", default="13a", choices=SACREBLEU_TOKENIZERS, help="sacreBLEU's tokenizer (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    report = score_files(arguments)
    print(table(report))
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
