"""Carries pictures or frames to one sink by a bounded queue of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from connectors.backoff import Backoff
from connectors.base import FrameSink, PictureSink
from connectors.errors import SinkError
from pipeline.clock import Clock
from pipeline.engine.delivery import Delivery
from pipeline.engine.sink_watch import SinkWatch
from pipeline.observe.metrics import Metrics
from pipeline.records.translate import to_overlays

_logger = logging.getLogger("maskstream.feed")

_BACKOFF = Backoff(initial_s=0.1, maximum_s=5.0)
_FLUSH_EVERY = 64  # deliveries, while the queue never runs empty


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A delivery in the queue.

    Attributes:
        number: Of the delivery.
        delivery: It.
        put_s: When it came, monotonic.
    """

    number: int
    delivery: Delivery
    put_s: float


class MediaFeed:
    """One sink of pictures or frames with its thread.

    Pictures are best effort: one that cannot be written is left out, counted. Frames must arrive
    and are tried again for ever. Where the queue is full, live ones are left out, counted; others
    wait, but not for a sink of pictures that is down, be it that it hangs.

    Args:
        sink: Not open yet.
        watch: Judges it.
        capacity: Pictures or frames that may wait.
        metrics: Where what is left out is counted.
        clock: For how long things wait.
        on_room: Called when the sink has caught up.
    """

    def __init__(
        self,
        sink: PictureSink | FrameSink,
        watch: SinkWatch,
        *,
        capacity: int,
        metrics: Metrics,
        clock: Clock,
        on_room: Callable[[], None],
    ) -> None:
        self.name = watch.name
        self.watch = watch
        self.sink = sink
        self._capacity = capacity
        self._metrics = metrics
        self._clock = clock
        self._on_room = on_room
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._draining = threading.Event()
        self._hurry = threading.Event()
        self._began_s: float | None = None  # what is under way; None: nothing is
        self._unflushed_s: float | None = None  # when the oldest came that must be flushed
        self._written = 0
        self._flushed = 0
        self._num_refused = 0
        self._has_output = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)

    def open(self) -> None:
        """Open the sink. Raises a ``SinkError``."""
        self.sink.open()
        self.watch.open()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether streams that may wait are to go on."""
        return not self._is_full or self._holds_up_nobody

    @property
    def num_waiting(self) -> int:
        """Pictures or frames that were not written yet, or not made durable by the sink."""
        sink = self.sink
        num_pending = sink.num_pending if isinstance(sink, FrameSink) else 0
        return len(self._waiting) + num_pending

    @property
    def has_output(self) -> bool:
        """Whether the sink has taken something, and was not closed with an error."""
        return self._has_output

    def put(self, number: int, delivery: Delivery) -> None:
        """Take a delivery if it is of the sink's kind; never waits."""
        if not self._takes(delivery):
            return
        may_be_left_out = delivery.is_live or self._holds_up_nobody
        if may_be_left_out and self._is_full and delivery.closed_stream is None:
            self._metrics.shed.labels(self.name, self._kind).inc()
            return
        with self._changed:
            self._waiting.append(_Waiting(number, delivery, self._clock.monotonic_s()))
            self._changed.notify()

    def acknowledged(self, num_put: int) -> int:
        """Return the number up to which all that must arrive has.

        Args:
            num_put: The number of the last delivery.
        """
        with self._changed:
            is_idle = self._written == self._flushed and not self._waiting
            return num_put if is_idle else self._flushed

    def drain(self) -> None:
        """Ask to end once everything that waits was written."""
        self._draining.set()
        with self._changed:
            self._changed.notify()

    def interrupt(self) -> None:
        """Ask to end at once; what waits is lost."""
        self._hurry.set()
        self.sink.interrupt()
        self.drain()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Close a sink whose thread never began."""
        self._close()

    def judge(self) -> None:
        """Judge the sink by what waits for it, and count what it has left out by itself."""
        oldest_age_s = self._oldest_age_s()
        self._metrics.sink_oldest.labels(self.name).set(oldest_age_s)
        self.watch.judge(oldest_age_s)
        num_refused = self.sink.num_refused
        self._metrics.shed.labels(self.name, self._kind).inc(num_refused - self._num_refused)
        self._num_refused = num_refused

    def _oldest_age_s(self) -> float:
        """Return how long the oldest has waited that is not written, or not durable if it must be.

        An end that hangs, of a film or of the sink, counts too.
        """
        with self._changed:
            oldest_s = self._waiting[0].put_s if self._waiting else None
        moments_s = [one for one in (self._began_s, self._unflushed_s, oldest_s) if one is not None]
        return self._clock.monotonic_s() - min(moments_s) if moments_s else 0.0

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= self._capacity

    @property
    def _holds_up_nobody(self) -> bool:
        """Whether it is best effort and down: a disk or encoder that hangs may never come back."""
        return not self.sink.is_durable and self.watch.is_down

    @property
    def _kind(self) -> str:
        return "frames" if isinstance(self.sink, FrameSink) else "pictures"

    def _takes(self, delivery: Delivery) -> bool:
        if delivery.closed_stream is not None:
            return True
        if isinstance(self.sink, FrameSink):
            return delivery.frame is not None
        return delivery.result is not None and delivery.result.scene is not None

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                delivery = item.delivery
                is_write = delivery.closed_stream is None
                if self._try(lambda delivery=delivery: self._write(delivery), is_write=is_write):
                    self._note_written(item)
                    self._has_output |= is_write
                elif is_write:
                    self._metrics.shed.labels(self.name, self._kind).inc()
                self._done()
        finally:
            self._close()

    def _note_written(self, item: _Waiting) -> None:
        self._written = item.number
        if self.sink.is_durable and self._unflushed_s is None:
            self._unflushed_s = item.put_s

    def _next(self) -> _Waiting | None:
        """Return the oldest delivery, which stays in the queue; ``None`` at the end.

        Before it waits for more, everything written is made durable.
        """
        num_unflushed = self._written - self._flushed
        with self._changed:
            if self._waiting and num_unflushed < _FLUSH_EVERY and not self._hurry.is_set():
                return self._waiting[0]
        if num_unflushed and self._try(self.sink.flush):
            self._flushed, self._unflushed_s = self._written, None
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._draining.is_set() or self._hurry.is_set()
            )
            return self._waiting[0] if self._waiting and not self._hurry.is_set() else None

    def _done(self) -> None:
        with self._changed:
            self._waiting.popleft()
            has_room_again = len(self._waiting) == self._capacity - 1
        if has_room_again:
            self._on_room()

    def _write(self, delivery: Delivery) -> None:
        sink, result = self.sink, delivery.result
        if delivery.closed_stream is not None:
            sink.close_stream(delivery.closed_stream)
        elif isinstance(sink, FrameSink):
            if delivery.frame is not None:
                sink.write(delivery.frame)
        elif result is not None and result.scene is not None:
            scene = result.scene
            sink.write(scene.frame, to_overlays(scene.tracks), scene.captions)

    def _try(self, action: Callable[[], None], *, is_write: bool = False) -> bool:
        """Carry out what is to be done; frames are tried again for ever, pictures are left out.

        A sink that has left a picture out works again once it has taken one.
        """
        for delay_s in _BACKOFF.delays():
            try:
                self._began_s = self._clock.monotonic_s()
                with self._metrics.stage.labels("sink_write").time():
                    action()
            except SinkError as error:
                self.watch.fail(error)
            except Exception as error:
                _logger.exception("failed to write", extra={"sink": self.name})
                self.watch.fail(error)
                break
            else:
                if is_write or self.sink.is_durable:
                    self.watch.succeed()
                return True
            finally:
                self._began_s = None
            if not self.sink.is_durable or self._hurry.wait(delay_s):
                break
        return False

    def _close(self) -> None:
        self._has_output &= self._try(self.sink.close)
