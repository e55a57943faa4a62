"""Translation quality of a file against a reference: sacreBLEU's scores with signatures, tokenized BLEU as published.

    python -m finetune.mt.score --system FILE --reference FILE [--source FILE] [--baseline FILE] [--json FILE]

Kinds of numbers, none comparable with another:
- sacreBLEU (detokenized text, tokenised inside by 13a, cased): the one to quote. The signature that older papers print
  as `BLEU+case.mixed+numrefs.1+smooth.exp+tok.13a` is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` today.
- the same, lowercased.
- chrF (character n-grams, orders 1 to 6), and TER (edits a reference word, so that less is better).
- tokenized BLEU as `multi-bleu.perl` gives it on text tokenised by Moses' `tokenizer.perl`, cased, and with its `-lc`
  switch ("case-insensitive" in VECO, ACL 2021, table 3). multi-bleu reads bytes, so its `-lc` lowercases the letters A
  to Z and no others; so do we. It does not smooth: without a common 4-gram it is 0.
- COMET with --comet, if it is installed (pip install unbabel-comet).

With --baseline, sacreBLEU's paired bootstrap says how likely such a difference is if the two systems are equally good.
"""

import argparse
import json
import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from sacremoses import MosesTokenizer

from data_tools.cli import run_main
from data_tools.files import atomic_path
from data_tools.outputs import check_outputs
from data_tools.text_lines import open_text

# Those that need nothing beside sacreBLEU; "none" and "char" are for text that 13a cannot cut, such as Thai or Chinese.
SACREBLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
# For languages that are written without spaces, at which 13a cuts.
TOKENIZER_OF = {"zh": "zh", "ja": "char", "th": "char", "km": "char", "lo": "char", "my": "char"}
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
COMET_MODEL = "Unbabel/wmt22-comet-da"
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One number of a system, 0 to 100 unless its library says otherwise, and how it was made."""

    value: float
    signature: str
    detail: str  # n-gram precisions, brevity penalty and lengths, or empty


@dataclass(frozen=True)
class Comparison:
    """One score of a system and its baseline, with what resampled test sets say of their difference."""

    system: float
    baseline: float
    p_value: float  # how often a difference as large comes about if the two systems are equally good
    system_mean: float  # over the resampled test sets, and half the width of the interval that holds 95 % of them
    system_interval: float
    baseline_mean: float
    baseline_interval: float
    signature: str


def sacrebleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for text in a language, such as zh or zh-CN."""
    return TOKENIZER_OF.get(re.split("[-_]", language)[0], "13a")


def sacrebleu_score(system: Sequence[str], references: Sequence[str], lowercase: bool, tokenize: str) -> Score:
    """sacreBLEU of detokenized lines."""
    metric = BLEU(lowercase=lowercase, tokenize=tokenize)
    result = metric.corpus_score(system, [references])
    return Score(float(result.score), str(metric.get_signature()), bleu_detail(result))


def plain_score(metric: CHRF | TER, system: Sequence[str], references: Sequence[str]) -> Score:
    """chrF or TER of detokenized lines."""
    result = metric.corpus_score(system, [references])
    return Score(float(result.score), str(metric.get_signature()), "")


def multi_bleu_score(system: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool) -> tuple[float, str]:
    """What `multi-bleu.perl [-lc]` prints for lines that are already tokenised: (BLEU, details).

    `references` are one or more translations of the whole text.
    """
    if lowercase:
        system = [line.translate(ASCII_LOWER) for line in system]
        references = [[line.translate(ASCII_LOWER) for line in lines] for lines in references]
    # force: the lines are tokenised on purpose, no warning wanted.
    result = BLEU(tokenize="none", smooth_method="none", force=True).corpus_score(system, references)
    return float(result.score), bleu_detail(result)


