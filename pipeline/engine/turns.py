"""Frames through the model: whose turn it is, what the model says, what that means."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from models.protocols import Prediction
from pipeline.engine.buffer import Arrived
from pipeline.engine.ledger import DropCause
from pipeline.engine.parts import EngineParts
from pipeline.engine.scheduler import Waiting
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Outcome
from pipeline.errors import ModelError
from pipeline.streams.stream import Admission

_logger = logging.getLogger("maskstream.engine")


@dataclass(frozen=True, slots=True)
class Turn:
    """A frame of a stream that the model is to look at."""

    running: RunningStream
    arrived: Arrived
    admission: Admission


class Turns:
    """Plans batches, runs them and reconciles the streams with what came out.

    Whatever fails costs one frame of one stream, counted by cause.

    Args:
        parts: Table, scheduler, worker, publisher, ledger, status, metrics and clock.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._table = parts.table
        self._worker = parts.worker
        self._scheduler = parts.scheduler
        self._publisher = parts.publisher
        self._outbox = parts.outbox
        self._ledger = parts.ledger
        self._status = parts.status
        self._metrics = parts.metrics
        self._clock = parts.clock
        self._keeper = parts.keeper
        self._restorer = parts.restorer

    def plan(self) -> tuple[Turn, ...]:
        """Choose the streams whose turn it is, and take a frame of each.

        Streams that may wait have no turn while the sinks have no room for what it leads to.
        """
        has_room = self._outbox.has_room
        waiting = [
            Waiting(stream_id=one.stream_id, num_frames=one.buffer.num_frames)
            for one in self._table
            if has_room or not one.may_wait
            if not (one.config.paused or one.waits_for_cut)
        ]
        self.is_idle = not any(stream.num_frames for stream in waiting)
        batch = self._scheduler.next_batch(waiting)
        return tuple(turn for stream_id in batch if (turn := self._take(self._table[stream_id])))

    def run(self, turns: Sequence[Turn]) -> list[Outcome]:
        """Let the model look at the frames; the only place that touches the device."""
        if self._worker is None or not turns:
            return []
        self._metrics.batch_frames.observe(len(turns))
        with self._metrics.stage.labels("model").time():
            return self._worker.step([turn.admission.model_input for turn in turns])

    def reconcile(self, turns: Sequence[Turn], outcomes: Sequence[Outcome]) -> None:
        """Apply what the model said, stream by stream."""
        for turn, outcome in zip(turns, outcomes, strict=True):
            if outcome.prediction is None:
                seq = turn.arrived.frame.frame_seq
                self._fail_model(turn.running, turn.arrived, outcome.reason, frame_seq=seq)
            else:
                self._apply(turn, outcome.prediction)

    def _take(self, running: RunningStream) -> Turn | None:
        """Take the next frame that is to have a result, if there is one."""
        while not running.waits_for_cut and (arrived := running.buffer.take()) is not None:
            if arrived.ticket.is_void:
                self._lose(running, arrived, DropCause.MOVED)
                continue
            arrived.ticket.is_taken = True
            running.places |= (arrived.frame.position or {}).keys()
            if not running.has_done(arrived.frame):
                return self._prepare(running, arrived)
            self._lose(running, arrived, DropCause.REPEATED)
        return None

    def _prepare(self, running: RunningStream, arrived: Arrived) -> Turn | None:
        """Give a frame its time, and see to it that the model's session fits it."""
        running.active_s = self._clock.monotonic_s()
        number = self._publisher.frame(running, arrived.frame)
        if self._worker is None:
            self._publisher.show_frame(arrived.frame)
            self._finish(running, arrived, number)
            return None
        if running.backoff.leaves_out(_time_us(running, arrived)):
            self._lose(running, arrived, DropCause.MODEL_ERROR)
            return None
        try:
            now = self._clock.utc_now()
            admission = running.stream.admit(arrived.frame, arrived_us=arrived.arrived_us, now=now)
        except Exception:
            _logger.exception("a frame could not be admitted", extra={"stream": running.stream_id})
            self._lose(running, arrived, DropCause.STREAM_ERROR)
            return None
        num_new = running.stream.num_reanchored - running.num_reanchored
        if num_new:
            running.num_reanchored += num_new
            self._metrics.reanchors.labels(running.stream_id).inc(num_new)
        if admission.ended is not None:
            self._publisher.result(running, admission.ended)
        if admission.begins_session:
            reason = self._worker.open(running.stream_id, running.config.searched)
            if reason is not None:
                self._fail_model(running, arrived, reason)
                return None
        return Turn(running, arrived, admission)

    def _apply(self, turn: Turn, prediction: Prediction) -> None:
        running, arrived = turn.running, turn.arrived
        if running.backoff.num_failures:
            running.backoff.succeed()
            self._status.model_works(running.stream_id)
        num_left_out = self._ledger.num_left_out(running.stream_id)
        try:
            with self._metrics.stage.labels("rules").time():
                result = running.stream.apply(
                    turn.admission,
                    prediction,
                    now=self._clock.utc_now(),
                    dropped_since_last=num_left_out - running.num_left_out,
                )
        except Exception:
            extra = {"stream": running.stream_id}
            _logger.exception("tracks or rules raised; a frame has no result", extra=extra)
            self._lose(running, arrived, DropCause.STREAM_ERROR)
            return
        running.num_left_out = num_left_out
        number = self._publisher.result(running, result)
        self._finish(running, arrived, number, is_first=turn.admission.begins_session)

    def _fail_model(
        self, running: RunningStream, arrived: Arrived, reason: str, *, frame_seq: int | None = None
    ) -> None:
        """Let the guilty stream go on or begin anew; leave it out for a while if it fails again.

        A step that fails has changed nothing (:meth:`ConceptTracker.step`), so the first failure
        costs its frame. If the memory itself is at fault, the second one in a row goes back to what
        was saved of it, and the third gives it up with all tracks.
        """
        stream_id = running.stream_id
        error = ModelError(stream_id=stream_id, reason=reason, frame_seq=frame_seq)
        _logger.warning("%s", error, extra={"stream": stream_id})
        self._lose(running, arrived, DropCause.MODEL_ERROR)
        running.backoff.fail(_time_us(running, arrived))
        if frame_seq is None or not self._goes_on(running):
            self._publisher.end_session(running, "model_error", now=self._clock.utc_now())
            if self._worker is not None:
                self._worker.close(stream_id)
            self._metrics.model_resets.labels(stream_id).inc()
        self._status.model_failed(stream_id, error)

    def _goes_on(self, running: RunningStream) -> bool:
        """Whether the session goes on after so many failures in a row."""
        num_failures = running.backoff.num_failures
        if num_failures != 2:
            return num_failures == 1
        restored = self._restorer.recall(running)
        if restored is not None:
            self._status.model_restored(running.stream_id, restored)
        return restored is not None

    def _lose(self, running: RunningStream, arrived: Arrived, cause: DropCause) -> None:
        self._ledger.drop(running.stream_id, cause)
        arrived.ticket.finish()

    def _finish(
        self, running: RunningStream, arrived: Arrived, number: int, *, is_first: bool = False
    ) -> None:
        """Count a frame whose result is on its way as delivery ``number``."""
        self._ledger.finish(running.stream_id)
        self._keeper.follow(
            running, arrived.frame, arrived.ticket, number=number, is_first=is_first
        )


def _time_us(running: RunningStream, arrived: Arrived) -> int:
    """Return the stream's own time, which for files does not depend on how fast they are read."""
    return arrived.arrived_us if running.config.is_live else arrived.frame.pts_us
