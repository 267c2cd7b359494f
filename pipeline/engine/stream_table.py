"""Starts and stops sources, and knows every stream that they feed."""

import json
import logging
import threading
from collections.abc import Callable, Sequence

from connectors.base import Source
from connectors.errors import BadFrameError, ConnectorError, SourceError
from connectors.frame import Frame
from connectors.record import Record, Topic
from pipeline.clock import Clock
from pipeline.config.run import ANY_STREAM, RunConfig, StreamConfig
from pipeline.engine.buffer import FrameLedger
from pipeline.engine.delivery import Delivery
from pipeline.engine.lane import Lane
from pipeline.engine.outbox import Publisher
from pipeline.engine.source_runner import Capture
from pipeline.errors import StreamLimitError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import FrameCounts, StatusError, StatusRecord, StreamState

_logger = logging.getLogger("maskstream.supervisor")


class Supervisor:
    """All sources with their streams.

    A source that fails ends its own streams, with a status record that says why; others go on.

    Args:
        config: The whole configuration.
        sources: One per configured stream, in order, not open yet.
        publisher: Takes status records and refused input.
        metrics: Where frames are counted.
        health: Learns of every state.
        clock: For time stamps and commit intervals.
    """

    def __init__(
        self,
        config: RunConfig,
        sources: Sequence[Source],
        publisher: Publisher,
        *,
        metrics: Metrics,
        health: Health,
        clock: Clock,
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._removed = threading.Condition(self._lock)
        self._lanes: dict[str, Lane] = {}
        self._strays: dict[str, FrameLedger] = {}
        self._owners: dict[str, Capture] = {}
        self._warned: set[str] = set()
        self.captures = tuple(
            Capture(stream, source, self, engine=config.engine, clock=clock)
            for stream, source in zip(config.streams, sources, strict=True)
        )

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to read all sources; ``wake`` is called whenever there is something to do."""
        self._wake = wake
        for capture in self.captures:
            if capture.config.id != ANY_STREAM:
                self._open_lane(capture, capture.config.id)
        for capture in self.captures:
            capture.start()

    def stop(self) -> None:
        """Ask all sources to end; frames that were read already are still to be processed."""
        for capture in self.captures:
            capture.stop()
        # A source that waits for room in a buffer is let go by closing the buffer.
        for lane in self.lanes():
            lane.buffer.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for all capture threads; tell whether they have ended."""
        ended = [capture.join(timeout_s) for capture in self.captures]
        return all(ended)

    @property
    def is_done(self) -> bool:
        """Whether all sources have ended and every stream was taken out."""
        return all(capture.is_done for capture in self.captures) and not self._lanes

    def lanes(self) -> list[Lane]:
        """Return the open streams."""
        with self._lock:
            return list(self._lanes.values())

    def is_spent(self, lane: Lane) -> bool:
        """Whether a stream has no frame left and none will come."""
        is_named_by_source = lane.config.id == ANY_STREAM
        return lane.is_spent and (is_named_by_source or self._owners[lane.stream_id].is_done)

    def strays(self) -> dict[str, FrameCounts]:
        """Return the account of frames that belong to no open stream, by configured id."""
        return {stream_id: ledger.counts() for stream_id, ledger in self._strays.items()}

    def fail(self, lane: Lane, error: Exception, *, cause: str) -> None:
        """Give a stream up: its frames are dropped from now on, counted under ``cause``."""
        lane.error = error
        lane.buffer.close(drop_cause=cause)
        if lane.config.id != ANY_STREAM:
            self._owners[lane.stream_id].stop()

    def remove(self, lane: Lane) -> None:
        """Take out a stream that is spent, and say how it ended."""
        with self._removed:
            if self._lanes.get(lane.stream_id) is lane:
                self._lanes.pop(lane.stream_id)
                self._owners.pop(lane.stream_id, None)
            self._removed.notify_all()
        state = StreamState.ENDED if lane.error is None else StreamState.FAILED
        self.tell(lane.stream_id, state, error=lane.error, lane=lane)
        if lane.config.id == ANY_STREAM:
            self._health.forget_stream(lane.stream_id)
            self._metrics.retire_stream(lane.stream_id, into=ANY_STREAM)

    def tell(
        self,
        stream_id: str,
        state: StreamState,
        *,
        error: Exception | None = None,
        lane: Lane | None = None,
    ) -> None:
        """Publish what a stream is doing."""
        now = self._clock.utc_now()
        reason = None if error is None else str(error)
        self._health.set_stream(stream_id, state, since=now, error=reason)
        self._metrics.set_stream_state(stream_id, state)
        stamp = lane.last_stamp if lane else None
        status = StatusRecord(
            stream_id=stream_id,
            stream_epoch=stamp.stream_epoch if stamp else 0,
            frame_seq=stamp.frame_seq if stamp else -1,
            state=state,
            time=now,
            counts=lane.ledger.counts() if lane else FrameCounts(),
            error=_status_error(error),
        )
        self._publisher.put(Delivery(deployment=self._config.deployment, status=status))

    def on_frame(self, capture: Capture, frame: Frame) -> bool:
        """Put a frame into its stream's buffer; may wait there. False if it could not go in."""
        while True:
            lane = self._lane_for(capture, frame.stream_id)
            if isinstance(lane, str):
                return self._lose(self._stray_ledger(capture), lane)
            if lane.buffer.offer(frame):
                return True
            if lane.error is not None:
                return self._lose(lane.ledger, "stream_failed")
            if capture.config.id != ANY_STREAM:
                return self._lose(lane.ledger, "stopped")
            # It was closed for idleness just as this frame came: begin it anew.
            self._wait_removed(lane)

    def on_bad_frame(self, capture: Capture, error: BadFrameError) -> None:
        """Count a frame that cannot be used, and hand it to the dead-letter topic."""
        with self._lock:
            lane = self._lanes.get(error.stream_id)
        ledger = lane.ledger if lane else self._stray_ledger(capture)
        ledger.receive()
        ledger.drop("bad_frame")
        _logger.warning("%s", error)
        letter = _letter(error, timestamp_ms=int(self._clock.utc_now().timestamp() * 1000))
        self._publisher.put(Delivery(deployment=self._config.deployment, dead_letter=letter))

    def on_state(
        self, capture: Capture, state: StreamState, error: SourceError | None = None
    ) -> None:
        """Publish what a source is doing."""
        stream_id = capture.config.id
        if state is StreamState.RECONNECTING:
            self._metrics.reconnects.labels(stream_id).inc()
            _logger.warning("%s; opening it again", error)
        with self._lock:
            lane = self._lanes.get(stream_id)
        self.tell(stream_id, state, error=error, lane=lane)

    def on_done(self, capture: Capture, error: Exception | None) -> None:
        """Close the streams of a source that has ended; what they hold is still processed."""
        if error is not None:
            _logger.error("%s", error)
        for lane in self._lanes_of(capture):
            lane.error = lane.error or error
            lane.buffer.close()
        if capture.config.id == ANY_STREAM:
            state = StreamState.ENDED if error is None else StreamState.FAILED
            self.tell(ANY_STREAM, state, error=error)
        capture.is_done = True
        self._wake()

    def settle(self, capture: Capture) -> bool:
        """Wait until all frames of a source are processed and their results durable."""
        for lane in self._lanes_of(capture):
            while not lane.ledger.wait_settled(0.5):
                if lane.error is not None:
                    return False
        return self._publisher.flush()

    def _lane_for(self, capture: Capture, stream_id: str) -> Lane | str:
        """Return the stream's lane, or why it cannot have one."""
        with self._lock:
            lane = self._lanes.get(stream_id)
        if lane is not None:
            return lane
        if capture.config.id != ANY_STREAM:
            if stream_id == capture.config.id:
                return "stopped"
            self._warn_unknown(capture, stream_id)
            return "unknown_stream"
        try:
            return self._open_lane(capture, stream_id)
        except StreamLimitError as error:
            _logger.warning("%s", error)
            return "stream_limit"

    def _warn_unknown(self, capture: Capture, stream_id: str) -> None:
        """Say once per source that it sends what is not looked at."""
        if capture.config.id in self._warned:
            return
        self._warned.add(capture.config.id)
        _logger.warning(
            "stream %r: its source sends frames of stream %r, which are dropped as unknown "
            "(accepted: that key as the stream's id, or %r for every stream of the source)",
            capture.config.id,
            stream_id,
            ANY_STREAM,
        )

    def _wait_removed(self, lane: Lane) -> None:
        with self._removed:
            self._removed.wait_for(lambda: self._lanes.get(lane.stream_id) is not lane, 1.0)

    @staticmethod
    def _lose(ledger: FrameLedger, cause: str) -> bool:
        ledger.receive()
        ledger.drop(cause)
        return False

    def _open_lane(self, capture: Capture, stream_id: str) -> Lane:
        with self._lock:
            limit = self._config.engine.max_streams
            if len(self._lanes) >= limit:
                raise StreamLimitError(stream_id=stream_id, limit=limit)
            lane = Lane(
                stream_id, capture.config, self._config, self._metrics, on_frame=self._notify
            )
            lane.active_s = self._clock.monotonic_s()
            self._lanes[stream_id] = lane
            self._owners[stream_id] = capture
        if capture.config.id == ANY_STREAM:
            self.tell(stream_id, StreamState.RUNNING, lane=lane)
        return lane

    def _lanes_of(self, capture: Capture) -> list[Lane]:
        return [lane for lane in self.lanes() if lane.config is capture.config]

    def _stray_ledger(self, capture: Capture) -> FrameLedger:
        stream: StreamConfig = capture.config
        with self._lock:
            return self._strays.setdefault(stream.id, FrameLedger(stream.id, self._metrics))

    def _notify(self) -> None:
        self._wake()


def _status_error(error: Exception | None) -> StatusError | None:
    if error is None:
        return None
    position = error.position if isinstance(error, ConnectorError) else {}
    return StatusError(type=type(error).__name__, message=str(error), position=position)


def _letter(error: BadFrameError, *, timestamp_ms: int) -> Record:
    reasons = {
        "maskstream_error_type": type(error).__name__,
        "maskstream_error_reason": error.reason,
        "maskstream_position": json.dumps(error.position),
    }
    return Record(
        topic=Topic.DLQ,
        key=error.stream_id,
        value=error.payload,
        headers=(*error.headers, *((name, text.encode()) for name, text in reasons.items())),
        timestamp_ms=timestamp_ms,
    )
