"""Serve models over HTTP: vectors of texts, similarity, search, masks, translation.

    python -m inference.serve MODEL [--search FILE] [--mt MODEL] [--port 8000]
    curl http://127.0.0.1:8000/embed --json '{"texts": ["Ein Hund schläft.", "A dog is asleep."]}'

MODEL is a run, a checkpoint or a model directory, or what inference.export_encoder made of one. --mt is a translation
model. What they allow is served, each as POST with JSON:

    /embed        {"texts": [...]}                    vectors; "encoding": "base64" is faster to write and to read
    /similarity   {"texts": [...], "others": [...]}   cosines
    /search       {"texts": [...], "count": 10}       the most similar lines of --search FILE
    /fill-mask    {"texts": ["A <mask> is asleep."], "others": ["Ein Hund schläft."]}      MODEL a VECO with its head
    /translate    {"texts": [...]}

/health says what there is, /metrics has numbers for Prometheus, /openapi.json describes all of it, and /docs shows that
in a browser, which fetches the page's script from the internet. Mistakes are answered by 4xx and {"detail": one line}.

Texts of requests that arrive together are computed together. A server that is asked to stop (Ctrl-C, SIGTERM) answers
what it has received, and takes no more. It listens on this machine alone unless --host says otherwise; it has neither
passwords nor encryption: beyond a machine that you trust, put it behind a server that has both.

It needs the extra `serve`: pip install 'veco[serve]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from data_tools.cli import FlagParser, run_main
from finetune.model_directory import model_directory
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.command_line import ENGINES
from finetune.mt.decoding.translator import Translator
from finetune.mt.decoding.workers import Workers
from finetune.placement import Placement, add_device_flag, add_dtype_flag
from finetune.understanding.flags import encoder_directory
from inference.fill_mask import MaskFiller
from inference.sentences import SentenceEncoder
from inference.serving.hosts import hosts_of
from inference.serving.limits import Limits
from inference.serving.services import Corpus, Models
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind

if TYPE_CHECKING:
    import uvicorn

REQUIRED = ("fastapi", "uvicorn", "prometheus_client")


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{missing[0]} is not installed: pip install 'veco[serve]'")
    limits = limits_of(options)
    with listening(options.host, options.port) as listener:
        limits = replace(limits, hosts=hosts_of(listener.getsockname()[0], options.host, options.allow_host))
        models = load_models(options)
        serve(models, limits, described(options), listener, options.stop_seconds)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m inference.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Limits()
    add = parser.add_argument
    add("model", type=Path, nargs="?", metavar="MODEL", help="encoder of texts; may be left out with --mt")
    add("--search", type=Path, metavar="FILE", help="lines of text to search, plain or compressed")
    add("--mt", type=Path, metavar="MODEL", help="model, checkpoint or run of finetune.mt, or what export_ct2 made")
    add("--mt-engine", choices=ENGINES, default="torch", help="ct2: --mt is of export_ct2; default: %(default)s")
    add("--target-language", metavar="LANG", help="language to translate into, for a model of several directions")
    add("--beam", type=int, default=SearchOptions.beam, help="beam size of translation; default: %(default)s")
    add_dtype_flag(parser)
    add_device_flag(parser)
    add("--host", default="127.0.0.1", help="address to listen on; default: %(default)s, this machine alone")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which clients may call the server, beside those of this machine; repeatable; default: any; on an "
        "address of this machine alone none",
    )
    add("--port", type=int, default=8000, help="0: any that is free; default: %(default)s")
    add("--max-texts", type=int, default=defaults.texts, help="texts of a request; default: %(default)s")
    add("--max-characters", type=int, default=defaults.characters, help="of a text; default: %(default)s")
    add("--max-batch", type=int, default=defaults.batch_texts, help="texts computed together; default: %(default)s")
    add("--max-waiting", type=int, default=defaults.waiting_texts, help="texts in a queue; default: %(default)s")
    add(
        "--max-connections", type=int, default=defaults.connections, help="at once, idle ones too; default: %(default)s"
    )
    add("--max-pieces", type=int, default=defaults.pieces, help="masks x count of a request; default: %(default)s")
    add("--body-seconds", type=int, default=defaults.body_seconds, help="to send a request in; default: %(default)s")
    add("--stop-seconds", type=int, help="how long a stopping server goes on answering; default: until all is answered")
    return parser.parse_args(arguments)


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that the flags give. Raises ValueError for one below 1."""
    names = ("max_texts", "max_characters", "max_batch", "max_waiting", "max_connections", "max_pieces", "body_seconds")
    if wrong := [name for name in names if vars(options)[name] < 1]:
        raise ValueError(f"--{wrong[0].replace('_', '-')} {vars(options)[wrong[0]]}: expected at least 1")
    if options.stop_seconds is not None and options.stop_seconds < 0:
        raise ValueError(f"--stop-seconds {options.stop_seconds}: expected at least 0")
    if options.max_waiting < 2 * options.max_texts:  # /similarity has two lists of texts
        raise ValueError(
            f"--max-waiting {options.max_waiting}: expected at least twice --max-texts {options.max_texts}"
        )
    return Limits(
        texts=options.max_texts,
        characters=options.max_characters,
        batch_texts=options.max_batch,
        waiting_texts=options.max_waiting,
        connections=options.max_connections,
        pieces=options.max_pieces,
        body_seconds=options.body_seconds,
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ValueError where it cannot, before models are loaded."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port {port}: expected 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port") from None


