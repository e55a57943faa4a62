"""Probe what an encoder's states tell of syntax: trees of dependencies, and tags, by layer.

    python -m analysis.syntax MODEL --train train.conllu --dev dev.conllu --test test.conllu --output DIR
    python -m analysis.syntax MODEL --train en.conllu de.conllu --dev dev.conllu --test en=1.conllu fi=2.conllu \\
        --output DIR                                  # one probe for all languages, scored on each
    python -m analysis.syntax MODEL --probes upos …   # tags, with a control task

The probes, of which --probes names some:

  distance  a matrix B under which |B(h_i - h_j)|^2 is the number of edges between words i and j in the tree
            (Hewitt and Manning, 2019): UUAS, the share of the tree's edges in the minimum spanning tree of predicted
            distances, and DSpr, the Spearman correlation of a word's distances
  depth     a matrix under which |B h_i|^2 is the depth of word i: accuracy of the root, Spearman correlation
  upos      a linear classifier of the tag, and one of a tag that is drawn for each word type (a control task, Hewitt
  or xpos   and Liang, 2019): selectivity is the difference of their accuracies

A word's state is the mean of those of its pieces. Edges and roots are without punctuation, by --punctuation upos (tag
PUNCT) or xpos (Penn Treebank's tags, as was published for English); training and correlations have all words.
Correlations are averaged over sentences of each length, and then over the lengths 5 to 50.

Files are CoNLL-U, plain or compressed. NAME=FILE names a test, by default by its file's name. States are computed once
and kept on the disk of --output while the command runs: 4 bytes x words x width x layers.
DIR/syntax.json, .csv and .md have the scores by layer, DIR/syntax.png and .svg show them. The best layer of a probe is
the one with the lowest loss on dev.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.options import choices, claim_results, command_parser, layers_of, load_embedder, model_of, named_files
from analysis.probing.probing_run import Treebanks, run_probes, states_of_treebanks
from analysis.probing.report import AVERAGE, FIGURE, NAME, write_report
from analysis.probing.stored_states import StoredStates
from analysis.probing.tasks import DepthTask, DistanceTask, ProbeTask, tag_tasks, tags_of
from analysis.probing.training import Schedule
from analysis.probing.treebank import Punctuation, Tree, read_trees
from analysis.results import result_names
from data_tools.cli import first_of, refuse_unread, run_main, warn
from training.launch import quiet_libraries

PROGRAM = "analysis.syntax"
TAGS = ("upos", "xpos")
PROBES = ("distance", "depth", *TAGS)


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(PROGRAM, __doc__)
    for name, what in (("train", "to train on"), ("dev", "by which training ends"), ("test", "to score on")):
        parser.add_argument(f"--{name}", nargs="+", required=True, metavar="CONLLU", help=f"treebanks {what}")
    parser.add_argument("--probes", default="distance,depth", help="of distance,depth,upos,xpos (default %(default)s)")
    parser.add_argument(
        "--punctuation",
        type=Punctuation,
        choices=list(Punctuation),
        default=Punctuation.UPOS,
        help="the tag by which words are left out of UUAS and roots (default %(default)s)",
    )
    parser.add_argument("--rank", type=int, help="of B (default: the width of the states)")
    parser.add_argument("--epochs", type=int, default=40, help="at most (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=20, help="sentences (default %(default)s)")
    options = parser.parse_args()
    check_flags(options)
    if not set(choices("probes", options.probes, PROBES)) - set(TAGS):
        refuse_unread(parser, options, dict.fromkeys(("rank", "punctuation"), "the probes distance and depth"))
    return options


def check_flags(options: argparse.Namespace) -> None:
    """Raise ValueError for an unknown probe, and for a number that is not positive."""
    choices("probes", options.probes, PROBES)
    for name in ("rank", "epochs", "batch_size"):
        value = vars(options)[name]
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected at least 1")


def tasks_of(probes: Sequence[str], options: argparse.Namespace, treebanks: Treebanks) -> list[ProbeTask]:
    """What the probes are trained for."""
    others = [tree for name, trees in treebanks.parts.items() if name != "train" for tree in trees]
    tasks: list[ProbeTask] = []
    for probe in probes:
        if probe == "distance":
            tasks.append(DistanceTask(options.rank, options.punctuation))
        elif probe == "depth":
            tasks.append(DepthTask(options.rank, options.punctuation))
        else:
            tasks += tag_tasks(probe, treebanks.train, others, options.seed)
    return tasks


def check_tags(probes: Sequence[str], treebanks: Treebanks) -> None:
    """Raise ValueError where the development trees have no tag that training has, and so cannot tell when it ends."""
    for tag in (probe for probe in probes if probe in TAGS):
        known, found = (
            {name for tree in trees for name in tags_of(tree, tag)} for trees in (treebanks.train, treebanks.dev)
        )
        if not known & found:
            raise ValueError(
                f"--probes {tag}: the trees of --dev have none of the tags of --train ({first_of(sorted(known))}), but "
                f"{first_of(sorted(found))}"
            )


def warn_of_kept_punctuation(trees: Sequence[Tree]) -> None:
    """Warn where Penn Treebank's tags leave out nothing, but UD's would: the treebank has other tags."""
    if all(tree.is_kept(Punctuation.XPOS).all() for tree in trees) and "PUNCT" in {
        tag for tree in trees for tag in tree.upos
    }:
        warn("--punctuation xpos: a test has none of Penn Treebank's tags of punctuation; expected --punctuation upos")


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    probes = choices("probes", options.probes, PROBES)
    files = {name: named_files(name, vars(options)[name], ".conllu") for name in ("train", "dev", "test")}
    if AVERAGE in files["test"]:
        raise ValueError(
            f"--test {AVERAGE}={files['test'][AVERAGE]}: {AVERAGE} is the name of the mean; expected another"
        )
    read = {part: {name: list(read_trees(path)) for name, path in own.items()} for part, own in files.items()}
    train, dev = ([tree for trees in read[part].values() for tree in trees] for part in ("train", "dev"))
    treebanks = Treebanks(train, dev, read["test"])
    check_tags(probes, treebanks)
    if options.punctuation is Punctuation.XPOS:
        for trees in treebanks.tests.values():
            warn_of_kept_punctuation(trees)
    model = model_of(options)
    layers = layers_of(options, model)
    embedder = load_embedder(options, model, layers)
    paths = [path for own in files.values() for path in own.values()]
    claim_results(options, result_names(NAME, [FIGURE]), PROGRAM, paths)

    states = states_of_treebanks(embedder, treebanks, options.output)
    schedule = Schedule(options.epochs, options.batch_size)
    found = run_probes(tasks_of(probes, options, treebanks), layers, treebanks, states, schedule, options.seed)
    report_left_out(states)
    settings = {
        **{"model": str(model), "layers": layers, "probes": probes, "punctuation": str(options.punctuation)},
        **{"rank": options.rank or int(embedder.model.config.hidden_size), "seed": options.seed},
        "sentences": {name: int(own.complete.sum()) for name, own in states.items()},
    }
    write_report(options.output, settings, found)


def report_left_out(states: dict[str, StoredStates]) -> None:
    """Report sentences that were too long for the encoder, in which no tree can be read."""
    for name, own in states.items():
        if num_long := int((~own.complete).sum()):
            sys.stderr.write(f"{name}: {num_long:,} sentences left out, too long for the encoder\n")


if __name__ == "__main__":
    run_main(main)
