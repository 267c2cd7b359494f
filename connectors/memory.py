"""A source and sinks without any outside: faults are data. Ships with the product, for tests."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import override

from connectors.base import Overlay, PictureSink, RecordSink, Refused, Source
from connectors.errors import (
    BadFrameError,
    CorruptMediaError,
    DeliveryFailedError,
    Position,
    StreamEndedError,
)
from connectors.frame import Frame
from connectors.record import Record, Topic


@dataclass(frozen=True, slots=True)
class Pause:
    """Deliver nothing for so many seconds, or until the source is closed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Raise a recoverable error; frames behind it belong to a new epoch."""

    reason: str = "the peer hung up"


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Raise an error that is not recoverable."""

    reason: str = "the data turned to garbage"


@dataclass(frozen=True, slots=True)
class BadFile:
    """Raise an error behind which the next read goes on, as a folder does after a bad file."""

    reason: str = "a file that cannot be read"


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Raise a ``BadFrameError`` with these bytes; the next read goes on behind it."""

    payload: bytes = b""
    reason: str = "one frame is garbage"


@dataclass(frozen=True, slots=True)
class Eof:
    """End here, whatever follows; a source built anew goes on behind it."""


Step = Frame | Pause | Disconnect | Corrupt | BadFile | BadFrame | Eof


class MemorySource(Source):
    """Plays a script of frames and faults.

    Guarantee: each frame exactly once; faults happen exactly where the script says.
    Ordering: that of the script.
    Resume: a source built with ``position`` goes on behind what another one has played.
    Parallelism: none; one reader. ``close`` may come from another thread and ends a pause.

    Args:
        steps: The script.
        stream_id: Named in errors.
        position: Where to go on, as another source of this script gave it.
        wait: Lets the seconds of a pause pass, for example by setting a test's clock forward;
            ``None`` waits in earnest.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        stream_id: str = "memory",
        position: Position | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        start = position or {}
        self._steps = tuple(steps)
        self._stream_id = stream_id
        self._next = int(start.get("index", 0))
        self._lost_connections = int(start.get("lost_connections", 0))
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self.num_opened = 0

    @override
    def open(self) -> None:
        self.num_opened += 1

    @override
    def read(self) -> Frame | None:
        while self._next < len(self._steps) and not self._closed.is_set():
            step = self._steps[self._next]
            position = self.position()
            self._next += 1
            match step:
                case Frame():
                    return replace(
                        step,
                        stream_epoch=step.stream_epoch + self._lost_connections,
                        position=self.position(),
                    )
                case Pause(seconds):
                    self._wait(seconds)
                case Disconnect(reason):
                    self._lost_connections += 1
                    raise StreamEndedError(self._stream_id, reason, position=position)
                case Corrupt(reason):
                    raise CorruptMediaError(self._stream_id, reason, position=position)
                case BadFile(reason):
                    raise CorruptMediaError(
                        self._stream_id,
                        reason,
                        position=position,
                        continues=True,
                        resume_position=self.position(),
                    )
                case BadFrame(payload, reason):
                    raise BadFrameError(
                        self._stream_id,
                        reason,
                        position=position,
                        payload=payload,
                        resume_position=self.position(),
                    )
                case Eof():
                    return None
        return None

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"index": self._next, "lost_connections": self._lost_connections}

    @override
    def close(self) -> None:
        self._closed.set()


@dataclass(slots=True)
class MemorySink(RecordSink):
    """Keeps every record in a list, up to a bound.

    Guarantee: a record is in ``records`` when ``write`` returns.
    Ordering: that of the writes.
    Parallelism: one writer.

    Attributes:
        records: What was written.
        capacity: Writing more than this many records fails with ``DeliveryFailedError``.
        num_flushes: How often ``flush`` was called.
        is_open: Between ``open`` and ``close``.
    """

    records: list[Record] = field(default_factory=list[Record])
    capacity: int = 1_000_000
    num_flushes: int = 0
    is_open: bool = False

    @override
    def open(self) -> None:
        self.is_open = True

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        if len(self.records) + len(records) > self.capacity:
            raise DeliveryFailedError("memory", f"more than {self.capacity} records")
        self.records.extend(records)
        return ()

    @override
    def flush(self) -> None:
        self.num_flushes += 1

    @override
    def close(self) -> None:
        self.is_open = False

    def of(self, topic: Topic) -> list[Record]:
        """Return the records of one kind, in order."""
        return [record for record in self.records if record.topic is topic]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFrame:
    """What a picture sink was given at once."""

    frame: Frame
    overlays: tuple[Overlay, ...]
    captions: tuple[str, ...]


@dataclass(slots=True)
class MemoryPictureSink(PictureSink):
    """Keeps every frame with its overlays in a list, up to a bound.

    Guarantee: a frame is in ``pictures`` when ``write`` returns.
    Ordering: that of the writes.
    Parallelism: one writer.
    """

    pictures: list[DrawnFrame] = field(default_factory=list[DrawnFrame])
    capacity: int = 10_000
    is_open: bool = False

    @override
    def open(self) -> None:
        self.is_open = True

    @override
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        if len(self.pictures) >= self.capacity:
            raise DeliveryFailedError("memory", f"more than {self.capacity} pictures")
        drawn = DrawnFrame(frame=frame, overlays=tuple(overlays), captions=tuple(captions))
        self.pictures.append(drawn)

    @override
    def flush(self) -> None:
        """Nothing to wait for."""

    @override
    def close(self) -> None:
        self.is_open = False
