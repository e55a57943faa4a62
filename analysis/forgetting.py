"""Measure what a masked language model knows of texts in several languages, and what a change made it forget.

    python -m analysis.forgetting MODEL --text en=FILE de=FILE --output DIR
    python -m analysis.forgetting MODEL --before OTHER --text en=FILE de=FILE --output DIR
    python -m analysis.forgetting MODEL --before large=OTHER small=THIRD --text en=FILE --output DIR

MODEL is compared with the models of --before: the same before training went on, before a new language was added, before
a vocabulary was cut, before it was distilled. Each is a VECO, which is plugged out, or another masked language model of
transformers. Texts are plain or compressed, a sentence a line; those that training has not seen tell most.

A share of the words is drawn, by --seed, and masked: the same words for all models, whatever their tokenizers. A word
ends where Unicode has the border of a word, which in scripts without spaces is behind each character, unless a model
has a piece across that border. All pieces of a drawn word are masked, by the mask alone. Measured are

  loss, accuracy                  of masked pieces: nats (-ln p), and how often the likeliest is right
  word accuracy, bits/character   of masked words: all their pieces right, and -log2 p by their characters
  pseudo-perplexity               exp of the mean -ln p of each piece, masked in turn (Salazar et al., 2020)
  pseudo bits/character           the same by characters, with the rest of its word masked, too (Kauf and Ivanova, 2023)

in the first --pseudo-lines lines for the last two. Where tokenizers cut the texts differently, numbers of pieces cannot
be compared, and their differences are left out; those of words and characters can. Lines that are too long for a model
are left out for all, and so are words for which one has no pieces; both are counted.

DIR/forgetting.json, .csv and .md have the scores and their differences, DIR/forgetting.png and .svg show them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from analysis.masking.lines import MaskedText
from analysis.masking.masked_lm import MaskedLM, longest_line
from analysis.masking.report import AVERAGE, FIGURE, NAME, write_report
from analysis.masking.scores import Score, Scorer
from analysis.options import claim_results, model_parser, name_and_file, named_files
from analysis.results import result_names
from data_tools.cli import run_main, warn
from data_tools.files.locations import check_can_be_read_again
from finetune.encoders import Encoder, open_encoder
from finetune.model_directory import model_directory
from finetune.placement import Placement
from finetune.understanding.rows.encoding import in_blocks, text_encoder
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind

PROGRAM = "analysis.forgetting"
MODEL, BEFORE, AFTER = "model", "before", "after"


def parse_arguments() -> argparse.Namespace:
    parser = model_parser(PROGRAM, __doc__, "a VECO, or another masked language model of transformers")
    parser.add_argument(
        "--text", nargs="+", required=True, metavar="LANGUAGE=FILE", help="texts to mask words of, a sentence a line"
    )
    parser.add_argument("--before", nargs="+", default=[], metavar="NAME=MODEL", help="models to compare MODEL with")
    parser.add_argument(
        "--mask-share", type=float, default=0.15, metavar="P", help="of words that are drawn (default %(default)s)"
    )
    parser.add_argument("--lines", type=int, metavar="N", help="of each text, from its first (default: all)")
    parser.add_argument(
        "--pseudo-lines",
        type=int,
        default=200,
        metavar="N",
        help="of each text, in which each piece is masked in turn; 0 for none (default %(default)s)",
    )
    parser.add_argument("--max-length", type=int, help="longest line in tokens (default: what all models take)")
    options = parser.parse_args()
    check_numbers(options)
    return options


def check_numbers(options: argparse.Namespace) -> None:
    """Raise ValueError for a number out of its range."""
    if not 0 < options.mask_share < 1:
        raise ValueError(f"--mask-share {options.mask_share}: expected a share between 0 and 1")
    if options.lines is not None and options.lines < 1:
        raise ValueError(f"--lines {options.lines}: expected at least 1")
    if options.pseudo_lines < 0:
        raise ValueError(f"--pseudo-lines {options.pseudo_lines}: expected at least 0")


def named_models(model: Path, before: Sequence[str]) -> dict[str, Path]:
    """The directory that each name stands for, MODEL's last. Raises ValueError for a name of two models."""
    if not before:
        return {MODEL: model_directory(model, [Kind.PRETRAINING])}
    has_no_name = len(before) == 1 and not name_and_file(before[0])[0]
    paths = named_files("before", [f"{BEFORE}={before[0]}"] if has_no_name else before)
    if AFTER in paths:
        raise ValueError(f"--before {AFTER}={paths[AFTER]}: {AFTER} is the name of MODEL; expected another")
    return {name: model_directory(path, [Kind.PRETRAINING]) for name, path in {**paths, AFTER: model}.items()}


