"""A stream as it stands between two frames, and that as text.

A snapshot shares what is never written to and holds copies of the rest: the stream may go on while
another thread encodes it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import TypeAdapter, ValidationError

from pipeline.clock import Moment
from pipeline.errors import SnapshotError
from pipeline.events.rules.machine import RuleBookState
from pipeline.streams.clock import ClockState, WallTime
from pipeline.streams.result import FrameStamp
from pipeline.tracking.tracks import BookState

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """An open session.

    Attributes:
        shape: Of its frames.
        book: Its tracks.
        rules: What rules know of them.
        stamp: Its last frame.
        now: That frame's time.
        wall_time: Of that frame.
    """

    shape: tuple[int, ...]
    book: BookState
    rules: RuleBookState
    stamp: FrameStamp
    now: Moment
    wall_time: WallTime


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSnapshot:
    """A stream as it stands between two frames.

    Attributes:
        stream_id: Its name.
        clock: Its time.
        session: The open session, if there is one.
        next_no: Number of its next track.
        captions: Lines for the corner of a picture with their stream times, newest last.
        last_stamp: The last frame with a result.
    """

    stream_id: str
    clock: ClockState
    session: SessionState | None
    next_no: int
    captions: tuple[tuple[int, str], ...]
    last_stamp: FrameStamp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    version: int
    stream: StreamSnapshot


_DOCUMENT = TypeAdapter(_Document)


def encode_snapshot(snapshot: StreamSnapshot) -> str:
    """Return a snapshot as JSON text; masks are run lengths."""
    return _DOCUMENT.dump_json(_Document(version=_VERSION, stream=snapshot)).decode()


def decode_snapshot(text: str) -> StreamSnapshot:
    """Return the snapshot that a text holds.

    Raises:
        SnapshotError: If it is damaged, of another version or something else.
    """
    try:
        body: object = json.loads(text)
    except ValueError as error:
        raise SnapshotError(f"snapshot: is not JSON: {error}") from error
    version = cast("Mapping[str, object]", body).get("version") if isinstance(body, dict) else None
    if version != _VERSION:
        raise SnapshotError(f"snapshot: is of version {version!r} (accepted: {_VERSION})")
    try:
        snapshot = _DOCUMENT.validate_json(text).stream
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SnapshotError(f"snapshot: {field}: {first['msg']}") from error
    # What has a default may be missing, and what is unknown is ignored: neither is ours.
    if encode_snapshot(snapshot) != text:
        raise SnapshotError(f"snapshot: lacks or adds fields (accepted: those of {_VERSION})")
    return snapshot
