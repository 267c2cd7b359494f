"""/v1/objects: what lives on the newest frames."""

from collections.abc import Iterator

from fastapi import APIRouter

from pipeline.api.answers import ERRORS, UNKNOWN, ApiModel, unknown_stream
from pipeline.api.backend import Served
from pipeline.api.guard import AS_VIEWER
from pipeline.api.routes.settings import OneStream
from pipeline.observe.live import LiveStream
from pipeline.records.base import UtcTime
from pipeline.records.schema import ObjectRecord
from pipeline.records.translate import to_object

router = APIRouter(dependencies=AS_VIEWER, responses=ERRORS, tags=["streams"])


class ObjectAnswer(ApiModel):
    """An object on the newest frame of a stream."""

    stream_id: str
    """The stream."""
    stream_epoch: int
    """Of the frame."""
    frame_seq: int
    """Number of the frame in its stream."""
    capture_time: UtcTime
    """When the frame was taken, as its source says."""
    object: ObjectRecord
    """As in masklets records, without its mask."""


class ObjectsAnswer(ApiModel):
    """Objects on the newest frames, hidden ones included."""

    objects: tuple[ObjectAnswer, ...]
    """By stream and number."""


@router.get("/v1/objects", responses=UNKNOWN)
async def list_objects(backend: Served, stream_id: OneStream = None) -> ObjectsAnswer:
    """List what lives on the newest frame of all open streams, or of one."""
    live = backend.live.streams
    if stream_id is not None and stream_id not in live:
        raise unknown_stream(stream_id, list(live))
    names = sorted(live) if stream_id is None else [stream_id]
    found = (one for name in names for one in _objects_of(name, live[name]))
    return ObjectsAnswer(objects=tuple(found))


def _objects_of(stream_id: str, stream: LiveStream) -> Iterator[ObjectAnswer]:
    scene = stream.scene
    if scene is None:
        return
    frame = scene.frame
    for track in scene.tracks:
        yield ObjectAnswer(
            stream_id=stream_id,
            stream_epoch=frame.stream_epoch,
            frame_seq=frame.frame_seq,
            capture_time=frame.captured_at,
            object=to_object(track, scene.zones, with_mask=False),
        )
