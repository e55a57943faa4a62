"""Score a translation against references: sacreBLEU's metrics with signatures, and tokenized BLEU as published.

    python -m finetune.mt.score --system FILE --reference FILE [FILE …] --target-language LANG
                                [--source FILE] [--baseline FILE] [--json FILE]

The scores are not comparable with each other:
- sacreBLEU (detokenized text, tokenised internally by 13a, cased): the one to report. The signature that older papers
  print as `BLEU+case.mixed+numrefs.1+smooth.exp+tok.13a` is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` today. The
  tokenizer is zh for Chinese, and char for other languages without spaces between words.
- the same, lowercased.
- chrF (character n-grams, orders 1 to 6), and TER (edits per reference word, in Chinese and Japanese per reference
  character; lower is better).
- tokenized BLEU as computed by `multi-bleu.perl` on text tokenised by Moses' `tokenizer.perl`, cased, and with its
  `-lc` switch ("case-insensitive" in VECO, ACL 2021, table 3). multi-bleu reads bytes, so its `-lc` lowercases only the
  letters A to Z; so do we. It does not smooth: without a matching 4-gram it is 0.
- COMET with --comet, if it is installed (pip install unbabel-comet).

A language can be given by any of its codes: zh, cmn, zho_Hans. Metrics that find no words in it are left out, with the
reason.

With --baseline, sacreBLEU's paired bootstrap resampling says how likely the difference is if both systems are equally
good.
"""

import argparse
import json
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from langcodes import tag_is_valid
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import STANDARD_INPUT, check_outputs
from finetune.mt.decoding.input_lines import name_of, open_lines
from finetune.mt.scoring.tokenizers import moses_code, moses_tokenizer, sacrebleu_tokenizer, ter_metric

# "none" and "char" are for text that 13a cannot split, such as Thai; the last two need sacrebleu[ja] and [ko].
SACREBLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none", "ja-mecab", "ko-mecab")
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
TOKENIZED = ("tokenized_bleu", "tokenized_bleu_lc")
COMET_MODEL = "Unbabel/wmt22-comet-da"
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One score of a system, on a scale of 0 to 100 unless its library says otherwise, and how it was computed."""

    value: float
    signature: str
    detail: str  # n-gram precisions, brevity penalty and lengths, or empty


@dataclass(frozen=True)
class BaselineComparison:
    """One score of a system and its baseline, with paired bootstrap resampling of the test set."""

    system: float
    baseline: float
    p_value: float  # probability of a difference as large if the two systems are equally good
    system_mean: float  # over the resampled test sets
    system_interval: float  # half the width of the 95 % confidence interval
    baseline_mean: float
    baseline_interval: float
    signature: str


def sacrebleu_metric(lowercase: bool, tokenize: str) -> BLEU:
    """sacreBLEU's BLEU with one of its tokenizers. Raises ValueError if that tokenizer is not installed."""
    try:
        return BLEU(lowercase=lowercase, tokenize=tokenize)
    except (RuntimeError, ImportError) as error:
        raise ValueError(f"--tokenize {tokenize}: {error}") from None


def sacrebleu_score(system: Sequence[str], *references: Sequence[str], lowercase: bool, tokenize: str) -> Score:
    """sacreBLEU of detokenized lines."""
    metric = sacrebleu_metric(lowercase, tokenize)
    result = metric.corpus_score(system, references)
    return Score(float(result.score), str(metric.get_signature()), bleu_detail(result))


def plain_score(metric: CHRF | TER, system: Sequence[str], *references: Sequence[str]) -> Score:
    """chrF or TER of detokenized lines."""
    result = metric.corpus_score(system, references)
    return Score(float(result.score), str(metric.get_signature()), "")


def multi_bleu_score(system: Sequence[str], *references: Sequence[str], lowercase: bool) -> tuple[float, str]:
    """(BLEU, details) as `multi-bleu.perl [-lc]` prints them for lines that are already tokenised."""
    texts = (system, *references)
    if lowercase:
        texts = tuple([line.translate(ASCII_LOWER) for line in lines] for lines in texts)
    # force: the lines are tokenised on purpose, so no warning.
    result = BLEU(tokenize="none", smooth_method="none", force=True).corpus_score(texts[0], texts[1:])
    return float(result.score), bleu_detail(result)