def tokenized_scores(system: Sequence[str], references: Sequence[str], language: str) -> dict[str, Score]:
    """Tokenized BLEU of detokenized lines, cased and with multi-bleu's -lc."""
    tokenizer = MosesTokenizer(lang=language)
    tokenised = [[tokenizer.tokenize(line, return_str=True) for line in lines] for lines in (system, references)]
    scores = {}
    for name, case in (("tokenized_bleu", "mixed"), ("tokenized_bleu_lc", "lc-ascii")):
        value, detail = multi_bleu_score(tokenised[0], tokenised[1:], lowercase=case != "mixed")
        signature = f"nrefs:1|case:{case}|tok:moses-{language}|smooth:none|sacremoses:{version('sacremoses')}"
        scores[name] = Score(value, signature, detail)
    return scores


def bleu_detail(result: object) -> str:
    """Precisions, brevity penalty and lengths as sacreBLEU prints them: all of its line behind the score."""
    return str(result).split(" ", 3)[-1]


def comet_score(source: Sequence[str], system: Sequence[str], references: Sequence[str], model: str) -> Score:
    """COMET of detokenized lines, times 100, by a model of the hub or a checkpoint file, which COMET's loader opens.

    Raises ValueError where COMET is not installed.
    """
    try:
        import comet
    except ImportError:
        raise ValueError("--comet: COMET is not installed: pip install unbabel-comet") from None
    checkpoint = model if Path(model).is_file() else comet.download_model(model)
    data = [
        {"src": line, "mt": translation, "ref": reference}
        for line, translation, reference in zip(source, system, references, strict=True)
    ]
    result = comet.load_from_checkpoint(checkpoint).predict(data)
    return Score(100 * float(result.system_score), f"model:{model}|comet:{version('unbabel-comet')}", "")


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
        "chrf": plain_score(CHRF(), system, references),
        "ter": plain_score(TER(), system, references),
        **tokenized_scores(system, references, target_language),
    }


def compare_lines(
    system: Sequence[str], baseline: Sequence[str], references: Sequence[str], tokenize: str = "13a"
) -> dict[str, Comparison]:
    """sacreBLEU and chrF of two systems with a paired bootstrap test over the lines (Koehn, 2004), by name.

    sacreBLEU's own; its random numbers come from SACREBLEU_SEED in the environment, 12345 if that is not set.
    """
    compared = {}
    for name, metric in {"sacrebleu": BLEU(tokenize=tokenize), "chrf": CHRF()}.items():
        systems = [("baseline", baseline), ("system", system)]
        test = PairedTest(systems, {name: metric}, [references], test_type="bs", n_samples=BOOTSTRAP_SAMPLES)
        signatures, results = test()
        ((title, signature),) = signatures.items()
        theirs, ours = cast(list[Any], results[title])  # numbers are optional there, but given by this test
        compared[name] = Comparison(
            system=float(ours.score),
            baseline=float(theirs.score),
            # sacreBLEU calls equal scores significantly different: no sample differs by more than nothing.
            p_value=1.0 if ours.score == theirs.score else float(ours.p_value),
            system_mean=float(ours.mean),
            system_interval=float(ours.ci),
            baseline_mean=float(theirs.mean),
            baseline_interval=float(theirs.ci),
            signature=str(signature),
        )
    return compared


def read_lines(path: Path) -> list[str]:
    """All lines of a text file; ValueError if there is none."""
    with open_text(path) as lines:
        result = list(lines)
    if not result:
        raise ValueError(f"{path} has no line: nothing to score")
    return result


