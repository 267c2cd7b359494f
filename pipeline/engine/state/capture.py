"""A stream at one moment, as the engine's thread takes it and another one writes it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connectors.frame import Frame
from models.protocols import SavedStream
from pipeline.engine.commits import Ticket
from pipeline.engine.state.log_mark import LogMark
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Worker
from pipeline.streams.snapshot import StreamSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What is needed to go on with a stream.

    Attributes:
        stream_id: Its name.
        stream: Its time, tracks and rules.
        model: Name of the model.
        taken_at: UTC time.
        tracker: What the model remembers; ``None`` without session.
        is_full: The tracker's whole memory is kept; else what it is rebuilt from.
        frame: Its last frame, from which the memory is rebuilt, if there is one.
        next_no: No track has had this number or a higher one before the next snapshot is on disk.
        source: Where its source goes on.
        mark: Where in the event log this is.
        number: Of the delivery that carries the mark.
        tickets: Of frames that are done once this is on disk.
        cut: Number of the transaction that it goes with; 0: of none.
    """

    stream_id: str
    stream: StreamSnapshot
    model: str
    taken_at: datetime
    tracker: SavedStream | None
    is_full: bool
    frame: Frame | None
    next_no: int
    source: Mapping[str, int | float | str]
    mark: LogMark
    number: int
    tickets: Sequence[Ticket] = ()
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """A stream that has ended: its snapshots go once its last events are safe."""

    stream_id: str
    mark: LogMark
    number: int
    tickets: Sequence[Ticket] = ()


def save_stream(
    running: RunningStream, worker: Worker | None
) -> tuple[StreamSnapshot, SavedStream | None]:
    """Return how a stream stands between two frames, and what the model remembers of it."""
    stream = running.stream.snapshot()
    if stream.session is None or worker is None:
        return stream, None
    return stream, worker.save(running.stream_id)