def tokenized_scores(system: Sequence[str], *references: Sequence[str], language: str) -> dict[str, Score]:
    """Tokenized BLEU of detokenized lines, cased and with multi-bleu's -lc; empty if Moses cannot split them."""
    tokenizer = moses_tokenizer(language)
    if tokenizer is None:
        return {}
    tokenised = [[tokenizer(line) for line in lines] for lines in (system, *references)]
    made = f"tok:moses-{moses_code(language)}|smooth:none|sacremoses:{version('sacremoses')}"
    scores = {}
    for name, case in zip(TOKENIZED, ("mixed", "lc-ascii"), strict=True):
        value, detail = multi_bleu_score(*tokenised, lowercase=case != "mixed")
        scores[name] = Score(value, f"nrefs:{len(references)}|case:{case}|{made}", detail)
    return scores


def bleu_detail(result: object) -> str:
    """Precisions, brevity penalty and lengths as sacreBLEU prints them: the rest of its line after the score."""
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
    system: Sequence[str], *references: Sequence[str], target_language: str = "en", tokenize: str = ""
) -> dict[str, Score]:
    """All scores of detokenized lines by name, except those in `left_out`.

    Each of `references` is a complete translation of the text; `tokenize` is sacreBLEU's tokenizer, by default that of
    the language. Raises ValueError for no line or unequal numbers of lines.
    """
    for lines in references:
        if len(system) != len(lines):
            raise ValueError(f"{len(system):,} system lines but {len(lines):,} reference lines")
    if not system:
        raise ValueError("no line to score")
    tokenize = tokenize or sacrebleu_tokenizer(target_language)
    scores = {
        "sacrebleu": sacrebleu_score(system, *references, lowercase=False, tokenize=tokenize),
        "sacrebleu_lc": sacrebleu_score(system, *references, lowercase=True, tokenize=tokenize),
        "chrf": plain_score(CHRF(), system, *references),
    }
    ter = ter_metric(target_language)
    if ter is not None:
        scores["ter"] = plain_score(ter, system, *references)
    return scores | tokenized_scores(system, *references, language=target_language)


def left_out(target_language: str) -> dict[str, str]:
    """Metrics that `score_lines` leaves out for a language -> the reason."""
    found = {}
    if ter_metric(target_language) is None:
        found["ter"] = f"counts edits of words, and {target_language} has no spaces between them; see chrf"
    if moses_tokenizer(target_language) is None:
        reason = (
            f"Moses' tokenizer does not split {target_language} into words; report sacrebleu, whose tokenizers do "
            f"(--tokenize {sacrebleu_tokenizer(target_language)}, the default here, and others)"
        )
        found |= dict.fromkeys(TOKENIZED, reason)
    return found


def compare_lines(
    system: Sequence[str], baseline: Sequence[str], *references: Sequence[str], tokenize: str = "13a"
) -> dict[str, BaselineComparison]:
    """sacreBLEU and chrF of two systems with a paired bootstrap test over the lines (Koehn, 2004), by name.

    sacreBLEU's own; its random numbers come from SACREBLEU_SEED in the environment, 12345 if that is not set.
    """
    compared = {}
    for name, metric in {"sacrebleu": sacrebleu_metric(False, tokenize), "chrf": CHRF()}.items():
        systems = [("baseline", baseline), ("system", system)]
        test = PairedTest(systems, {name: metric}, references, test_type="bs", n_samples=BOOTSTRAP_SAMPLES)
        signatures, results = test()
        ((title, signature),) = signatures.items()
        theirs, ours = cast(list[Any], results[title])  # its numbers are optional, but this test sets them
        compared[name] = BaselineComparison(
            system=float(ours.score),
            baseline=float(theirs.score),
            # sacreBLEU calls equal scores significantly different, since no sample differs by more than 0.
            p_value=1.0 if ours.score == theirs.score else float(ours.p_value),
            system_mean=float(ours.mean),
            system_interval=float(ours.ci),
            baseline_mean=float(theirs.mean),
            baseline_interval=float(theirs.ci),
            signature=str(signature),
        )
    return compared


def read_lines(path: Path) -> list[str]:
    """All lines of a text file, or of standard input for "-". Raises ValueError if there are none."""
    with open_lines(str(path)) as lines:
        result = list(lines)
    if not result:
        raise ValueError(f"{name_of(str(path))} has no line: nothing to score")
    return result


