"""The engine: plan, run, reconcile."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from connectors.frame import CaptureClock, Frame
from pipeline.clock import Clock, seconds_to_us
from pipeline.config.run import ANY_STREAM, Overflow, RunConfig
from pipeline.engine.delivery import Delivery
from pipeline.engine.lane import Lane
from pipeline.engine.outbox import Publisher
from pipeline.engine.scheduler import Scheduler
from pipeline.engine.stream_table import Supervisor
from pipeline.engine.summary import RunSummary, SummaryBook
from pipeline.engine.worker import Outcome, Worker
from pipeline.errors import ModelError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StreamState
from pipeline.streams.result import FrameResult
from pipeline.streams.stream import Admission
from pipeline.tracking.states import TrackState

_logger = logging.getLogger("maskstream.engine")

_POLL_S = 0.1  # how soon a stop is noticed while nothing comes
_LIVE_CLOCKS = frozenset(
    {CaptureClock.ARRIVAL, CaptureClock.RTCP_NTP, CaptureClock.KAFKA_TIMESTAMP}
)


@dataclass(frozen=True, slots=True)
class _Turn:
    lane: Lane
    admission: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What an engine is wired from; see :mod:`pipeline.app`."""

    worker: Worker
    supervisor: Supervisor
    publisher: Publisher
    metrics: Metrics
    health: Health
    clock: Clock


