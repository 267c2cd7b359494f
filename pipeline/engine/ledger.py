"""Where every frame went: the account of all streams, under one lock."""

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.records.schema import FrameCounts


class DropCause(StrEnum):
    """Why a frame, a picture or a packet did not become a result."""

    OVERFLOW = "overflow"
    """The model was too slow: the stream's buffer was full."""
    MODEL_ERROR = "model_error"
    """The model failed on it, or was left alone after it had failed."""
    STREAM_ERROR = "stream_error"
    """The stream's own time, tracks or rules raised."""
    BAD_FRAME = "bad_frame"
    """It could not be decoded."""
    BAD_FILE = "bad_file"
    """A file of several could not be read; the whole file counts as one."""
    UNKNOWN_STREAM = "unknown_stream"
    """Its source gave it a name that nobody configured."""
    DUPLICATE_STREAM = "duplicate_stream"
    """Another source feeds the stream of that name."""
    STREAM_LIMIT = "stream_limit"
    """``engine.max_streams`` streams are open."""
    REPEATED = "repeated"
    """It was read again after a restart, and what it led to is known already."""
    MOVED = "moved"
    """Its partition went to another worker before its turn came."""
    STOPPED = "stopped"
    """The engine ended before its turn came."""
    REMOVED = "removed"
    """The stream was removed before its turn came."""
    PAUSED = "paused"
    """The stream was paused before its turn came."""


# Frames whose records there are, or will be: the next record would else depend on restarts.
_TOLD_ELSEWHERE = (DropCause.REPEATED, DropCause.MOVED)


@dataclass(slots=True)
class _Account:
    received: int = 0
    processed: int = 0
    gated: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    @property
    def waiting(self) -> int:
        return self.received - self.processed - self.gated - self.dropped.total()

    def add(self, other: "_Account") -> None:
        self.received += other.received
        self.processed += other.processed
        self.gated += other.gated
        self.dropped += other.dropped

    def counts(self) -> FrameCounts:
        return FrameCounts(
            received=self.received,
            processed=self.processed,
            gated=self.gated,
            dropped=dict(self.dropped),
            waiting=self.waiting,
        )


class Ledger:
    """Counts frames by stream. Any thread may write to it.

    ``received = processed + gated + dropped + waiting`` holds in every snapshot; ``waiting`` are
    the frames in the buffer and in the model.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def open(self, stream_id: str) -> None:
        """Begin an account, so that a stream is counted before its first frame."""
        with self._writing(stream_id):
            pass

    def receive(self, stream_id: str) -> None:
        """Count a frame that a source gave."""
        with self._writing(stream_id) as account:
            account.received += 1

    def refuse(self, stream_id: str, cause: DropCause) -> None:
        """Count a frame that came and was dropped at once."""
        with self._writing(stream_id) as account:
            account.received += 1
            account.dropped[cause.value] += 1

    def gate(self, stream_id: str) -> None:
        """Count a frame that came and was left out on purpose."""
        with self._writing(stream_id) as account:
            account.received += 1
            account.gated += 1

    def finish(self, stream_id: str) -> None:
        """Count a waiting frame whose result is on its way."""
        with self._writing(stream_id) as account:
            account.processed += 1

    def drop(self, stream_id: str, cause: DropCause, num_frames: int = 1) -> None:
        """Count waiting frames that are lost."""
        if num_frames:
            with self._writing(stream_id) as account:
                account.dropped[cause.value] += num_frames

    def drop_waiting(self, stream_id: str, cause: DropCause) -> None:
        """Count all frames that still wait as lost; for streams that nobody serves any more."""
        with self._writing(stream_id) as account:
            if account.waiting:
                account.dropped[cause.value] += account.waiting

    def retire(self, stream_id: str, *, into: str) -> None:
        """Add the account of a stream that is gone to another, so that names do not pile up."""
        with self._writing(into) as account:
            account.add(self._accounts.pop(stream_id, _Account()))

    def counts(self, stream_id: str) -> FrameCounts:
        """Return one stream's account; zeros if it has none."""
        with self._lock:
            return self._accounts.get(stream_id, _Account()).counts()

    def load(self, stream_id: str) -> tuple[int, int]:
        """Return how many frames of a stream came, and how many of them were too many."""
        with self._lock:
            account = self._accounts.get(stream_id, _Account())
            return account.received, account.dropped[DropCause.OVERFLOW.value]

    def num_left_out(self, stream_id: str) -> int:
        """Return how many frames of a stream were gated or dropped, and have a record nowhere."""
        with self._lock:
            account = self._accounts.get(stream_id, _Account())
            told = sum(account.dropped[cause.value] for cause in _TOLD_ELSEWHERE)
            return account.gated + account.dropped.total() - told

    def snapshot(self) -> tuple[tuple[str, FrameCounts], ...]:
        """Return all accounts as they stand at one moment, by stream."""
        with self._lock:
            return tuple((name, account.counts()) for name, account in self._accounts.items())

    @contextmanager
    def _writing(self, stream_id: str) -> Generator[_Account]:
        with self._lock:
            yield self._accounts.setdefault(stream_id, _Account())
