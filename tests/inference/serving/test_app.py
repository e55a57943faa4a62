"""A server on a port of this machine, asked as clients do."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from toy_translation import toy_model, write_toy_tokenizer

from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator
from finetune.understanding.retrieval.matching import unit_rows
from inference import SentenceEncoder, SentenceIndex
from inference.fill_mask import MaskFiller
from inference.sentences import Encoded
from inference.serve import listening, server_of
from inference.serving.limits import Limits
from inference.serving.services import Corpus, Models

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

LINES = ["hund", "haus baum", "milch nacht", "rot", "stein vogel"]
LIMITS = Limits(texts=40, characters=100, batch_texts=16, waiting_texts=1000, results=5, pieces=50)


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    directory = tmp_path_factory.mktemp("served")
    text = directory / "lines.txt"
    text.write_text("".join(f"{line}\n" for line in LINES))
    write_toy_tokenizer(directory / "translation")
    toy_model(directory / "translation").save_pretrained(directory / "translation")
    encoder = SentenceEncoder(tiny_model)
    translator = Translator.load(directory / "translation", SearchOptions(beam=2))
    return Models(encoder, Corpus.of(text, encoder), MaskFiller(tiny_model), translator)


def started(models: Models, limits: Limits = LIMITS) -> Generator[str, None, None]:
    """The address of a server, which is stopped at the end."""
    with listening("127.0.0.1", 0) as listener:
        server = server_of(models, limits, {"model": "tiny"}, None)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    yield from started(models)


def ask(address: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the content of an answer; `body` is JSON, or bytes as they are."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_vectors_are_the_encoders(address: str, models: Models) -> None:
    assert models.encoder is not None
    expected = models.encoder.encode(LINES)
    status, found = ask(address, "/embed", {"texts": LINES})
    assert status == 200 and found["width"] == 32
    assert np.array(found["vectors"]) == pytest.approx(expected, abs=1e-6)
    _, packed = ask(address, "/embed", {"texts": LINES, "encoding": "base64"})
    vectors = np.frombuffer(base64.b64decode(packed["vectors"]), "<f4").reshape(-1, packed["width"])
    assert vectors == pytest.approx(expected, abs=1e-6)


def test_texts_that_were_cut_are_told(address: str) -> None:
    """The model takes 64 tokens: two special ones, the mark of a word's beginning, and here a piece for each letter."""
    longest = "qr" * 30 + "q"
    texts = ["rot", f"{longest}r", longest, "qr" * 50]
    for encoding in ("numbers", "base64"):
        status, found = ask(address, "/embed", {"texts": texts, "encoding": encoding})
        assert status == 200 and found["truncated"] == [1, 3] and set(found) == {"width", "vectors", "truncated"}
    assert ask(address, "/embed", {"texts": LINES})[1]["truncated"] == []
    _, found = ask(address, "/similarity", {"texts": texts[:2], "others": [texts[1], LINES[1], texts[3]]})
    assert found["truncated"] == [1] and found["truncated_others"] == [0, 2]
    assert ask(address, "/search", {"texts": texts[:2], "count": 1})[1]["truncated"] == [1]


def test_similarity_and_search_agree(address: str) -> None:
    _, found = ask(address, "/similarity", {"texts": ["haus baum", "rot"], "others": LINES})
    similarities = np.array(found["similarities"])
    assert similarities.shape == (2, 5) and similarities[0, 1] == pytest.approx(1, abs=1e-5)
    _, found = ask(address, "/search", {"texts": ["haus baum", "rot"], "count": 3})
    for own, hits in zip(similarities, found["hits"], strict=True):
        best = np.argsort(-own)[:3]
        assert [hit["line"] - 1 for hit in hits] == best.tolist()
        assert [hit["text"] for hit in hits] == [LINES[line] for line in best]
        assert [hit["similarity"] for hit in hits] == pytest.approx(own[best].tolist(), abs=1e-5)


