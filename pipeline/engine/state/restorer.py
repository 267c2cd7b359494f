"""Lets streams go on from what the process before left behind."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from connectors.errors import Position
from connectors.record import Record, Topic
from models.protocols import SavedStateError, StreamMemory
from pipeline.clock import Clock, format_time
from pipeline.engine.state.encoding import to_memory
from pipeline.engine.state.keeper import LEASED_NUMBERS, keeps_state
from pipeline.engine.state.left_behind import LeftBehind, end_left_behind
from pipeline.engine.state.snapshot_file import StoredSnapshot
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.engine.state.snapshot_store import SnapshotStore
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Worker
from pipeline.errors import SnapshotError
from pipeline.records.replay import (
    RememberedTrack,
    ReplayedStream,
    end_of,
    open_events_of,
    replay_events,
)
from pipeline.records.schema import EventRecord, RestoredState
from pipeline.streams.snapshot import SessionState

_logger = logging.getLogger("maskstream.state")

_LOST = "state_lost"
_ANEW = "the stream begins anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of a stream's state.

    Attributes:
        source: Where its source goes on; ``None``: at its beginning.
        ended: Ends of events that nothing goes on with, to be published.
        failure: Why the model cannot go on: the session that was restored is to be ended.
        state: What is to be said of it; ``None``: there was nothing to go on from.
    """

    source: Position | None = None
    ended: tuple[EventRecord, ...] = ()
    failure: str | None = None
    state: RestoredState | None = None


