"""What other threads tell the engine: bounded, and read before any frame.

Frames never queue here; they wait in the buffers of their streams, where newer ones may replace
older ones. Only :meth:`Inbox.request_stop` may be called by a signal handler.
"""

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from connectors.base import Handover
from connectors.errors import BadFrameError, SourceError
from pipeline.config.run import RunConfig
from pipeline.engine.commits import Ticket
from pipeline.records.command import AnyCommand, CommandResult

_CAPACITY = 64  # dead letters of up to 16 MiB may wait here, so not many


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOpened:
    """A source was connected at a monotonic time; frames may have followed."""

    source: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLost:
    """A source broke off or could not be opened, and is tried again in ``retry_s``."""

    source: int
    error: Exception
    retry_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEnded:
    """A source gives no more frames: it came to its end, or ``error`` makes going on senseless."""

    source: int
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRefused:
    """A frame that cannot be decoded; goes to the dead letters."""

    source: int
    error: BadFrameError
    ticket: Ticket = field(default_factory=Ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSkipped:
    """A file of several that cannot be read; the source goes on with the next."""

    source: int
    error: SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStream:
    """A source that names its streams has given a new name; its thread waits for an answer.

    Attributes:
        ticket: Of the frame that bears it.
    """

    source: int
    stream_id: str
    ticket: Ticket = field(default_factory=Ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionsLeave:
    """Partitions of a source go to another worker, or have gone; the source waits for an answer."""

    source: int
    handover: Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteCommand:
    """A command is to be carried out, and to be answered.

    Attributes:
        file: The configuration file as it was read for a ``reload``.
    """

    command: AnyCommand
    answer: "Future[CommandResult]"
    file: RunConfig | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run."""


SourceNews = (
    SourceOpened
    | SourceLost
    | SourceEnded
    | FrameRefused
    | FileSkipped
    | UnknownStream
    | PartitionsLeave
)
Message = SourceNews | ExecuteCommand | Stop


class Inbox:
    """A bounded queue of messages that any thread posts and the engine's thread drains.

    Args:
        capacity: Messages held at most; a thread that posts one more waits.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"bad capacity {capacity!r} (accepted: at least 1)")
        self._capacity = capacity
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
        self._is_awake = False
        self._is_closed = False
        self._is_stop_requested = False
        self._is_stop_told = False

    def post(self, message: Message, *, waits: bool = True) -> bool:
        """Hand a message over; after :meth:`close` it is left out.

        Args:
            message: For the engine.
            waits: Until there is room; not for messages that are few, of threads that may not wait.

        Returns:
            False if it was left out.
        """
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: self._has_room or self._is_closed)
            if self._is_closed:
                return False
            self._messages.append(message)
            self._is_awake = True
            self._changed.notify_all()
            return True

    @property
    def num_waiting(self) -> int:
        """Messages that wait to be drained."""
        return len(self._messages)

    @property
    def _has_room(self) -> bool:
        return len(self._messages) < self._capacity

    def request_stop(self) -> None:
        """Ask for the end of the run; noticed at the next drain. For signal handlers."""
        # A bare flag: a lock may be held by the very code that the signal has interrupted.
        self._is_stop_requested = True

    @property
    def is_stop_requested(self) -> bool:
        """Whether the end of the run was asked for."""
        return self._is_stop_requested

    def wake(self) -> None:
        """End the engine's wait: a frame has come."""
        with self._changed:
            self._is_awake = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Return once there is something to do, at the latest after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_awake, timeout_s)

    def drain(self) -> list[Message]:
        """Return all messages in order, a requested stop first. For the engine's thread."""
        with self._changed:
            self._is_awake = False
            messages = list(self._messages)
            self._messages.clear()
            self._changed.notify_all()
        if self._is_stop_requested and not self._is_stop_told:
            self._is_stop_told = True
            messages.insert(0, Stop())
        return messages

    def close(self) -> None:
        """Take nothing more and let go of those who wait to post."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
