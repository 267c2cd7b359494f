"""Encodes what the engine delivers, once for all sinks, and appends it to the log."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from connectors.record import Record
from pipeline.clock import Clock
from pipeline.engine.dead_letters import unencodable_letter
from pipeline.engine.delivery import Delivery
from pipeline.engine.log.kinds import Kind, kind_of
from pipeline.engine.log.record_log import RecordLog
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics
from pipeline.records.codec import encode_record
from pipeline.records.schema import EventRecord, StatusRecord
from pipeline.records.translate import Unencodable, encode_result

_logger = logging.getLogger("maskstream.recorder")

_MAX_MARKS = 4096  # while a sink is away; further ones are joined to the last


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """Where the records of one delivery end in the log."""

    number: int
    last_seq: Mapping[Kind, int]


class Recorder:
    """A thread between the engine and the log; the only one that encodes.

    Args:
        log: Takes the records.
        deployment: Name of this installation.
        worker: Name of this process.
        capacity: Results that may wait to be encoded.
        metrics: Where what is left out is counted.
        clock: For stamps of dead letters.
        on_room: Called when the recorder has caught up.
        on_alerts: Called when there are alerts to be made durable.
        live: Shows alerts once they are appended.
    """

    def __init__(  # noqa: PLR0913 - what it needs, and whom it tells
        self,
        log: RecordLog,
        *,
        deployment: str,
        worker: str,
        capacity: int,
        metrics: Metrics,
        clock: Clock,
        on_room: Callable[[], None],
        on_alerts: Callable[[], None] = lambda: None,
        live: LiveView | None = None,
    ) -> None:
        self._log = log
        self._names = {"deployment": deployment, "worker": worker}
        self._capacity = capacity
        self._metrics = metrics
        self._clock = clock
        self._on_room = on_room
        self._on_alerts = on_alerts
        self._live = live
        self._waiting: deque[tuple[int, Delivery]] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._marks: deque[_Mark] = deque()
        self._safe = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to encode."""
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether fewer results wait than may."""
        return len(self._waiting) < self._capacity

    def put(self, number: int, delivery: Delivery) -> None:
        """Take a delivery; never waits.

        While too many wait, a live result gives up its masklets record, which would be the oldest
        news by the time it was encoded; what happened to tracks and rules is kept.
        """
        result = delivery.result
        has_scene = result is not None and result.scene is not None
        if result is not None and has_scene and delivery.is_live and not self.has_room:
            self._metrics.shed.labels("recorder", Kind.MASKLETS.value).inc()
            delivery = replace(delivery, result=replace(result, scene=None))
        with self._changed:
            self._waiting.append((number, delivery))
            self._changed.notify()

    def acknowledged(self, num_put: int) -> int:
        """Return the number up to which all deliveries are safe with every sink or on disk.

        Used by one thread.

        Args:
            num_put: The number of the last delivery.
        """
        safe = {kind: self._log.safe_seq(kind) for kind in Kind}
        with self._changed:
            while self._marks and all(
                seq <= safe[kind] for kind, seq in self._marks[0].last_seq.items()
            ):
                self._safe = self._marks.popleft().number
            return self._safe if self._marks or self._waiting else num_put

    def request_stop(self) -> None:
        """Ask to encode what waits and to end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_stopping)
                if not self._waiting:
                    return
                number, delivery = self._waiting[0]
            try:
                self._append(number, delivery)
            except Exception:
                _logger.exception("a result could not be recorded")
            with self._changed:
                # Only now: what is being encoded is not safe yet.
                self._waiting.popleft()
                has_room_again = len(self._waiting) == self._capacity - 1
            if has_room_again:
                self._on_room()

    def _append(self, number: int, delivery: Delivery) -> None:
        last_seq: dict[Kind, int] = {}
        by_kind: dict[Kind, list[Record]] = {}
        for record in self._encode(delivery):
            by_kind.setdefault(kind_of(record.topic), []).append(record)
        for kind, records in by_kind.items():
            last_seq |= self._append_all(kind, records)
        if Kind.ALERTS in last_seq:
            self._on_alerts()
        if delivery.mark is not None:
            delivery.mark.last_seq = {kind: self._log.last_seq(kind) for kind in Kind}
        with self._changed:
            if len(self._marks) >= _MAX_MARKS:
                last_seq = {**self._marks.pop().last_seq, **last_seq}
            self._marks.append(_Mark(number=number, last_seq=last_seq))
        if self._live is not None:
            self._live.add_records(by_kind.get(Kind.ALERTS, ()))

    def _append_all(self, kind: Kind, records: list[Record]) -> dict[Kind, int]:
        """Append records; one that the log cannot hold becomes a dead letter.

        Returns:
            Where in the log the last of them is, and the last letter.
        """
        try:
            return {kind: self._log.append(kind, records)}
        except ValueError:
            pass
        last_seq: dict[Kind, int] = {}
        for record in records:
            try:
                last_seq[kind] = self._log.append(kind, [record])
            except ValueError as error:
                failed = Unencodable(stream_id=record.key, thing=record, error=error)
                letter = self._unencodable(failed)
                last_seq[Kind.ALERTS] = self._log.append(Kind.ALERTS, [letter])
        return last_seq

    def _encode(self, delivery: Delivery) -> list[Record]:
        """Return a delivery's records; one that cannot be encoded becomes a dead letter."""
        records = [] if delivery.dead_letter is None else [delivery.dead_letter]
        if delivery.record is not None:
            records.append(self._encode_one(delivery.record))
        if delivery.result is not None:
            for one in encode_result(delivery.result, **self._names):
                is_record = isinstance(one, Record)
                records.append(one if is_record else self._unencodable(one))
        return records

    def _encode_one(self, given: StatusRecord | EventRecord) -> Record:
        try:
            return encode_record(given, **self._names)
        except Exception as error:  # noqa: BLE001 - handed on in the dead letter
            return self._unencodable(
                Unencodable(stream_id=given.stream_id, thing=given, error=error)
            )

    def _unencodable(self, failed: Unencodable) -> Record:
        extra = {"stream": failed.stream_id}
        _logger.error("a record cannot be encoded", exc_info=failed.error, extra=extra)
        now = self._clock.utc_now()
        return unencodable_letter(failed.thing, failed.error, stream_id=failed.stream_id, now=now)
