"""What is handed to the sinks."""

from dataclasses import dataclass

from connectors.frame import Frame
from connectors.record import Record
from pipeline.engine.state.log_mark import LogMark
from pipeline.records.schema import EventRecord, StatusRecord
from pipeline.streams.result import FrameResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something on its way to all sinks.

    Attributes:
        result: A frame's result, or
        record: a stream's state, or the end of an event that no frame ended, or
        dead_letter: input that was refused, or
        frame: a frame as it was taken, for sinks of frames, or
        closed_stream: a stream that is gone, so that its files can be closed, or
        mark: a question for the place in the event log.
        is_live: Its stream cannot wait: where there is no room, pictures and masklets are left out.
    """

    result: FrameResult | None = None
    record: StatusRecord | EventRecord | None = None
    dead_letter: Record | None = None
    frame: Frame | None = None
    closed_stream: str | None = None
    mark: LogMark | None = None
    is_live: bool = False

    @property
    def has_records(self) -> bool:
        """Whether it goes to the log: sinks of records take it, or it asks for a place there."""
        parts = (self.result, self.record, self.dead_letter, self.mark)
        return any(part is not None for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """What a sink did not get by the end of a run.

    Attributes:
        text: Why, and what became of it.
        num_kept: Records that the log keeps for the next run; ``None``: something is lost.
        is_failure: Whether the run has failed by it: it had to arrive and is lost, or the sink is
            best effort and leaves nothing of use.
    """

    text: str
    num_kept: int | None = None
    is_failure: bool = True
