"""Gives results to the sinks: one thread and one bounded queue per sink.

A slow sink sheds whole results that may be shed (live pictures and masklets without news) first;
for everything else it makes the engine wait, which in turn makes live cameras drop frames, counted.
A failing sink is tried again for a while, then given up; the others go on. A result that cannot be
put into records is dropped and counted as an error of the sink, which goes on with the next.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from connectors.backoff import Backoff
from connectors.base import FrameSink, PictureSink, RecordSink, Sink
from connectors.errors import SinkError
from connectors.record import Record
from pipeline.engine.delivery import Delivery
from pipeline.observe.health import Health, SinkState
from pipeline.observe.metrics import Metrics
from pipeline.records.translate import to_overlays

_logger = logging.getLogger("maskstream.outbox")

_POLL_S = 0.1  # how soon one who waits for room notices that the run is to stop
_STUCK_S = 3.0  # a sink that hangs at the end is left behind after this


@dataclass(frozen=True, slots=True)
class _Flush:
    """Asks for durability of all deliveries up to a number."""

    number: int


class _Stop:
    """Asks a sink's thread to finish."""


class SinkThread:
    """One sink with its queue.

    Args:
        name: Of the sink, unique; the metrics' label.
        sink: Not open yet.
        capacity: Deliveries that may wait.
        retry_s: How long one failing write is tried again.
        metrics: Where writes and errors are counted.
        health: Learns of the sink's state.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        capacity: int,
        retry_s: float,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self.name = name
        self.error: str | None = None
        self.acknowledged = 0
        self._sink = sink
        self._retry_s = retry_s
        self._metrics = metrics
        self._health = health
        self._queue: queue.Queue[Delivery | _Flush | _Stop] = queue.Queue(capacity)
        self._hurry = threading.Event()
        self._state: SinkState | None = None
        self._is_flush_queued = False
        self._is_stop_queued = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        metrics.queue.labels(name).set_function(self._queue.qsize)

    @property
    def is_durable(self) -> bool:
        """Whether what the sink takes must arrive."""
        return self._sink.is_durable

    @property
    def takes_frames(self) -> bool:
        """Whether the sink takes frames as they come, and needs no model."""
        return isinstance(self._sink, FrameSink)

    def start(self) -> None:
        """Open the sink and begin to write. Raises a ``SinkError``."""
        self._sink.open()
        self._thread.start()
        self._move(SinkState.UP)
        _logger.info("opened", extra={"sink": self.name})

    def put(self, delivery: Delivery, *, is_stopping: Callable[[], bool]) -> None:
        """Hand over a delivery; waits for room unless it may be shed."""
        stuck_s = 0.0
        while self.error is None:
            try:
                self._queue.put(delivery, block=not delivery.can_shed, timeout=_POLL_S)
            except queue.Full:
                if delivery.can_shed:
                    self._metrics.shed.labels(self.name).inc()
                    break
                if is_stopping():  # no time left for retries
                    self._hurry.set()
                    stuck_s += _POLL_S
                if stuck_s > _STUCK_S:
                    reason = f"took nothing for {_STUCK_S:.0f} s at the end"
                    self._give_up(f"sink {self.name!r}: {reason}")
            else:
                break

    def request_flush(self, number: int) -> None:
        """Ask for durability of all deliveries up to ``number``; returns at once."""
        if self._is_flush_queued or self.error is not None:
            return
        with suppress(queue.Full):  # then there will be another request
            self._queue.put_nowait(_Flush(number))
            self._is_flush_queued = True

    def request_stop(self) -> None:
        """Ask to write what waits and to close the sink; retries are cut short."""
        self._hurry.set()
        if not self._is_stop_queued:
            with suppress(queue.Full):  # join asks again
                self._queue.put_nowait(_Stop())
                self._is_stop_queued = True

    def join(self, timeout_s: float) -> bool:
        """Wait until the sink is closed; tell whether it is."""
        deadline_s = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline_s:
            self.request_stop()
            self._thread.join(_POLL_S)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Close a sink whose thread never began."""
        self._try("close", self._sink.close, is_retried=False)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _Stop):
                break
            if isinstance(item, _Flush):
                self._is_flush_queued = False
                if self._try("flush", self._sink.flush):
                    self.acknowledged = item.number
            else:
                self._try("write", lambda delivery=item: self._write(delivery))
        # After an error too: a half written video becomes readable by closing it.
        self._try("close", self._sink.close, is_retried=False, even_failed=True)

    def _write(self, delivery: Delivery) -> None:
        sink, result = self._sink, delivery.result
        if delivery.closed_stream is not None:
            sink.close_stream(delivery.closed_stream)
        elif isinstance(sink, RecordSink):
            records = self._encode(delivery)
            sink.write(records)
            for record in records:
                self._metrics.records.labels(self.name, record.topic.value).inc()
        elif isinstance(sink, FrameSink):
            if delivery.frame is not None:
                sink.write(delivery.frame)
        elif isinstance(sink, PictureSink) and result is not None and result.scene is not None:
            scene = result.scene
            sink.write(scene.frame, to_overlays(scene.tracks), scene.captions)

    def _encode(self, delivery: Delivery) -> tuple[Record, ...]:
        """Return the records of a delivery; none if it, and not the sink, is at fault."""
        try:
            return delivery.records()
        except Exception:
            self._metrics.sink_errors.labels(self.name).inc()
            _logger.exception("dropped a result that cannot be encoded", extra={"sink": self.name})
            return ()

    def _try(
        self,
        verb: str,
        action: Callable[[], None],
        *,
        is_retried: bool = True,
        even_failed: bool = False,
    ) -> bool:
        """Carry out an action, again after errors that may pass; tell whether it came about."""
        if self.error is not None and not even_failed:
            return False
        began_s = time.monotonic()
        for delay_s in Backoff(initial_s=0.1, maximum_s=5.0).delays():
            try:
                with self._metrics.stage.labels(f"sink_{verb}").time():
                    action()
            except SinkError as error:
                self._metrics.sink_errors.labels(self.name).inc()
                is_late = time.monotonic() - began_s + delay_s > self._retry_s
                if not (is_retried and error.recoverable) or is_late:
                    return self._give_up(str(error))
                self._move(SinkState.BEHIND, str(error))
                _logger.warning(
                    "%s; trying again in %.1f s", error, delay_s, extra={"sink": self.name}
                )
                if self._hurry.wait(delay_s):
                    is_retried = False
            except Exception as error:
                self._metrics.sink_errors.labels(self.name).inc()
                _logger.exception("failed to %s", verb, extra={"sink": self.name})
                return self._give_up(f"sink {self.name!r}: {type(error).__name__}: {error}")
            else:
                self._note_success(time.monotonic() - began_s)
                return True
        raise AssertionError("delays never end")

    def _note_success(self, took_s: float) -> None:
        if self._state is SinkState.BEHIND:
            self._move(SinkState.UP)
            _logger.info("works again after %.1f s", took_s, extra={"sink": self.name})

    def _give_up(self, reason: str) -> bool:
        if self.error is None:
            self.error = reason
            self._move(SinkState.DOWN, reason)
            _logger.error("gave up: %s", reason, extra={"sink": self.name})
        return False

    def _move(self, state: SinkState, error: str | None = None) -> None:
        self._state = state
        self._metrics.set_sink_state(self.name, state)
        self._health.set_sink(self.name, state, error=error, is_durable=self.is_durable)


