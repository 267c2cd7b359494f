"""/v1/streams: what every stream is doing."""

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import Field

from pipeline.api.answers import ERRORS, UNKNOWN, ApiModel, unknown_stream
from pipeline.api.backend import Backend, Served
from pipeline.api.guard import AS_VIEWER
from pipeline.config.sections.stream import StreamConfig
from pipeline.observe.health import HealthReport
from pipeline.observe.live import LiveStream
from pipeline.records.base import UtcTime
from pipeline.records.schema import FrameCounts, FrameSize, RestoredState, StreamState
from pipeline.streams.result import Scene

router = APIRouter(dependencies=AS_VIEWER, responses=ERRORS, tags=["streams"])


class FrameAnswer(ApiModel):
    """The newest frame of a stream."""

    stream_epoch: int
    """Grows at each discontinuity of the stream."""
    frame_seq: int
    """Number of the frame in its stream."""
    capture_time: UtcTime
    """When it was taken, as its source says."""
    size: FrameSize
    """Its pixels."""
    num_tracks: int
    """Objects that live on it, hidden ones included."""


class StreamAnswer(ApiModel):
    """A stream as it stands."""

    id: str
    """Its name; ``*`` is the template of streams that a source names itself."""
    source: str
    """Type of its source."""
    state: StreamState
    """What it is doing."""
    since: UtcTime
    """Since when."""
    error: str | None
    """What is wrong with it now."""
    restored: RestoredState | None
    """What it went on from, after a restart; null: from nothing."""
    state_error: str | None
    """Why its newest state is not on disk. Null: it is, or nothing of the stream is kept."""
    counts: FrameCounts
    """Where its frames went since the start."""
    concepts: tuple[str, ...]
    """Names of what is looked for."""
    zones: tuple[str, ...]
    """Names of its zones."""
    rules: tuple[str, ...]
    """Names of its rules."""
    frame: FrameAnswer | None
    """The newest frame that was processed; null before the first, and once it has ended."""


class StreamsAnswer(ApiModel):
    """All streams."""

    streams: tuple[StreamAnswer, ...] = Field(default=())
    """By name."""


@router.get("/v1/streams")
async def list_streams(backend: Served) -> StreamsAnswer:
    """List all streams with what they are doing."""
    report, live = backend.health.liveness(), backend.live.streams
    names = sorted(report.streams)
    found = [_stream(backend, report, live, name) for name in names]
    return StreamsAnswer(streams=tuple(one for one in found if one is not None))


# The name may hold a slash.
@router.get("/v1/streams/{stream_id:path}", responses=UNKNOWN)
async def get_stream(backend: Served, stream_id: str) -> StreamAnswer:
    """Return one stream with what it is doing."""
    report = backend.health.liveness()
    stream = _stream(backend, report, backend.live.streams, stream_id)
    if stream is None:
        raise unknown_stream(stream_id, list(report.streams))
    return stream


def config_of(
    backend: Backend, live: Mapping[str, LiveStream], stream_id: str
) -> StreamConfig | None:
    """Return how a stream is configured now; of one that is not open, as the file says."""
    if stream_id in live:
        return live[stream_id].config
    return next((one for one in backend.config.streams if one.id == stream_id), None)


def _stream(
    backend: Backend, report: HealthReport, live: Mapping[str, LiveStream], stream_id: str
) -> StreamAnswer | None:
    health, config = report.streams.get(stream_id), config_of(backend, live, stream_id)
    if health is None or config is None:
        return None
    scene = live[stream_id].scene if stream_id in live else None
    return StreamAnswer(
        id=stream_id,
        source=config.source.type,
        state=health.state,
        since=health.since,
        error=health.error,
        restored=health.restored,
        state_error=health.state_error,
        counts=backend.ledger.counts(stream_id),
        concepts=tuple(one.name for one in config.searched),
        zones=tuple(zone.name for zone in config.zones),
        rules=tuple(rule.name for rule in config.rules),
        frame=None if scene is None else _frame(scene),
    )


def _frame(scene: Scene) -> FrameAnswer:
    frame = scene.frame
    height, width = frame.pixels.shape[:2]
    return FrameAnswer(
        stream_epoch=frame.stream_epoch,
        frame_seq=frame.frame_seq,
        capture_time=frame.captured_at,
        size=FrameSize(width=width, height=height),
        num_tracks=len(scene.tracks),
    )