class StateRestorer:
    """Reads snapshots, and replays the event log over those that frames were missed behind.

    Used by the engine's thread alone.

    Args:
        store: Where snapshots are kept; ``None``: every stream begins anew.
        alerts: What the process before has logged and no snapshot holds, in order.
        worker: The model.
        clock: For stamps.
    """

    def __init__(
        self,
        store: SnapshotStore | None,
        alerts: Sequence[Record],
        *,
        worker: Worker | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._logged = _events_by_stream(alerts)
        self._is_exact = False

    def discard_after(self, cut: int) -> None:
        """Let streams go on from what went with the last transaction, which is ``cut``, or anew.

        Raises:
            NotWritableError: If what went with later ones cannot be deleted.
        """
        self._is_exact = True
        if isinstance(self._store, SnapshotFolder):  # the topic is refused with exactly once
            self._store.discard_after(cut)

    def restore(self, running: RunningStream) -> Restored:
        """Let a stream that was opened a moment ago, and has had no frame, go on."""
        if self._store is None or not keeps_state(running.config):
            return Restored()
        stream_id = running.stream_id
        logged = self._logged.pop(stream_id, [])
        stored, problems = self._load(self._store, running)
        if problems and self._is_exact:
            stored = None  # what came after the one before is out, and is not read again
        then = _ANEW if stored is None else "the one before it is used"
        problems = [f"{problem}; {then}" for problem in problems]
        for problem in problems:
            _logger.warning("%s", problem, extra=_about(running))
        if stored is None:
            return self._begin_anew(logged, problems)
        is_newest = not problems
        try:
            replayed = self._replay(running, stored, logged, is_newest=is_newest)
        except SnapshotError as error:
            problems.append(f"{error}; {_ANEW}")
            _logger.warning("%s", problems[-1], extra=_about(running))
            return self._begin_anew(logged, problems)
        except Exception:  # a bug must not keep the other streams from running
            problems.append(f"its state cannot be read; {_ANEW}")
            _logger.exception("%s", problems[-1], extra=_about(running))
            return self._begin_anew(logged, problems)
        failure = None
        if replayed.snapshot.session is not None:
            failure = self._restore_memory(running, stored, replayed, is_newest=is_newest)
        self._tell(running, stored, failure)
        if failure is not None:
            problems.append(f"its tracks ended: {failure}")
        if running.config.source.keeps_position:
            running.done_to = dict(stored.about.source)
        now_s = int(self._clock.utc_now().timestamp())
        return Restored(
            source=running.config.source.resume(stored.about.source, now_s=now_s),
            ended=self._ends(replayed.orphans),
            failure=failure,
            state=self._state_of(stored, problems),
        )

    def end_left_behind(self, claimed: Collection[str]) -> list[LeftBehind]:
        """Return what is to be published of streams that are configured no more; called once.

        Args:
            claimed: Streams that are kept, and have been restored.
        """
        if self._store is None:
            return []
        now = self._clock.utc_now()
        found = end_left_behind(self._store, self._logged, claimed=claimed, now=now)
        for one in found:
            self._logged.pop(one.stream_id, None)
        return found

    def recall(self, running: RunningStream) -> RestoredState | None:
        """Give the model back what it knew of a stream when the last snapshot was taken.

        The stream itself stays as it is: what has begun or ended since is told to the model.

        Args:
            running: A stream with a session, on which the model fails.

        Returns:
            What it went back to; ``None``: there is nothing to go on from.
        """
        session = running.stream.snapshot().session
        if self._store is None or session is None or not keeps_state(running.config):
            return None
        stored, problems = self._load(self._store, running)
        if stored is None:
            return None
        when, extra = format_time(stored.about.taken_at), _about(running)
        try:
            memory = _memory_of(stored, session)
        except (SnapshotError, SavedStateError) as error:
            failure = str(error)
        except Exception:  # a bug must not keep the other streams from running
            _logger.exception("its state cannot be read", extra=extra)
            return None
        else:
            failure = self._start_model(running, stored, memory)
        if failure is not None:
            _logger.warning("no way back to the state of %s: %s", when, failure, extra=extra)
            return None
        _logger.warning("the model goes back to the state of %s", when, extra=extra)
        return self._state_of(stored, problems)

    @staticmethod
    def _load(
        store: SnapshotStore, running: RunningStream
    ) -> tuple[StoredSnapshot | None, list[str]]:
        try:
            return store.load(running.stream_id)
        except Exception:  # a bug must not keep the other streams from running
            _logger.exception("its state cannot be read", extra=_about(running))
            return None, ["its state cannot be read"]

    def _replay(
        self,
        running: RunningStream,
        stored: StoredSnapshot,
        logged: Sequence[EventRecord],
        *,
        is_newest: bool,
    ) -> ReplayedStream:
        if not _has_gap(running, is_newest=is_newest):
            running.stream.restore(stored.stream)
            return ReplayedStream(snapshot=stored.stream)
        replayed = replay_events(
            stored.stream,
            logged,
            next_masklet_id=stored.about.next_masklet_id,
            rules=running.config.resolved_rules,
            zones=running.config.zones,
        )
        num_leased = 0 if is_newest else LEASED_NUMBERS  # by the newer one
        running.stream.restore(replayed.snapshot, first_no=stored.about.next_no + num_leased)
        return replayed

    def _restore_memory(
        self,
        running: RunningStream,
        stored: StoredSnapshot,
        replayed: ReplayedStream,
        *,
        is_newest: bool,
    ) -> str | None:
        try:
            memory = to_memory(
                stored,
                replayed.snapshot,
                remembered=replayed.remembered,
                forgotten=replayed.ended_masklets,
                has_gap=_has_gap(running, is_newest=is_newest),
            )
        except SavedStateError as error:
            return str(error)
        return self._start_model(running, stored, memory)

    def _start_model(
        self, running: RunningStream, stored: StoredSnapshot, memory: StreamMemory
    ) -> str | None:
        """Let the model go on with a stream; returns why it cannot, if so."""
        if self._worker is None or stored.about.model != running.stream.model:
            return f"its memory is of model {stored.about.model!r}"
        return self._worker.restore(running.stream_id, running.config.searched, memory)

    def _begin_anew(self, logged: Sequence[EventRecord], problems: Sequence[str]) -> Restored:
        state = RestoredState(error=" | ".join(problems)) if problems else None
        return Restored(ended=self._ends(open_events_of(logged)), state=state)

    def _state_of(self, stored: StoredSnapshot, problems: Sequence[str]) -> RestoredState:
        taken_at = stored.about.taken_at
        age_s = (self._clock.utc_now() - taken_at).total_seconds()
        return RestoredState(
            taken_at=taken_at,
            age_s=max(age_s, 0.0),  # the machine's clock may have been set back
            error=" | ".join(problems) or None,
        )

    def _ends(self, orphans: Sequence[EventRecord]) -> tuple[EventRecord, ...]:
        now = self._clock.utc_now()
        return tuple(end_of(record, reason=_LOST, now=now) for record in orphans)

    @staticmethod
    def _tell(running: RunningStream, stored: StoredSnapshot, failure: str | None) -> None:
        when, extra = format_time(stored.about.taken_at), _about(running)
        if failure is not None:
            _logger.warning("its tracks end: %s (state of %s)", failure, when, extra=extra)
            return
        num_events = len(running.stream.open_events)
        _logger.info("goes on from %s with %d open events", when, num_events, extra=extra)


def _has_gap(running: RunningStream, *, is_newest: bool) -> bool:
    """Whether frames behind a snapshot are missed.

    Those of a source that keeps its position come again from behind the newest one, and with them
    the same events; those between an older one and what is committed do not.
    """
    return not (running.config.source.keeps_position and is_newest)


def _memory_of(stored: StoredSnapshot, session: SessionState) -> StreamMemory:
    """Return what a model goes on from in a session that went on after the snapshot.

    Raises:
        SnapshotError: If the snapshot is of another session.
        SavedStateError: If its picture is damaged.
    """
    before = stored.stream
    if before.session is None or before.session.book.key != session.book.key:
        raise SnapshotError("snapshot: is of another session")
    known, living = before.session.book.lives, session.book.lives
    return to_memory(
        stored,
        before,
        remembered=[
            RememberedTrack(masklet_id=number, track=life.track)
            for number, life in living.items()
            if number >= stored.about.next_masklet_id and not life.is_expired
        ],
        forgotten=sorted(known.keys() - living.keys()),
        has_gap=True,
    )


def _about(running: RunningStream) -> dict[str, str]:
    return {"stream": running.stream_id}


def _events_by_stream(alerts: Sequence[Record]) -> dict[str, list[EventRecord]]:
    events: dict[str, list[EventRecord]] = {}
    for record in alerts:
        if record.topic is not Topic.EVENTS:
            continue
        try:
            event = EventRecord.model_validate_json(record.value)
        except ValidationError as error:
            _logger.warning("an event of the log is left out: %s", error.errors()[0]["msg"])
            continue
        events.setdefault(event.stream_id, []).append(event)
    return events
