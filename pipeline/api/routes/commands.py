"""/v1/commands: have a running engine changed."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from pipeline.api.answers import ERRORS, ApiModel, ErrorAnswer, ErrorDetail, RefusedError
from pipeline.api.backend import Controlled, Served
from pipeline.api.guard import AS_OPERATOR, KnownIdentity, require
from pipeline.config.sections.api import Role
from pipeline.records.command import (
    COMMAND,
    AnyCommand,
    CommandErrorType,
    CommandRefusedError,
    CommandResult,
    parse_command,
)

router = APIRouter(dependencies=AS_OPERATOR, responses=ERRORS, tags=["commands"])

MAX_BODY_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
"""A command waits for the turn that is under way, and for the disk."""
# They name hosts, files and programs that the engine is to open.
_FOR_ADMINS = frozenset({"add_stream", "change_stream", "remove_stream", "reload"})
_SET_HERE = ("issued_by", "issued_at")
_REF = "#/components/schemas/{model}"
_STATUS: dict[str, int] = {
    CommandErrorType.UNKNOWN_STREAM: 404,
    CommandErrorType.UNKNOWN_CONCEPT: 404,
    CommandErrorType.STREAM_EXISTS: 409,
    CommandErrorType.CONFLICT: 409,
    CommandErrorType.ID_TAKEN: 409,
    CommandErrorType.BUSY: 429,
    CommandErrorType.STOPPED: 503,
    CommandErrorType.INTERNAL: 500,
}
"""Of HTTP, for errors that are not 422."""


class PendingAnswer(ApiModel):
    """A command of which nobody knows yet what became of it."""

    command_id: str
    """Send the same command again under this id: it is not carried out twice."""


_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": PendingAnswer, "description": "Not carried out within 10 s; it may still be."},
    404: {"model": ErrorAnswer, "description": "There is no such stream, or concept."},
    409: {
        "model": ErrorAnswer,
        "description": "The stream is there, the id was used, or the file differs.",
    },
    413: {"model": ErrorAnswer, "description": "The body is larger than 1 MiB."},
    415: {"model": ErrorAnswer, "description": "The body is not JSON."},
    503: {"model": ErrorAnswer, "description": "The run has not begun yet, or has ended."},
}


def command_schemas() -> dict[str, Any]:
    """Return the schemas of commands as they are sent here, by name, for the OpenAPI document."""
    whole = COMMAND.json_schema(ref_template=_REF)
    schemas: dict[str, Any] = whole.pop("$defs")
    for name in _kinds():
        kind = schemas[name]
        for field in _SET_HERE:
            del kind["properties"][field]
        left_out = {"command_id", *_SET_HERE}
        kind["required"] = [one for one in kind["required"] if one not in left_out]
    stream = schemas["StreamConfig"]
    stream["required"] = [one for one in stream["required"] if one != "id"]
    return {**schemas, "Command": whole}


def _kinds() -> tuple[str, ...]:
    return tuple(one.__name__ for one in AnyCommand.__args__)


@router.post(
    "/v1/commands",
    response_model=CommandResult,
    responses=_ANSWERS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model="Command")}}},
        }
    },
)
async def issue_command(request: Request, identity: KnownIdentity, backend: Served) -> Response:
    """Have a command carried out, and return what became of it.

    Without a `command_id` it gets one. A command that comes again under its id is not carried out
    again, and gets the answer that it had.
    """
    body = await _read_object(request)
    for field in _SET_HERE:
        if field in body:
            raise RefusedError(422, "is set here", field=field, accepted="a body without it")
    body = {
        "command_id": uuid.uuid4().hex,
        **body,
        "issued_by": identity.name,
        "issued_at": datetime.now(UTC),
    }
    if body.get("command") in _FOR_ADMINS:
        require(identity, Role.ADMIN)
    try:
        command = parse_command(body)
    except CommandRefusedError as refused:
        detail = ErrorDetail.model_validate(refused.error.model_dump())
        return _answer(422, ErrorAnswer(error=detail))
    if backend.engine is None:
        text = "the run has not begun yet"
        raise RefusedError(503, text, headers={"Retry-After": "1"})
    try:
        result = await asyncio.wait_for(_execute(backend.engine, command), TIMEOUT_S)
    except TimeoutError:
        return _answer(202, PendingAnswer(command_id=command.command_id))
    status = 200 if result.error is None else _STATUS.get(result.error.type, 422)
    return _answer(status, result)


async def _execute(engine: Controlled, command: AnyCommand) -> CommandResult:
    # On a thread: the engine looks whether files of a new source are there.
    future = await asyncio.to_thread(engine.execute, command)
    return await asyncio.shield(asyncio.wrap_future(future))


async def _read_object(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, f"a body of type {kind!r}", accepted="application/json")
    try:
        body = json.loads(await _read_body(request))
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # no UTF-8, no JSON, half characters, NaN, too deep
        body = None
    if not isinstance(body, dict):
        raise RefusedError(422, "the body is no JSON object", accepted="a command as an object")
    return cast("dict[str, Any]", body)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise RefusedError(413, "the body is too large", accepted="1 MiB")
    except ClientDisconnect:
        raise RefusedError(422, "the body is not whole") from None
    return bytes(body)


def _answer(status: int, body: ApiModel | CommandResult) -> Response:
    headers = {"Retry-After": "1"} if status == 429 else None
    return JSONResponse(body.model_dump(mode="json", exclude_none=True), status, headers=headers)
