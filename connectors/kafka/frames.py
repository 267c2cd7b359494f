"""Frames to Kafka, as the Kafka source reads them."""

import logging
import threading
from collections import deque

from typing_extensions import override

from connectors.base import FrameSink
from connectors.errors import SinkError
from connectors.frame import Frame
from connectors.kafka.config import FramesSinkConfig
from connectors.kafka.sink import KafkaSink
from connectors.pictures.encoding import encode_image
from connectors.record import Record, Topic

_log = logging.getLogger("maskstream.connectors.kafka")

_END_S = 3.0
_MAX_BUGS = 3  # with the same frames, until each is tried alone; with one alone, until it goes


class _ClientBugError(SinkError):
    """kafka-python raised something of which it says nothing."""


class KafkaFrameSink(FrameSink):
    """Puts encoded frames on a topic, keyed by stream, for :class:`KafkaSource` to read.

    A thread of its own hands over what has gathered while it waited for the broker, so that a
    write waits only while ``max_pending`` frames are unconfirmed. A frame that cannot be encoded,
    is too large for the broker, or makes the client raise whenever it is tried, is dropped, logged
    and counted in ``num_refused``; the others go on.

    Guarantee: at least once, as :class:`connectors.kafka.sink.KafkaSink`, once ``flush`` has
        returned; a repeat has the same ``stream_epoch`` and ``frame_seq``. JPEG loses detail, PNG
        none. A ``write`` that raises has not taken its frame, and tells of frames before it, which
        are tried again by the next call.
    Ordering: that of the writes for each stream.
    Parallelism: one writer; several sinks may write to one topic.
    """

    def __init__(self, *, config: FramesSinkConfig) -> None:
        self._config = config
        self._sink = KafkaSink(config=config.to_records(), kinds=[Topic.FRAMES])
        self._num_unfit = 0
        self._waiting: deque[Record] = deque()
        self._num_in_flight = 0
        self._error: SinkError | None = None
        self._is_closing = False
        self._is_interrupted = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    @override
    def num_refused(self) -> int:
        return self._num_unfit + self._sink.num_refused

    @property
    @override
    def num_pending(self) -> int:
        with self._changed:
            return self._count_pending()

    @override
    def open(self) -> None:
        self._sink.open()
        self._is_interrupted = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kafka-frames", daemon=True)
            self._thread.start()

    @override
    def write(self, frame: Frame) -> None:
        try:
            record = self._to_record(frame)
        except ValueError as error:
            self._num_unfit += 1
            extra = {"stream": frame.stream_id}
            text = "frame %d of %r: %s; dropped"
            _log.error(text, frame.frame_seq, frame.stream_id, error, extra=extra)
            return
        self._wait_until_at_most(self._config.max_pending - 1)
        with self._changed:
            self._waiting.append(record)
            self._changed.notify_all()

    @override
    def flush(self) -> None:
        self._wait_until_at_most(0)

    @override
    def interrupt(self) -> None:
        with self._changed:
            self._is_interrupted = True
            self._changed.notify_all()

    @override
    def close(self) -> None:
        try:
            if self._thread is not None:
                self.flush()
        finally:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._sink.interrupt()
            if self._thread is not None:
                self._thread.join(_END_S)
            self._sink.close()
            self._thread = None

    def _wait_until_at_most(self, num_pending: int) -> None:
        """Wait until so many frames are unconfirmed. Raises what kept the thread from it."""
        with self._changed:
            while True:
                error, self._error = self._error, None
                if error is not None:
                    self._changed.notify_all()  # for the thread to try again
                    raise error
                if self._count_pending() <= num_pending:
                    return
                if self._is_interrupted:
                    reason = f"interrupted with {self._count_pending()} frames unconfirmed"
                    raise SinkError(self._sink.name, reason, recoverable=True)
                self._changed.wait()

    def _count_pending(self) -> int:
        return len(self._waiting) + self._num_in_flight

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._waiting)
                if self._is_closing:
                    return
                records = list(self._waiting)
                self._waiting.clear()
                self._num_in_flight = len(records)
            if not self._write_all(records):
                return

    def _write_all(self, records: list[Record]) -> bool:
        """Return once all are confirmed or dropped; False if the sink is closed before that."""
        is_alone, num_bugs = False, 0
        while records:
            part = records[:1] if is_alone else records
            error = self._write(part)
            num_bugs = num_bugs + 1 if isinstance(error, _ClientBugError) else 0
            if error is not None and num_bugs >= _MAX_BUGS:
                if len(part) == 1:
                    self._num_unfit += 1
                    _log.error("dropped a frame: %s", error, extra={"stream": part[0].key})
                    error = None
                is_alone, num_bugs = True, 0
            if error is None:
                records = records[len(part) :]
            with self._changed:
                self._error, self._num_in_flight = error, len(records)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_closing or self._error is None)
                if self._is_closing:
                    return not records
        return True

    def _write(self, records: list[Record]) -> SinkError | None:
        """Write frames; returns why they are not confirmed, if they are not."""
        try:
            for refused in self._sink.write(records):
                extra = {"stream": refused.record.key}
                _log.error("dropped a frame: %s", refused.reason, extra=extra)
        except SinkError as error:
            return error
        except Exception as error:  # noqa: BLE001 - or the thread ends, and a flush never does
            reason = f"{type(error).__name__}: {error}"
            bug = _ClientBugError(self._sink.name, reason, recoverable=True)
            bug.__cause__ = error
            return bug
        return None

    def _to_record(self, frame: Frame) -> Record:
        return Record(
            topic=Topic.FRAMES,
            key=frame.stream_id,
            value=encode_image(frame.pixels, self._config.image, quality=self._config.quality),
            headers=(
                ("content-type", f"image/{self._config.image}".encode()),
                ("stream_epoch", str(frame.stream_epoch).encode()),
                ("frame_seq", str(frame.frame_seq).encode()),
                ("pts_us", str(frame.pts_us).encode()),
            ),
            timestamp_ms=round(frame.captured_at.timestamp() * 1000),
        )
