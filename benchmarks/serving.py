"""Texts a second that inference.serve answers to many clients, against the same encoder without a server.

    OMP_NUM_THREADS=2 python benchmarks/serving.py [MODEL] [--clients 32] [--repeats 5] [--json FILE] [--quick]

MODEL is what inference.export_encoder made, or a model; by default an encoder of XLM-R base's width with 6 layers and
random weights, exported to CTranslate2 in int8. Both get the same texts, of 5 to 60 words, and are one process each of
the same number of threads. They take turns. Each client sends --texts texts (8) in a request, waits for the answer
(base64), and sends the next; clients are threads of one more process on the same processors, so that what they take is
missing in the server. Printed are medians, their ratio, and the slowest answers.

Finally each client opens a connection for each request, and in the midst of that the server is asked to stop. Counted
are the requests that were answered from then on, and all that had a connection and got no answer.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from encoder_inference import texts_of, write_xlm_roberta

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from finetune.exported.settings import EngineName
from inference import SentenceEncoder
from inference.export_encoder import ExportOptions, export_encoder
from training.launch import quiet_libraries

LAYERS, WIDTH, VOCAB_SIZE = 6, 768, 3000
QUICK_LAYERS, QUICK_WIDTH = 2, 64
SLOWEST_SHARE = 0.99
ANSWER_SECONDS = 300  # after which a request counts as lost


@dataclass(frozen=True)
class Round:
    """What a server did: texts a second, and the seconds of each request."""

    speed: float
    seconds: list[float]


@dataclass(frozen=True)
class Server:
    """A server's process, and where it listens."""

    process: subprocess.Popen[str]
    host: str
    port: int


@contextmanager
def served(model: Path) -> Iterator[Server]:
    """A server, which is stopped at the end."""
    command = [sys.executable, "-m", "inference.serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[2].rstrip(";")
        host, port = address.removeprefix("http://").split(":")
        try:
            yield Server(server, host, int(port))
        finally:
            server.terminate()


def post(connection: http.client.HTTPConnection, texts: Sequence[str]) -> int:
    """How many numbers the vectors of the texts have. Raises ValueError for an answer that is none."""
    body = json.dumps({"texts": texts, "encoding": "base64"})
    connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"status {answer.status}: {content['detail']}")
    return len(np.frombuffer(base64.b64decode(content["vectors"]), "<f4"))


def asked(server: Server, texts: Sequence[str], clients: int, texts_each: int, width: int) -> Round:
    """All texts, sent by so many clients at once. Raises ValueError for an answer that is none."""
    requests = iter([texts[start : start + texts_each] for start in range(0, len(texts), texts_each)])
    seconds: list[float] = []

    def client(_: int) -> int:
        connection, count = http.client.HTTPConnection(server.host, server.port), 0
        while (own := next(requests, None)) is not None:
            started = time.perf_counter()
            count += post(connection, own) // width
            seconds.append(time.perf_counter() - started)
        return count

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        counts = list(pool.map(client, range(clients)))
    if sum(counts) != len(texts):
        raise ValueError(f"expected {len(texts)} vectors, found {sum(counts)}")
    return Round(len(texts) / (time.perf_counter() - started), seconds)


def stopped(server: Server, texts: Sequence[str], clients: int, texts_each: int) -> tuple[int, int]:
    """Requests answered after a server was asked to stop, and those that had a connection and got no answer.

    Each client asks until it is refused a connection; the first one asks the server to stop after its first answer.
    Raises ValueError for an answer that is none, such as that of a full queue.
    """
    is_asked = threading.Event()

    def client(number: int) -> tuple[int, int]:
        own = list(itertools.islice(itertools.cycle(texts), number, number + texts_each))
        answered, lost = 0, 0
        while True:
            connection = http.client.HTTPConnection(server.host, server.port, timeout=ANSWER_SECONDS)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return answered, lost
            with closing(connection):
                try:
                    post(connection, own)
                except (http.client.HTTPException, OSError):
                    lost += 1
                else:
                    answered += is_asked.is_set()
            if number == 0 and not is_asked.is_set():
                server.process.send_signal(signal.SIGTERM)
                is_asked.set()

    with ThreadPoolExecutor(clients) as pool:
        answered, lost = zip(*pool.map(client, range(clients)), strict=True)
    return sum(answered), sum(lost)


def alone(encoder: SentenceEncoder, texts: Sequence[str]) -> float:
    """Texts a second without a server."""
    started = time.perf_counter()
    encoder.encode(texts)
    return len(texts) / (time.perf_counter() - started)


def measured(model: Path, texts: Sequence[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Medians over the repeats; a first, shorter round is not counted."""
    encoder = SentenceEncoder(model)
    some = texts[: len(texts) // 4]
    with served(model) as server:
        alone(encoder, some)
        asked(server, some, arguments.clients, arguments.texts, encoder.width)
        offline, rounds = [], []
        for _ in range(arguments.repeats):
            offline.append(alone(encoder, texts))
            rounds.append(asked(server, texts, arguments.clients, arguments.texts, encoder.width))
        answered, lost = stopped(server, texts, arguments.clients, arguments.texts)
    seconds = sorted(itertools.chain.from_iterable(one.seconds for one in rounds))
    pairs = zip(offline, rounds, strict=True)
    return {
        "offline": statistics.median(offline),
        "served": statistics.median(one.speed for one in rounds),
        "ratio": statistics.median(one.speed / before for before, one in pairs),
        "median_seconds": statistics.median(seconds),
        "slowest_seconds": seconds[int(SLOWEST_SHARE * (len(seconds) - 1))],
        "answered_while_stopping": answered,
        "lost_while_stopping": lost,
    }


def random_encoder(directory: Path, layers: int, width: int) -> Path:
    """An encoder in int8 with random weights; speed does not depend on them."""
    write_xlm_roberta(directory / "model", directory / "corpus", layers, width, VOCAB_SIZE)
    export_encoder(directory / "model", directory / "exported", ExportOptions(EngineName.CTRANSLATE2, "int8", layers))
    return directory / "exported"


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, nargs="?", metavar="MODEL", help="encoder to serve (default: random weights)")
    add("--clients", type=int, default=32, help="clients at once (%(default)s)")
    add("--texts", type=int, default=8, help="texts of a request (%(default)s)")
    add("--count", type=int, default=4096, help="texts of a round (%(default)s)")
    add("--repeats", type=int, default=5, help="rounds of each (%(default)s)")
    add("--quick", action="store_true", help="a very small encoder and few texts, to check that it runs")
    add("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        texts = texts_of(root / "corpus", 64 if arguments.quick else arguments.count)
        shape = (QUICK_LAYERS, QUICK_WIDTH) if arguments.quick else (LAYERS, WIDTH)
        found = measured(arguments.model or random_encoder(root, *shape), texts, arguments)
    print(
        f"{arguments.clients} clients, {arguments.texts} texts a request: {found['served']:,.1f} texts/s, without a "
        f"server {found['offline']:,.1f}, ratio {found['ratio']:.2f}; an answer takes {found['median_seconds']:.2f} s "
        f"(median), {SLOWEST_SHARE:.0%} at most {found['slowest_seconds']:.2f} s; asked to stop, it answered "
        f"{found['answered_while_stopping']} requests more and lost {found['lost_while_stopping']}"
    )
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
