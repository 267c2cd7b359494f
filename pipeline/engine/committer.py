"""Lets sources that keep their position elsewhere move it. Used by the engine's thread alone."""

from pipeline.engine.parts import EngineParts
from pipeline.engine.stream_table import RunningSource


class Committer:
    """Asks sinks for durability now and then, and tells sources how far their frames are done.

    Args:
        parts: Table of sources, outbox, clock and the interval.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._table = parts.table
        self._outbox = parts.outbox
        self._clock = parts.clock
        self._every_s = parts.config.commit_every_s
        self._asked_s = parts.clock.monotonic_s()

    def advance(self) -> None:
        """Hand over new marks, and take out sources that have nothing left to commit."""
        sources = self._table.sources
        if any(source.runner.commits is not None for source in sources):
            now_s = self._clock.monotonic_s()
            if now_s - self._asked_s >= self._every_s:
                self._asked_s = now_s
                self._outbox.request_flush()
        for source in sources:
            self._hand_over_mark(source)
            if source.has_ended and not self._table.streams_of(source):
                self._let_leave(source)

    def _hand_over_mark(self, source: RunningSource) -> None:
        commits = source.runner.commits
        if commits is None:
            return
        mark = commits.take_mark(self._outbox.acknowledged)
        if mark is not None:
            source.runner.commit(mark)
        if self._outbox.has_lost:
            commits.give_up()

    def _let_leave(self, source: RunningSource) -> None:
        """Take a source out once the results of all its frames are durable, or never will be."""
        if source.runner.commits is not None:
            if source.last_delivery is None:
                source.last_delivery = self._outbox.num_put
            if self._outbox.acknowledged < source.last_delivery and not self._outbox.has_lost:
                self._outbox.request_flush()
                return
            self._hand_over_mark(source)
        source.runner.finish()
        self._table.drop_source(source)
