"""Frames of one stream on their way to the model, and the account of all of them."""

import threading
from collections import Counter, deque
from collections.abc import Callable

from connectors.frame import Frame
from pipeline.config.run import Overflow
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import FrameCounts


class FrameLedger:
    """Counts where a stream's frames went. Any thread may write to it.

    Once a stream has ended, processed + gated + dropped = received.
    """

    def __init__(self, stream_id: str, metrics: Metrics) -> None:
        self._stream_id = stream_id
        self._metrics = metrics
        self._changed = threading.Condition()
        self._received = 0
        self._processed = 0
        self._gated = 0
        self._dropped: Counter[str] = Counter()

    def receive(self) -> None:
        """Count a frame that a source gave."""
        self._metrics.received.labels(self._stream_id).inc()
        with self._changed:
            self._received += 1

    def finish(self) -> None:
        """Count a frame that the model has seen and whose results are on their way."""
        self._metrics.processed.labels(self._stream_id).inc()
        with self._changed:
            self._processed += 1
            self._changed.notify_all()

    def gate(self) -> None:
        """Count a frame that was left out on purpose."""
        self._metrics.gated.labels(self._stream_id).inc()
        with self._changed:
            self._gated += 1
            self._changed.notify_all()

    def drop(self, cause: str, num_frames: int = 1) -> None:
        """Count frames that were lost."""
        if num_frames:
            self._metrics.dropped.labels(self._stream_id, cause).inc(num_frames)
        with self._changed:
            self._dropped[cause] += num_frames
            self._changed.notify_all()

    @property
    def num_open(self) -> int:
        """Frames that were received and are not accounted for yet."""
        with self._changed:
            return self._num_open()

    def wait_settled(self, timeout_s: float) -> bool:
        """Wait until every received frame is accounted for; tell whether that came about."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_open() == 0, timeout_s)

    def counts(self) -> FrameCounts:
        """Return the account as it stands."""
        with self._changed:
            return FrameCounts(
                received=self._received,
                processed=self._processed,
                gated=self._gated,
                dropped={cause: num for cause, num in self._dropped.items() if num},
                waiting=self._num_open(),
            )

    def _num_open(self) -> int:
        return self._received - self._processed - self._gated - self._dropped.total()


class FrameBuffer:
    """A bounded queue of frames of one stream: one thread offers, one takes.

    Args:
        capacity: Frames held at most.
        overflow: What happens to one frame more.
        ledger: Where drops are counted.
        on_frame: Called after a frame has come in, or the buffer has closed.
        max_fps: Frames beyond this rate of capture time are gated.
    """

    def __init__(
        self,
        *,
        capacity: int,
        overflow: Overflow,
        ledger: FrameLedger,
        on_frame: Callable[[], None],
        max_fps: float | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"bad capacity {capacity!r} (accepted: at least 1)")
        self._capacity = capacity
        self._overflow = overflow
        self._ledger = ledger
        self._on_frame = on_frame
        self._gap_s = 1.0 / max_fps if max_fps else 0.0
        self._due_s: float | None = None
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._drop_cause: str | None = None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_closed(self) -> bool:
        """Whether no more frames will come in; those inside can still be taken."""
        return self._is_closed

    def offer(self, frame: Frame) -> bool:
        """Put a frame in, by the overflow policy; under ``WAIT`` this waits for room.

        Returns:
            False if the buffer is closed; the frame is then not counted here.
        """
        with self._changed:
            if self._is_closed:
                return False
            self._ledger.receive()
            if self._is_gated(frame):
                self._ledger.gate()
                return True
            if self._overflow is Overflow.WAIT:
                self._changed.wait_for(lambda: self._has_room() or self._is_closed)
            self._put(frame)
        self._on_frame()
        return True

    def take(self) -> Frame | None:
        """Return the oldest frame, ``None`` if there is none."""
        with self._changed:
            if not self._frames:
                return None
            self._changed.notify_all()
            return self._frames.popleft()

    def close(self, *, drop_cause: str | None = None) -> None:
        """Let no more frames in; with a cause, drop and count those inside. Repeatable."""
        with self._changed:
            self._is_closed = True
            if drop_cause is not None:
                self._drop_cause = drop_cause
                self._ledger.drop(drop_cause, len(self._frames))
                self._frames.clear()
            self._changed.notify_all()
        self._on_frame()

    def _put(self, frame: Frame) -> None:
        if self._drop_cause is not None:  # it was closed while this frame waited for room
            self._ledger.drop(self._drop_cause)
        elif self._has_room() or self._is_closed:
            # One above capacity on closing: the source has moved on, so the frame must not be lost.
            self._frames.append(frame)
        elif self._overflow is Overflow.DROP_NEWEST:
            self._ledger.drop("overflow")
        else:
            self._frames.popleft()
            self._ledger.drop("overflow")
            self._frames.append(frame)

    def _has_room(self) -> bool:
        return len(self._frames) < self._capacity

    def _is_gated(self, frame: Frame) -> bool:
        if not self._gap_s:
            return False
        now_s = frame.captured_at.timestamp()
        late_s = 0.0 if self._due_s is None else now_s - self._due_s
        # Earlier than a whole gap means that the clock has jumped; that must not gate for long.
        if -self._gap_s <= late_s < -1e-6:
            return True
        base_s = self._due_s if self._due_s is not None and abs(late_s) < self._gap_s else now_s
        self._due_s = base_s + self._gap_s
        return False
