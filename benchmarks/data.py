"""Compare speed and memory of data preparation with named peers, and its result after kills.

    python benchmarks/data.py throughput [--megabytes 200]     prepare, SentencePiece, tokenizers, Megatron's way
    python benchmarks/data.py memory [--megabytes 20 200 1000] the largest worker of prepare
    python benchmarks/data.py reading [--shards 2000]          random sentences; opening a directory of many shards
    python benchmarks/data.py kill [--kills 20]                SIGKILL at random moments, then compare the bytes

The text is that of VECO_CORPORA/mono: 47 languages, 19 MB compressed, one sentence per line. Combining halves of
different sentences makes distinct text of any size. All files are written to --directory, where the corpus and the
tokenizer of an earlier run are reused. All peers get the same lines, the same tokenizer and as many processes or
threads; they run in turn --repeats times, and medians are shown.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import sentencepiece

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import claim
from data_tools.shards.format import Shard
from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.sentence_piece import MODEL_FILE

MEGABYTE = 1_000_000
VOCAB_SIZE = 32_000
DOCUMENT_LINES = 20
CHUNK_LINES = 10_000
POLL_SECONDS = 0.02
COMMAND = "benchmarks.data"
MADE = ("tokenizer", "data", "many", "undisturbed", "killed", "megatron.bin", "megatron.idx")


def read_sentences() -> dict[str, list[str]]:
    """The sentences of VECO_CORPORA/mono by language."""
    folder = Path(os.environ.get("VECO_CORPORA", "")) / "mono"
    paths = sorted(folder.glob("*.txt.gz"))
    if "VECO_CORPORA" not in os.environ or not paths:
        sys.exit("set VECO_CORPORA to a directory with mono/*.txt.gz, one sentence a line")
    return {
        path.name.split(".")[0]: [line for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]
        for path in paths
    }


def distinct_sentences(sentences: list[str]) -> Iterator[str]:
    """Endless distinct sentences: the first half of each with the second half of the k-th after it, k = 0, 1, …"""
    halves = [(line[: len(line) // 2], line[len(line) // 2 :]) for line in sentences]
    for shift in range(len(halves)):
        for i, (first, _) in enumerate(halves):
            yield first + halves[(i + shift) % len(halves)][1]


def make_corpus(directory: Path, megabytes: int) -> Path:
    """A CORPUS.yaml with one file per language, `megabytes` of text in total, each language with its share."""
    folder = directory / f"text-{megabytes}"
    claim(directory, [folder.name], COMMAND)
    if not (folder / "corpus.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        by_language = read_sentences()
        total = sum(len(line.encode()) for lines in by_language.values() for line in lines)
        for language, lines in by_language.items():
            wanted = megabytes * MEGABYTE * sum(len(line.encode()) for line in lines) // total
            written = 0
            with open(folder / f"{language}.txt", "w", encoding="utf-8") as file:
                for number, line in enumerate(distinct_sentences(lines), start=1):
                    text = f"{line}\n\n" if number % DOCUMENT_LINES == 0 else f"{line}\n"
                    file.write(text)
                    written += len(text.encode())
                    if written >= wanted:
                        break
        languages = "\n".join(f"  '{language}': {language}.txt" for language in by_language)
        (folder / "corpus.yaml").write_text(f"tokenizer: ../tokenizer\nmono:\n{languages}\n")
    return folder / "corpus.yaml"


def make_tokenizer(directory: Path) -> Path:
    """A tokenizer for the text."""
    if not (directory / "tokenizer").exists():
        text = str(Path(os.environ["VECO_CORPORA"]) / "mono" / "*.txt.gz")
        run(
            "data_tools.train_tokenizer",
            "--input",
            text,
            "--vocab-size",
            VOCAB_SIZE,
            "--output",
            directory / "tokenizer",
        )
    return directory / "tokenizer"


def run(module: str, *arguments: object) -> None:
    """Run a command of this project; exit if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: {process.stderr}")


