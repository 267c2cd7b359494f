"""Encodes and writes snapshots, on a thread of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.errors import SinkError
from pipeline.engine.state.capture import Capture, Farewell
from pipeline.engine.state.encoding import encode_capture
from pipeline.engine.state.snapshot_store import SnapshotRefusedError, SnapshotStore

_logger = logging.getLogger("maskstream.state")

Job = Capture | Farewell


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a job.

    Attributes:
        job: The job.
        error: Why it is not on disk; ``None``: it is.
        is_reduced: The whole memory was refused as too large, and is to be rebuilt from a picture.
    """

    job: Job
    error: str | None = None
    is_reduced: bool = False


class SnapshotWriter:
    """Takes jobs and tells of each when it is done; neither ever waits.

    Attributes:
        is_shared: See :class:`SnapshotStore`.

    Args:
        store: Where snapshots are kept.
        on_done: Called after each job.
    """

    def __init__(self, store: SnapshotStore, *, on_done: Callable[[], None]) -> None:
        self._store = store
        self.is_shared = store.is_shared
        self._on_done = on_done
        self._jobs: deque[Job] = deque()
        self._done: deque[Written] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hand over a job."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def take_done(self) -> list[Written]:
        """Return what became of jobs since the last call, in order."""
        done: list[Written] = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def close(self, timeout_s: float) -> None:
        """Write what was handed over, and end; a disk that hangs is left behind."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(max(timeout_s, 0.0))
        self._store.interrupt()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_stopping)
                if not self._jobs:
                    break
                job = self._jobs.popleft()
            self._done.append(self._carry_out(job))
            self._on_done()
        self._store.close()

    def _carry_out(self, job: Job) -> Written:
        try:
            if isinstance(job, Farewell):
                self._store.delete(job.stream_id)
                return Written(job=job)
            return Written(job=job, is_reduced=self._save(job))
        except SinkError as error:
            reason = f"snapshot not written: {error.reason} ({error.name})"
            return Written(job=job, error=reason)
        except Exception as error:
            _logger.exception("a snapshot could not be made")
            reason = f"snapshot not made: {type(error).__name__}: {error}"
            return Written(job=job, error=reason)

    def _save(self, capture: Capture) -> bool:
        """Make a capture durable; tells whether the whole memory had to be left out."""
        try:
            self._store.save(encode_capture(capture))
        except SnapshotRefusedError as error:
            if not capture.is_full or capture.frame is None:
                raise
            about = {"stream": capture.stream_id}
            _logger.warning("%s; its memory is to be rebuilt from a picture", error, extra=about)
            self._store.save(encode_capture(replace(capture, is_full=False)))
            return True
        return False