def read_parallel(path: Path, other: Path, num_lines: int, hint: str) -> list[str]:
    """All lines of a text that must have as many as `other`. Raises ValueError ending with the hint if it has not."""
    lines = read_lines(path)
    if len(lines) != num_lines:
        raise ValueError(
            f"{name_of(str(other))} has {num_lines:,} lines but {name_of(str(path))} has {len(lines):,}: {hint}"
        )
    return lines


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for mistakes that can be found before any file is read."""
    if not tag_is_valid(arguments.target_language):
        raise ValueError(
            f"--target-language {arguments.target_language}: no language code; expected one such as de, zh or zho_Hans"
        )
    paths = [reference.resolve() for reference in arguments.reference]
    if twice := [name for name, path in zip(arguments.reference, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"--reference {twice[0]} is given twice; give each translation of the text once")
    texts = [arguments.system, *arguments.reference, arguments.source, arguments.baseline]
    if texts.count(Path(STANDARD_INPUT)) > 1:
        raise ValueError("standard input (-) is given twice, but can be read only once; use a file for the other text")
    if arguments.comet is not None and arguments.source is None:
        raise ValueError("--comet needs --source FILE: it also compares the translation with the source")
    if arguments.comet is not None and len(arguments.reference) > 1:
        raise ValueError(f"--comet takes one --reference, found {len(arguments.reference)}; run it separately")


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Files, line counts and scores, as written to the JSON file."""
    check_arguments(arguments)
    path = arguments.system
    system = read_lines(path)
    num_lines = len(system)
    hint = "line i of one must correspond to line i of the other (was a line lost in translation?)"
    references = [read_parallel(reference, path, num_lines, hint) for reference in arguments.reference]
    report: dict[str, Any] = {
        "system": name_of(str(path)),
        "references": [name_of(str(reference)) for reference in arguments.reference],
        "target_language": arguments.target_language,
        "num_lines": num_lines,
        "num_empty_system_lines": sum(not line.strip() for line in system),
    }
    source: list[str] = []
    if arguments.source is not None:
        source = read_parallel(arguments.source, path, num_lines, "is it the source of this translation?")
        report["source"] = name_of(str(arguments.source))
        report["num_copied_lines"] = sum(
            bool(line.strip()) and line.strip() == original.strip()
            for line, original in zip(system, source, strict=True)
        )
    baseline: list[str] = []
    if arguments.baseline is not None:
        baseline = read_parallel(arguments.baseline, path, num_lines, "do both systems translate the same text?")
    language = arguments.target_language
    tokenize = arguments.tokenize or sacrebleu_tokenizer(language)
    scores = score_lines(system, *references, target_language=language, tokenize=tokenize)
    if arguments.comet is not None:
        scores["comet"] = comet_score(source, system, references[0], arguments.comet)
    report["scores"] = {name: asdict(score) for name, score in scores.items()}
    report["left_out"] = left_out(language)
    if arguments.baseline is not None:
        report["baseline"] = name_of(str(arguments.baseline))
        compared = compare_lines(system, baseline, *references, tokenize=tokenize)
        report["comparison"] = {name: asdict(comparison) for name, comparison in compared.items()}
    return report


def table(report: dict[str, Any]) -> str:
    """The scores of `report` as lines of text, unwrapped whatever the width of the terminal."""
    copied = f", {report['num_copied_lines']:,} copied from the source" if "num_copied_lines" in report else ""
    rows = [f"{report['system']}: {report['num_lines']:,} lines, {report['num_empty_system_lines']:,} empty{copied}"]
    for name, score in report["scores"].items():
        rows.append(f"{name:<18} {score['value']:6.2f}  {score['signature']}")
        if score["detail"]:
            rows.append(f"{'':<25}  {score['detail']}")
    rows += [f"{name:<18} left out: {reason}" for name, reason in report["left_out"].items()]
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
    parser = FlagParser(
        prog="python -m finetune.mt.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--system",
        type=Path,
        required=True,
        metavar="FILE",
        help="translations, detokenized, one per line; - for standard input",
    )
    add(
        "--reference",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="references, detokenized, one per line; several translations of the same text as several files",
    )
    add("--source", type=Path, metavar="FILE", help="source text, to count lines copied unchanged, and for COMET")
    add("--baseline", type=Path, metavar="FILE", help="another system's translations, for a significance test")
    add("--json", type=Path, metavar="FILE", help="also write all scores to this file")
    add(
        "--target-language",
        default="en",
        metavar="LANG",
        help="any code, such as zh or zho_Hans: determines the tokenizers (default: %(default)s)",
    )
    add(
        "--tokenize",
        choices=SACREBLEU_TOKENIZERS,
        help="sacreBLEU's tokenizer (default: 13a; for languages without spaces between words, zh or char); ja-mecab "
        "and ko-mecab need sacrebleu[ja] and sacrebleu[ko]",
    )
    add("--comet", nargs="?", const=COMET_MODEL, metavar="MODEL", help=f"add COMET; a checkpoint or {COMET_MODEL}")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    inputs = [arguments.system, *arguments.reference, arguments.source, arguments.baseline]
    check_outputs({"--json": arguments.json}, [None if path is None else str(path) for path in inputs])
    report = score_files(arguments)
    print(table(report))
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
