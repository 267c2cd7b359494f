"""/v1/frames: the newest picture of a stream."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from pipeline.api.answers import ERRORS, UNKNOWN, ErrorAnswer, Flag, RefusedError, unknown_stream
from pipeline.api.backend import Served
from pipeline.api.guard import AS_VIEWER
from pipeline.api.pictures import PictureDesk, tag_of
from pipeline.clock import format_time

router = APIRouter(dependencies=AS_VIEWER, responses=ERRORS, tags=["streams"])

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The picture; `ETag` names the frame.",
    },
    304: {"description": "The client has this frame already."},
    503: {"model": ErrorAnswer, "description": "Too many pictures to draw."},
    **UNKNOWN,
}


# The name may hold a slash.
@router.get("/v1/frames/{stream_id:path}", responses=_ANSWERS, response_class=Response)
async def get_frame(
    request: Request,
    backend: Served,
    stream_id: str,
    masks: Annotated[Flag, Query(description="Draw masks, names and events on it.")] = "false",
    if_none_match: Annotated[str | None, Header(description="ETag that the client has.")] = None,
) -> Response:
    """Return the newest frame of a stream as JPEG."""
    live = backend.live.streams
    if stream_id not in live:
        raise unknown_stream(stream_id, list(live))
    scene = live[stream_id].scene
    if scene is None:
        raise RefusedError(404, f"no frame of {stream_id!r} yet", headers={"Retry-After": "1"})
    with_masks = masks == "true"
    tag = f'"{tag_of(scene)}{"-masks" if with_masks else ""}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "X-Capture-Time": format_time(scene.frame.captured_at),
    }
    if if_none_match == tag:
        return Response(status_code=304, headers=headers)
    desk = cast("PictureDesk", request.app.state.pictures)
    jpeg = await desk.draw(scene, with_masks=with_masks)
    return Response(jpeg, headers=headers, media_type="image/jpeg")
