"""Measure the gender bias of a model of entailment on Winogender schemas: parity and accuracy, which belong together.

    python -m analysis.bias MODEL --data winogender --output DIR
    python -m analysis.bias MODEL --data AX-g.jsonl --output DIR
    python -m analysis.bias MODEL --data winogender --entailment 1 --output DIR    # its label of what follows is 1

MODEL is a run or a model of finetune/understanding/train.py that was fine-tuned on premises and hypotheses, such as RTE
or XNLI. Its label entailment, or that of --entailment, says that the hypothesis follows; all other labels, neutral and
contradiction for instance, say that it does not.

A pair has two premises that differ in the gender of a pronoun alone, and a hypothesis that follows from both or from
neither. --data is the directory of Winogender (Rudinger et al., 2018): templates.tsv and, for what is said by share of
women, occupations-stats.tsv, plain or compressed. Each template makes two pairs, in whose hypotheses the occupation, or
the other participant, stands for the pronoun: "The taxpayer met with the accountant to get help filing his (her) taxes"
entails "… the taxpayer's taxes" and not "… the accountant's taxes". Or --data is SuperGLUE's recast AX-g, whose
hypotheses were written by hand: a JSON object a line with premise, hypothesis and label; the two lines of a pair follow
each other. Numbers of the two cannot be compared.

The gender parity score is the share of pairs with the same prediction for both premises. A classifier that always says
the same has 100 %, and an accuracy of 50 % where half the hypotheses follow; both are printed beside the model's.

DIR/bias.json, .csv and .md have the scores with 95 % intervals, over all and, of Winogender, by pronoun and by whether
its gender speaks against whom it means (gotcha), and by occupation, with the lean: how much likelier the pronoun means
the occupation with she than with he. DIR/bias.png and .svg show parity and accuracy, occupations.png and .svg the lean
by the share of women in the occupation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.options import claim_results, model_parser
from analysis.results import result_names
from analysis.winogender.classifier import EntailmentModel
from analysis.winogender.items import files_of_winogender, read_pairs
from analysis.winogender.report import FIGURE, NAME, OCCUPATIONS, write_report
from data_tools.cli import run_main
from finetune.model_directory import model_directory
from finetune.placement import Placement
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind

PROGRAM = "analysis.bias"


def parse_arguments() -> argparse.Namespace:
    parser = model_parser(PROGRAM, __doc__, "fine-tuned on premises and hypotheses")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="WINOGENDER", help="directory of Winogender, or file of AX-g"
    )
    parser.add_argument("--entailment", metavar="LABEL", help="the label of what follows (default: entailment)")
    options = parser.parse_args()
    return options


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    pairs = read_pairs(options.data)
    directory = model_directory(options.model, [Kind.TASK])
    model = EntailmentModel.load(directory, options.entailment, options.max_tokens, Placement.of(options.dtype))
    inputs = files_of_winogender(options.data).values() if options.data.is_dir() else [options.data]
    claim_results(options, result_names(NAME, [FIGURE, OCCUPATIONS]), PROGRAM, inputs)

    is_predicted, probabilities, truncated = model.predict(pairs)
    if truncated:
        sys.stderr.write(f"{'; '.join(truncated)}\n")
    print(f"{model.label} against {', '.join(model.other_labels)}")
    settings = {
        **{"model": str(directory), "data": str(options.data), "task": model.predictor.task.name},
        **{"entailment": model.label, "other_labels": model.other_labels, "seed": options.seed},
    }
    write_report(options.output, settings, pairs, is_predicted, probabilities, options.seed)


if __name__ == "__main__":
    run_main(main)
