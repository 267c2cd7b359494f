"""Carries records from the log to one sink: in order, for ever, until it has confirmed them."""

import logging
import threading
from collections.abc import Callable, Sequence

from connectors.backoff import Backoff
from connectors.base import RecordSink, Refused
from connectors.errors import SinkError
from connectors.record import Record, Topic
from pipeline.clock import Clock
from pipeline.engine.dead_letters import refused_letter
from pipeline.engine.log.entries import UnloggableError
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Batch, RecordLog
from pipeline.engine.sink_watch import SinkWatch
from pipeline.observe.metrics import Metrics
from pipeline.records.codec import omit_masks

_logger = logging.getLogger("maskstream.feed")

WAIT_S = 0.5
_SYNC_WAIT_S = 0.01
_MAX_RECORDS = 500
_MAX_BYTES = 4 * 1024 * 1024  # half a second of a broker that takes 8 MB/s
_MAX_BUGS = 3
BACKOFF = Backoff(initial_s=0.1, maximum_s=5.0)


class RecordFeed:
    """One sink of records with its thread.

    Args:
        sink: Not open yet.
        watch: Judges it.
        log: Holds what it has not confirmed.
        metrics: Where deliveries are counted.
        clock: For stamps of dead letters.
        on_progress: Called when the sink has confirmed something.
    """

    def __init__(
        self,
        sink: RecordSink,
        watch: SinkWatch,
        log: RecordLog,
        *,
        metrics: Metrics,
        clock: Clock,
        on_progress: Callable[[], None],
    ) -> None:
        self.name = watch.name
        self.watch = watch
        self.sink = sink
        sink.shrink = omit_masks
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._on_progress = on_progress
        self._draining = threading.Event()
        self._hurry = threading.Event()
        self._has_output = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)

    def open(self) -> None:
        """Open the sink; local, so it waits for nobody. Raises a ``SinkError``."""
        self.sink.open()
        self.watch.open()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def drain(self) -> None:
        """Ask to end once everything in the log was written; nothing more is appended to it."""
        self._draining.set()
        self._log.wake(self.name)

    def interrupt(self) -> None:
        """Ask to end at once; a write that waits is broken off."""
        self._draining.set()
        self._hurry.set()
        self.sink.interrupt()
        self._log.wake(self.name)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Close a sink whose thread never began."""
        self._close()

    @property
    def num_waiting(self) -> int:
        """Records that it has not confirmed."""
        return self._log.num_waiting(self.name)

    @property
    def has_output(self) -> bool:
        """Whether the sink has taken something, and was not closed with an error."""
        return self._has_output

    def judge(self) -> None:
        """Judge the sink by the age of what waits for it."""
        oldest_age_s = self._log.lag(self.name).oldest_age_s
        self._metrics.sink_oldest.labels(self.name).set(oldest_age_s)
        self.watch.judge(oldest_age_s)

    def _run(self) -> None:
        while not self._is_over():
            try:
                if self._log.wait(self.name, WAIT_S):
                    self._deliver_all()
            except Exception as error:
                # A bug of ours: what was in hand is not confirmed, so it is read again.
                _logger.exception("failed to carry records", extra={"sink": self.name})
                self.watch.fail(error)
                self._hurry.wait(WAIT_S)
            if self.sink.pace_s and not self._draining.is_set():
                self._hurry.wait(self.sink.pace_s)
        self._close()

    def _is_over(self) -> bool:
        return self._hurry.is_set() or (self._draining.is_set() and not self.num_waiting)

    def _deliver_all(self) -> None:
        """Write what can be read now, news before masklets."""
        for kind in Kind:
            batch = self._log.read(kind, self.name, max_bytes=_MAX_BYTES, max_records=_MAX_RECORDS)
            if batch is None:
                continue
            if not self._deliver(batch):
                self._hurry.set()
                return
            self._log.confirm(kind, self.name, batch.last_seq)
            self._on_progress()

    def _deliver(self, batch: Batch) -> bool:
        """Write a batch until it has arrived; False if the run ends before that."""
        records = batch.records
        num_left_out = self.sink.num_refused
        refused = self._write(records)
        if refused is None or not self._flush():
            return False
        self._bury_all(refused)
        num_left_out = self.sink.num_refused - num_left_out
        if num_left_out and not self.sink.is_durable:
            self._metrics.shed.labels(self.name, "records").inc(num_left_out)
            return True
        self._count(records, refused)
        return True

    def _count(self, records: Sequence[Record], refused: Sequence[Refused]) -> None:
        """Count what has arrived."""
        left_out = {id(one.record) for one in refused}
        for record in records:
            if id(record) not in left_out:
                self._has_output = True
                self._metrics.delivered.labels(self.name, record.topic.value).inc()

    def _write(self, records: Sequence[Record]) -> Sequence[Refused] | None:
        """Return what the sink refused; ``None`` if the run ends before the rest has arrived."""
        num_bugs = 0
        for delay_s in BACKOFF.delays():
            try:
                with self._metrics.stage.labels("sink_write").time():
                    refused = self.sink.write(records)
            except SinkError as error:
                self._fail(error)
            except Exception as error:
                _logger.exception("failed to write", extra={"sink": self.name})
                num_bugs += 1
                guilty = self._find_guilty(records, error, num_bugs)
                if guilty:
                    return guilty
                self._fail(error)
            else:
                self.watch.succeed()
                return refused
            if not self.sink.is_durable:
                return [Refused(record=one, reason="away") for one in records]
            if self._draining.is_set() and self.sink.needs_log:
                return None  # the log keeps them for the next start
            if self._hurry.wait(delay_s):
                return None
        raise AssertionError("delays never end")

    def _flush(self) -> bool:
        """Make durable what was written; False if the run ends before that."""
        for delay_s in BACKOFF.delays():
            try:
                self.sink.flush()
            except SinkError as error:
                self._fail(error)
            else:
                return True
            if not self.sink.is_durable:
                return True
            if self._hurry.wait(delay_s):
                return False
        raise AssertionError("delays never end")

    def _find_guilty(
        self, records: Sequence[Record], error: Exception, num_bugs: int
    ) -> list[Refused]:
        """Return the records that a sink has a bug with, all others written; none: it is no record.

        A record is blamed if others pass, or, alone, if it has failed again and again.
        """
        if len(records) == 1:
            return [_blame(records[0], error)] if num_bugs >= _MAX_BUGS else []
        guilty: list[Refused] = []
        for record in records:
            try:
                guilty += self.sink.write([record])
            except SinkError:
                return []
            except Exception as one:  # noqa: BLE001 - told in the dead letter
                guilty.append(_blame(record, one))
        return guilty if len(guilty) < len(records) else []

    def _fail(self, error: Exception) -> None:
        """Tell of a failure, but of none that an interruption has made."""
        if not (self._hurry.is_set() and self.watch.error):
            self.watch.fail(error)

    def _bury_all(self, refused: Sequence[Refused]) -> None:
        """Let every sink of records know of those that this sink refuses.

        Returns once their letters are on disk, where the sink's records are: else a crash could
        leave neither the one nor the other.
        """
        seq = max(map(self._bury, refused), default=0)
        while self.sink.needs_log and not self._log.is_written(Kind.ALERTS, seq):
            if self._hurry.wait(_SYNC_WAIT_S):
                return

    def _bury(self, refused: Refused) -> int:
        """Write a letter about a record; returns its number in the log, 0 if there is none."""
        record = refused.record
        if not self.sink.is_durable:
            self._metrics.shed.labels(self.name, "records").inc()
            return 0
        self._metrics.refused.labels(self.name).inc()
        extra = {"sink": self.name, "stream": record.key}
        _logger.error("refused a record of %s: %s", record.topic.value, refused.reason, extra=extra)
        if record.topic is not Topic.DLQ:  # no letter about a letter
            letter = refused_letter(refused, sink=self.name, now=self._clock.utc_now())
            try:
                return self._log.append(Kind.ALERTS, [letter])
            except UnloggableError:  # else the batch would come again for ever
                _logger.exception("its dead letter is lost", extra=extra)
        return 0

    def _close(self) -> None:
        try:
            self.sink.close()
        except SinkError as error:
            self._has_output = False
            self.watch.fail(error)
        except Exception as error:
            self._has_output = False
            self.watch.fail(error)
            _logger.exception("failed to close", extra={"sink": self.name})


def _blame(record: Record, error: Exception) -> Refused:
    return Refused(record=record, reason=f"{type(error).__name__}: {error}")