def test_masks_are_filled_plugged_out_and_in(address: str, models: Models) -> None:
    assert models.masks is not None
    texts, others = ["hund <mask>", "<mask> haus <mask>"], ["dog house", "a red house"]
    for given in (None, others):
        expected = models.masks.fill(texts, given, 2)
        _, found = ask(address, "/fill-mask", {"texts": texts, "others": given, "count": 2})
        assert [[len(pieces) for pieces in of_text] for of_text in found["masks"]] == [[2], [2, 2]]
        pieces = [[[one["piece"] for one in of_mask] for of_mask in of_text] for of_text in found["masks"]]
        assert pieces == [[[one.piece for one in of_mask] for of_mask in of_text] for of_text in expected]


def test_translations_are_the_models(address: str, models: Models) -> None:
    assert models.translator is not None
    texts = ["haus baum", "", "drei hund und"]
    expected = [found[0].text for found in models.translator.translate(texts)]
    assert ask(address, "/translate", {"texts": texts}) == (200, {"translations": expected})


def test_many_clients_have_their_own_answers(address: str, models: Models) -> None:
    """Requests of 32 clients at once share batches."""
    assert models.encoder is not None
    texts = [f"{LINES[number % 5]} {number}" for number in range(96)]
    expected = models.encoder.encode(texts)
    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(lambda text: ask(address, "/embed", {"texts": [text]}), texts))
    assert [status for status, _ in answers] == [200] * 96
    assert np.array([found["vectors"][0] for _, found in answers]) == pytest.approx(expected, abs=1e-5)
    _, metrics = ask(address, "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    computed = float(lines['veco_batch_texts_sum{service="embed"}'])
    assert computed >= 96 and computed / float(lines['veco_batch_texts_count{service="embed"}']) > 1.5
    assert float(lines['veco_requests_total{path="/embed",status="200"}']) >= 96


BAD = {
    "no JSON": ("/embed", b'{"texts": ["a"', 400, "JSON decode error"),
    "nested": ("/embed", b"[" * 40_000, 400, ""),
    "another field": ("/embed", {"texts": ["a"], "model": "b"}, 400, "model: Extra inputs are not permitted"),
    "many other fields": (
        "/embed",
        dict.fromkeys(["", *map(str, range(5_000))]),
        400,
        "Extra inputs are not permitted",
    ),
    "a field of two lines": ("/embed", {"texts": ["a"], "a\nb": 1}, 400, "a b: Extra inputs are not permitted"),
    "many numbers": ("/embed", {"texts": [1] * 10_000}, 400, "texts.0: Input should be a valid string"),
    "many other numbers": ("/similarity", {"texts": ["a"], "others": [1] * 10_000}, 400, "others.0: Input should be"),
    "a large number": ("/search", b'{"texts": ["a"], "count": %s}' % (b"9" * 4_000), 400, "count"),
    "no text": ("/embed", {"texts": []}, 400, "texts: List should have at least 1 item"),
    "a number": ("/embed", {"texts": [1]}, 400, "texts.0: Input should be a valid string"),
    "half a surrogate pair": (
        "/embed",
        b'{"texts": ["\\ud800"]}',
        400,
        "text 0 is no Unicode: it has half a surrogate pair",
    ),
    "many texts": ("/embed", {"texts": ["a"] * 41}, 400, "found 41 texts; expected at most 40 in a request"),
    "a long text": ("/embed", {"texts": ["a", "a" * 101]}, 400, "text 1 has 101 characters; expected at most 100"),
    "a long other text": ("/similarity", {"texts": ["a"], "others": ["a" * 101]}, 400, "text 0 has 101 characters"),
    "many results": ("/search", {"texts": ["a"], "count": 6}, 400, "count 6: expected at most 5"),
    "no result": ("/search", {"texts": ["a"], "count": 0}, 400, "count: Input should be greater than or equal to 1"),
    "no mask": ("/fill-mask", {"texts": ["hund"]}, 400, "'hund': expected <mask> where a piece is to be filled in"),
    "a long text without a mask": ("/fill-mask", {"texts": ["hund " * 20]}, 400, "expected <mask> where a piece is"),
    "a long text with a mask": ("/fill-mask", {"texts": ["<mask> " + "qr" * 45]}, 400, "tokens; the model takes 64"),
    "many pieces": ("/fill-mask", {"texts": ["<mask> " * 11], "count": 5}, 400, "11 masks, 5 pieces each: expected at"),
    "another number": (
        "/fill-mask",
        {"texts": ["<mask>"], "others": []},
        400,
        "expected one for each of 1 texts, found 0",
    ),
    "a long text to translate": ("/translate", {"texts": ["haus " * 20]}, 400, "more tokens than the model takes, 38"),
    "two lines": ("/translate", {"texts": ["haus\nbaum"]}, 400, "has several lines"),
    "a large body": ("/embed", {"texts": ["a" * 1_000_000]}, 413, "the body has more than 96,000 bytes"),
    "unknown path": ("/embeddings", {"texts": ["a"]}, 404, "Not Found"),
}


def test_cosines_do_not_depend_on_the_lengths_of_vectors(tiny_model: Path, models: Models, address: str) -> None:
    """An encoder whose vectors do not have length 1 finds the same."""
    assert models.corpus is not None
    encoder = SentenceEncoder(tiny_model, normalise=False)
    vectors = encoder.encode(LINES)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > 0.1
    corpus = Corpus(LINES, SentenceIndex(unit_rows(vectors)))
    server = started(Models(encoder, corpus))
    other = next(server)
    hits, expected = (
        ask(one, "/search", {"texts": ["rot hund"], "count": 5})[1]["hits"][0] for one in (other, address)
    )
    assert [hit["line"] for hit in hits] == [hit["line"] for hit in expected]
    assert [hit["similarity"] for hit in hits] == pytest.approx([hit["similarity"] for hit in expected], abs=1e-5)
    body = {"texts": ["rot"], "others": LINES}
    found, expected = (ask(one, "/similarity", body)[1]["similarities"][0] for one in (other, address))
    assert found == pytest.approx(expected, abs=1e-5)
    assert list(server) == []


def test_failures_are_counted(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder.__new__(SentenceEncoder)
    server = started(Models(encoder=encoder))
    address = next(server)
    assert ask(address, "/embed", {"texts": ["a"]}) == (500, {"detail": "the server failed; its log says why"})
    assert 'veco_requests_total{path="/embed",status="500"} 1.0' in ask(address, "/metrics")[1].splitlines()
    assert list(server) == []


class GivenEncoder(SentenceEncoder):
    """Has given numbers for every text, or an error that it raises."""

    def __init__(self, given: float | ValueError) -> None:
        self.given = given

    def encode_and_tell(self, sentences: Sequence[str]) -> Encoded:  # type: ignore[override]
        if isinstance(self.given, ValueError):
            raise self.given
        return Encoded(np.full((len(sentences), 4), self.given, np.float32), np.zeros(len(sentences), bool))


@pytest.mark.parametrize("given", [float("nan"), float("inf"), ValueError("of a library")])
def test_what_is_not_the_clients_mistake_is_the_servers(given: float | ValueError) -> None:
    with closing(started(Models(encoder=GivenEncoder(given)))) as server:
        address = next(server)
        for path, more in (("/embed", {}), ("/embed", {"encoding": "base64"}), ("/similarity", {"others": ["b"]})):
            expected = (500, {"detail": "the server failed; its log says why"})
            assert ask(address, path, {"texts": ["a"], **more}) == expected


def test_a_text_that_is_too_long_costs_no_translation(address: str, models: Models) -> None:
    assert models.translator is not None
    with mock.patch.object(models.translator.generator, "search", side_effect=AssertionError) as search:
        assert ask(address, "/translate", {"texts": ["haus", "haus " * 20]})[0] == 400
    search.assert_not_called()


def begun(address: str, length: int) -> socket.socket:
    """The connection of a client that has sent the first bytes of a body of this length."""
    host, port = address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    head = b"POST /embed HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    client.sendall(head + f"Content-Length: {length}\r\n\r\n".encode() + b'{"texts": ["hu')
    return client


def test_a_body_that_does_not_come_is_given_up(models: Models) -> None:
    """So that a client which sends half of it does not keep a server from stopping."""
    server = started(models, dataclasses.replace(LIMITS, body_seconds=0.3))
    address = next(server)
    for length, status in ((100, b"408"), (1_000_000, b"413")):
        with begun(address, length) as client:
            assert client.recv(1000).split()[1] == status
    assert ask(address, "/embed", {"texts": ["hund"]})[0] == 200
    with begun(address, 100):
        server.close()  # which waits until it has stopped


def test_connections_beyond_the_most_are_refused(models: Models) -> None:
    with closing(started(models, dataclasses.replace(LIMITS, connections=2))) as server:
        address = next(server)
        with begun(address, 100):
            assert ask(address, "/embed", {"texts": ["hund"]})[0] == 200
            with begun(address, 100), pytest.raises(json.JSONDecodeError):  # "Service Unavailable", by uvicorn itself
                ask(address, "/embed", {"texts": ["hund"]})


def test_a_server_of_this_machine_is_not_called_by_other_names(models: Models) -> None:
    """A page of the web can have its own name lead to 127.0.0.1."""
    with closing(started(models, dataclasses.replace(LIMITS, hosts=frozenset({"localhost", "::1"})))) as server:
        port = int(next(server).rsplit(":", 1)[1])

        def status(host: str, path: str = "/health") -> tuple[int, dict[str, Any]]:
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())

        assert [status(host)[0] for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "[::1]")] == [200] * 4
        told = "Host 'evil.example:80': expected ::1, localhost; --allow-host takes more names"
        assert status("evil.example:80") == (400, {"detail": told})
        assert [status(host)[0] for host in ("127.0.0.1", "[::1", "localhost.evil.example", "@")] == [400] * 4
        assert status("evil.example", "/docs")[0] == 400


