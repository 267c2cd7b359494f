"""What every source and sink promises. A connector is four verbs and three promises."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from connectors.errors import Position
from connectors.frame import Frame
from connectors.record import Record


class Source(ABC):
    """Yields the frames of one or several streams. Used by one thread at a time.

    A source never tries anything again by itself: it raises, and whoever reads it decides. After
    an error that is ``recoverable`` it closes the source and builds it anew at its position.
    """

    @abstractmethod
    def open(self) -> None:
        """Connect or open files; once, and for nothing when closed before.

        Raises:
            SourceError: A typed error naming stream, position and reason.
        """

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame, waiting for it if need be; ``None`` once the source has ended.

        Raises:
            SourceError: A typed error naming stream, position and reason. Where ``continues`` is
                set the next read goes on behind it, any number of times. Frames already read
                stay valid.
        """

    @abstractmethod
    def position(self) -> dict[str, int | float | str]:
        """Return the resume point, a small JSON value: what ``read`` would return next.

        A source built with it goes on there; so does one built with ``Frame.position``, the point
        behind that frame. It may be asked before ``open`` and after ``close``.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything held, for good.

        May be called twice, and from another thread to end an opening or a read, which then
        returns ``None``.
        """

    def interrupt(self) -> None:
        """End a read that waits; called by another thread, once, when the run is to stop.

        Sources that keep a position elsewhere go on holding their connection, so that the thread
        which reads can still commit; all others may let go of everything.
        """
        self.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Partitions of a source that go to another worker, while frames of them are on their way.

    Attributes:
        partitions: Their names, as positions of frames have them.
        over: Set once nothing of them is to be committed any more, by whoever sees it first: all
            is done, or the time is over. From the start where another worker has them already.
    """

    partitions: frozenset[str]
    over: threading.Event = field(default_factory=threading.Event)


class Sink(ABC):
    """What all sinks promise; each kind adds its own ``write``. Used by one thread at a time.

    Opening is local: whoever writes to a network connects with the first write.

    Attributes:
        is_durable: Whether what it takes must arrive, so that a run is not ready while it is down.
    """

    is_durable: ClassVar[bool] = True

    @property
    def num_refused(self) -> int:
        """Records, frames or pictures left out because they themselves were at fault."""
        return 0

    @abstractmethod
    def open(self) -> None:
        """Make ready what is local. Raises a :class:`connectors.errors.SinkError`."""

    @abstractmethod
    def flush(self) -> None:
        """Return once everything written so far is durable, as the docstring's guarantee says."""

    def close_stream(self, stream_id: str) -> None:  # noqa: B027 - most sinks hold nothing
        """Let go of what is held for one stream; it may come back. By default nothing is."""

    def interrupt(self) -> None:  # noqa: B027 - most sinks do not wait
        """End a write that waits, which then raises; called by another thread, at a stop."""

    @abstractmethod
    def close(self) -> None:
        """Flush, then let go of everything held. May be called twice."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that its sink cannot take, whatever is tried: the record is at fault.

    Attributes:
        record: As it was to be written.
        reason: Why it cannot be.
    """

    record: Record
    reason: str


def _keep_whole(_record: Record) -> Record | None:
    return None


class RecordSink(Sink):
    """Takes records: Kafka, JSONL, console.

    Attributes:
        needs_log: Records wait for it on disk while it is away.
        pace_s: Least time between two writes, where each costs much.
        shrink: Returns a smaller form of a record, ``None`` if there is none. Set by whoever knows
            what is in records; a sink sends that form in the place of one that is too large.
    """

    needs_log: ClassVar[bool] = False
    pace_s: ClassVar[float] = 0.0
    shrink: Callable[[Record], Record | None] = staticmethod(_keep_whole)

    @abstractmethod
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        """Write records in order; returns once they have arrived as the guarantee says.

        Returns:
            Those that were left out because they themselves are at fault.

        Raises:
            SinkError: Nobody knows how many have arrived. The same records are to be written
                again; what arrived in the meantime is then not written twice.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """How far one transaction moves a source that keeps its position on the sink's cluster.

    Attributes:
        group: The group of consumers whose position it is.
        membership: Returns by what the broker knows the reader of the named partitions; ``None``
            once one of them is another reader's.
        first: By partition, the point behind the first frame since the transaction before.
        last: By partition, the point behind the last frame; the new position.
    """

    group: str
    membership: Callable[[Collection[str]], object | None]
    first: Position
    last: Position


class TransactionSink(RecordSink):
    """Takes records and positions of sources in one transaction: all of it counts, or nothing.

    While it is away its sources wait.
    """

    needs_log: ClassVar[bool] = False

    @abstractmethod
    def recover(self, groups: Collection[str]) -> Collection[str]:
        """Shut out whoever wrote under the same name before, and undo what it left half done.

        Called before the sources begin to read.

        Args:
            groups: Groups of consumers whose positions are to be moved.

        Returns:
            Pointers that go with the positions of these groups.

        Raises:
            SinkError: Not done yet; to be called again.
        """

    @abstractmethod
    def commit(
        self, records: Sequence[Record], advances: Sequence[Advance], pointer: str
    ) -> Sequence[Refused]:
        """Write records in order and move positions; returns once the transaction is committed.

        Args:
            records: Those that the frames before the new positions have led to.
            advances: The new positions; none moves no source.
            pointer: Kept with each position; no two transactions have the same.

        Returns:
            Records that were left out because they themselves are at fault.

        Raises:
            FencedError: Another worker has taken over, and nothing is written. Final.
            SinkError: Nobody knows whether it is committed. The same is to be committed again; if
                it is there by then it is not written twice.
        """

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        return self.commit(records, (), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One object to draw on a frame.

    Attributes:
        number: Small number for people, decides the colour.
        label: Concept and whatever else is to be written beside the object.
        bits: Its pixels, shape (h, w), bool: a crop of the frame.
        x0: Left edge of the crop in px of the frame.
        y0: Top edge of the crop in px of the frame.
        is_occluded: Drawn dashed and dim.
        is_tentative: Drawn thin.
    """

    number: int
    label: str
    bits: NDArray[np.bool_]
    x0: int = 0
    y0: int = 0
    is_occluded: bool = False
    is_tentative: bool = False


class PictureSink(Sink):
    """Takes frames with what was found on them: annotated video, pictures."""

    is_durable = False

    @abstractmethod
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        """Draw one frame. ``captions`` are lines for the corner: events of the last seconds."""


class FrameSink(Sink):
    """Takes frames as they come from a source, whether a model looks at them or not."""

    @property
    def num_pending(self) -> int:
        """Frames that were handed over and are not durable yet. Any thread may ask."""
        return 0

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Hand over one frame. Raises a :class:`connectors.errors.SinkError`."""
