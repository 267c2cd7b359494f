"""Sees to it that streams can go on in another process: when snapshots are taken, and what waits.

A snapshot holds a stream behind one of its frames. It is written once all alerts up to there are
safe, and of a source that keeps a position once all records are: what came later is told by the
event log, or read again.
"""

import logging
from dataclasses import dataclass, field

from connectors.errors import Position
from connectors.frame import Frame
from pipeline.clock import Clock
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.commits import Ticket
from pipeline.engine.delivery import Delivery
from pipeline.engine.outbox import Outbox
from pipeline.engine.state.capture import Capture, Farewell, save_stream
from pipeline.engine.state.log_mark import LogMark
from pipeline.engine.state.writer import Job, SnapshotWriter, Written
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Worker
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.state")

# Tracks that may begin between two snapshots; after half of them the next one is due at once. A
# restored stream counts on from there, so people see a gap of at most so much.
LEASED_NUMBERS = 64
_COVER_S = 10.0  # how often a stream without frames says that nothing of it is in the event log


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is kept of one stream.

    Attributes:
        keeps_position: Its frames can be read again: they are done once a snapshot holds them.
        running: The stream; ``None`` once it has left.
        taken_s: When the last snapshot was taken, monotonic.
        next_no: First number that no snapshot on its way allows.
        has_changed: A frame has led to something since the last snapshot.
        job: On its way: not safe yet, or being written.
        is_writing: The writer has it.
        retry_s: When it is tried again, monotonic; ``None``: it has not failed.
        held: Tickets of frames that no snapshot holds.
        newest_seq: Of the event log, all of the stream up to here is in its newest snapshot.
        covered_seq: Up to here in the one before too, which is used if the newest is damaged.
        mark: Asks how far that is, while nothing happens.
        marked_s: When it was asked last.
        source: Where its source goes on.
        error: Why the last snapshot is not on disk.
        is_leaving: The stream goes to another worker once its job is done.
        is_held_twice: The newest snapshot and the one before hold all that it has led to.
        is_reduced: Its whole memory is too large to be kept.
        frame: Its last one, where memory is rebuilt from a picture.
    """

    keeps_position: bool
    running: RunningStream | None = None
    taken_s: float = float("-inf")
    next_no: int = 0
    has_changed: bool = False
    job: Job | None = None
    is_writing: bool = False
    retry_s: float | None = None
    held: list[Ticket] = field(default_factory=list[Ticket])
    newest_seq: int = 0
    covered_seq: int = 0
    mark: LogMark | None = None
    marked_s: float = 0.0
    source: dict[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    error: str | None = None
    is_leaving: bool = False
    is_held_twice: bool = True
    is_reduced: bool = False
    frame: Frame | None = None


def keeps_state(config: StreamConfig) -> bool:
    """Return whether streams of this configuration go on after a restart: not those of files."""
    return config.is_live or config.source.keeps_position


class StateKeeper:
    """Takes snapshots of streams and has them written. Used by the engine's thread alone.

    Args:
        config: What is kept, and how often.
        writer: Writes; ``None``: nothing is kept.
        outbox: Says what is safe.
        worker: The model.
        metrics: Where snapshots are counted.
        clock: For when snapshots are due.
    """

    def __init__(
        self,
        config: RunConfig,
        writer: SnapshotWriter | None,
        *,
        outbox: Outbox,
        worker: Worker | None,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._every_s = config.state.snapshot_every_s
        self._model = config.model.name
        self._writer = writer
        self._outbox = outbox
        self._worker = worker
        self._metrics = metrics
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._nobody = _Entry(keeps_position=False)  # while no stream is open
        self._confirmed_seq = 0

    def start(self) -> None:
        """Begin to write."""
        if self._writer is not None:
            self._writer.start()

    def open(self, running: RunningStream, source: Position | None = None) -> None:
        """Keep a stream from now on, which goes on at ``source`` if it was restored.

        What was restored is written at once: the events that were replayed over it leave the log.
        """
        if self._writer is None or not keeps_state(running.config):
            return
        keeps_position = running.config.source.keeps_position
        entry = _Entry(keeps_position=keeps_position, running=running)
        entry.source, entry.has_changed = dict(source or {}), source is not None
        before = self._entries.get(running.stream_id)
        if before is not None:
            entry.held = self._take_tickets(before)
        self._entries[running.stream_id] = entry

    def follow(
        self, running: RunningStream, frame: Frame, ticket: Ticket, *, number: int, is_first: bool
    ) -> None:
        """Take note of a frame's result, delivery ``number``, and take a snapshot if one is due.

        Args:
            running: Its stream.
            frame: The frame.
            ticket: Finished once the frame is done.
            number: Of the delivery.
            is_first: It is the first of a session: without it no event could be gone on with.
        """
        entry = self._entries.get(running.stream_id)
        if entry is None or entry.running is None:
            ticket.finish(number)
            return
        entry.has_changed = True
        entry.source |= frame.position or {}
        if entry.keeps_position:
            entry.held.append(ticket)
        else:
            ticket.finish(number)
        is_short = running.stream.next_no + LEASED_NUMBERS // 2 >= entry.next_no
        if (self._is_old(entry) or is_short or is_first) and not entry.is_writing:
            self._capture(running, entry, frame, is_full=entry.keeps_position)
        if entry.is_reduced or not entry.keeps_position:
            entry.frame = frame

    def stop(self, running: RunningStream) -> bool:
        """Keep a stream with its session, which is not ended then; ``False``: it is not kept."""
        entry = self._entries.get(running.stream_id)
        if entry is None or entry.running is None:
            return False
        entry.running = None
        self._capture(running, entry)
        return True

    def leave(self, running: RunningStream) -> bool:
        """Keep a stream whole for another worker; ``False``: none could go on with it."""
        entry = self._entries.get(running.stream_id)
        if entry is None or self._writer is None or not self._writer.is_shared:
            return False
        entry.running, before = None, entry.job
        self._capture(running, entry)
        entry.is_leaving = True
        if entry.job is before:
            self.abandon(running.stream_id)
        return True

    def has_left(self, stream_id: str) -> bool:
        """Whether nothing more is to be written of a stream that leaves."""
        return stream_id not in self._entries

    def abandon(self, stream_id: str) -> bool:
        """Leave a stream as it was written last: its frames since come again, where it is read.

        Returns:
            False if it is not kept.
        """
        entry = self._entries.pop(stream_id, None)
        if entry is None:
            return False
        for ticket in self._take_tickets(entry):
            ticket.is_void = True
        return True

    def forget(self, stream_id: str) -> None:
        """Delete what is kept of a stream that has ended, once its last events are safe."""
        entry = self._entries.get(stream_id)
        if entry is not None:
            entry.running = None
            mark, number = self._mark()
            tickets = self._take_tickets(entry)
            entry.job = Farewell(stream_id=stream_id, mark=mark, number=number, tickets=tickets)
            entry.is_writing, entry.retry_s = False, None

    def bury(self, stream_id: str) -> None:
        """Delete what is kept of a stream that nothing goes on with, once its ends are safe."""
        self._entries[stream_id] = _Entry(keeps_position=False)
        self.forget(stream_id)

    def is_forgetting(self, stream_id: str) -> bool:
        """Whether what is kept of a stream is of one that has ended."""
        entry = self._entries.get(stream_id)
        return entry is not None and isinstance(entry.job, Farewell)

    def advance(self) -> None:
        """Have written what is safe by now, and finish what is on disk."""
        if self._writer is None:
            return
        for written in self._writer.take_done():
            self._settle(written)
        entries = list(self._entries.values()) or [self._nobody]
        for entry in entries:
            self._capture_idle(entry)
            if entry.job is None:
                self._cover(entry)
            elif self._is_due(entry) and self._is_safe(entry, entry.job):
                entry.is_writing = True
                self._writer.put(entry.job)
        least = min(entry.covered_seq for entry in entries)
        if least > self._confirmed_seq:
            self._confirmed_seq = least
            self._outbox.confirm_state(least)

    @property
    def is_busy(self) -> bool:
        """Whether frames wait for a snapshot that is on its way to the disk and has not failed."""
        return any(
            entry.keeps_position and entry.job is not None and entry.retry_s is None
            for entry in self._entries.values()
        )

    def error_of(self, stream_id: str) -> str | None:
        """Return why the last snapshot of a stream is not on disk."""
        entry = self._entries.get(stream_id)
        return None if entry is None else entry.error

    def close(self, timeout_s: float) -> dict[str, str]:
        """Write what is safe, and end; returns by stream why its last state is not on disk."""
        if self._writer is None:
            return {}
        self.advance()
        self._writer.close(timeout_s)
        self.advance()
        return {
            stream_id: entry.error or "snapshot not written in time"
            for stream_id, entry in self._entries.items()
            if isinstance(entry.job, Capture) or entry.error is not None
        }

    def _capture_idle(self, entry: _Entry) -> None:
        """Let what frames have led to be kept even if none follows them."""
        waits = entry.has_changed and not entry.is_writing
        if entry.running is not None and waits and self._is_old(entry):
            self._capture(entry.running, entry, is_full=entry.keeps_position)

    def _is_old(self, entry: _Entry) -> bool:
        return self._clock.monotonic_s() - entry.taken_s >= self._every_s

    def _capture(
        self,
        running: RunningStream,
        entry: _Entry,
        frame: Frame | None = None,
        *,
        is_full: bool = True,
    ) -> None:
        """Take a snapshot; a bug in it costs the stream nothing but that."""
        entry.taken_s = self._clock.monotonic_s()
        try:
            stream, saved = save_stream(running, self._worker)
        except Exception as error:
            _logger.exception("no snapshot could be taken", extra={"stream": running.stream_id})
            self._fail(running.stream_id, entry, f"no snapshot: {type(error).__name__}: {error}")
            return
        mark, number = self._mark()
        frame = frame or entry.frame
        entry.next_no = stream.next_no + LEASED_NUMBERS
        entry.is_held_twice = not entry.has_changed
        entry.has_changed, entry.is_writing, entry.retry_s = False, False, None
        entry.job = Capture(
            stream_id=running.stream_id,
            stream=stream,
            model=self._model,
            taken_at=self._clock.utc_now(),
            tracker=saved,
            is_full=frame is None or (is_full and not entry.is_reduced),
            frame=frame,
            next_no=entry.next_no,
            source=dict(entry.source),
            mark=mark,
            number=number,
            tickets=self._take_tickets(entry),
        )

    @staticmethod
    def _take_tickets(entry: _Entry) -> list[Ticket]:
        """Return the tickets of all frames that the next job holds; it replaces one that waits."""
        waiting = [] if entry.job is None else list(entry.job.tickets)
        tickets, entry.held = [*waiting, *entry.held], []
        return tickets

    def _mark(self) -> tuple[LogMark, int]:
        mark = LogMark()
        return mark, self._outbox.put(Delivery(mark=mark))

    def _is_due(self, entry: _Entry) -> bool:
        """Whether a job is to be written as soon as it is safe."""
        is_early = entry.retry_s is not None and self._clock.monotonic_s() < entry.retry_s
        return not entry.is_writing and not is_early

    def _is_safe(self, entry: _Entry, job: Job) -> bool:
        if job.mark.alerts_seq is None:
            return False
        if entry.keeps_position:
            return self._outbox.acknowledged >= job.number
        return self._outbox.are_alerts_safe(job.mark.alerts_seq)

    def _cover(self, entry: _Entry) -> None:
        """Let the event log forget what came from others, while nothing comes from this stream."""
        now_s = self._clock.monotonic_s()
        if entry.has_changed:
            entry.mark = None
        elif not entry.is_held_twice:
            if entry.running is not None and now_s - entry.taken_s >= _COVER_S:
                self._capture(entry.running, entry, is_full=entry.keeps_position)
        elif entry.mark is not None and entry.mark.alerts_seq is not None:
            if self._outbox.are_alerts_safe(entry.mark.alerts_seq):
                entry.covered_seq, entry.mark = entry.mark.alerts_seq, None
        elif entry.mark is None and now_s - max(entry.marked_s, entry.taken_s) >= _COVER_S:
            entry.mark, _ = self._mark()
            entry.marked_s = now_s

    def _settle(self, written: Written) -> None:
        job = written.job
        entry = self._entries.get(job.stream_id)
        if entry is None:
            return
        if written.error is not None and entry.job is job and entry.is_leaving:
            _logger.warning("%s; it goes on from the one before", written.error, extra=_about(job))
            self.abandon(job.stream_id)
            return
        if written.error is not None:
            self._fail(job.stream_id, entry, written.error)
            if entry.job is job:
                entry.is_writing = False
                entry.retry_s = self._clock.monotonic_s() + self._every_s
            return
        for ticket in job.tickets:
            ticket.finish()
        entry.error = None
        entry.is_reduced = entry.is_reduced or written.is_reduced
        entry.covered_seq, entry.newest_seq = entry.newest_seq, job.mark.alerts_seq or 0
        if not entry.is_leaving and isinstance(job, Capture):  # else its series are gone
            self._metrics.snapshots.labels(job.stream_id).inc()
        if entry.job is job:
            entry.job, entry.is_writing = None, False
            if isinstance(job, Farewell) or entry.is_leaving:
                del self._entries[job.stream_id]

    def _fail(self, stream_id: str, entry: _Entry, error: str) -> None:
        self._metrics.snapshot_errors.labels(stream_id).inc()
        if error != entry.error:
            entry.error = error
            _logger.warning("%s; tried again", error, extra={"stream": stream_id})


def _about(job: Job) -> dict[str, str]:
    return {"stream": job.stream_id}
