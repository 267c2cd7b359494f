"""All sinks of an engine: nothing that one of them does holds up the engine or another.

Records are encoded once by the recorder, kept in the log, and carried to each sink of records by a
feed of its own; pictures and frames have a feed with a queue of its own per sink.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from connectors.base import FrameSink, PictureSink, RecordSink, Sink, TransactionSink
from connectors.errors import SinkError
from connectors.record import Record
from pipeline.config.sections.delivery import DeliveryConfig
from pipeline.engine.delivery import Delivery, Undelivered
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer, Losses, RecordLog
from pipeline.engine.media_feed import MediaFeed
from pipeline.engine.record_feed import RecordFeed
from pipeline.engine.recorder import Recorder
from pipeline.engine.sink_watch import Observers, SinkLimits, SinkWatch
from pipeline.engine.transaction_feed import TransactionFeed

_logger = logging.getLogger("maskstream.outbox")

# An event waits for the first of these and one fsync: with 40 ms alone its median was 22 ms, and on
# a busy machine the slowest of a hundred 65 ms. Others that come in the meantime share the fsync.
_GROUP_S = 0.01
_SYNC_S = 0.04
_JUDGE_S = 0.5
_REST_S = 1.0  # after a bug, so that it does not fill the disk with its tracebacks
_CLOSE_S = 5.0
_RECORDER_SHARE = 0.3  # of the time to close: what it has not appended is lost
_FEEDS_SHARE = 0.6  # until then; the rest is for the log

# Not the name of any sink: these have no brackets.
_STATE = Consumer(name="(state)", uses_log=True, kinds=frozenset({Kind.ALERTS}), goes_first=True)

Feed = RecordFeed | MediaFeed


class Outbox:
    """Takes deliveries and sees to it that they arrive. Used by the engine's thread.

    Deliveries are numbered from 1 in the order in which they are put. ``put`` never waits: a
    source that may wait is to be left alone while :attr:`has_room` is false.

    Args:
        sinks: By unique name, not open yet.
        config: Limits.
        state_folder: Where the log lies, if a sink needs one.
        deployment: Name of this installation.
        worker: Name of this process.
        observers: Learn what the sinks are doing.
        keeps_state: Alerts stay in the log until :meth:`confirm_state`, whatever the sinks have.
        on_room: Called when there is room again.

    Raises:
        StateError: If the log cannot be opened.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, and whom it tells
        self,
        sinks: Mapping[str, Sink],
        *,
        config: DeliveryConfig,
        state_folder: Path,
        deployment: str,
        worker: str,
        observers: Observers,
        keeps_state: bool = False,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._observers = observers
        self._on_room = on_room
        records = {name: sink for name, sink in sinks.items() if isinstance(sink, RecordSink)}
        # For what is committed in transactions there is no log, but state that one process owns.
        has_transactions = any(isinstance(sink, TransactionSink) for sink in records.values())
        needs_log = any(sink.needs_log for sink in records.values())
        self._folder = state_folder if needs_log or keeps_state or has_transactions else None
        consumers = [_consumer_of(name, sink) for name, sink in records.items()]
        self._log = RecordLog(
            self._folder,
            [*consumers, _STATE] if keeps_state else consumers,
            log_bytes=config.log_bytes,
            memory_bytes=config.memory_bytes,
        )
        self._due = threading.Event()
        self._recorder = Recorder(
            self._log,
            deployment=deployment,
            worker=worker,
            capacity=config.queue,
            metrics=observers.metrics,
            clock=observers.clock,
            on_room=on_room,
            on_alerts=self._due.set,
            live=observers.live,
        )
        self._feeds = tuple(self._feed_of(name, sink) for name, sink in sinks.items())
        self._media = tuple(feed for feed in self._feeds if isinstance(feed, MediaFeed))
        self._num_put = 0
        self._is_open = False
        self._losses = Losses(shed={}, corrupt={})
        self._counting = threading.Lock()
        self._ending = threading.Event()
        self._housekeeper = threading.Thread(
            target=self._keep_house, name="delivery-housekeeper", daemon=True
        )
        # A thread of its own: a disk that hangs holds the other one.
        self._judge = threading.Thread(target=self._judge_all, name="delivery-judge", daemon=True)

    @property
    def folder(self) -> Path | None:
        """The state folder, which this process alone uses; ``None``: it needs none."""
        return self._folder

    @property
    def transactions(self) -> TransactionFeed | None:
        """The feed of the sink that takes positions with its records; ``None``: there is none."""
        return next((one for one in self._feeds if isinstance(one, TransactionFeed)), None)

    @property
    def takes_frames(self) -> bool:
        """Whether some sink takes frames as they come."""
        return any(isinstance(feed.sink, FrameSink) for feed in self._media)

    @property
    def needs_model(self) -> bool:
        """Whether some sink takes what a model found; without any sink too, for its totals."""
        return not self._feeds or not all(isinstance(feed.sink, FrameSink) for feed in self._feeds)

    def open(self) -> None:
        """Open every sink; waits for nobody.

        Raises:
            SinkError: If one can never work; those opened before it are closed again.
        """
        for number, feed in enumerate(self._feeds):
            try:
                feed.open()
            except SinkError:
                for opened in self._feeds[: number + 1]:
                    opened.abandon()
                self._log.close()
                raise
        self._is_open = True

    def start(self) -> None:
        """Begin to write; opens the sinks if they are not open. Raises as :meth:`open` does."""
        if not self._is_open:
            self.open()
        self._recorder.start()
        self._housekeeper.start()
        self._judge.start()
        for feed in self._feeds:
            feed.start()

    def put(self, delivery: Delivery) -> int:
        """Hand a delivery to every sink that takes it and return its number."""
        self._num_put += 1
        for feed in self._media:
            feed.put(self._num_put, delivery)
        if delivery.has_records:
            self._recorder.put(self._num_put, delivery)
        return self._num_put

    @property
    def has_room(self) -> bool:
        """Whether streams that may wait are to give further frames."""
        return (
            self._recorder.has_room
            and self._log.has_room()
            and all(feed.has_room for feed in self._media)
        )

    @property
    def num_put(self) -> int:
        """The number of the last delivery."""
        return self._num_put

    @property
    def acknowledged(self) -> int:
        """The number up to which everything has arrived at every sink, or lies on disk for it.

        A sink of transactions does not count: it takes what all others have.
        """
        durable = [feed for feed in self._media if feed.sink.is_durable]
        return min(
            self._recorder.acknowledged(self._num_put),
            *(feed.acknowledged(self._num_put) for feed in durable),
            self._num_put,
        )

    def are_alerts_safe(self, seq: int) -> bool:
        """Return whether all alerts up to a number are with every durable sink, or on disk."""
        return self._log.safe_seq(Kind.ALERTS) >= seq

    def logged_alerts(self) -> list[Record]:
        """Return the alerts that the process before left behind what its state holds, in order."""
        return [record for _, record in self._log.kept(Kind.ALERTS, _STATE.name)]

    def confirm_state(self, seq: int) -> None:
        """Say that alerts up to a number are part of the state on disk."""
        self._log.confirm(Kind.ALERTS, _STATE.name, seq)

    def request_write_out(self) -> None:
        """Ask to bring to disk whatever sinks with the log have not confirmed: the end is near."""
        self._log.request_write_out()

    def request_stop(self) -> None:
        """Ask every sink to write what waits and to close."""
        self._recorder.request_stop()
        for feed in self._media:
            feed.drain()

    def join(self, timeout_s: float) -> list[str]:
        """Wait for each sink that was asked to stop; returns the names of those still open."""
        until_s = time.monotonic() + timeout_s
        if not self._recorder.join(timeout_s):
            return [feed.name for feed in self._feeds]
        for feed in self._feeds:
            feed.drain()
        return [feed.name for feed in self._feeds if not feed.join(_left_s(until_s))]

    @property
    def num_waiting(self) -> int:
        """What the sinks have not taken yet; falls as long as one of them works."""
        return sum(feed.num_waiting for feed in self._feeds)

    def close(self, timeout_s: float = _CLOSE_S) -> dict[str, Undelivered]:
        """Break off what still writes, and keep in the log what it can keep.

        Args:
            timeout_s: Longest wait; threads and disks that hang are then left behind.

        Returns:
            By sink, what it did not get; sinks that got everything are not there.
        """
        began_s = time.monotonic()
        self._recorder.request_stop()
        self._recorder.join(_RECORDER_SHARE * timeout_s)
        for feed in self._feeds:
            feed.interrupt()
        for feed in self._feeds:
            feed.join(_left_s(began_s + _FEEDS_SHARE * timeout_s))
        for feed in self._feeds:
            feed.judge()
        waiting = {feed.name: feed.num_waiting for feed in self._feeds}
        self._ending.set()
        self._due.set()
        if self._housekeeper.ident is None:
            for feed in self._feeds if self._is_open else ():
                feed.abandon()
            self._log.close()
        else:
            self._housekeeper.join(_left_s(began_s + timeout_s))
            self._judge.join(_left_s(began_s + timeout_s))
        self._count_losses()
        left = {feed.name: self._left_of(feed, waiting[feed.name]) for feed in self._feeds}
        return {name: one for name, one in left.items() if one is not None}

    @property
    def errors(self) -> dict[str, str]:
        """Sinks that take nothing at present, and why."""
        return {
            feed.name: feed.watch.error
            for feed in self._feeds
            if feed.watch.is_down and feed.watch.error is not None
        }

    def _left_of(self, feed: Feed, num: int) -> Undelivered | None:
        """Tell what became of the ``num`` things that a feed has not got rid of."""
        why = feed.watch.error
        if not num and why is None:
            return None
        if isinstance(feed, TransactionFeed):
            return feed.tell_left(num)
        why = why or "too slow"
        if not feed.sink.is_durable:
            text = f"{why}; {num} did not arrive" if num else why
            return Undelivered(text=text, is_failure=not feed.has_output)
        if not isinstance(feed, RecordFeed) or not feed.sink.needs_log:
            return Undelivered(text=f"{why}; {num} did not arrive")
        return self._left_in_log(feed, num, why)

    def _left_in_log(self, feed: RecordFeed, num: int, why: str) -> Undelivered:
        if self._housekeeper.is_alive():
            text = f"{why}; of {num} records those that were not on disk are lost: it hangs"
            return Undelivered(text=text)
        num_kept = feed.num_waiting
        text = f"{why}; {num_kept} records are kept in {self._folder} for the next run"
        if num_kept < num:
            return Undelivered(text=f"{text}, {num - num_kept} are lost")
        return Undelivered(text=text, num_kept=num_kept, is_failure=False)

    def _keep_house(self) -> None:
        """Bring to disk what must be there, and close the log at the end."""
        while not self._ending.is_set():
            if self._due.wait(_SYNC_S):
                self._ending.wait(_GROUP_S)
            self._due.clear()
            try:
                self._log.sync()
            except Exception:
                _logger.exception("failed to keep the log; tried again")
                self._ending.wait(_REST_S)
        self._log.close()

    def _judge_all(self) -> None:
        """Judge the sinks by the time, and show what was lost."""
        while not self._ending.wait(_JUDGE_S):
            for feed in self._feeds:
                feed.judge()
            self._log.notice_hang()
            self._observers.health.set_log_error(self._log.error)
            self._count_losses()

    def _count_losses(self) -> None:
        """Show what the log has left out or lost since the last time."""
        metrics = self._observers.metrics
        with self._counting:
            losses, before = self._log.counts(), self._losses
            self._losses = losses
        for key, num in losses.shed.items():
            metrics.shed.labels(key[0], key[1].value).inc(num - before.shed.get(key, 0))
        for kind, num in losses.corrupt.items():
            metrics.corrupt.labels(kind.value).inc(num - before.corrupt.get(kind, 0))

    def _feed_of(self, name: str, sink: Sink) -> Feed:
        observers, config = self._observers, self._config
        watch = SinkWatch(
            name,
            is_durable=sink.is_durable,
            limits=SinkLimits(behind_s=config.behind_s, down_s=config.down_s),
            observers=observers,
        )
        if isinstance(sink, TransactionSink):
            feed: Feed = TransactionFeed(
                sink,
                watch,
                self._log,
                metrics=observers.metrics,
                clock=observers.clock,
                on_progress=self._on_room,
            )
        elif isinstance(sink, RecordSink):
            feed = RecordFeed(
                sink,
                watch,
                self._log,
                metrics=observers.metrics,
                clock=observers.clock,
                on_progress=self._on_room,
            )
        elif isinstance(sink, PictureSink | FrameSink):
            feed = MediaFeed(
                sink,
                watch,
                capacity=config.queue,
                metrics=observers.metrics,
                clock=observers.clock,
                on_room=self._on_room,
            )
        else:
            raise TypeError(f"sink {name!r} is a {type(sink).__name__} (accepted: a kind of sink)")
        observers.metrics.sink_waiting.labels(name).set_function(lambda: feed.num_waiting)
        return feed


def _consumer_of(name: str, sink: RecordSink) -> Consumer:
    is_transactional = isinstance(sink, TransactionSink)
    return Consumer(
        name=name,
        uses_log=sink.needs_log,
        is_durable=sink.is_durable and not is_transactional,
        misses_nothing=is_transactional,
    )


def _left_s(until_s: float) -> float:
    return max(0.0, until_s - time.monotonic())