def chunks(corpus: Path, max_bytes: int | None = None) -> Iterator[list[str]]:
    """The non-blank lines of a corpus, in chunks of a thousand, up to `max_bytes` of text."""
    passed = 0
    for path in sorted(corpus.parent.glob("*.txt")):
        with open(path, encoding="utf-8") as file:
            lines = (line.rstrip("\n") for line in file if line != "\n")
            while chunk := list(islice(lines, CHUNK_LINES)):
                yield chunk
                passed += sum(len(line.encode()) + 1 for line in chunk)
                if max_bytes is not None and passed >= max_bytes:
                    return


def num_bytes(corpus: Path, max_bytes: int | None = None) -> int:
    """The bytes of the text that `chunks` yields."""
    return sum(len(line.encode()) + 1 for chunk in chunks(corpus, max_bytes) for line in chunk)


# --- throughput ---


def seconds_of_prepare(corpus: Path, directory: Path, workers: int) -> float:
    """Wall time of the whole command, from start to manifest."""
    output = directory / "data"
    shutil.rmtree(output, ignore_errors=True)
    start = time.perf_counter()
    run("data_tools.prepare", corpus, "--output", output, "--workers", workers)
    return time.perf_counter() - start


def seconds_of_sentencepiece(corpus: Path, tokenizer: Path, threads: int) -> float:
    """Time inside `encode`, without reading the text; nothing is written."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer / MODEL_FILE))
    seconds = 0.0
    for chunk in chunks(corpus):
        start = time.perf_counter()
        processor.encode(chunk, num_threads=threads, return_type="numpy")
        seconds += time.perf_counter() - start
    return seconds


def seconds_of_tokenizers(corpus: Path, tokenizer: Path, threads: int, max_bytes: int) -> float:
    """Time inside the Rust library's `encode_batch` with RAYON_NUM_THREADS threads; nothing is written."""
    os.environ.update(RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true")
    from tokenizers import Tokenizer

    fast = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    seconds = 0.0
    for chunk in chunks(corpus, max_bytes):
        start = time.perf_counter()
        [encoding.ids for encoding in fast.encode_batch(chunk, add_special_tokens=False)]
        seconds += time.perf_counter() - start
    return seconds


class LineEncoder:
    """Megatron's worker: a transformers tokenizer, built once per process, called line by line."""

    tokenizer = None

    def __init__(self, tokenizer_dir: Path) -> None:
        self.tokenizer_dir = tokenizer_dir

    def start(self) -> None:
        from transformers import AutoTokenizer

        LineEncoder.tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_dir)

    def __call__(self, line: str) -> list[int]:
        assert LineEncoder.tokenizer is not None
        return LineEncoder.tokenizer(line, add_special_tokens=False)["input_ids"]


def seconds_of_megatron(corpus: Path, tokenizer: Path, directory: Path, workers: int, max_bytes: int) -> float:
    """One process that reads lines, a pool that encodes them in messages of 32 lines, Megatron-core's own builder.

    This is how Megatron-LM's tools/preprocess_data.py works. Starting the pool is not counted.
    """
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    encoder = LineEncoder(tokenizer)
    with multiprocessing.get_context("spawn").Pool(workers, initializer=encoder.start) as pool:
        pool.map(encoder, ["warm up"] * workers)
        start = time.perf_counter()
        builder = IndexedDatasetBuilder(str(directory / "megatron.bin"), dtype=np.int32)
        lines = (line for chunk in chunks(corpus, max_bytes) for line in chunk)
        for ids in pool.imap(encoder, lines, chunksize=32):
            builder.add_document(ids, [len(ids)])
        builder.finalize(str(directory / "megatron.idx"))
        return time.perf_counter() - start


