"""Lets sources that keep their position elsewhere move it. Used by the engine's thread alone."""

from pipeline.engine.parts import EngineParts
from pipeline.engine.stream_table import RunningSource


class Committer:
    """Tells sources how far the results of their frames are safe.

    Args:
        parts: Table of sources, outbox, clock and the interval.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._table = parts.table
        self._outbox = parts.outbox
        self._clock = parts.clock
        self._every_s = parts.config.commit_every_s
        self._patience_s = parts.config.stop_timeout_s
        self._keeper = parts.keeper
        self._handed_over_s = self._moved_s = parts.clock.monotonic_s()
        self._acknowledged = 0

    def prepare(self) -> bool:
        """Return whether sources may begin to read."""
        return True

    def finish(self) -> None:
        """Do nothing more: what is not committed by now is read again."""

    def advance(self) -> None:
        """Hand over new marks, and take out sources that have nothing left to commit."""
        now_s = self._clock.monotonic_s()
        acknowledged = self._outbox.acknowledged
        if acknowledged != self._acknowledged:
            self._acknowledged, self._moved_s = acknowledged, now_s
        is_due = now_s - self._handed_over_s >= self._every_s
        if is_due:
            self._handed_over_s = now_s
        for source in self._table.sources:
            if is_due:
                self._hand_over_mark(source)
            if source.has_ended and not self._table.streams_of(source):
                self._let_leave(source, now_s)

    def _hand_over_mark(self, source: RunningSource) -> None:
        commits = source.runner.commits
        mark = None if commits is None else commits.take_mark(self._acknowledged)
        if mark is not None:
            source.runner.commit(mark)

    def _let_leave(self, source: RunningSource, now_s: float) -> None:
        """Take a source out once the results of all its frames are safe, or nothing gets on."""
        if source.runner.commits is not None:
            if source.last_delivery is None:
                source.last_delivery = self._outbox.num_put
                self._moved_s = now_s
                if all(one.has_ended for one in self._table.sources):
                    self._outbox.request_write_out()
            is_stuck = now_s - self._moved_s >= self._patience_s
            is_waiting = self._acknowledged < source.last_delivery or self._keeper.is_busy
            if is_waiting and not is_stuck:
                return
            self._hand_over_mark(source)
        source.runner.finish()
        self._table.drop_source(source)
