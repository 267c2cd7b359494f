"""What is answered where something is not accepted: one form for all errors."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

Flag = Literal["true", "false"]
"""A query parameter that is on or off; as a ``bool`` it would take ``0``, ``no`` and ``off`` too,
which the document of the API cannot say."""
_TYPES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}


class ApiModel(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ErrorDetail(ApiModel):
    """Why a request was not answered otherwise."""

    type: str
    """Kind of error."""
    field: str | None = None
    """What of the request is at fault, for example ``query.stream_id``."""
    message: str
    """What is wrong, for people."""
    accepted: str | None = None
    """What would be accepted."""


class ErrorAnswer(ApiModel):
    """Answer to a request that was not accepted."""

    error: ErrorDetail
    """Why."""


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": HTTPStatus(status).phrase}
    for status in (401, 403, 422, 429)
}
"""Answers that every operation may give; see also :data:`UNKNOWN`."""
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": HTTPStatus.NOT_FOUND.phrase}
}


class RefusedError(Exception):
    """A request that is not accepted.

    Attributes:
        status: Of HTTP.
        detail: Why.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        accepted: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(
            type=_TYPES[status], field=field, message=message, accepted=accepted
        )
        self.headers = headers

    def to_response(self) -> Response:
        """Return the answer."""
        body = ErrorAnswer(error=self.detail).model_dump(mode="json", exclude_none=True)
        return JSONResponse(body, self.status, headers=self.headers)


def unknown_stream(stream_id: str, known: Sequence[str]) -> RefusedError:
    """Return the refusal of a stream that is not there."""
    accepted = ", ".join(sorted(known)) or "none is open"
    return RefusedError(404, f"no stream {stream_id!r}", field="stream_id", accepted=accepted)


def add_handlers(application: FastAPI) -> None:
    """Let all errors of an application be answered in the one form."""
    application.add_exception_handler(RefusedError, _answer_refusal)
    application.add_exception_handler(RequestValidationError, _answer_invalid)
    application.add_exception_handler(HTTPException, _answer_http)


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    return cast("RefusedError", error).to_response()


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    first = cast("RequestValidationError", error).errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return RefusedError(422, str(first["msg"]), field=field).to_response()


async def _answer_http(_request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: paths, methods, and bodies that it cannot read."""
    refused = cast("HTTPException", error)
    # A body that is no JSON, say, is a 400 to the framework and invalid to us.
    status = refused.status_code if refused.status_code in _TYPES else 422
    accepted = "a path of /v1/openapi.json" if status == HTTPStatus.NOT_FOUND else None
    message = str(refused.detail)
    return RefusedError(status, message, accepted=accepted, headers=refused.headers).to_response()
