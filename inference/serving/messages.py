"""What clients send, and what they get."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from inference.sentences import Encoded

SHOWN = 300  # characters of what a client is told of a mistake
MOST = 1_000_000  # results that any server may give, whatever its limits
# The first wrong text is told, not each of a million.
Texts = Annotated[list[str], Field(min_length=1, fail_fast=True, description="texts in any language of the model")]
Truncated = Annotated[
    list[int], Field(description="numbers, from 0, of the texts that were cut to what the model takes")
]


def numbers_of(is_truncated: np.ndarray) -> list[int]:
    """The numbers, from 0, of the texts that were cut, bool (texts,)."""
    return np.flatnonzero(is_truncated).tolist()


def one_line(text: str) -> str:
    """A message for a client: what cannot be printed as spaces, cut to SHOWN characters."""
    return "".join(character if character.isprintable() else " " for character in text[:SHOWN])


class Encoding(StrEnum):
    """How vectors are written."""

    NUMBERS = "numbers"  # lists of numbers
    BASE64 = "base64"  # float32, little-endian, row by row: a third of the size, and much faster to write and to read


class Message(BaseModel):
    """A request, which has no fields but its own."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_field(cls, content: Any) -> Any:
        """Refuse the first field that is unknown; for `extra`, which the description shows, each would be an error."""
        for key in content if isinstance(content, dict) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError("extra_forbidden", "{field}: Extra inputs are not permitted", {"field": key})
        return content


class EmbedRequest(Message):
    texts: Texts
    encoding: Encoding = Field(Encoding.NUMBERS, description="base64: float32, little-endian, row by row")


class EmbedResponse(BaseModel):
    width: int
    vectors: list[list[float]] | str
    truncated: Truncated

    @classmethod
    def of(cls, found: Encoded, encoding: Encoding) -> EmbedResponse:
        """The response with the vectors of a request's texts."""
        packed = encoding is Encoding.BASE64
        vectors = base64.b64encode(found.vectors.astype("<f4").tobytes()).decode() if packed else found.vectors.tolist()
        return cls(width=found.vectors.shape[1], vectors=vectors, truncated=numbers_of(found.is_truncated))


class SimilarityRequest(Message):
    texts: Texts
    others: Annotated[
        list[str], Field(min_length=1, fail_fast=True, description="texts to compare each of `texts` with")
    ]


class SimilarityResponse(BaseModel):
    similarities: list[list[float]] = Field(description="cosine of each text (row) with each of the others (column)")
    truncated: Truncated
    truncated_others: Truncated


class SearchRequest(Message):
    texts: Texts
    count: int = Field(10, ge=1, le=MOST, description="results for each text")


class Hit(BaseModel):
    line: int = Field(description="line of the file that is searched, from 1")
    text: str
    similarity: float


class SearchResponse(BaseModel):
    hits: list[list[Hit]] = Field(description="for each text, the most similar lines first")
    truncated: Truncated


class FillMaskRequest(Message):
    texts: Texts
    others: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, description="for each text one of the same meaning, read plugged in"
    )
    count: int = Field(5, ge=1, le=MOST, description="pieces for each mask")


class FilledPiece(BaseModel):
    piece: str
    probability: float


class FillMaskResponse(BaseModel):
    masks: list[list[list[FilledPiece]]] = Field(description="for each text, for each mask, the likeliest pieces")


class TranslateRequest(Message):
    texts: Texts


class TranslateResponse(BaseModel):
    translations: list[str]


class HealthResponse(BaseModel):
    status: str = Field(description="ok while the server takes requests")
    services: list[str]
    models: dict[str, Any]


class ErrorResponse(BaseModel):
    detail: str = Field(description="what was expected, and what was found")
