"""The HTTP interface of a server: routes, limits, errors and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from finetune.understanding.retrieval.matching import unit_rows
from inference.sentences import Encoded
from inference.serving.batching import BusyError
from inference.serving.limits import Limits
from inference.serving.messages import (
    EmbedRequest,
    EmbedResponse,
    ErrorResponse,
    FilledPiece,
    FillMaskRequest,
    FillMaskResponse,
    HealthResponse,
    Hit,
    SearchRequest,
    SearchResponse,
    SimilarityRequest,
    SimilarityResponse,
    TranslateRequest,
    TranslateResponse,
    numbers_of,
    one_line,
)
from inference.serving.metrics import Metrics
from inference.serving.middleware import TOO_LARGE, TOO_SLOW, BodyLimit, Counting, HangUp, KnownHosts
from inference.serving.services import Masked, Models, Query, Services
from inference.unfit_text import UnfitTextError

Result = TypeVar("Result")

BAD_REQUEST, NOT_FOUND, INTERNAL_ERROR, UNAVAILABLE = 400, 404, 500, 503
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorResponse} for code in (BAD_REQUEST, NOT_FOUND, TOO_SLOW, TOO_LARGE, UNAVAILABLE)
}
NEEDS = {  # what a server must be started with
    "embed": "MODEL",
    "similarity": "MODEL",
    "search": "--search FILE",
    "fill-mask": "MODEL, a VECO with its masked-LM head,",
    "translate": "--mt MODEL",
}


def application(models: Models, limits: Limits, described: dict[str, str]) -> FastAPI:
    """The server of these models; `described` are their directories' names, for /health."""
    metrics = Metrics()
    services = Services(models, limits, metrics.batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(title="VECO", summary="Texts of many languages, as vectors and translations", lifespan=lifespan)
    add_middleware(app, limits, metrics)
    app.add_exception_handler(RequestValidationError, bad_request)
    app.add_exception_handler(Exception, internal_error)

    def needed(service: str, *of_texts: Sequence[str] | None) -> None:
        """Raise HTTPException unless the server has the service, and the texts are within the limits."""
        if service not in services.names:
            raise HTTPException(NOT_FOUND, f"this server has no {service}: start it with {NEEDS[service]}")
        for texts in of_texts:
            check_texts(texts or (), limits)

    async def embedded(texts: Sequence[str]) -> Encoded:
        vectors, is_truncated = zip(*await computed(services.embed.compute(texts)), strict=True)
        return Encoded(np.stack(vectors), np.array(is_truncated))

    @app.post("/embed", responses=ERRORS)
    async def embed(request: EmbedRequest) -> EmbedResponse:
        """Vectors of texts, of length 1 unless the encoder was exported otherwise, and which texts were cut."""
        needed("embed", request.texts)
        return EmbedResponse.of(await embedded(request.texts), request.encoding)

    @app.post("/similarity", responses=ERRORS)
    async def similarity(request: SimilarityRequest) -> SimilarityResponse:
        """Cosines of each text with each of the others."""
        needed("similarity", request.texts, request.others)
        found = await embedded([*request.texts, *request.others])
        texts, others = np.split(unit_rows(found.vectors), [len(request.texts)])
        truncated, truncated_others = map(numbers_of, np.split(found.is_truncated, [len(request.texts)]))
        return SimilarityResponse(
            similarities=(texts @ others.T).tolist(), truncated=truncated, truncated_others=truncated_others
        )

    @app.post("/search", responses=ERRORS)
    async def search(request: SearchRequest) -> SearchResponse:
        """The most similar lines of the file that the server was started with."""
        needed("search", request.texts)
        check_count(request.count, limits)
        assert models.corpus is not None
        texts = await embedded(request.texts)
        found = await computed(services.nearest.compute([Query(vector, request.count) for vector in texts.vectors]))
        lines = models.corpus.lines
        hits = [
            [Hit(line=one.line + 1, text=lines[one.line], similarity=one.similarity) for one in of_text]
            for of_text in found
        ]
        return SearchResponse(hits=hits, truncated=numbers_of(texts.is_truncated))

    @app.post("/fill-mask", responses=ERRORS)
    async def fill_mask(request: FillMaskRequest) -> FillMaskResponse:
        """Pieces in the place of each `<mask>`; with `others` what is masked in one text is read in the other."""
        needed("fill-mask", request.texts, request.others)
        check_count(request.count, limits)
        if request.others is not None and len(request.others) != len(request.texts):
            raise HTTPException(
                BAD_REQUEST, f"others: expected one for each of {len(request.texts)} texts, found {len(request.others)}"
            )
        assert models.masks is not None
        check_masks(request.texts, request.count, str(models.masks.tokenizer.mask_token), limits)
        others: Sequence[str | None] = request.others or [None] * len(request.texts)
        items = [Masked(text, other, request.count) for text, other in zip(request.texts, others, strict=True)]
        found = await computed(services.fill_mask.compute(items))
        return FillMaskResponse(
            masks=[[[FilledPiece(**one._asdict()) for one in pieces] for pieces in of_text] for of_text in found]
        )

    @app.post("/translate", responses=ERRORS)
    async def translate(request: TranslateRequest) -> TranslateResponse:
        """Translations into the language of the server's translation model; an empty text has an empty one."""
        needed("translate", request.texts)
        if broken := [text for text in request.texts if "\n" in text]:
            raise HTTPException(BAD_REQUEST, f"texts: {broken[0][:40]!r} has several lines; send each as a text")
        return TranslateResponse(translations=await computed(services.translate.compute(request.texts)))

    @app.get("/health")
    async def health() -> HealthResponse:
        """That the server takes requests, and what it can compute."""
        return HealthResponse(status="ok", services=services.names, models=described)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Requests, latencies and batches, as Prometheus reads them."""
        for name, queue in services.queues.items():
            metrics.waiting(name, queue.num_waiting)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def add_middleware(app: FastAPI, limits: Limits, metrics: Metrics) -> None:
    """Add what goes on around every request, each around those before it."""
    app.add_middleware(HangUp, metrics=metrics)
    app.add_middleware(BodyLimit, most=limits.body_bytes, seconds=limits.body_seconds)
    if limits.hosts is not None:
        app.add_middleware(KnownHosts, hosts=limits.hosts)
    app.add_middleware(Counting, metrics=metrics)


async def computed(results: Awaitable[list[Result]]) -> list[Result]:
    """The results of a queue; 503 where it is full, 400 for a text that the model does not take."""
    try:
        return await results
    except BusyError:
        raise HTTPException(UNAVAILABLE, "too many texts wait; try again", {"Retry-After": "1"}) from None
    except UnfitTextError as error:
        raise HTTPException(BAD_REQUEST, one_line(str(error))) from None


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Raise HTTPException for too many texts, for one that is too long, and for what is no Unicode."""
    if len(texts) > limits.texts:
        raise HTTPException(BAD_REQUEST, f"found {len(texts):,} texts; expected at most {limits.texts:,} in a request")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise HTTPException(
                BAD_REQUEST, f"text {number} has {len(text):,} characters; expected at most {limits.characters:,}"
            )
        try:
            text.encode()
        except UnicodeEncodeError:  # which JSON can write
            raise HTTPException(BAD_REQUEST, f"text {number} is no Unicode: it has half a surrogate pair") from None


def check_count(count: int, limits: Limits) -> None:
    """Raise HTTPException for more results than the server gives."""
    if count > limits.results:
        raise HTTPException(BAD_REQUEST, f"count {count:,}: expected at most {limits.results:,}")


def check_masks(texts: Sequence[str], count: int, mask: str, limits: Limits) -> None:
    """Raise HTTPException for more pieces than an answer has."""
    num_masks = sum(text.count(mask) for text in texts)
    if num_masks * count > limits.pieces:
        told = f"{num_masks:,} masks, {count} pieces each: expected at most {limits.pieces:,} pieces in a request"
        raise HTTPException(BAD_REQUEST, told)


async def bad_request(request: Request, error: Exception) -> JSONResponse:
    """400, and in one line what is wrong with the body."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"detail": one_line("; ".join(found))}, BAD_REQUEST)


async def internal_error(request: Request, error: Exception) -> JSONResponse:
    """500 without a traceback, which goes to the server's log."""
    return JSONResponse({"detail": "the server failed; its log says why"}, INTERNAL_ERROR)