def read_parallel(path: Path, other: Path, num_lines: int, hint: str) -> list[str]:
    """All lines of a text file that must have as many as `other`. Raises ValueError, which ends with the hint."""
    lines = read_lines(path)
    if len(lines) != num_lines:
        raise ValueError(f"{other} has {num_lines:,} lines but {path} has {len(lines):,}: {hint}")
    return lines


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Files, line counts and scores as they go to the JSON file."""
    if arguments.comet is not None and arguments.source is None:
        raise ValueError("--comet needs --source FILE: it compares the translation with the source too")
    path = arguments.system
    system = read_lines(path)
    number = len(system)
    references = read_parallel(
        arguments.reference,
        path,
        number,
        "line i of one must answer line i of the other (was a line lost in translation?)",
    )
    report: dict[str, Any] = {
        "system": str(path),
        "reference": str(arguments.reference),
        "num_lines": number,
        "num_empty_system_lines": sum(not line.strip() for line in system),
    }
    source: list[str] = []
    if arguments.source is not None:
        source = read_parallel(arguments.source, path, number, "is it the source of this translation?")
        report["source"] = str(arguments.source)
        report["num_copied_lines"] = sum(
            bool(line.strip()) and line.strip() == original.strip()
            for line, original in zip(system, source, strict=True)
        )
    baseline: list[str] = []
    if arguments.baseline is not None:
        baseline = read_parallel(arguments.baseline, path, number, "do both systems translate the same text?")
    tokenize = arguments.tokenize or sacrebleu_tokenizer(arguments.target_language)
    scores = score_lines(system, references, arguments.target_language, tokenize)
    if arguments.comet is not None:
        scores["comet"] = comet_score(source, system, references, arguments.comet)
    report["scores"] = {name: asdict(score) for name, score in scores.items()}
    if arguments.baseline is not None:
        report["baseline"] = str(arguments.baseline)
        compared = compare_lines(system, baseline, references, tokenize)
        report["comparison"] = {name: asdict(comparison) for name, comparison in compared.items()}
    return report


def table(report: dict[str, Any]) -> str:
    """The scores of `report` as lines of text that stay whole whatever the width of the terminal."""
    copied = f", {report['num_copied_lines']:,} copied from the source" if "num_copied_lines" in report else ""
    rows = [f"{report['system']}: {report['num_lines']:,} lines, {report['num_empty_system_lines']:,} empty{copied}"]
    for name, score in report["scores"].items():
        rows.append(f"{name:<18} {score['value']:6.2f}  {score['signature']}")
        if score["detail"]:
            rows.append(f"{'':<25}  {score['detail']}")
    if "comparison" in report:
        rows.append(f"against {report['baseline']}, paired bootstrap:")
    for name, comparison in report.get("comparison", {}).items():
        difference = comparison["system"] - comparison["baseline"]
        rows.append(
            f"{name:<18} {difference:+6.2f}  p = {comparison['p_value']:.4f}  "
            f"({comparison['system_mean']:.2f} ± {comparison['system_interval']:.2f} against "
            f"{comparison['baseline_mean']:.2f} ± {comparison['baseline_interval']:.2f})  {comparison['signature']}"
        )
    return "\n".join(rows)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.mt.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--system", type=Path, required=True, metavar="FILE", help="translations, detokenized, one a line")
    add("--reference", type=Path, required=True, metavar="FILE", help="reference, detokenized, one a line")
    add("--source", type=Path, metavar="FILE", help="source text: counts lines copied unchanged; for COMET")
    add("--baseline", type=Path, metavar="FILE", help="another system's translations: is the difference chance?")
    add("--json", type=Path, metavar="FILE", help="also write all scores to this file")
    add(
        "--target-language",
        default="en",
        metavar="LANG",
        help="for Moses' rules in tokenized BLEU, and for sacreBLEU's tokenizer (%(default)s)",
    )
    add(
        "--tokenize",
        choices=SACREBLEU_TOKENIZERS,
        help="sacreBLEU's tokenizer (default: 13a; where words have no spaces between them, zh or char)",
    )
    add("--comet", nargs="?", const=COMET_MODEL, metavar="MODEL", help=f"adds COMET: a checkpoint or {COMET_MODEL}")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    check_outputs(
        {"--json": arguments.json}, [arguments.system, arguments.reference, arguments.source, arguments.baseline]
    )
    report = score_files(arguments)
    print(table(report))
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