class HeldEncoder(SentenceEncoder):
    """Notes the texts of each batch, and has zeros for them once it may go on."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.may_go_on = threading.Event()

    def encode_and_tell(self, sentences: Sequence[str]) -> Encoded:  # type: ignore[override]
        self.seen.append(list(sentences))
        self.may_go_on.wait(60)
        return Encoded(np.zeros((len(sentences), 4), np.float32), np.zeros(len(sentences), bool))


def sent(address: str, texts: list[str]) -> socket.socket:
    """The connection of a client that has asked for vectors, and does not wait for them."""
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps({"texts": texts}).encode()
    client = socket.create_connection((host, int(port)))
    client.sendall(
        b"POST /embed HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return client


def wait_for_metric(address: str, line: str) -> None:
    """Wait until the server's metrics have a line. Fails after a minute."""
    until = time.monotonic() + 60
    while line not in ask(address, "/metrics")[1].splitlines():
        assert time.monotonic() < until, f"no {line} in the metrics"
        time.sleep(0.02)


def test_what_nobody_waits_for_is_not_computed() -> None:
    """A client that hangs up while another batch is in work; one of its texts is another client's, too."""
    encoder = HeldEncoder()
    with closing(started(Models(encoder=encoder))) as server, ThreadPoolExecutor(2) as clients:
        address = next(server)
        try:
            first = clients.submit(ask, address, "/embed", {"texts": ["first"]})
            wait_for_metric(address, 'veco_batch_texts_sum{service="embed"} 1.0')
            hanging_up = sent(address, ["gone", "of both"])
            wait_for_metric(address, 'veco_waiting_texts{service="embed"} 2.0')
            other = clients.submit(ask, address, "/embed", {"texts": ["of both", "stays"]})
            wait_for_metric(address, 'veco_waiting_texts{service="embed"} 4.0')
            hanging_up.close()
            wait_for_metric(address, 'veco_abandoned_requests_total{path="/embed"} 1.0')
            wait_for_metric(address, 'veco_waiting_texts{service="embed"} 2.0')
        finally:
            encoder.may_go_on.set()
        assert [len(one.result(60)[1]["vectors"]) for one in (first, other)] == [1, 2]
        metrics = ask(address, "/metrics")[1].splitlines()
    assert encoder.seen == [["first"], ["of both", "stays"]]
    assert 'veco_requests_total{path="/embed",status="200"} 2.0' in metrics
    assert 'veco_abandoned_requests_total{path="/embed"} 1.0' in metrics  # who has the answer has not hung up