def throughput(options: argparse.Namespace) -> None:
    """Print megabytes and tokens per second of each method, and how prepare compares."""
    tokenizer = make_tokenizer(options.directory)
    corpus = make_corpus(options.directory, options.megabytes)
    all_bytes, part_bytes = num_bytes(corpus), num_bytes(corpus, options.peer_megabytes * MEGABYTE)
    part = options.peer_megabytes * MEGABYTE
    workers = options.workers
    ways: dict[str, tuple[int, Callable[[], float]]] = {
        "prepare": (all_bytes, lambda: seconds_of_prepare(corpus, options.directory, workers)),
        "SentencePiece": (all_bytes, lambda: seconds_of_sentencepiece(corpus, tokenizer, workers)),
        "tokenizers": (part_bytes, lambda: seconds_of_tokenizers(corpus, tokenizer, workers, part)),
        "Megatron's way": (
            part_bytes,
            lambda: seconds_of_megatron(corpus, tokenizer, options.directory, workers, part),
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, (size, seconds) in ways.items():
            rates[name].append(size / seconds() / MEGABYTE)
    manifest = Manifest.load(options.directory / "data")
    tokens_per_byte = sum(info.num_tokens for info in manifest.shards()) / all_bytes
    print(
        f"{all_bytes / MEGABYTE:.0f} MB of text ({part_bytes / MEGABYTE:.0f} MB for the slow peers), {workers} workers"
    )
    print(f"{'':<16} {'MB/s':>8} {'tokens/s':>12} {'prepare is':>12}   (lowest and highest MB/s)")
    ours = statistics.median(rates["prepare"])
    for name, values in rates.items():
        rate = statistics.median(values)
        tokens = rate * MEGABYTE * tokens_per_byte
        print(f"{name:<16} {rate:8.2f} {tokens:12,.0f} {ours / rate:11.2f}x   ({min(values):.2f} to {max(values):.2f})")


# --- memory ---


def descendants(pid: int) -> list[int]:
    """The descendants of process `pid`."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [below for child in map(int, children) for below in (child, *descendants(child))]


def peak_megabytes(pid: int) -> float:
    """Peak resident memory of process `pid`; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) * 1024 / MEGABYTE if found else 0.0


def memory(options: argparse.Namespace) -> None:
    """Print the peak memory of prepare's main process and of its largest worker, by size of the text."""
    make_tokenizer(options.directory)
    print(f"{'MB of text':>10} {'main process MB':>16} {'largest worker MB':>18} {'seconds':>8}")
    for megabytes in options.megabytes:
        corpus = make_corpus(options.directory, megabytes)
        output = options.directory / "data"
        shutil.rmtree(output, ignore_errors=True)
        command = [sys.executable, "-m", "data_tools.prepare", str(corpus), "--output", str(output)]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--workers", str(options.workers)], stdout=subprocess.DEVNULL)
        peaks: dict[int, float] = {}
        while process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0.0), peak_megabytes(pid))
            time.sleep(POLL_SECONDS)
        if process.returncode:
            sys.exit("prepare failed")
        worker = max(peak for pid, peak in peaks.items() if pid != process.pid)
        print(
            f"{megabytes:10} {peaks[process.pid]:16.0f} {worker:18.0f} {time.perf_counter() - start:8.1f}", flush=True
        )


# --- reading ---


def reading(options: argparse.Namespace) -> None:
    """Print random reads per second on one core, and the cost of opening a directory of many shards."""
    make_tokenizer(options.directory)
    corpus = make_corpus(options.directory, options.megabytes)
    output = options.directory / "data"
    shutil.rmtree(output, ignore_errors=True)
    run("data_tools.prepare", corpus, "--output", output, "--workers", options.workers)
    largest = max(Manifest.load(output).shards(), key=lambda info: info.num_sequences)
    shard = Shard(output / largest.prefix)
    numbers = np.random.default_rng(1).integers(0, len(shard), 1_000_000)
    one_by_one = numbers[:200_000].tolist()
    single, many = [], []
    for _ in range(options.repeats):
        start = time.perf_counter()
        for i in one_by_one:
            shard[i]
        single.append(len(one_by_one) / (time.perf_counter() - start))
        start = time.perf_counter()
        shard.take(numbers)
        many.append(len(numbers) / (time.perf_counter() - start))
    print(f"{len(shard):,} sentences, {shard.num_tokens / len(shard):.0f} tokens each, in random order, one core:")
    print(f"  shard[i]        {statistics.median(single):12,.0f} sentences/s")
    print(f"  shard.take(ids) {statistics.median(many):12,.0f} sentences/s")
    open_many(options, corpus, tokens=Manifest.load(output))


