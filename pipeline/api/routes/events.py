"""/v1/events: events and status as they come."""

from enum import StrEnum
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from connectors.record import Topic
from pipeline.api.answers import ERRORS
from pipeline.api.feed import EventFeed, EventStream, Wanted
from pipeline.api.guard import AS_VIEWER

router = APIRouter(dependencies=AS_VIEWER, responses=ERRORS, tags=["events"])

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "Server-sent events: `event` and `status` with a record as JSON, and "
        "`missed` with the number of records that the client was too slow for.",
    },
}


class RecordKind(StrEnum):
    """What can be followed."""

    EVENT = "event"
    STATUS = "status"


_TOPICS = {RecordKind.EVENT: Topic.EVENTS, RecordKind.STATUS: Topic.STATUS}


@router.get("/v1/events", responses=_ANSWERS, response_class=Response)
async def follow_events(
    request: Request,
    stream_id: Annotated[list[str], Query(description="Of these streams; of all if none.")] = [],  # noqa: B006 - pydantic copies it
    kind: Annotated[list[RecordKind], Query(description="Of these kinds; both if none.")] = [],  # noqa: B006 - pydantic copies it
    last_event_id: Annotated[
        str | None, Header(description="Of the last event that the client has had.")
    ] = None,
) -> Response:
    """Follow events and status records as they come, for ever.

    A client that comes back with `Last-Event-ID` gets what it has missed, as far as it is kept.
    """
    feed = cast("EventFeed", request.app.state.feed)
    topics = frozenset(_TOPICS[one] for one in kind or RecordKind)
    wanted = Wanted(topics=topics, stream_ids=frozenset(stream_id))
    return EventStream(feed, wanted, feed.place_of(last_event_id))