def test_a_full_queue_asks_to_come_again() -> None:
    encoder = HeldEncoder()
    limits = dataclasses.replace(LIMITS, waiting_texts=2)
    with closing(started(Models(encoder=encoder), limits)) as server, ThreadPoolExecutor(2) as clients:
        address = next(server)
        try:
            first = clients.submit(ask, address, "/embed", {"texts": ["first"]})
            wait_for_metric(address, 'veco_batch_texts_sum{service="embed"} 1.0')
            other = clients.submit(ask, address, "/embed", {"texts": ["a", "b"]})
            wait_for_metric(address, 'veco_waiting_texts{service="embed"} 2.0')
            with pytest.raises(urllib.error.HTTPError) as refused:
                body = json.dumps({"texts": ["c"]}).encode()
                urllib.request.urlopen(
                    urllib.request.Request(f"{address}/embed", body, {"Content-Type": "application/json"}), timeout=60
                )
            assert (refused.value.code, refused.value.headers["Retry-After"]) == (503, "1")
        finally:
            encoder.may_go_on.set()
        assert [one.result(60)[0] for one in (first, other)] == [200, 200]


def test_a_client_that_hangs_up_within_its_body_has_not_made_a_mistake(models: Models) -> None:
    with closing(started(models)) as server:
        address = next(server)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = (
                b"POST /embed HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            )
            client.sendall(head + b'{"texts": ["hu')
            wait_for_metric(address, "veco_requests_in_progress 2.0")  # it, and the question for metrics
        wait_for_metric(address, 'veco_abandoned_requests_total{path="/embed"} 1.0')
        assert ask(address, "/embed", {"texts": ["hund"]})[0] == 200
        metrics = ask(address, "/metrics")[1]
    assert 'veco_requests_total{path="/embed",status="200"} 1.0' in metrics
    assert 'path="/embed",status="400"' not in metrics
    assert 'veco_abandoned_requests_total{path="/embed"} 1.0' in metrics


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_answered_in_one_line(name: str, address: str) -> None:
    path, body, status, expected = BAD[name]
    found, content = ask(address, path, body)
    assert found == status, content
    assert expected in content["detail"] and "\n" not in content["detail"] and len(content["detail"]) <= 300
    assert ask(address, "/health")[0] == 200


def test_a_body_that_does_not_say_its_size_is_limited(address: str) -> None:
    """In chunks."""
    import http.client

    host = address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", "/embed", iter([b"x" * 10_000] * 10), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 413


def test_what_the_server_has_no_model_for_is_named(models: Models) -> None:
    server = started(Models(encoder=models.encoder))
    address = next(server)
    assert ask(address, "/health") == (
        200,
        {"status": "ok", "services": ["embed", "similarity"], "models": {"model": "tiny"}},
    )
    status, content = ask(address, "/translate", {"texts": ["a"]})
    assert status == 404 and content["detail"] == "this server has no translate: start it with --mt MODEL"
    assert "/fill-mask" in ask(address, "/openapi.json")[1]["paths"]
    assert list(server) == []
