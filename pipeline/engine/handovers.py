"""Partitions that go to another worker, with the streams in them. For the engine's thread alone."""

from collections.abc import Callable
from dataclasses import dataclass

from connectors.base import Handover
from pipeline.engine.commits import LeavingTickets
from pipeline.engine.parts import EngineParts
from pipeline.engine.stream_table import RunningSource, RunningStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Partitions on their way to another worker.

    Attributes:
        source: Read them.
        handover: Says when it is over.
        tickets: Of their frames.
        stream_ids: Streams that are still to be written down.
    """

    source: RunningSource
    handover: Handover
    tickets: LeavingTickets
    stream_ids: tuple[str, ...]


class Handovers:
    """Sees to it that the next worker finds all that was done, and reads again what was not.

    Args:
        parts: Table, keeper, publisher, outbox and clock; for exactly once what leaves waits for
            :meth:`put_away`, at a cut.
        take_out: Lets go of a stream whose state is on its way.
    """

    def __init__(self, parts: EngineParts, take_out: Callable[[RunningStream], None]) -> None:
        self._table = parts.table
        self._keeper = parts.keeper
        self._outbox = parts.outbox
        self._publisher = parts.publisher
        self._clock = parts.clock
        self._take_out = take_out
        self._leaving: list[Leaving] = []
        self._waits_for_cut = parts.exactly_once is not None
        self.waiting: list[tuple[RunningSource, Handover]] = []

    def begin(self, source: RunningSource, handover: Handover) -> None:
        """Put the streams of partitions away, now or at the next cut."""
        if self._waits_for_cut:
            self.waiting.append((source, handover))
            return
        leaving = self.put_away(source, handover)
        if leaving is not None:
            self._leaving.append(leaving)

    def put_away(self, source: RunningSource, handover: Handover) -> Leaving | None:
        """Put the streams of partitions away, and drop their frames that wait.

        Called between two turns: no frame is in the model. A stream that has frames from other
        partitions too stays.

        Returns:
            ``None`` if the handover is over.
        """
        commits = source.runner.commits
        if commits is None:
            handover.over.set()
            return None
        tickets = commits.take_out(handover.partitions)
        is_lost = handover.over.is_set()
        streams = [
            one
            for one in self._table.streams_of(source)
            if one.places and one.places <= handover.partitions
        ]
        for running in streams:
            self._write_down(running, is_lost=is_lost)
            self._take_out(running)
        if is_lost:
            tickets.void()
            return None
        stream_ids = tuple(one.stream_id for one in streams)
        return Leaving(source=source, handover=handover, tickets=tickets, stream_ids=stream_ids)

    def advance(self) -> None:
        """Let partitions go whose frames are done and whose streams are written down."""
        for one in tuple(self._leaving):
            if one.handover.over.is_set():
                for stream_id in one.stream_ids:
                    self._keeper.abandon(stream_id)
            elif self._is_done(one):
                mark = one.tickets.mark(self._outbox.acknowledged)
                one.source.runner.commit(mark)
            else:
                continue
            one.tickets.void()
            one.handover.over.set()
            self._leaving.remove(one)

    def _write_down(self, running: RunningStream, *, is_lost: bool) -> None:
        """Keep a stream for the next worker; where that cannot find it, end its session."""
        if is_lost:  # the next one may have gone on with it already
            is_kept = self._keeper.abandon(running.stream_id)
        else:
            is_kept = self._keeper.leave(running)
        if not is_kept:
            self._publisher.end_session(running, "moved", now=self._clock.utc_now())
            self._keeper.forget(running.stream_id)

    def _is_done(self, one: Leaving) -> bool:
        is_written = all(self._keeper.has_left(stream_id) for stream_id in one.stream_ids)
        return is_written and one.tickets.is_settled(self._outbox.acknowledged)