def load_models(options: argparse.Namespace) -> Models:
    """The models that the flags name. Raises ValueError for what they cannot serve."""
    if options.model is None and options.mt is None:
        raise ValueError("expected MODEL, --mt MODEL, or both: there is nothing to serve")
    if options.search is not None and options.model is None:
        raise ValueError("--search compares vectors of texts: expected MODEL, too")
    if options.search is not None and not options.search.is_file():
        raise ValueError(f"--search {options.search}: no such file")
    placement = Placement.of(options.dtype, options.device)
    translator = None if options.mt is None else load_translator(options, placement)
    if options.model is None:
        return Models(translator=translator)
    encoder = SentenceEncoder(options.model, placement=placement)
    corpus = None if options.search is None else Corpus.of(options.search, encoder)
    return Models(encoder, corpus, load_masks(options.model, placement), translator)


def load_masks(model: Path, placement: Placement) -> MaskFiller | None:
    """The model with its masked-LM head; None, which is told, where it is another one."""
    try:
        return MaskFiller(model, placement)
    except ValueError as error:
        print(f"no /fill-mask: {error}", file=sys.stderr)
        return None


def load_translator(options: argparse.Namespace, placement: Placement) -> Translator:
    """The translation model. Raises ValueError for a precision that one of CTranslate2 does not have."""
    if options.beam < 1:
        raise ValueError(f"--beam {options.beam}: expected at least 1")
    search, workers = SearchOptions(beam=options.beam), Workers(device=placement.device)
    if options.mt_engine == "ct2":
        if options.model is None and placement.dtype is not torch.float32:
            raise ValueError(f"--dtype {options.dtype}: a model of export_ct2 has the type it was exported with")
        from finetune.mt.decoding.ct2 import load_ct2  # CTranslate2 is an optional dependency

        return load_ct2(options.mt, search, options.target_language, workers)
    directory = model_directory(options.mt, [Kind.TRANSLATION])
    return Translator.load(directory, search, placement.dtype, options.target_language, workers)


def described(options: argparse.Namespace) -> dict[str, str]:
    """The names of what is served, without the directories that they are in."""
    named = {"model": options.model and encoder_directory(options.model), "search": options.search, "mt": options.mt}
    return {name: path.resolve().name for name, path in named.items() if path is not None}


def serve(
    models: Models, limits: Limits, names: dict[str, str], listener: socket.socket, stop_seconds: int | None
) -> None:
    """Serve until asked to stop."""
    server = server_of(models, limits, names, stop_seconds)
    host, port = listener.getsockname()[:2]
    print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}; Ctrl-C stops", flush=True)
    server.run(sockets=[listener])


def server_of(models: Models, limits: Limits, names: dict[str, str], stop_seconds: int | None) -> uvicorn.Server:
    """The server of these models, within these limits."""
    import uvicorn

    from inference.serving.app import application

    # uvicorn refuses where so many connections are open already, the asking one among them.
    most = limits.connections + 1
    config = uvicorn.Config(
        application(models, limits, names),
        log_level="warning",
        timeout_graceful_shutdown=stop_seconds,
        limit_concurrency=most,
    )
    return uvicorn.Server(config)


if __name__ == "__main__":
    run_main(main)
