"""Snapshots of streams that go with transactions: what exactly once asks of a restart.

A transaction commits what frames up to a cut have led to, and the position behind them. So each
cut has a whole snapshot of every stream that has changed: it is on disk before the transaction is
committed, and the number in it says whether that has happened.
"""

import logging
from dataclasses import dataclass, field, replace

from connectors.errors import Position
from connectors.frame import Frame
from pipeline.clock import Clock
from pipeline.config.run import RunConfig
from pipeline.engine.commits import Ticket
from pipeline.engine.state.capture import Capture, Farewell, save_stream
from pipeline.engine.state.log_mark import LogMark
from pipeline.engine.state.writer import Job, SnapshotWriter
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Worker
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.state")

_AGAIN_S = 1.0  # after a disk that is full or away: the transaction waits for it, and the sources


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is kept of one stream.

    Attributes:
        running: The stream.
        source: Where its source goes on.
        has_changed: A frame has led to something since the last cut.
    """

    running: RunningStream
    source: dict[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    has_changed: bool = False


class CutKeeper:
    """Takes a snapshot of streams at each cut. Used by the engine's thread alone.

    Args:
        config: Names the model.
        writer: Writes.
        worker: The model.
        metrics: Where snapshots are counted.
        clock: For stamps, and for when a full disk is tried again.
    """

    def __init__(
        self,
        config: RunConfig,
        writer: SnapshotWriter,
        *,
        worker: Worker | None,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._model = config.model.name
        self._writer = writer
        self._worker = worker
        self._metrics = metrics
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._left: dict[str, Job] = {}  # of streams that are closed: for the next cut
        self._gone: set[str] = set()  # streams that have ended since the last cut
        self._to_delete: set[str] = set()  # those that had ended before it
        self._unwritten: dict[int, Job] = {}
        self._failed: list[Job] = []
        self._again_s = 0.0
        self._errors: dict[str, str] = {}

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def open(self, running: RunningStream, source: Position | None = None) -> None:
        """Keep a stream from now on, which goes on at ``source`` if it was restored."""
        self._entries[running.stream_id] = _Entry(running=running, source=dict(source or {}))

    def follow(
        self, running: RunningStream, frame: Frame, ticket: Ticket, *, number: int, is_first: bool
    ) -> None:
        """Take note of a frame's result, delivery ``number``; the next cut holds it."""
        del is_first  # no frame is lost between two cuts
        ticket.finish(number)
        entry = self._entries.get(running.stream_id)
        if entry is not None:
            entry.has_changed = True
            entry.source |= frame.position or {}

    def stop(self, running: RunningStream) -> bool:
        """Keep a stream with its session, which is not ended then; ``False``: it is not kept."""
        entry = self._entries.pop(running.stream_id, None)
        if entry is None:
            return False
        self._left[running.stream_id] = self._capture(entry)
        return True

    def leave(self, running: RunningStream) -> bool:
        """Return ``False``: no other worker could go on with a stream, so it is to be ended."""
        del running
        return False

    def abandon(self, stream_id: str) -> bool:
        """Return ``False``, as :meth:`leave` does where partitions are lost."""
        del stream_id
        return False

    def has_left(self, stream_id: str) -> bool:
        """Whether nothing more is to be taken of a stream that leaves."""
        return stream_id not in self._entries

    def forget(self, stream_id: str) -> None:
        """Delete what is kept of a stream that has ended, once its last events are committed."""
        entry = self._entries.pop(stream_id, None)
        if entry is not None:
            # Till then it is kept as it has ended: its events are not to end again.
            self._left[stream_id] = self._capture(entry)
            self._gone.add(stream_id)

    def bury(self, stream_id: str) -> None:
        """Delete what is kept of a stream that nothing goes on with, once its ends are out."""
        self._gone.add(stream_id)

    def is_forgetting(self, stream_id: str) -> bool:
        """Whether what is kept of a stream is of one that has ended."""
        return stream_id in self._gone or stream_id in self._to_delete

    @property
    def is_busy(self) -> bool:
        """Whether frames wait for a snapshot: they have the transaction to wait for."""
        return False

    @property
    def has_changes(self) -> bool:
        """Whether streams have changed since the last cut."""
        return bool(self._left) or any(entry.has_changed for entry in self._entries.values())

    def cut(self, number: int) -> None:
        """Have written how all streams stand that have changed since the last cut.

        That one must be written and committed.
        """
        jobs, self._left = self._left, {}
        for stream_id, entry in self._entries.items():
            if entry.has_changed:
                entry.has_changed = False
                jobs[stream_id] = self._capture(entry)
        self._to_delete, self._gone = self._gone, set()
        for job in jobs.values():
            self._put(job if isinstance(job, Farewell) else replace(job, cut=number))

    @property
    def is_written(self) -> bool:
        """Whether all of the last cut is on disk."""
        return not self._unwritten

    def note_committed(self) -> None:
        """Delete what is kept of streams that had ended before the last cut."""
        for stream_id in self._to_delete - self._entries.keys():
            self._put(_farewell(stream_id))
        self._to_delete = set()

    def advance(self) -> None:
        """Learn what is on disk by now, and try again what is not."""
        for written in self._writer.take_done():
            job = written.job
            del self._unwritten[id(job)]
            if written.error is None:
                self._errors.pop(job.stream_id, None)
                self._metrics.snapshots.labels(job.stream_id).inc()
                continue
            self._fail(job.stream_id, written.error)
            self._unwritten[id(job)] = job
            self._failed.append(job)
            self._again_s = self._clock.monotonic_s() + _AGAIN_S
        if self._failed and self._clock.monotonic_s() >= self._again_s:
            failed, self._failed = self._failed, []
            for job in failed:
                self._writer.put(job)

    def error_of(self, stream_id: str) -> str | None:
        """Return why the last snapshot of a stream is not on disk."""
        return self._errors.get(stream_id)

    def close(self, timeout_s: float) -> dict[str, str]:
        """Write what is under way, and end; returns by stream why its last state is not on disk."""
        self._writer.close(timeout_s)
        self.advance()
        return dict(self._errors)

    def _capture(self, entry: _Entry) -> Job:
        """Return a stream as it stands, after a bug in that one that deletes what is kept of it."""
        running = entry.running
        try:
            stream, saved = save_stream(running, self._worker)
        except Exception as error:
            _logger.exception("no snapshot could be taken", extra={"stream": running.stream_id})
            self._fail(running.stream_id, f"{type(error).__name__}: {error}")
            return _farewell(running.stream_id)
        return Capture(
            stream_id=running.stream_id,
            stream=stream,
            model=self._model,
            taken_at=self._clock.utc_now(),
            tracker=saved,
            is_full=True,
            frame=None,
            next_no=stream.next_no,
            source=dict(entry.source),
            mark=LogMark(),
            number=0,
        )

    def _put(self, job: Job) -> None:
        self._unwritten[id(job)] = job
        self._writer.put(job)

    def _fail(self, stream_id: str, error: str) -> None:
        self._metrics.snapshot_errors.labels(stream_id).inc()
        if error not in self._errors.values():
            _logger.warning("%s; tried again", error, extra={"stream": stream_id})
        self._errors[stream_id] = error


def _farewell(stream_id: str) -> Farewell:
    return Farewell(stream_id=stream_id, mark=LogMark(), number=0)
