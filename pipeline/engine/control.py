"""What messages lead to: streams enter, change, leave, and follow what happens to their sources."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from models.protocols import Concept
from pipeline.config.sections.stream import ANY_STREAM, StreamConfig
from pipeline.engine.dead_letters import to_dead_letter
from pipeline.engine.handovers import Handovers
from pipeline.engine.inbox import (
    FileSkipped,
    FrameRefused,
    PartitionsLeave,
    SourceEnded,
    SourceLost,
    SourceNews,
    SourceOpened,
    Stop,
    UnknownStream,
)
from pipeline.engine.ledger import DropCause
from pipeline.engine.parts import EngineParts
from pipeline.engine.state.keeper import keeps_state
from pipeline.engine.state.restorer import Restored
from pipeline.engine.stream_table import RunningSource, RunningStream
from pipeline.engine.summary import StreamSummary
from pipeline.engine.worker import Worker
from pipeline.errors import ConceptError, StreamExistsError, StreamLimitError

_logger = logging.getLogger("maskstream.engine")


class StreamControl:
    """Carries out messages. Used by the engine's thread alone.

    Attributes:
        handovers: Partitions that go to other workers.

    Args:
        parts: All of the engine's.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._table = parts.table
        self._desired = parts.desired
        self._worker = parts.worker
        self._scheduler = parts.scheduler
        self._publisher = parts.publisher
        self._ledger = parts.ledger
        self._status = parts.status
        self._summary = parts.summary
        self._metrics = parts.metrics
        self._clock = parts.clock
        self._idle_close_s = parts.config.idle_close_s
        self._keeper = parts.keeper
        self._restorer = parts.restorer
        self.handovers = Handovers(parts, self._leave)
        self._is_stopping = False

    def carry_out(self, message: Stop | SourceNews) -> None:
        """Do what a message asks for; news of a source that is gone are left out."""
        if isinstance(message, Stop):
            self.stop()
            return
        source = self._table.source(message.source)
        if source is not None:
            self._follow(source, message)

    @property
    def is_stopping(self) -> bool:
        """Whether all sources were asked to end."""
        return self._is_stopping

    def add(self, config: StreamConfig) -> None:
        """Let a stream or a template of streams in and begin to read its source.

        Raises:
            StreamExistsError: If there is a stream of that name.
            StreamLimitError: If there are too many streams.
        """
        source, running = self._table.add(config)
        self._ledger.open(config.id)
        position = None
        if running is None:
            self._tell_of(source)
        else:
            running.stream.revisions = self._desired.revisions_of(config.id)
            restored = self._resume(running)
            position = restored.source if config.is_live else None
            self._status.open(
                config.id,
                buffer=running.buffer,
                stream=running.stream,
                restored=restored.state,
            )
        if config.paused:
            source.runner.pause()
            self._status.pause(config.id)
        try:
            source.runner.start(position)
        except RuntimeError as error:  # the machine has no thread left
            self._end(source, error)

    def end_left_behind(self) -> None:
        """End what streams left open that are configured no more; called once all are there."""
        claimed = {one.stream_id for one in self._table if keeps_state(one.config)}
        for left in self._restorer.end_left_behind(claimed):
            if left.ended is not None:
                self._publisher.last_result(left.ended)
            for event in left.orphans:
                self._publisher.record(event)
            self._keeper.bury(left.stream_id)

    def _resume(self, running: RunningStream) -> Restored:
        """Let a stream go on from its state, unless that is of one that has ended."""
        is_over = self._keeper.is_forgetting(running.stream_id)
        restored = Restored() if is_over else self._restorer.restore(running)
        for event in restored.ended:
            self._publisher.record(event)
        if restored.failure is not None:
            self._publisher.end_session(running, "model_error", now=self._clock.utc_now())
        self._end_unsearched(running)
        if running.config.source.keeps_position:
            running.places |= (restored.source or {}).keys()
        self._keeper.open(running, restored.source)
        return restored

    def stop(self) -> None:
        """Ask all sources to end; what waits is dropped. Repeatable."""
        self._is_stopping = True
        self._table.stop()

    def retire(self) -> None:
        """Finish streams that have no frame left and will get none."""
        now_s = self._clock.monotonic_s()
        for running in self._table:
            is_idle = now_s - running.active_s >= self._idle_close_s
            if running.is_named_by_source and is_idle and not running.buffer.num_frames:
                running.buffer.close()
            if running.buffer.is_drained:
                self.finish(running, "stopped" if self._is_stopping else "stream_ended")

    def finish(self, running: RunningStream, reason: str) -> None:
        """End a stream's session, say how it ended and take it out."""
        stream_id, source = running.stream_id, self._table.source(running.source.number)
        if reason != "stopped" or not self._keeper.stop(running):
            self._publisher.end_session(running, reason, now=self._clock.utc_now())
            self._keeper.forget(stream_id)
        error = None if source is None else source.error
        self._take_out(running, DropCause.STOPPED, error)
        self._status.finish(stream_id, error)
        if running.is_named_by_source:
            self._forget(stream_id)

    def _leave(self, running: RunningStream) -> None:
        """Take out a stream that goes to another worker, and say nothing of it any more."""
        stream_id = running.stream_id
        running.buffer.close(drop_cause=DropCause.MOVED)
        self._take_out(running, DropCause.MOVED)
        self._status.leave(stream_id)
        _logger.info("goes to another worker", extra={"stream": stream_id})
        if running.is_named_by_source:
            self._forget(stream_id)

    def _take_out(
        self, running: RunningStream, cause: DropCause, error: Exception | None = None
    ) -> None:
        """Let go of all that is held for a stream but its state; what waits is dropped."""
        stream_id = running.stream_id
        if self._worker is not None:
            self._worker.close(stream_id)
        self._scheduler.forget(stream_id)
        self._ledger.drop_waiting(stream_id, cause)
        self._summary.retire(self.summary_of(running, error))
        self._publisher.close_stream(stream_id)
        self._table.drop(running)

    def summary_of(self, running: RunningStream, error: Exception | None = None) -> StreamSummary:
        """Return what a stream led to so far, without its counts.

        Args:
            running: The stream.
            error: Why it failed for good; else what is wrong with it now, if anything is.
        """
        totals, error = running.totals, error or self._status.error_of(running.stream_id)
        return StreamSummary(
            stream_id=running.config.id,
            num_tracks=totals.num_confirmed,
            num_started=totals.num_started,
            concepts=dict(totals.concepts),
            events={rule: num for rule, num in totals.events.items() if num},
            error=None if error is None else str(error),
        )

    def change(self, config: StreamConfig) -> None:
        """Give a stream another configuration.

        Tracks go on, but those of concepts that are looked for no more. With another source, or
        another way to take its frames, all begins anew.

        Raises:
            ConceptError: If the model refuses a concept.
            UnknownStreamError: If there is none of that name, or its source has named it.
        """
        running = self._table.configured(config.id)
        if not self._table.can_keep_source(config):
            self.remove(config.id, "changed")
            self.add(config)
            return
        self._change_concepts(running, config)
        self._table.change(config)
        if config.paused:
            self._status.pause(config.id)
        else:
            self._status.resume(config.id, reconnects=config.is_live)

    def _change_concepts(self, running: RunningStream, config: StreamConfig) -> None:
        """Tell the model what is looked for from the next frame on; what is removed ends now."""
        stream_id = running.stream_id
        before = {one.concept_id: one for one in running.config.searched}
        after = {one.concept_id: one for one in config.searched}
        removed = [
            concept_id
            for concept_id, one in before.items()
            if concept_id not in after or after[concept_id].phrase != one.phrase
        ]
        known = {name: one.name for name, one in before.items() if name not in removed}
        if self._worker is not None:
            edits = _edits_of(self._worker, stream_id, removed, known, after.values())
            for number, edit in enumerate(edits):
                reason = edit()
                if reason is None:
                    continue
                if number:  # what was done before cannot be taken back
                    self._publisher.end_session(running, "changed", now=self._clock.utc_now())
                    self._worker.close(stream_id)
                raise ConceptError(stream_id=stream_id, reason=reason)
        self._end_concepts(running, removed)

    def _end_unsearched(self, running: RunningStream) -> None:
        """End what the process before followed and is looked for no more."""
        searched = {one.concept_id for one in running.config.searched}
        self._end_concepts(running, sorted(running.stream.concept_ids - searched))

    def _end_concepts(self, running: RunningStream, concept_ids: Iterable[str]) -> None:
        for concept_id in concept_ids:
            ended = running.stream.end_concept(concept_id, now=self._clock.utc_now())
            if ended is not None:
                self._publisher.result(running, ended)

    def remove(self, stream_id: str, reason: str) -> None:
        """End a stream and its source, and keep nothing of it.

        Raises:
            UnknownStreamError: If there is none of that name, or its source has named it.
        """
        running = self._table.remove(stream_id)
        self.finish(running, reason)
        self._forget(stream_id)

    def _forget(self, stream_id: str) -> None:
        """Let nothing pile up of streams that come and go."""
        self._status.forget(stream_id)
        self._ledger.retire(stream_id, into=ANY_STREAM)
        self._metrics.retire_stream(stream_id, into=ANY_STREAM)

    def _follow(
        self,
        source: RunningSource,
        news: SourceNews,
    ) -> None:
        match news:
            case SourceOpened(at_us=at_us):
                self._tell_opened(source, at_us)
            case SourceLost(error=error):
                self._tell_lost(source, error)
            case SourceEnded(error=error):
                self._end(source, error)
            case FrameRefused():
                self._bury(source, news)
            case FileSkipped(error=error):
                stream_id = source.runner.config.id
                self._ledger.refuse(stream_id, DropCause.BAD_FILE)
                self._summary.note_bad_file(stream_id, error)
                _logger.warning("%s; going on behind it", error, extra={"stream": stream_id})
            case UnknownStream():
                self._open_named(source, news)
            case PartitionsLeave(handover=handover):
                self.handovers.begin(source, handover)

    def _end(self, source: RunningSource, error: Exception | None) -> None:
        """Close the buffers of a source that has ended; what they hold is still processed."""
        source.has_ended, source.error = True, error
        for running in self._table.streams_of(source):
            running.buffer.close()
        name = source.runner.config.id
        if error is not None and (source.is_template or not self._table.streams_of(source)):
            self._summary.retire(StreamSummary(stream_id=name, error=str(error)))
        if source.is_told_of:
            source.is_told_of = False
            self._status.finish(name, error)

    def _tell_of(self, source: RunningSource) -> None:
        """Watch a source of which no stream is open."""
        source.is_told_of = True
        self._status.open(source.runner.config.id)

    def _tell_opened(self, source: RunningSource, at_us: int) -> None:
        for stream_id in self._names(source):
            self._status.source_opened(stream_id, at_us=at_us)
        if source.is_told_of and not source.is_template:
            # In a group: the worker that has its partition tells of it, from its first frame on.
            source.is_told_of = False
            self._status.leave(source.runner.config.id)

    def _tell_lost(self, source: RunningSource, error: Exception) -> None:
        if not self._names(source):
            self._tell_of(source)
        for stream_id in self._names(source):
            self._status.source_lost(stream_id, error)

    def _bury(self, source: RunningSource, refused: FrameRefused) -> None:
        """Count a frame that cannot be decoded, and hand it to the dead letters."""
        if refused.ticket.is_void:  # the worker that has its partition now does
            return
        error = refused.error
        is_known = any(one.stream_id == error.stream_id for one in self._table.streams_of(source))
        stream_id = error.stream_id if is_known else source.runner.config.id
        self._ledger.refuse(stream_id, DropCause.BAD_FRAME)
        _logger.warning("%s", error, extra={"stream": stream_id})
        letter = to_dead_letter(error, now=self._clock.utc_now())
        refused.ticket.finish(self._publisher.dead_letter(letter))

    def _open_named(self, source: RunningSource, unknown: UnknownStream) -> None:
        stream_id, ticket = unknown.stream_id, unknown.ticket
        if ticket.is_void:
            return
        # One of that name that left may be given up by now; it must not take this one with it.
        self.handovers.advance()
        try:
            running = self._table.open_named(source, stream_id)
        except (StreamLimitError, StreamExistsError) as error:
            _logger.warning("%s", error, extra={"stream": stream_id})
            return
        if running is not None:
            running.places |= (ticket.position or {}).keys()
            self._ledger.open(stream_id)
            restored = self._resume(running)
            self._status.open(
                stream_id,
                buffer=running.buffer,
                stream=running.stream,
                is_connected=True,
                restored=restored.state,
            )
            if running.config.paused:
                self._status.pause(stream_id)

    def _names(self, source: RunningSource) -> list[str]:
        """Return the streams of a source, and its own name if status tells of it."""
        names = [one.stream_id for one in self._table.streams_of(source)]
        return [*names, source.runner.config.id] if source.is_told_of else names


def _edits_of(
    worker: Worker,
    stream_id: str,
    removed: Iterable[str],
    known: Mapping[str, str],
    concepts: Iterable[Concept],
) -> list[Callable[[], str | None]]:
    """Return what makes the model look for other concepts; each returns why it is refused, if so.

    Args:
        worker: The model.
        stream_id: The stream.
        removed: Ids of concepts that go.
        known: Names, by id, of those that stay.
        concepts: All that are to be looked for.
    """
    edits: list[Callable[[], str | None]] = []
    edits += [partial(worker.remove_concept, stream_id, one) for one in removed]
    for one in concepts:
        concept_id, name = one.concept_id, known.get(one.concept_id)
        if name is None:
            name = one.phrase
            edits.append(partial(worker.add_concept, stream_id, name, concept_id=concept_id))
        if name != one.name:
            edits.append(partial(worker.rename_concept, stream_id, concept_id, one.name))
    return edits
