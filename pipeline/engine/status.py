"""What every stream is doing: the one owner of states, status records and what health is told."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connectors.errors import ConnectorError
from pipeline.clock import Clock
from pipeline.config.sections.status import StatusConfig
from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.ledger import Ledger
from pipeline.observe.health import Health, StreamHealth
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import RestoredState, StatusError, StatusRecord, StreamState
from pipeline.records.translate import event_id_of
from pipeline.streams.stream import Stream

_logger = logging.getLogger("maskstream.status")

_US = 1_000_000
_STALLED_INTERVALS = 5  # a slow camera is stalled after this many of its usual intervals
_WINDOW_SAMPLES = 10
_CALM = 0.5  # overload ends at half the share that begins it, so that states do not flip

_VALID_INTERVALS = 3  # two records may be late or lost before a consumer need worry

_FINAL = frozenset({StreamState.ENDED, StreamState.FAILED})
_TROUBLED = frozenset({StreamState.STALLED, StreamState.RECONNECTING, StreamState.OFFLINE})


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    num_received: int
    num_slow: int


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One stream, or with neither buffer nor stream a template of streams."""

    stream_id: str
    buffer: FrameBuffer | None
    stream: Stream | None
    opened_us: int
    since: datetime
    state: StreamState = StreamState.CONNECTING
    is_connected: bool = False
    is_overloaded: bool = False
    is_paused: bool = False
    lost_s: float | None = None
    lost_at: datetime | None = None
    source_error: Exception | None = None
    model_error: Exception | None = None
    reported_s: float = 0.0
    reported: tuple[str, str | None] = ("", None)
    restored: RestoredState | None = None
    window: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_WINDOW_SAMPLES + 1))

    @property
    def error(self) -> Exception | None:
        return self.source_error or self.model_error


