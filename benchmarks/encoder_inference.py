"""Sentences a second of exported encoders, against transformers' XLM-R and sentence-transformers with the same weights.

    OMP_NUM_THREADS=2 python benchmarks/encoder_inference.py [--repeats 5] [--json FILE] [--quick]

The model is an XLM-R of base's width with 6 layers and random weights, or smaller with --quick; speed does not depend
on the weights. All ways go from the same sentences, of the embedded corpus and of 5 to 60 words, to their vectors, the
mean of the last layer's states: with tokenisation, in batches of sentences of similar length, the peers' of 32, as is
usual, and transformers' of 8 too, which suit the cache of a CPU. They take turns, so that what else the machine does
hits all of them. Printed are medians over the repeats, the ratio to transformers in float32 and batches of 32, the
least and the mean cosine to its vectors, and how many sentences have the same nearest neighbour as with them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.toy_corpus.generate import write_corpus
from finetune.exported.settings import EngineName
from inference import SentenceEncoder, SentenceIndex
from inference.export_encoder import ExportOptions, export_encoder
from training.launch import quiet_libraries
from veco import VecoConfig, VecoForMaskedLM
from veco.convert import to_xlm_roberta
from veco.convert.weights import quiet_transformers
from veco.sentence_transformers_files import write_sentence_files
from veco.tokenizer import open_tokenizer, save_tokenizer

PEER = "transformers float32"
PEER_BATCH, SMALL_PEER_BATCH = 32, 8  # sentences of similar length: as is usual, and as fits in the cache of a CPU
LONGEST_TEXT = 6  # sentences of the corpus that are joined to one text
Encode = Callable[[Sequence[str]], np.ndarray]


def texts_of(directory: Path, count: int) -> list[str]:
    """Texts of one to LONGEST_TEXT sentences of the embedded corpus, in four languages."""
    write_corpus(directory, documents=100, pairs=1, splits={"train": 1, "valid": 1, "test": 1}, seed=1)
    files = sorted((directory / "mono").glob("*.txt"))
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if line]
    draw = random.Random(1)
    return [" ".join(draw.choices(lines, k=draw.randint(1, LONGEST_TEXT))) for _ in range(count)]


def write_xlm_roberta(directory: Path, corpus: Path, layers: int, width: int, vocab_size: int) -> None:
    """A random XLM-R with a tokenizer of the corpus, which sentence-transformers opens too."""
    files = map(str, sorted((corpus / "mono").glob("*.txt")))
    command = [sys.executable, "-m", "data_tools.train_tokenizer", "--input", *files, "--vocab-size", str(vocab_size)]
    subprocess.run([*command, "--output", str(directory)], check=True, capture_output=True)
    heads = width // 64
    shape = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    config = VecoConfig(vocab_size=vocab_size, intermediate_size=4 * width, **shape)
    torch.manual_seed(0)
    to_xlm_roberta(VecoForMaskedLM(config)).save_pretrained(directory)
    save_tokenizer(open_tokenizer(directory), directory, directory, max_tokens=config.max_tokens)
    write_sentence_files(directory, config, layers)


def transformers_encode(directory: Path, batch_size: int) -> Encode:
    """transformers' model as its documentation uses it, with batches of sentences of similar length."""
    with quiet_transformers():  # which would report the head that is not loaded
        model, tokenizer = AutoModel.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)

    def encode(texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            own = order[start : start + batch_size]
            batch = tokenizer([texts[number] for number in own], padding=True, return_tensors="pt")
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            weights = batch["attention_mask"].unsqueeze(2).float()
            vectors[own] = ((states * weights).sum(1) / weights.sum(1)).numpy()
        return vectors

    return encode


def sentence_transformers_encode(directory: Path) -> Encode:
    """sentence-transformers' model of the same directory."""
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        model = SentenceTransformer(str(directory), device="cpu")
    return lambda texts: np.asarray(model.encode(list(texts), batch_size=PEER_BATCH, show_progress_bar=False))


def ways_of(directory: Path, exported: Path, layers: int) -> dict[str, Encode]:
    """All that is measured, by name."""
    ways = {
        PEER: transformers_encode(directory, PEER_BATCH),
        f"the same, batches of {SMALL_PEER_BATCH}": transformers_encode(directory, SMALL_PEER_BATCH),
        "sentence-transformers float32": sentence_transformers_encode(directory),
        "SentenceEncoder, torch float32": SentenceEncoder(directory, layer=layers, normalise=False).encode,
    }
    for engine in EngineName:
        for precision in ("float32", "int8"):
            output = exported / f"{engine}-{precision}"
            export_encoder(directory, output, ExportOptions(engine, precision, layers, normalise=False))
            ways[f"SentenceEncoder, {engine} {precision}"] = SentenceEncoder(output).encode
    return ways


def measured(ways: dict[str, Encode], texts: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Sentences a second of each way in each repeat; a first, shorter round is not counted."""
    for encode in ways.values():
        encode(texts[: len(texts) // 4])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(repeats), desc="repeats", disable=None):
        for name, encode in ways.items():
            start = time.perf_counter()
            encode(texts)
            rates[name].append(len(texts) / (time.perf_counter() - start))
    return rates


def fidelity(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The least and the mean cosine of vectors to the expected ones, and the share of the same nearest neighbours."""
    found, expected = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, expected))
    cosines = (found * expected).sum(axis=1)
    # Of each two texts, the nearest other one: the nearest of all is the text itself.
    neighbours = [SentenceIndex(x, use_faiss=False).search(x, 2).indices[:, 1] for x in (found, expected)]
    same = float(np.mean(neighbours[0] == neighbours[1]))
    return {"least_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean()), "same_neighbour": same}


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=512, help="texts to encode (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats whose median is shown (default %(default)s)")
    parser.add_argument("--layers", type=int, default=6, help="of the model (default %(default)s)")
    parser.add_argument("--width", type=int, default=768, help="of the model (default %(default)s)")
    parser.add_argument("--vocab-size", type=int, default=2000, help="of the model (default %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all numbers to a file")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few texts: whether it runs")
    options = parser.parse_args()
    quiet_libraries()
    if options.quick:
        options.sentences, options.layers, options.width, options.repeats = 64, 2, 128, 1
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        texts = texts_of(scratch / "corpus", options.sentences)
        write_xlm_roberta(scratch / "model", scratch / "corpus", options.layers, options.width, options.vocab_size)
        ways = ways_of(scratch / "model", scratch, options.layers)
        rates = measured(ways, texts, options.repeats)
        expected = ways[PEER](texts)
        quality = {name: fidelity(encode(texts), expected) for name, encode in ways.items()}
    rows = []
    usual = statistics.median(rates[PEER])
    print(f"{torch.get_num_threads()} threads of {len(os.sched_getaffinity(0))} cores, {len(texts)} texts")
    print(f"{'':<32} {'sentences/s':>12} {'ratio':>6} {'least cos':>10} {'mean cos':>10} {'same nearest':>13}")
    for name, of_way in rates.items():
        rate, own = statistics.median(of_way), quality[name]
        rows.append({"what": name, "rates": of_way, "ratio": rate / usual, **own})
        print(
            f"{name:<32} {rate:12.1f} {rate / usual:6.2f} {own['least_cosine']:10.6f} {own['mean_cosine']:10.6f} "
            f"{own['same_neighbour']:12.1%}"
        )
    if options.json is not None:
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
