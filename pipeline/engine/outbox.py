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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connectors.backoff import Backoff
from connectors.base import PictureSink, RecordSink, Sink
from connectors.errors import SinkError
from connectors.record import Record
from pipeline.engine.delivery import Delivery
from pipeline.observe.metrics import Metrics
from pipeline.records.translate import to_overlays

_logger = logging.getLogger("maskstream.publisher")


@dataclass(frozen=True, slots=True)
class _Flush:
    done: threading.Event


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
    """

    def __init__(
        self, name: str, sink: Sink, *, capacity: int, retry_s: float, metrics: Metrics
    ) -> None:
        self.name = name
        self.error: str | None = None
        self._sink = sink
        self._retry_s = retry_s
        self._metrics = metrics
        self._queue: queue.Queue[Delivery | _Flush | _Stop] = queue.Queue(capacity)
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Open the sink and begin to write. Raises a ``SinkError``."""
        self._sink.open()
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Hand over a delivery; waits for room unless the delivery may be shed."""
        if self.error is not None:
            return
        try:
            self._queue.put(delivery, block=not delivery.can_shed)
        except queue.Full:
            self._metrics.shed.labels(self.name).inc()
        self._metrics.queue.labels(self.name).set(self._queue.qsize())

    def flush(self) -> bool:
        """Return once all that was put before is durable; false if it is not going to be."""
        if not self._thread.is_alive():
            return False
        done = threading.Event()
        self._queue.put(_Flush(done))
        done.wait()
        return self.error is None

    def stop(self) -> None:
        """Write what waits, then close the sink. Retries are cut short."""
        if self._thread.is_alive():
            self._hurry.set()
            self._queue.put(_Stop())
            self._thread.join()

    def abandon(self) -> None:
        """Close a sink whose thread never began."""
        self._try("close", self._sink.close, is_retried=False)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _Stop):
                break
            if isinstance(item, _Flush):
                self._try("flush", self._sink.flush)
                item.done.set()
            else:
                self._try("write", lambda delivery=item: self._write(delivery))
        # After an error too: a half written video becomes readable by closing it.
        self._try("close", self._sink.close, is_retried=False, even_failed=True)

    def _write(self, delivery: Delivery) -> None:
        sink = self._sink
        if isinstance(sink, RecordSink):
            records = self._encode(delivery)
            if records is None:
                return
            sink.write(records)
            for record in records:
                self._metrics.records.labels(self.name, record.topic.value).inc()
        elif isinstance(sink, PictureSink) and delivery.result and delivery.result.scene:
            scene = delivery.result.scene
            sink.write(scene.frame, to_overlays(scene.tracks), scene.captions)

    def _encode(self, delivery: Delivery) -> tuple[Record, ...] | None:
        """Return the records of a delivery, or none: it is at fault, not the sink."""
        try:
            return delivery.records()
        except Exception:
            self._metrics.sink_errors.labels(self.name).inc()
            _logger.exception("sink %s: dropped a result that cannot be encoded", self.name)
            return None

    def _try(
        self,
        verb: str,
        action: Callable[[], None],
        *,
        is_retried: bool = True,
        even_failed: bool = False,
    ) -> None:
        if self.error is not None and not even_failed:
            return
        began_s = time.monotonic()
        for delay_s in Backoff(initial_s=0.1, maximum_s=5.0).delays():
            try:
                with self._metrics.stage.labels(f"sink_{verb}").time():
                    action()
            except SinkError as error:
                self._metrics.sink_errors.labels(self.name).inc()
                is_late = time.monotonic() - began_s + delay_s > self._retry_s
                if not (is_retried and error.recoverable) or is_late:
                    self._give_up(str(error))
                    return
                _logger.warning("%s; trying again in %.1f s", error, delay_s)
                if self._hurry.wait(delay_s):
                    is_retried = False
            except Exception as error:
                self._metrics.sink_errors.labels(self.name).inc()
                _logger.exception("sink %s failed to %s", self.name, verb)
                self._give_up(f"sink {self.name!r}: {type(error).__name__}: {error}")
                return
            else:
                return

    def _give_up(self, reason: str) -> None:
        if self.error is None:
            self.error = reason
            _logger.error("gave up: %s", reason)


class Publisher:
    """All sinks of an engine.

    Args:
        sinks: By unique name, not open yet.
        capacity: Deliveries that may wait, per sink.
        retry_s: How long one failing write is tried again.
        metrics: Where writes and errors are counted.
    """

    def __init__(
        self, sinks: dict[str, Sink], *, capacity: int, retry_s: float, metrics: Metrics
    ) -> None:
        self._threads = [
            SinkThread(name, sink, capacity=capacity, retry_s=retry_s, metrics=metrics)
            for name, sink in sinks.items()
        ]

    def start(self) -> None:
        """Open every sink. Raises a ``SinkError``; those opened before it are closed again."""
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except SinkError:
                thread.abandon()
                for started in self._threads[:number]:
                    started.stop()
                raise

    def put(self, delivery: Delivery) -> None:
        """Hand a delivery to every sink."""
        for thread in self._threads:
            thread.put(delivery)

    def flush(self) -> bool:
        """Return once all that was put is durable everywhere; false if some sink has failed."""
        results = [thread.flush() for thread in self._threads]
        return all(results)

    def stop(self) -> None:
        """Write what waits and close every sink. Repeatable."""
        for thread in self._threads:
            thread.stop()

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
