"""The command: what it refuses before it listens, and that it answers what it has received when asked to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from toy_translation import toy_model, write_toy_tokenizer

from finetune.mt.decoding.generators import TorchGenerator
from finetune.placement import Placement
from inference import SentenceEncoder
from inference.fill_mask import MaskFiller
from inference.serve import limits_of, listening, load_models, parse_arguments
from inference.serving.limits import Limits
from inference.serving.services import Corpus

ROOT = Path(__file__).resolve().parents[2]
NUM_CLIENTS = 24


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "expected MODEL, --mt MODEL, or both"),
        (["--search", "lines.txt", "--mt", "model"], "expected MODEL, too"),
        (["/no/where"], "/no/where"),
        (["model", "--search", "/no/file"], "--search /no/file: no such file"),
        (["--mt", "model", "--beam", "0"], "--beam 0: expected at least 1"),
        (["--mt", "model", "--mt-engine", "ct2", "--dtype", "bfloat16"], "--dtype bfloat16: a model of export_ct2 has"),
        (["model", "--device", "tpu"], "device 'tpu': expected auto, cpu, cuda"),
        (["model", "--device", "cuda"], "device cuda: torch finds no cards"),
    ],
)
def test_what_cannot_be_served_is_told(flags: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        load_models(parse_arguments(flags))


def test_all_models_in_torch_have_the_precision_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    write_toy_tokenizer(tmp_path)
    toy_model(tmp_path).save_pretrained(tmp_path)
    flags = [str(tiny_model), "--mt", str(tmp_path), "--dtype", "bfloat16", "--device", "cpu"]
    with mock.patch.object(MaskFiller, "__init__", return_value=None) as masks:
        models = load_models(parse_arguments(flags))
    masks.assert_called_once_with(tiny_model, Placement.of("bfloat16", "cpu"))
    assert models.encoder is not None and models.translator is not None
    vectors = SentenceEncoder(tiny_model, placement=Placement.of("bfloat16")).encode(["hund haus"])
    assert np.array_equal(models.encoder.encode(["hund haus"]), vectors)
    assert isinstance(models.translator.generator, TorchGenerator)
    assert models.translator.generator.model.dtype is torch.bfloat16


def test_limits_and_ports_are_checked() -> None:
    with pytest.raises(ValueError, match="--max-texts 0: expected at least 1"):
        limits_of(parse_arguments(["--max-texts", "0"]))
    with pytest.raises(ValueError, match="--max-waiting 100: expected at least twice --max-texts 256"):
        limits_of(parse_arguments(["--max-waiting", "100"]))
    with pytest.raises(ValueError, match="--max-connections 0: expected at least 1"):
        limits_of(parse_arguments(["--max-connections", "0"]))
    with pytest.raises(ValueError, match="--stop-seconds -1: expected at least 0"):
        limits_of(parse_arguments(["--stop-seconds", "-1"]))
    assert limits_of(parse_arguments(["--max-texts", "7"])) == Limits(texts=7)
    with pytest.raises(ValueError, match="--port 65536: expected 0 to 65535"):
        listening("127.0.0.1", 65536)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1, port {port}: .*; choose another --port"):
            listening("127.0.0.1", port)


def test_lines_to_search_that_are_cut_are_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.txt").write_text("rot\n" + "qr" * 50 + "\n")
    Corpus.of(tmp_path / "lines.txt", SentenceEncoder(tiny_model))
    assert "lines.txt: 1 of 2 lines are longer than the model takes" in capsys.readouterr().err


def test_a_file_of_json_is_no_lines_to_search(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"text": "rot"}\n')
    with pytest.raises(ValueError, match="lines: JSON, expected plain text, one sentence a line"):
        Corpus.of(tmp_path / "lines", SentenceEncoder(tiny_model))


def test_nothing_that_was_received_is_lost(tiny_model: Path) -> None:
    """All requests are on their way when the server is asked to stop."""
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "inference.serve", str(tiny_model), "--port", "0", "--max-batch", "2"]  # slowly
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert server.stdout is not None
    address = server.stdout.readline().split()[2].rstrip(";")
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="400"):  # a name that is not this machine's
        urllib.request.urlopen(urllib.request.Request(f"{address}/health", headers={"Host": "evil.example"}))

    def ask(number: int) -> int:
        body = json.dumps({"texts": ["hund haus baum " * 20] * 128}).encode()
        request = urllib.request.Request(f"{address}/embed", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return len(json.loads(answer.read())["vectors"])

    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        answers = [clients.submit(ask, number) for number in range(NUM_CLIENTS)]
        received, deadline = 0.0, time.monotonic() + 120
        while received < NUM_CLIENTS + 1 and time.monotonic() < deadline:  # with this one
            with urllib.request.urlopen(f"{address}/metrics", timeout=60) as page:
                lines = page.read().decode().splitlines()
            received = next(float(line.split()[1]) for line in lines if line.startswith("veco_requests_in_progress "))
        server.send_signal(signal.SIGTERM)
        assert [answer.result() for answer in answers] == [128] * NUM_CLIENTS
    assert received == NUM_CLIENTS + 1, "the server was asked to stop while all requests waited"
    assert server.wait(30) in (0, -signal.SIGTERM)