class Outbox:
    """All sinks of an engine. Used by the engine's thread.

    Deliveries are numbered from 1 in the order in which they are put.

    Args:
        sinks: By unique name, not open yet.
        capacity: Deliveries that may wait, per sink.
        retry_s: How long one failing write is tried again.
        metrics: Where writes and errors are counted.
        health: Learns of the sinks' states.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        *,
        capacity: int,
        retry_s: float,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._threads = [
            SinkThread(
                name, sink, capacity=capacity, retry_s=retry_s, metrics=metrics, health=health
            )
            for name, sink in sinks.items()
        ]
        self._num_put = 0

    @property
    def takes_frames(self) -> bool:
        """Whether some sink takes frames as they come."""
        return any(thread.takes_frames for thread in self._threads)

    @property
    def needs_model(self) -> bool:
        """Whether some sink takes what a model found; without any sink too, for its totals."""
        return not self._threads or not all(thread.takes_frames for thread in self._threads)

    def start(self) -> None:
        """Open every sink. Raises a ``SinkError``; those opened before it are closed again."""
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except SinkError:
                thread.abandon()
                for started in self._threads[:number]:
                    started.request_stop()
                    started.join(_STUCK_S)
                raise

    def put(self, delivery: Delivery, *, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Hand a delivery to every sink and return its number.

        Args:
            delivery: What it is.
            is_stopping: Asked while a sink has no room: whether its retries are to be cut short.
        """
        self._num_put += 1
        for thread in self._threads:
            thread.put(delivery, is_stopping=is_stopping)
        return self._num_put

    def request_flush(self) -> None:
        """Ask every sink to make durable what was put; returns at once."""
        for thread in self._threads:
            thread.request_flush(self._num_put)

    @property
    def num_put(self) -> int:
        """The number of the last delivery."""
        return self._num_put

    @property
    def acknowledged(self) -> int:
        """The number up to which every sink whose records must arrive has made them durable."""
        durable = (thread.acknowledged for thread in self._threads if thread.is_durable)
        return min(durable, default=self._num_put)

    @property
    def has_lost(self) -> bool:
        """Whether a sink whose records must arrive was given up, so that some never will."""
        return any(thread.is_durable and thread.error is not None for thread in self._threads)

    def request_stop(self) -> None:
        """Ask every sink to write what waits and to close; retries are cut short."""
        for thread in self._threads:
            thread.request_stop()

    def join(self, timeout_s: float) -> list[str]:
        """Wait for each sink that was asked to stop; returns the names of those still open."""
        return [thread.name for thread in self._threads if not thread.join(timeout_s)]

    @property
    def errors(self) -> dict[str, str]:
        """Sinks that were given up, and why."""
        return {thread.name: thread.error for thread in self._threads if thread.error is not None}

    @property
    def is_useless(self) -> bool:
        """Whether there are sinks and all of them were given up."""
        return bool(self._threads) and len(self.errors) == len(self._threads)


def name_sinks(kinds: Sequence[str]) -> list[str]:
    """Return a unique name per sink: its kind, numbered from the second on."""
    names: list[str] = []
    for kind in kinds:
        num_same = sum(name == kind or name.startswith(f"{kind}-") for name in names)
        names.append(kind if num_same == 0 else f"{kind}-{num_same + 1}")
    return names
