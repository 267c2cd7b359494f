"""One source on its own thread: build, open, read, hand over; retried here and nowhere else."""

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connectors.base import Handover, Source
from connectors.errors import BadFrameError, Position, SourceError, UnreachableError
from connectors.frame import Frame
from pipeline.clock import Clock
from pipeline.config.sections.stream import ANY_STREAM, StreamConfig
from pipeline.engine.buffer import Arrived, FrameBuffer
from pipeline.engine.commits import CommitLog, Ticket
from pipeline.engine.inbox import (
    FileSkipped,
    FrameRefused,
    Inbox,
    PartitionsLeave,
    SourceEnded,
    SourceLost,
    SourceOpened,
    UnknownStream,
)
from pipeline.engine.ledger import DropCause, Ledger
from pipeline.engine.retry import HostLimit, RetryPolicy
from pipeline.engine.router import FrameRouter
from pipeline.engine.state.snapshot_store import SnapshotStore
from pipeline.streams.clock import to_us

_logger = logging.getLogger("maskstream.source")

_US = 1_000_000
_PREPARE_AGAIN_S = 1.0

BuildSource = Callable[[StreamConfig, Position | None], Source]


@runtime_checkable
class CommittingSource(Protocol):
    """A source that keeps its position elsewhere (Kafka) and is told when to move it."""

    def commit(self, position: Position) -> None:
        """Note that everything before ``position`` is done; by any thread, and at once.

        The same position may come again.
        """
        ...


@runtime_checkable
class SharedSource(CommittingSource, Protocol):
    """A source that shares its partitions with the sources of other workers.

    Attributes:
        on_handover: Called when some go to another worker, by a thread that may not wait.
    """

    on_handover: Callable[[Handover], None]

    def holds(self, position: Position) -> bool:
        """Whether the frame read last, which bears ``position``, is still to be processed here."""
        ...