def named_texts(values: Sequence[str]) -> dict[str, Path]:
    """The file of each language. Raises ValueError as `named_files` does, and for the name of the average."""
    texts = named_files("text", values, ".txt")
    if AVERAGE in texts:
        raise ValueError(f"--text {AVERAGE}={texts[AVERAGE]}: {AVERAGE} is the name of the mean; expected another")
    return texts


def masked_texts(
    options: argparse.Namespace, paths: Mapping[str, Path], opened: Sequence[Encoder]
) -> dict[str, MaskedText]:
    """The texts by language, each of which has been read once.

    Raises ValueError for one that can be read only once, or has no word to mask.
    """
    encoders = [text_encoder(one) for one in opened]
    longest = [longest_line(one, encoder, options.max_length) for one, encoder in zip(opened, encoders, strict=True)]
    texts = {}
    for language, path in paths.items():
        check_can_be_read_again(str(path))
        text = MaskedText(path, encoders, longest, options.mask_share, options.seed, options.lines)
        num_drawn = sum(
            int(line.is_drawn.sum())
            for line in tqdm(text, desc=f"reading {language}", unit=" lines", disable=None, leave=False)
        )
        if not num_drawn:
            raise ValueError(
                f"{path}: none of its {text.counts.words:,} words was drawn, in lines that fit into all models; "
                "expected more text, or a larger --mask-share"
            )
        texts[language] = text
    return texts


def scores_of(
    model: MaskedLM, number: int, texts: Mapping[str, MaskedText], most_pseudo: int, name: str
) -> dict[str, Score]:
    """The scores of the `number`-th model on the text of each language."""
    scores = {}
    for language, text in texts.items():
        scorer = Scorer(model, number, most_pseudo)
        total = text.counts.lines - text.counts.too_long
        with tqdm(total=total, desc=f"{name} {language}", unit=" lines", disable=None, leave=False) as progress:
            for lines in in_blocks(text):
                scorer.add(lines)
                progress.update(len(lines))
        scores[language] = scorer.score()
    return scores


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    paths = named_texts(options.text)
    models = named_models(options.model, options.before)
    opened = {name: open_encoder(directory, "model") for name, directory in models.items()}
    texts = masked_texts(options, paths, list(opened.values()))
    loaded = {name: MaskedLM.load(one, options.max_tokens, Placement.of(options.dtype)) for name, one in opened.items()}
    claim_results(options, result_names(NAME, [FIGURE]), PROGRAM, paths.values())

    scores = {
        name: scores_of(model, number, texts, options.pseudo_lines, name)
        for number, (name, model) in enumerate(loaded.items())
    }
    counts = {language: text.counts for language, text in texts.items()}
    if not all(own.same_pieces for own in counts.values()):
        warn("the models cut the texts differently; compare words and characters, not pieces")
    settings = {
        **{"model": str(models[list(models)[-1]]), "models": {name: str(path) for name, path in models.items()}},
        **{"mask_share": options.mask_share, "seed": options.seed, "pseudo_lines": options.pseudo_lines},
    }
    write_report(options.output, settings, counts, scores)


if __name__ == "__main__":
    run_main(main)