class StatusBook:
    """Judges streams by what their sources say, when frames come and how many are lost.

    Used by the engine's thread alone.

    Args:
        config: Limits between the states.
        publish: Takes every status record.
        ledger: Counts of frames.
        metrics: Learns of states and reconnects.
        health: Learns of states.
        clock: For limits and time stamps.
        state_error_of: Tells why a stream's newest state is not on disk.
    """

    def __init__(
        self,
        config: StatusConfig,
        *,
        publish: Callable[[StatusRecord], object],
        ledger: Ledger,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        state_error_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._config = config
        self._publish = publish
        self._ledger = ledger
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._state_error_of = state_error_of
        self._entries: dict[str, _Entry] = {}

    def open(
        self,
        stream_id: str,
        *,
        buffer: FrameBuffer | None = None,
        stream: Stream | None = None,
        is_connected: bool = False,
        restored: RestoredState | None = None,
    ) -> None:
        """Begin to watch a stream, or with neither buffer nor stream a template of streams."""
        entry = _Entry(
            stream_id=stream_id,
            buffer=buffer,
            stream=stream,
            opened_us=round(self._clock.monotonic_s() * _US),
            since=self._clock.utc_now(),
            is_connected=is_connected,
            restored=restored,
        )
        self._entries[stream_id] = entry
        self._metrics.add_stream(stream_id)
        self._report(entry)

    def source_opened(self, stream_id: str, *, at_us: int) -> None:
        """The stream's source was connected at a monotonic time; frames came after it."""
        entry = self._entries[stream_id]
        entry.is_connected = True
        entry.opened_us = at_us
        if entry.lost_s is None:
            _logger.info("connected", extra={"stream": stream_id})
        else:
            self._metrics.reconnects.labels(stream_id).inc()

    def source_lost(self, stream_id: str, error: Exception) -> None:
        """The stream's source broke off, or could not be opened once more."""
        entry = self._entries[stream_id]
        entry.is_connected = False
        entry.source_error = error
        if entry.lost_s is None:
            entry.lost_s = self._clock.monotonic_s()
            entry.lost_at = self._clock.utc_now()
        self._judge(entry)

    def model_failed(self, stream_id: str, error: Exception) -> None:
        """The model fails on the stream's frames; stated until it works again."""
        entry = self._entries[stream_id]
        entry.model_error = error
        self._judge(entry)

    def model_works(self, stream_id: str) -> None:
        """The model has a result for the stream."""
        self._entries[stream_id].model_error = None

    def model_restored(self, stream_id: str, restored: RestoredState) -> None:
        """The model went back to an older state of the stream."""
        self._entries[stream_id].restored = restored

    def pause(self, stream_id: str) -> None:
        """The stream is not looked at for now."""
        entry = self._entries[stream_id]
        entry.is_paused = True
        self._judge(entry)

    def resume(self, stream_id: str, *, reconnects: bool) -> None:
        """The stream is looked at again; nothing happens if it was all the time.

        Args:
            stream_id: The stream.
            reconnects: Its source is opened anew.
        """
        entry = self._entries[stream_id]
        if not entry.is_paused:
            return
        entry.is_paused = False
        if reconnects:
            entry.is_connected, entry.lost_s, entry.source_error = False, None, None
        self._judge(entry)

    def error_of(self, stream_id: str) -> Exception | None:
        """Return what is wrong with a stream now."""
        return self._entries[stream_id].error

    def finish(self, stream_id: str, error: Exception | None = None) -> None:
        """Say how a stream ended; nothing is said of it afterwards.

        Args:
            stream_id: The stream.
            error: Why it failed for good; without one it has ended, whatever is wrong with it.
        """
        entry = self._entries.pop(stream_id)
        entry.source_error = error or entry.source_error
        self._move(entry, StreamState.ENDED if error is None else StreamState.FAILED)

    def leave(self, stream_id: str) -> None:
        """Say nothing of a stream from now on: another worker may."""
        del self._entries[stream_id]
        self.forget(stream_id)

    def forget(self, stream_id: str) -> None:
        """Leave a stream that has ended out of health from now on."""
        self._health.forget_stream(stream_id)

    def refresh(self) -> None:
        """Judge all streams by the time; report those that were silent about for long."""
        now_s = self._clock.monotonic_s()
        for entry in self._entries.values():
            self._sample(entry, now_s)
            self._judge(entry)
            if now_s - entry.reported_s >= self._config.every_s:
                self._report(entry)

    def _judge(self, entry: _Entry) -> None:
        state = self._state_of(entry, self._clock.monotonic_s())
        if state is not entry.state:
            self._move(entry, state)
        elif self._faults_of(entry) != entry.reported:
            self._report(entry)

    def _faults_of(self, entry: _Entry) -> tuple[str, str | None]:
        """Return what is told at once when it changes."""
        return type(entry.error).__name__, self._state_error_of(entry.stream_id)

    def _state_of(self, entry: _Entry, now_s: float) -> StreamState:
        if entry.is_paused:
            return StreamState.PAUSED
        if entry.is_connected and (entry.buffer is None or self._has_frames(entry)):
            entry.lost_s, entry.source_error = None, None
            if entry.buffer is not None and self._is_silent(entry.buffer, now_s):
                return StreamState.STALLED
            return StreamState.OVERLOADED if entry.is_overloaded else StreamState.RUNNING
        if entry.is_connected and now_s - entry.opened_us / _US > self._config.stalled_s:
            return StreamState.STALLED
        if entry.lost_s is None:
            return StreamState.CONNECTING
        is_offline = now_s - entry.lost_s >= self._config.offline_s
        return StreamState.OFFLINE if is_offline else StreamState.RECONNECTING

    def _has_frames(self, entry: _Entry) -> bool:
        """Whether a frame has come since the source was opened."""
        last_us = entry.buffer.last_arrived_us if entry.buffer is not None else None
        return last_us is not None and last_us >= entry.opened_us

    def _is_silent(self, buffer: FrameBuffer, now_s: float) -> bool:
        last_us = buffer.last_arrived_us
        if last_us is None or buffer.num_frames:  # it is we who are slow
            return False
        silent_s = now_s - last_us / _US
        return silent_s > max(
            self._config.stalled_s, _STALLED_INTERVALS * buffer.usual_interval_us / _US
        )

    def _sample(self, entry: _Entry, now_s: float) -> None:
        """Keep the counts of the last ``overload_window_s``, and judge the load by them."""
        if entry.buffer is None:
            return
        window, every_s = entry.window, self._config.overload_window_s / _WINDOW_SAMPLES
        if window and now_s - window[-1].at_s < every_s:
            return
        received, slow = self._ledger.load(entry.stream_id)
        window.append(_Sample(now_s, received, slow))
        num_received = received - window[0].num_received
        share = (slow - window[0].num_slow) / num_received if num_received else 0.0
        limit = self._config.overload_share * (_CALM if entry.is_overloaded else 1.0)
        entry.is_overloaded = share > limit

    def _move(self, entry: _Entry, state: StreamState) -> None:
        before, entry.state = entry.state, state
        now = self._clock.utc_now()
        is_lost = state in {StreamState.RECONNECTING, StreamState.OFFLINE}
        lasted_s = (now - entry.since).total_seconds()
        entry.since = entry.lost_at if is_lost and entry.lost_at is not None else now
        self._log(entry, before, lasted_s)
        self._report(entry)

    def _log(self, entry: _Entry, before: StreamState, lasted_s: float) -> None:
        extra = {"stream": entry.stream_id}
        reason = f": {entry.error}" if entry.error is not None else ""
        if entry.state is StreamState.FAILED:
            _logger.error("failed%s", reason, extra=extra)
        elif entry.state in _TROUBLED or entry.state is StreamState.OVERLOADED:
            _logger.warning("%s%s", entry.state.value, reason, extra=extra)
        elif entry.state is StreamState.RUNNING and before is not StreamState.CONNECTING:
            _logger.info("running again; was %s for %.1f s", before.value, lasted_s, extra=extra)
        else:
            _logger.info("%s%s", entry.state.value, reason, extra=extra)

    def _report(self, entry: _Entry) -> None:
        """Tell everyone what a stream is doing now."""
        stream_id, error = entry.stream_id, entry.error
        entry.reported_s = self._clock.monotonic_s()
        _, state_error = entry.reported = self._faults_of(entry)
        health = StreamHealth(
            state=entry.state,
            since=entry.since,
            error=None if error is None else str(error),
            restored=entry.restored,
            state_error=state_error,
        )
        self._health.set_stream(stream_id, health)
        self._metrics.set_stream_state(stream_id, entry.state)
        stamp = entry.stream.last_stamp if entry.stream is not None else None
        now = self._clock.utc_now()
        is_last = entry.state in _FINAL
        valid_for = timedelta(seconds=_VALID_INTERVALS * self._config.every_s)
        self._publish(
            StatusRecord(
                stream_id=stream_id,
                stream_epoch=stamp.stream_epoch if stamp else 0,
                frame_seq=stamp.frame_seq if stamp else -1,
                state=entry.state,
                since=entry.since,
                time=now,
                valid_until=None if is_last else now + valid_for,
                counts=self._ledger.counts(stream_id),
                error=_status_error(error),
                open_event_ids=_open_event_ids(entry.stream),
                restored=entry.restored,
                state_error=state_error,
            )
        )


def _open_event_ids(stream: Stream | None) -> tuple[str, ...] | None:
    if stream is None:
        return None
    return tuple(
        event_id_of(stream.stream_id, event.rule, event.track_uid, event.ordinal)
        for event in stream.open_events
    )


def _status_error(error: Exception | None) -> StatusError | None:
    if error is None:
        return None
    position = error.position if isinstance(error, ConnectorError) else {}
    return StatusError(type=type(error).__name__, message=str(error), position=position)