@runtime_checkable
class GroupSource(CommittingSource, Protocol):
    """A source whose position transactions can move instead."""

    def leave_offsets(self) -> None:
        """Let ``commit`` be without effect; called before ``open``."""
        ...

    def membership(self, names: Collection[str]) -> object | None:
        """Return by what the broker knows the reader of partitions; ``None``: another reads them.

        Raises:
            SourceError: It is not connected.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerParts:
    """What all source runners share.

    Attributes:
        build: Builds a source, not open, that goes on at a position.
        host_of: Names the host that a stream's source connects to, if it does.
        inbox: Takes news for the engine.
        ledger: Where frames are counted that no buffer takes.
        hosts: Spreads connection attempts.
        clock: For arrival times.
        store: What streams go on from; ``None``: they begin anew.
    """

    build: BuildSource
    host_of: Callable[[StreamConfig], str | None]
    inbox: Inbox
    ledger: Ledger
    hosts: HostLimit
    clock: Clock
    store: SnapshotStore | None = None


class SourceRunner:
    """Reads one source until it has ended, failed for good or is stopped.

    Args:
        number: What messages call it.
        config: The stream, or template of streams, that the source feeds.
        parts: Shared with the other runners.
    """

    def __init__(self, number: int, config: StreamConfig, parts: RunnerParts) -> None:
        self.number = number
        self.config = config
        self.router = FrameRouter()
        self.commits: CommitLog | None = None
        self._parts = parts
        self._retry = RetryPolicy(config.retry, is_live=config.is_live)
        self._source: Source | None = None
        self._position: Position | None = None
        self._stopping = threading.Event()
        self._may_read = threading.Event()
        self._may_read.set()
        self._num_pauses = 0
        self._may_leave = threading.Event()
        self._lock = threading.Lock()
        self._mark: dict[str, int | float | str] = {}
        self._has_warned = False
        self._thread = threading.Thread(target=self._run, name=f"source-{config.id}", daemon=True)

    def start(self, position: Position | None = None) -> None:
        """Begin to read, at a position or at the beginning."""
        self._position = position
        self._thread.start()

    def pause(self) -> None:
        """Let go of a live source until :meth:`resume`; others wait by themselves. At once."""
        if self.config.is_live and self._may_read.is_set():
            self._may_read.clear()
            self._num_pauses += 1
            self._wake(self._source)

    def resume(self) -> None:
        """Read on after :meth:`pause`."""
        self._may_read.set()

    def stop(self) -> None:
        """Ask the thread to end and wake it from a read; returns at once. Repeatable."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._may_read.set()
        self.router.close()
        self._wake(self._source)

    def _wake(self, source: Source | None) -> None:
        # On a thread of its own: nobody knows how long a source takes to let go.
        waker = threading.Thread(
            target=self._interrupt, args=(source,), name="source-interrupt", daemon=True
        )
        # At the interpreter's end threads can no longer start, and all of ours end by themselves.
        with suppress(RuntimeError):
            waker.start()

    def commit(self, mark: Position) -> None:
        """Tell the source, or the one built next, that everything before ``mark`` is done."""
        with self._lock:
            self._mark.update(mark)
        source = self._source
        if source is not None:
            self._commit(source)

    def membership(self, names: Collection[str]) -> object | None:
        """Return by what the broker knows the reader of partitions; any thread may ask.

        Raises:
            SourceError: The source is not connected.
        """
        source = self._source
        if not isinstance(source, GroupSource):
            raise UnreachableError(self.config.id, "its source is not connected")
        return source.membership(names)

    def finish(self) -> None:
        """Say that no later mark will come: the thread ends."""
        self._may_leave.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; tell whether it has ended, or never began."""
        if self._thread.ident is not None:
            self._thread.join(max(timeout_s, 0.0))
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            error = self._read_until_done()
        finally:
            self._parts.inbox.post(SourceEnded(source=self.number, error=error))
            if self.commits is not None:
                self._may_leave.wait()
            self._let_go()

    def _read_until_done(self) -> Exception | None:
        """Read, again after errors that may pass; returns the one that could not."""
        while not self._stopping.is_set():
            self._may_read.wait()
            num_pauses = self._num_pauses
            try:
                source = self._connect()
                self._pump(source)
            except Exception as error:
                if self._stopping.is_set():
                    return None
                if self._num_pauses != num_pauses:
                    self._let_go()
                    continue
                if not isinstance(error, SourceError):
                    _logger.exception("source raised", extra=self._extra())
                delay_s = self._retry.delay_s(error, self._parts.clock.monotonic_s())
                if delay_s is None:
                    return error
                self._let_go()
                lost = SourceLost(source=self.number, error=error, retry_s=delay_s)
                self._parts.inbox.post(lost)
                self._stopping.wait(delay_s)
            else:
                if self._stopping.is_set() or self._num_pauses == num_pauses:
                    return None
                self._let_go()
        return None

    def _connect(self) -> Source:
        host = self._parts.host_of(self.config)
        with self._parts.hosts.attempt(host, self._stopping.is_set):
            source = self._source = self._parts.build(self.config, self._position)
            if isinstance(source, CommittingSource) and self.commits is None:
                self.commits = CommitLog()
            if isinstance(source, SharedSource):
                source.on_handover = self._pass_on
            if self._may_read.is_set() and not self._stopping.is_set():
                source.open()
        # All marks: nobody knows which of them the source before this one still got through, and
        # while a source is opening it takes none.
        self._commit(source)
        self._retry.note_opened(self._parts.clock.monotonic_s())
        self._parts.inbox.post(SourceOpened(source=self.number, at_us=self._now_us()))
        return source

    def _pump(self, source: Source) -> None:
        while self._may_read.is_set() and not self._stopping.is_set():
            try:
                frame = source.read()
            except BadFrameError as error:
                ticket = self._ticket(error.resume_position)
                refused = FrameRefused(source=self.number, error=error, ticket=ticket)
                self._parts.inbox.post(refused)
                continue
            except SourceError as error:
                if not error.continues:
                    raise
                self._ticket(error.resume_position).finish()
                self._parts.inbox.post(FileSkipped(source=self.number, error=error))
                continue
            if frame is None:
                if not self._stopping.is_set():
                    self._ticket(source.position()).finish()
                return
            self._put(frame, source)

    def _put(self, frame: Frame, source: Source) -> None:
        """Put a frame into its stream's buffer; waits there, and for streams not known yet."""
        arrived = Arrived(
            frame=frame,
            arrived_us=self._now_us(),
            now_us=to_us(self._parts.clock.utc_now()),
            ticket=self._ticket(frame.position),
        )
        # Asked with the ticket begun: what leaves from now on voids it.
        if isinstance(source, SharedSource) and not source.holds(frame.position or {}):
            self._cancel(arrived.ticket)
        while not self._stopping.is_set():
            version = self.router.version
            if arrived.ticket.is_void:
                self._parts.ledger.refuse(self.config.id, DropCause.MOVED)
                return
            target = self._route(frame.stream_id)
            if isinstance(target, DropCause):
                self._parts.ledger.refuse(self.config.id, target)
                arrived.ticket.finish()
                return
            if target is None:
                if not self._prepare(arrived):
                    continue
                news = UnknownStream(
                    source=self.number, stream_id=frame.stream_id, ticket=arrived.ticket
                )
                self._parts.inbox.post(news)
            elif target.offer(arrived):
                return
            # Not known, or closed for idleness just as this frame came: the engine answers soon.
            self.router.wait_change(version)
        # Lost: its ticket stays open, so that the committed position never passes it.
        is_known = isinstance(self.router.find(frame.stream_id), FrameBuffer)
        stream_id = frame.stream_id if is_known else self.config.id
        self._parts.ledger.refuse(stream_id, DropCause.STOPPED)

    def _route(self, stream_id: str) -> FrameBuffer | DropCause | None:
        if self.config.id in (ANY_STREAM, stream_id):
            return self.router.find(stream_id)
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "its source sends frames of stream %r, which are dropped as unknown "
                "(accepted: that key as the stream's id, or %r for every stream of the source)",
                stream_id,
                ANY_STREAM,
                extra=self._extra(),
            )
        return DropCause.UNKNOWN_STREAM

    def _ticket(self, position: Position | None) -> Ticket:
        return Ticket() if self.commits is None else self.commits.begin(position)

    def _prepare(self, arrived: Arrived) -> bool:
        """Have at hand what the frame's stream goes on from; waits while that cannot be read.

        Returns:
            ``False``: nobody waits for it any more. The stream must not begin anew over its state.
        """
        store, is_lost = self._parts.store, False
        if store is None:
            return True
        while not (self._stopping.is_set() or arrived.ticket.is_void):
            try:
                store.prepare(arrived.frame.position or {})
            except SourceError as error:
                is_lost = True
                lost = SourceLost(source=self.number, error=error, retry_s=_PREPARE_AGAIN_S)
                self._parts.inbox.post(lost)
                self._stopping.wait(_PREPARE_AGAIN_S)
            else:
                if is_lost:
                    opened = SourceOpened(source=self.number, at_us=self._now_us())
                    self._parts.inbox.post(opened)
                return True
        return False

    def _cancel(self, ticket: Ticket) -> None:
        if self.commits is not None:
            self.commits.cancel(ticket)

    def _pass_on(self, handover: Handover) -> None:
        if self._parts.store is not None:
            self._parts.store.release(handover.partitions)
        self._parts.inbox.post(PartitionsLeave(source=self.number, handover=handover), waits=False)

    def _commit(self, source: Source) -> None:
        if not isinstance(source, CommittingSource):
            return
        with self._lock:
            mark = dict(self._mark)
        if mark:
            source.commit(mark)

    def _interrupt(self, source: Source | None) -> None:
        try:
            if source is not None:
                source.interrupt()
        except Exception:
            _logger.exception("source could not be interrupted", extra=self._extra())

    def _let_go(self) -> None:
        """Close the source, and keep the point from which the next one goes on."""
        source, self._source = self._source, None
        if source is None:
            return
        try:
            self._position = source.position()
        except Exception:
            _logger.exception("source does not know its position", extra=self._extra())
        try:
            source.close()
        except Exception:
            _logger.exception("source could not be closed", extra=self._extra())

    def _now_us(self) -> int:
        return round(self._parts.clock.monotonic_s() * _US)

    def _extra(self) -> dict[str, str]:
        return {"stream": self.config.id}