class Engine:
    """Runs until all sources have ended, or until told to stop.

    Args:
        config: The whole configuration.
        parts: Everything wired.
    """

    def __init__(self, config: RunConfig, parts: EngineParts) -> None:
        self._config = config
        self._worker = parts.worker
        self._supervisor = parts.supervisor
        self._publisher = parts.publisher
        self._metrics = parts.metrics
        self._health = parts.health
        self._clock = parts.clock
        self._scheduler = Scheduler(max_batch=config.engine.max_batch)
        self._summary = SummaryBook(parts.clock)
        self._wake = threading.Event()
        self._should_stop = False
        self._heartbeat_s = parts.clock.monotonic_s()

    def stop(self) -> None:
        """Ask the engine to end: read frames are processed, sinks flushed. For signal handlers."""
        # A bare flag: taking a lock here could wait forever for the thread that was interrupted.
        self._should_stop = True

    def run(self, on_turn: Callable[[], None] = lambda: None) -> RunSummary:
        """Start everything, turn until done, stop everything.

        Args:
            on_turn: Called after every turn, for showing progress.

        Raises:
            ConnectorError: If a sink cannot be opened; nothing was read then.
        """
        self._publisher.start()
        try:
            self._supervisor.start(self._wake.set)
            self._turn_until_done(on_turn)
        finally:
            self._shut_down()
        return self.summary()

    def step(self) -> int:
        """Plan, run, reconcile. Returns the number of frames processed."""
        lanes = {lane.stream_id: lane for lane in self._supervisor.lanes()}
        batch = self._scheduler.next_batch([lane.waiting() for lane in lanes.values()])
        turns = [turn for stream_id in batch if (turn := self._prepare(lanes[stream_id]))]
        with self._metrics.stage.labels("model").time():
            outcomes = self._worker.step([turn.admission.model_input for turn in turns])
        for turn, outcome in zip(turns, outcomes, strict=True):
            self._reconcile(turn, outcome)
        for lane in lanes.values():
            if self._supervisor.is_spent(lane):
                self._finish(lane, "stream_ended")
        if turns:
            self._metrics.batch_frames.observe(len(turns))
        return len(turns)

    def summary(self) -> RunSummary:
        """Return what happened so far."""
        return self._summary.draw_up(
            self._supervisor.lanes(),
            strays=self._supervisor.strays(),
            source_errors={
                capture.config.id: str(capture.error)
                for capture in self._supervisor.captures
                if capture.error is not None and capture.config.id == ANY_STREAM
            },
            sink_errors=self._publisher.errors,
        )

    def _turn_until_done(self, on_turn: Callable[[], None]) -> None:
        is_stopping = False
        while not self._supervisor.is_done:
            if (self._should_stop or self._publisher.is_useless) and not is_stopping:
                is_stopping = True
                self._supervisor.stop()
            self._wake.clear()
            num_frames = self.step()
            self._tend()
            on_turn()
            if not num_frames and not self._supervisor.is_done:
                self._wake.wait(_POLL_S)

    def _prepare(self, lane: Lane) -> _Turn | None:
        """Take a frame and see to it that a session which fits it is open."""
        frame = lane.buffer.take()
        if frame is None:
            return None
        lane.active_s = self._clock.monotonic_s()
        admission = self._admit(lane, frame)
        if not admission.begins_session:
            return _Turn(lane, admission)
        reason = self._worker.open(lane.stream_id, lane.config.concepts)
        if reason is not None:
            self._lose(lane, frame, reason, is_final=True)
            return None
        return _Turn(lane, admission)

    def _admit(self, lane: Lane, frame: Frame) -> Admission:
        arrived_us = seconds_to_us(self._clock.monotonic_s())
        admission = lane.admit(frame, arrived_us=arrived_us, now=self._clock.utc_now())
        self._publish(lane, admission.ended)
        return admission

    def _reconcile(self, turn: _Turn, outcome: Outcome) -> None:
        lane, admission, frame = turn.lane, turn.admission, turn.admission.frame
        now = self._clock.utc_now()
        if outcome.was_reset:
            self._publish(lane, lane.end_session("model_error", now=now))
            admission = self._admit(lane, frame)
        if outcome.prediction is None:
            self._lose(lane, frame, outcome.reason)
            return
        with self._metrics.stage.labels("rules").time():
            result = lane.apply(admission, outcome.prediction, now=now)
        self._publish(lane, result)
        if self._health.states.get(lane.stream_id) is StreamState.WAITING:
            self._supervisor.tell(lane.stream_id, StreamState.RUNNING, lane=lane)
        lane.ledger.finish()
        self._observe(lane, frame, result)

    def _lose(self, lane: Lane, frame: Frame, reason: str, *, is_final: bool = False) -> None:
        """Count a frame on which the model failed, and give the stream up if that goes on."""
        lane.ledger.drop("model_error")
        lane.num_model_errors += 1
        if is_final or lane.num_model_errors >= self._config.engine.max_model_errors:
            error = ModelError(stream_id=lane.stream_id, frame_seq=frame.frame_seq, reason=reason)
            _logger.error("%s", error)
            self._supervisor.fail(lane, error, cause="stream_failed")

    def _publish(self, lane: Lane, result: FrameResult | None) -> None:
        if result is None:
            return
        is_live = lane.config.buffer_overflow is not Overflow.WAIT
        can_shed = is_live and not result.changes and not result.events
        stream_id = lane.stream_id
        for change in result.changes:
            self._metrics.track_changes.labels(stream_id, change.kind.value).inc()
        for event in result.events:
            self._metrics.events.labels(stream_id, event.rule, event.phase.value).inc()
        with self._metrics.stage.labels("publish").time():
            self._publisher.put(
                Delivery(deployment=self._config.deployment, result=result, can_shed=can_shed)
            )

    def _observe(self, lane: Lane, frame: Frame, result: FrameResult) -> None:
        stream_id = lane.stream_id
        tracks = result.scene.tracks if result.scene else ()
        for state in TrackState:
            num_tracks = sum(track.state is state for track in tracks)
            self._metrics.tracks.labels(stream_id, state.value).set(num_tracks)
        self._metrics.buffer_frames.labels(stream_id).set(len(lane.buffer))
        if frame.capture_clock in _LIVE_CLOCKS:
            latency_s = (result.result_time - frame.captured_at).total_seconds()
            self._metrics.latency.labels(stream_id).observe(max(latency_s, 0.0))

    def _finish(self, lane: Lane, reason: str) -> None:
        self._publish(lane, lane.end_session(reason, now=self._clock.utc_now()))
        self._worker.close(lane.stream_id)
        self._scheduler.forget(lane.stream_id)
        self._summary.retire(lane)
        self._supervisor.remove(lane)

    def _tend(self) -> None:
        """Say that we live; close streams that a source named once and then forgot."""
        self._health.beat()
        now_s = self._clock.monotonic_s()
        if now_s - self._heartbeat_s < self._config.engine.heartbeat_s:
            return
        self._heartbeat_s = now_s
        for lane in self._supervisor.lanes():
            idle_s = now_s - lane.active_s
            is_idle = idle_s >= self._config.engine.idle_close_s and len(lane.buffer) == 0
            if lane.config.id == ANY_STREAM and is_idle:
                lane.buffer.close()  # step() finishes it, with whatever came in meanwhile
            elif idle_s >= self._config.engine.heartbeat_s:
                self._say_idle(lane)

    def _say_idle(self, lane: Lane) -> None:
        known = self._health.states.get(lane.stream_id, StreamState.WAITING)
        is_waiting = known in {StreamState.RUNNING, StreamState.WAITING}
        self._supervisor.tell(
            lane.stream_id, StreamState.WAITING if is_waiting else known, lane=lane
        )

    def _shut_down(self) -> None:
        self._supervisor.stop()
        for lane in self._supervisor.lanes():  # none are left unless a turn has failed
            lane.buffer.close(drop_cause="stopped")
            lane.error = lane.error or RuntimeError("the engine stopped early")
        if not self._supervisor.join(timeout_s=10.0):
            _logger.error("a source did not end within 10 s of being asked to")
        for lane in self._supervisor.lanes():
            self._finish(lane, "stopped")
        self._worker.close_all()
        self._publisher.stop()
