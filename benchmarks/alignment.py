"""Pairs a second that `analysis.alignment` aligns, against SimAlign's own program with an encoder of equal size.

    pip install --no-deps simalign==0.4 networkx        # into an environment of their own, or beside the project
    OMP_NUM_THREADS=2 python benchmarks/alignment.py [--pairs 200] [--repeats 5] [--json FILE] [--quick]

The encoder is an XLM-R of base's width with 8 layers and random weights, or smaller with --quick: SimAlign reads layer
8 of BERT. Of a deeper model it would compute the other layers too, which `analysis.alignment` leaves out; so neither
does here. Pairs are translations of the embedded corpus, of one to four sentences. Both take turns. Printed are medians
over the repeats for argmax alone, and for argmax, itermax and match, and the share of pairs with the same links.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from encoder_inference import write_xlm_roberta
from tqdm import tqdm

from analysis.aligning.aligner import Aligner
from analysis.aligning.evidence import Source, evidence_of_pairs
from analysis.aligning.links import Method, Settings
from analysis.aligning.pairs import Pair
from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.toy_corpus.generate import write_corpus
from finetune.understanding.retrieval.embeddings import Embedder
from training.launch import quiet_libraries
from veco.convert.weights import quiet_transformers

# Method -> what SimAlign calls it in its results, and the letter by which it is asked for.
PEER_NAMES = {Method.ARGMAX: ("inter", "a"), Method.ITERMAX: ("itermax", "i"), Method.MATCH: ("mwmf", "m")}
CHOICES = {"argmax": [Method.ARGMAX], "argmax, itermax, match": list(PEER_NAMES)}
LONGEST_TEXT = 4  # sentences of the corpus that are joined to one side of a pair
BATCH_TOKENS = 4096  # as --max-tokens of `analysis.alignment`
Links = dict[Method, list[list[tuple[int, int]]]]  # of each pair
Align = Callable[[Sequence[Pair]], Links]


@dataclass(frozen=True)
class Measured:
    """The seconds of each repeat, and the share of pairs for which both find the same links, by method."""

    own: list[float]
    peer: list[float]
    same: dict[Method, float]

    def row(self, name: str, num_pairs: int) -> dict[str, Any]:
        own, peer = (num_pairs / statistics.median(seconds) for seconds in (self.own, self.peer))
        return {"methods": name, "own": own, "simalign": peer, "ratio": own / peer, "same": self.same}


def pairs_of(corpus: Path, count: int) -> list[Pair]:
    """Pairs of one to LONGEST_TEXT sentences and their translations."""
    write_corpus(corpus, documents=50, pairs=200, splits={"train": 1, "valid": 1, "test": 1}, seed=1)
    texts = [corpus / "parallel" / f"de-en.{language}" for language in ("en", "de")]
    lines = [path.read_text(encoding="utf-8").splitlines() for path in texts]
    draw = random.Random(1)
    found = []
    for _ in range(count):
        chosen = draw.choices(range(len(lines[0])), k=draw.randint(1, LONGEST_TEXT))
        source, target = ([word for number in chosen for word in side[number].split()] for side in lines)
        found.append(Pair(source, target, None))
    return found


def own_aligner(directory: Path, layer: int, methods: Sequence[Method]) -> Align:
    """What `analysis.alignment` does with pairs that are read."""
    embedder = Embedder.load(directory, [layer], None, BATCH_TOKENS)
    evidence = partial(evidence_of_pairs, embedder, source=Source.STATES, by_piece=True, distortion=0.0)
    aligner = Aligner([layer], evidence, methods, Settings())

    def align(pairs: Sequence[Pair]) -> Links:
        found: Links = {method: [[] for _ in pairs] for method in methods}
        for _, method, number, links in aligner.links(pairs):
            found[method][number] = [(i, j) for i, j in links.tolist()]
        return found

    return align


def check_peer() -> None:
    """Raise ValueError where SimAlign is not installed."""
    try:
        import simalign  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error}: expected SimAlign; pip install --no-deps simalign==0.4 networkx") from None


def peer_aligner(directory: Path, layer: int, methods: Sequence[Method]) -> Align:
    """SimAlign's own, a pair at a time, as its documentation uses it."""
    from simalign import SentenceAligner

    letters = "".join(PEER_NAMES[method][1] for method in methods)
    with quiet_transformers():
        peer = SentenceAligner(str(directory), "bpe", matching_methods=letters, layer=layer)

    def align(pairs: Sequence[Pair]) -> Links:
        found: Links = {method: [] for method in methods}
        for pair in pairs:
            links = peer.get_word_aligns(list(pair.source), list(pair.target))
            for method in methods:
                found[method].append([(int(i), int(j)) for i, j in links[PEER_NAMES[method][0]]])
        return found

    return align


def measure(own: Align, peer: Align, pairs: Sequence[Pair], repeats: int, name: str) -> Measured:
    """Both take turns; a first, shorter round is not counted."""
    seconds: tuple[list[float], list[float]] = [], []
    results: list[Links] = []
    for align in (own, peer):
        align(pairs[: max(1, len(pairs) // 4)])
    for _ in tqdm(range(repeats), desc=name, disable=None):
        results = []
        for align, of_one in zip((own, peer), seconds, strict=True):
            start = time.perf_counter()
            results.append(align(pairs))
            of_one.append(time.perf_counter() - start)
    ours, theirs = results
    same = {
        method: statistics.mean(sorted(a) == sorted(b) for a, b in zip(links, theirs[method], strict=True))
        for method, links in ours.items()
    }
    return Measured(*seconds, same)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="pairs to align (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats whose median is shown (default %(default)s)")
    parser.add_argument("--layers", type=int, default=8, help="of the encoder (default %(default)s)")
    parser.add_argument("--width", type=int, default=768, help="of the encoder (default %(default)s)")
    parser.add_argument("--vocab-size", type=int, default=2000, help="of the encoder (default %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all numbers to a file")
    parser.add_argument("--quick", action="store_true", help="a tiny encoder and few pairs: whether it runs")
    options = parser.parse_args()
    check_peer()
    quiet_libraries()
    if options.quick:
        options.pairs, options.layers, options.width, options.repeats = 16, 2, 128, 1
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        corpus, model = Path(scratch) / "corpus", Path(scratch) / "model"
        pairs = pairs_of(corpus, options.pairs)
        write_xlm_roberta(model, corpus, options.layers, options.width, options.vocab_size)
        for name, methods in CHOICES.items():
            own, peer = (make(model, options.layers, methods) for make in (own_aligner, peer_aligner))
            rows.append(measure(own, peer, pairs, options.repeats, name).row(name, len(pairs)))
    print(f"{torch.get_num_threads()} threads, {len(pairs)} pairs, {options.layers} layers of {options.width}")
    print(f"{'pairs/s':<24} {'own':>8} {'simalign':>9} {'ratio':>6}  same links")
    for row in rows:
        same = ", ".join(f"{method} {share:.1%}" for method, share in row["same"].items())
        print(f"{row['methods']:<24} {row['own']:8.1f} {row['simalign']:9.1f} {row['ratio']:6.2f}  {same}")
    if options.json is not None:
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
