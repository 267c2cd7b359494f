"""Exactly once: decides what is committed together. Used by the engine's thread alone."""

from dataclasses import dataclass

from connectors.base import Advance, Handover
from connectors.errors import FencedError
from pipeline.config.exactly_once import ExactlyOnce
from pipeline.engine.commits import CommitLog
from pipeline.engine.delivery import Delivery
from pipeline.engine.handovers import Handovers
from pipeline.engine.parts import EngineParts
from pipeline.engine.state.cut_keeper import CutKeeper
from pipeline.engine.state.log_mark import LogMark
from pipeline.engine.stream_table import RunningSource
from pipeline.engine.transaction_feed import Transaction, TransactionFeed

_WAIT_S = 0.1  # how soon a stop is noticed while the broker is away


@dataclass(slots=True, kw_only=True)
class _Cut:
    """A moment between two frames, on its way to a transaction.

    Attributes:
        number: Of the delivery that carries the mark.
        mark: Asks which records lie before it.
        advances: Positions behind the frames before it.
        pointer: Names it.
        leaving: Partitions that may go to another worker once it is committed.
        is_given: The feed has it.
    """

    number: int
    mark: LogMark
    advances: list[Advance]
    pointer: str
    leaving: list[Handover]
    is_given: bool = False


class Transactor:
    """The owner of all commits where a sink delivers exactly once.

    Every ``commit_interval_s`` it lets streams that are ahead wait until all frames before the last
    one with a result have theirs: that is a cut. What it needs is made then: a snapshot of every
    stream on disk, and all records with the other sinks. One transaction commits the records, the
    positions, and as their pointer the number of the snapshots. Meanwhile streams go on.

    Args:
        parts: All of the engine's.
        handovers: Partitions that go to other workers: each waits for a cut.
        plan: What is delivered exactly once, and how.
        feed: Commits.
        keeper: Takes the snapshots.
    """

    def __init__(
        self,
        parts: EngineParts,
        handovers: Handovers,
        *,
        plan: ExactlyOnce,
        feed: TransactionFeed,
        keeper: CutKeeper,
    ) -> None:
        self._handovers = handovers
        self._plan = plan
        self._feed = feed
        self._keeper = keeper
        self._table = parts.table
        self._outbox = parts.outbox
        self._clock = parts.clock
        self._inbox = parts.inbox
        self._restorer = parts.restorer
        self._patience_s = parts.config.stop_timeout_s
        self._number = 0
        self._is_cutting = False
        self._cut: _Cut | None = None
        self._begun_s = parts.clock.monotonic_s()
        self._cut_number = 0  # delivery behind which nothing is in a cut yet
        self._committed = 0  # the same of the last transaction
        self._moved_s = self._begun_s
        self._is_whole = True

    def prepare(self) -> bool:
        """Shut out the process before, waiting for a moment.

        Returns:
            ``False``: it is not done yet, and no source may begin to read.

        Raises:
            NotWritableError: If what it left half done cannot be deleted.
        """
        pointers = self._feed.recover(self._plan.groups, _WAIT_S)
        if pointers is None:
            return False
        numbers = [_number_of(one, self._plan.writer) for one in pointers]
        self._number = max(numbers, default=0)
        self._restorer.discard_after(self._number)
        return True

    def advance(self) -> None:
        """Bring transactions further, and take out sources whose last frames are committed.

        Raises:
            FencedError: Another worker has taken over.
        """
        if self._feed.fenced is not None:
            raise self._feed.fenced
        self._refuse_lost()
        if self._cut is None and not self._is_cutting and self._is_due():
            self._begin()
        if self._is_cutting and all(one.is_cut_ready for one in self._commits()):
            self._end()
        if self._cut is not None:
            self._carry_on(self._cut)
        for source in self._table.sources:
            if source.has_ended and not self._table.streams_of(source):
                self._let_leave(source)

    def finish(self) -> None:
        """Have the last records written; called once no source is left, or none is waited for."""
        if self._table.sources or not self._is_whole:
            # Their frames come again, and all that they lead to.
            self._feed.leave_rest()

    def _commits(self) -> list[CommitLog]:
        return [one.runner.commits for one in self._table.sources if one.runner.commits is not None]

    def _is_due(self) -> bool:
        num_new = self._outbox.num_put - self._cut_number
        has_results = any(commits.has_results for commits in self._commits())
        has_news = has_results or self._keeper.has_changes or self._handovers.waiting
        if not (num_new or has_news):
            return False
        is_late = self._clock.monotonic_s() - self._begun_s >= self._plan.interval_s
        is_ending = any(source.has_ended for source in self._table.sources)
        is_leaving = bool(self._handovers.waiting)
        return is_late or is_ending or is_leaving or num_new >= self._plan.max_results

    def _begin(self) -> None:
        self._begun_s = self._clock.monotonic_s()
        self._is_cutting = True
        for commits in self._commits():
            commits.begin_cut()

    def _end(self) -> None:
        self._is_cutting = False
        self._number += 1
        advances = [self._advance_of(one) for one in self._table.sources]
        leaving = [self._put_away(*one) for one in self._handovers.waiting]
        self._handovers.waiting.clear()
        self._keeper.cut(self._number)
        mark = LogMark()
        self._cut = _Cut(
            number=self._outbox.put(Delivery(mark=mark)),
            mark=mark,
            advances=[one for one in advances if one is not None],
            pointer=f"{self._plan.writer}#{self._number}",
            leaving=leaving,
        )
        self._cut_number = self._cut.number
        self._inbox.wake()  # frames that waited may be taken

    def _advance_of(self, source: RunningSource) -> Advance | None:
        runner = source.runner
        if runner.commits is None:
            return None
        first, last = runner.commits.cut()
        if not last:
            return None
        group = self._plan.group_of(runner.config)
        return Advance(group=group, membership=runner.membership, first=first, last=last)

    def _put_away(self, source: RunningSource, handover: Handover) -> Handover:
        """Put away the streams of partitions that go with the cut that has just been made."""
        self._handovers.put_away(source, handover)
        if source.runner.commits is not None:
            source.runner.commits.forget(handover.partitions)
        return handover

    def _refuse_lost(self) -> None:
        """Raise if partitions are another worker's before what they led to is committed.

        That worker does it again. Those of which nothing is on its way are let go of.
        """
        for handover in [] if self._cut is None else self._cut.leaving:
            if handover.over.is_set():
                raise self._give_up(handover)
        for source, handover in tuple(self._handovers.waiting):
            if not handover.over.is_set():
                continue
            if self._has_under_way(source, handover):
                raise self._give_up(handover)
            self._handovers.waiting.remove((source, handover))
            self._put_away(source, handover)

    def _has_under_way(self, source: RunningSource, handover: Handover) -> bool:
        """Whether results of partitions are made and not committed."""
        commits, advances = source.runner.commits, [] if self._cut is None else self._cut.advances
        if commits is not None and commits.has_results_of(handover.partitions):
            return True
        return any(not handover.partitions.isdisjoint(one.first) for one in advances)

    def _give_up(self, handover: Handover) -> FencedError:
        places = ", ".join(sorted(handover.partitions))
        reason = f"another worker has {places} before their results are committed"
        error = FencedError(self._plan.sink, reason)
        self._feed.lose(error)
        return error

    def _carry_on(self, cut: _Cut) -> None:
        if not cut.is_given:
            last_seq = cut.mark.last_seq
            is_with_others = self._outbox.acknowledged >= cut.number
            if last_seq is None or not self._keeper.is_written or not is_with_others:
                return
            cut.is_given = True
            self._feed.put(
                Transaction(last_seq=last_seq, advances=cut.advances, pointer=cut.pointer)
            )
        elif self._feed.is_free:
            self._cut, self._committed = None, cut.number
            self._moved_s = self._clock.monotonic_s()
            self._keeper.note_committed()
            for handover in cut.leaving:
                handover.over.set()

    def _let_leave(self, source: RunningSource) -> None:
        """Take a source out once all its frames are committed, or nothing gets on."""
        if source.last_delivery is None:
            source.last_delivery = self._outbox.num_put
            self._moved_s = self._clock.monotonic_s()
        commits = source.runner.commits
        has_results = commits is not None and commits.has_results
        if self._committed < source.last_delivery or has_results:
            if self._clock.monotonic_s() - self._moved_s < self._patience_s:
                return
            self._is_whole = False
        source.runner.finish()
        self._table.drop_source(source)


def _number_of(pointer: str, writer: str) -> int:
    """Return the number of a cut by its pointer; 0: it is not one of this writer's."""
    name, _, number = pointer.rpartition("#")
    return int(number) if name == writer and number.isdigit() else 0
