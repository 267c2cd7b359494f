"""Hands what the engine has to say to the outbox, and counts it."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from connectors.frame import CaptureClock, Frame
from connectors.record import Record
from pipeline.engine.delivery import Delivery
from pipeline.engine.outbox import Outbox
from pipeline.engine.stream_table import RunningStream
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import EventRecord, StatusRecord
from pipeline.streams.result import FrameResult, Scene
from pipeline.tracking.states import TrackState

_logger = logging.getLogger("maskstream.publisher")

_TOLD_EVERY = timedelta(seconds=60)  # a rule that raises does so on every frame
_LIVE_CLOCKS = frozenset(
    {CaptureClock.ARRIVAL, CaptureClock.RTCP_NTP, CaptureClock.KAFKA_TIMESTAMP}
)


class Publisher:
    """Used by the engine's thread alone. Every method returns the number of its delivery.

    Args:
        outbox: Takes deliveries.
        metrics: Where changes, events and rules that raised are counted.
        on_result: Called with each result before any sink gets it.
        live: Shows the newest frame of every stream; ``None``: nobody watches.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        metrics: Metrics,
        on_result: Callable[[FrameResult], None] | None = None,
        live: LiveView | None = None,
    ) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._on_result = on_result
        self._live = live

    def result(self, running: RunningStream, result: FrameResult) -> int:
        """Publish what a frame, or the end of a session, led to."""
        running.totals.add(result)
        if self._on_result is not None:
            self._on_result(result)
        stream_id = running.stream_id
        for change in result.changes:
            self._metrics.track_changes.labels(stream_id, change.kind.value).inc()
        for event in result.events:
            self._metrics.events.labels(stream_id, event.rule, event.phase.value).inc()
        self._tell_rule_failures(running, result)
        self._show_tracks(stream_id, [track.state for track in result.tracks])
        if result.scene is not None:
            self._observe_latency(stream_id, result)
            if self._live is not None:
                self._live.show(result.scene)
        with self._metrics.stage.labels("publish").time():
            return self._outbox.put(Delivery(result=result, is_live=not running.may_wait))

    def end_session(self, running: RunningStream, reason: str, *, now: datetime) -> int:
        """End a stream's session and publish what that led to; a bug in it ends nothing else."""
        try:
            ended = running.stream.end_session(reason, now=now)
            if ended is not None:
                return self.result(running, ended)
        except Exception:
            extra = {"stream": running.stream_id}
            _logger.exception("its tracks could not be ended", extra=extra)
            self._metrics.session_errors.labels(running.stream_id).inc()
            self._show_tracks(running.stream_id, ())
        return self._outbox.num_put

    def status(self, status: StatusRecord) -> int:
        """Publish what a stream is doing."""
        return self._outbox.put(Delivery(record=status))

    def record(self, event: EventRecord) -> int:
        """Publish an event of no frame: the end of one that nothing goes on with."""
        self._metrics.events.labels(event.stream_id, event.rule, str(event.phase)).inc()
        return self._outbox.put(Delivery(record=event))

    def last_result(self, result: FrameResult) -> int:
        """Publish the end of a stream that is configured no more."""
        return self._outbox.put(Delivery(result=result))

    def dead_letter(self, letter: Record) -> int:
        """Publish input that was refused."""
        return self._outbox.put(Delivery(dead_letter=letter))

    def frame(self, running: RunningStream, frame: Frame) -> int:
        """Publish a frame as it was taken, if some sink takes frames."""
        if not self._outbox.takes_frames:
            return self._outbox.num_put
        return self._outbox.put(Delivery(frame=frame, is_live=not running.may_wait))

    def show_frame(self, frame: Frame) -> None:
        """Show a frame that no model looks at."""
        if self._live is not None:
            self._live.show(Scene.bare(frame))

    def close_stream(self, stream_id: str) -> int:
        """Let sinks close what they keep open for a stream that is gone."""
        return self._outbox.put(Delivery(closed_stream=stream_id))

    def _tell_rule_failures(self, running: RunningStream, result: FrameResult) -> None:
        """Count every rule that raised; log each once in a while."""
        for failure in result.rule_failures:
            self._metrics.rule_errors.labels(running.stream_id, failure.rule).inc()
            told = running.rules_told.get(failure.rule)
            if told is None or abs(result.result_time - told) >= _TOLD_EVERY:
                running.rules_told[failure.rule] = result.result_time
                extra = {"stream": running.stream_id}
                _logger.error("rule %r raised", failure.rule, exc_info=failure.error, extra=extra)

    def _show_tracks(self, stream_id: str, states: Sequence[TrackState]) -> None:
        for state in TrackState:
            self._metrics.tracks.labels(stream_id, state.value).set(states.count(state))

    def _observe_latency(self, stream_id: str, result: FrameResult) -> None:
        stamp = result.stamp
        if stamp.capture_clock in _LIVE_CLOCKS:
            latency_s = (result.result_time - stamp.captured_at).total_seconds()
            self._metrics.latency.labels(stream_id).observe(max(latency_s, 0.0))