def open_many(options: argparse.Namespace, corpus: Path, tokens: Manifest) -> None:
    """Print seconds, memory and descriptors for opening about `options.shards` shards, in a new process."""
    output = options.directory / "many"
    if not output.exists():
        total = sum(info.num_tokens for info in tokens.shards())
        size = total * 3 // (4 * options.shards)  # a shard ends with the batch that fills it, so it is larger
        run("data_tools.prepare", corpus, "--output", output, "--shard-tokens", size, "--workers", options.workers)
    code = f"""
import os, time
from pathlib import Path
from data_tools.shards.manifest import Manifest
from data_tools.shards.format import Shard
def memory():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1000
before = memory()
start = time.perf_counter()
shards = [Shard(Path({str(output)!r}) / info.prefix) for info in Manifest.load({str(output)!r}).shards()]
opened = time.perf_counter()
for shard in shards:
    shard[0]
mapped = time.perf_counter()
print(f"{{len(shards):,}} shards: opened in {{opened - start:.3f}} s, one read each in {{mapped - opened:.3f}} s")
print(f"  {{memory() - before:.0f}} MB more than before ({{memory():.0f}} MB in all)")
print(f"  {{len(os.listdir('/proc/self/fd'))}} file descriptors")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- kill ---


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def kill(options: argparse.Namespace) -> None:
    """Print whether the bytes after kills equal those of an undisturbed run."""
    make_tokenizer(options.directory)
    corpus = make_corpus(options.directory, options.megabytes)
    undisturbed, killed = options.directory / "undisturbed", options.directory / "killed"
    for output in (undisturbed, killed):
        shutil.rmtree(output, ignore_errors=True)
    start = time.perf_counter()
    run("data_tools.prepare", corpus, "--output", undisturbed, "--workers", 1, "--shard-tokens", options.shard_tokens)
    seconds = time.perf_counter() - start
    command = [sys.executable, "-m", "data_tools.prepare", str(corpus), "--output", str(killed)]
    command += ["--shard-tokens", str(options.shard_tokens)]
    moments = random.Random(options.seed)
    num_kills = num_starts = 0
    while not (killed / "manifest.json").exists() or num_kills < options.kills:
        if (killed / "manifest.json").exists():  # it finished before the next kill: start over
            shutil.rmtree(killed)
        num_starts += 1
        workers = str(moments.randint(1, 4))
        process = subprocess.Popen([*command, "--workers", workers], stdout=subprocess.DEVNULL, start_new_session=True)
        if num_kills < options.kills:
            timer = threading.Timer(moments.uniform(0.3, 0.3 + seconds / 3), os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            process.wait()
            timer.cancel()
            num_kills += process.returncode == -signal.SIGKILL
        else:
            process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            sys.exit(f"prepare ended with {process.returncode} after {num_kills} kills")
    same = digests(undisturbed) == digests(killed)
    verdict = "identical" if same else "DIFFERENT"
    print(f"{num_kills} kills in {num_starts} starts; {len(digests(killed))} files, {verdict}")
    if not same:
        sys.exit(1)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmark-data"), help="directory for all files")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes or threads (cores)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="repeats whose median is shown (3)")
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("throughput")
    part.add_argument("--megabytes", type=int, default=200, help="text for prepare and SentencePiece (200)")
    part.add_argument("--peer-megabytes", type=int, default=20, help="text for the slower peers (20)")
    part.set_defaults(run=throughput)
    part = parts.add_parser("memory")
    part.add_argument(
        "--megabytes", type=int, nargs="+", default=[20, 200, 1000], help="sizes of the text (20 200 1000)"
    )
    part.set_defaults(run=memory)
    part = parts.add_parser("reading")
    part.add_argument("--megabytes", type=int, default=200, help="size of the text (200)")
    part.add_argument(
        "--shards", type=int, default=2000, help="approximate number of shards in the directory that is opened (2000)"
    )
    part.set_defaults(run=reading)
    part = parts.add_parser("kill")
    part.add_argument("--megabytes", type=int, default=100, help="size of the text (100)")
    part.add_argument("--kills", type=int, default=20, help="number of SIGKILLs (20)")
    part.add_argument("--seed", type=int, default=1, help="seed of the random moments (1)")
    part.add_argument("--shard-tokens", type=int, default=200_000, help="tokens per shard (200000)")
    part.set_defaults(run=kill)
    options = parser.parse_args()
    claim(options.directory, MADE, COMMAND)
    options.run(options)


if __name__ == "__main__":
    run_main(main)
