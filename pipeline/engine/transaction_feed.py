"""Carries records and positions to a sink that takes both in transactions."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from connectors.base import Advance, TransactionSink
from connectors.errors import FencedError, SinkError
from pipeline.clock import Clock
from pipeline.engine.delivery import Undelivered
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import RecordLog
from pipeline.engine.record_feed import BACKOFF, RecordFeed
from pipeline.engine.sink_watch import SinkWatch
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.feed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What arrives together.

    Attributes:
        last_seq: All records up to these numbers, by kind.
        advances: Positions behind the frames that these records come from.
        pointer: Kept with the positions.
    """

    last_seq: Mapping[Kind, int]
    advances: Sequence[Advance] = ()
    pointer: str = ""


class TransactionFeed(RecordFeed):
    """One sink of transactions with its thread; takes one transaction at a time.

    Args:
        sink: Not open yet.
        watch: Judges it.
        log: Holds what it has not committed.
        metrics: Where deliveries are counted.
        clock: For stamps of dead letters.
        on_progress: Called when a transaction is committed, and when none ever will be.
    """

    def __init__(
        self,
        sink: TransactionSink,
        watch: SinkWatch,
        log: RecordLog,
        *,
        metrics: Metrics,
        clock: Clock,
        on_progress: Callable[[], None],
    ) -> None:
        super().__init__(sink, watch, log, metrics=metrics, clock=clock, on_progress=on_progress)
        self._transactions = sink
        self._changed = threading.Condition()
        self._groups: Collection[str] | None = None
        self._given: Transaction | None = None
        self._has_rest = True
        self._pointers: Collection[str] | None = None
        self._shut_out: FencedError | None = None  # written by the feed's thread
        self._lost: FencedError | None = None  # written by the engine's

    def recover(self, groups: Collection[str], timeout_s: float) -> Collection[str] | None:
        """Shut out the process before, and return the pointers that it has left.

        Args:
            groups: Whose positions are to be moved.
            timeout_s: Longest wait; ``None`` is returned then, and it goes on.
        """
        with self._changed:
            self._groups = groups
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pointers is not None, timeout_s)
            return self._pointers

    @property
    def is_free(self) -> bool:
        """Whether the transaction given last is committed."""
        return self._given is None

    def put(self, transaction: Transaction) -> None:
        """Have a transaction committed; the one before must be."""
        with self._changed:
            self._given = transaction
            self._changed.notify_all()

    def leave_rest(self) -> None:
        """Write nothing but the transaction that was given: frames behind it have no position."""
        self._has_rest = False

    @property
    def fenced(self) -> FencedError | None:
        """Why nothing more will be committed: another worker has taken over."""
        return self._shut_out or self._lost

    def lose(self, error: FencedError) -> None:
        """Commit nothing more: what the records came from is another worker's already."""
        self._lost = error
        self.interrupt()

    def tell_left(self, num: int) -> Undelivered:
        """Tell what becomes of ``num`` records that are not committed: none is lost."""
        why = self.fenced or self.watch.error or "ended between two transactions"
        text = f"{why}; {num} records come again, with the frames that led to them"
        if self.fenced is not None:
            return Undelivered(text=text)
        return Undelivered(text=text, num_kept=num, is_failure=False)

    @override
    def drain(self) -> None:
        super().drain()
        with self._changed:
            self._changed.notify_all()

    @override
    def interrupt(self) -> None:
        super().interrupt()
        with self._changed:
            self._changed.notify_all()

    @override
    def _run(self) -> None:
        try:
            if self._wait(lambda: self._groups is not None) and self._try(self._recover):
                self._commit_all()
        except Exception:
            _logger.exception("failed to carry transactions", extra={"sink": self.name})
        if self.fenced is not None:
            self.watch.fail(self.fenced, is_final=True)
        self._close()

    def _commit_all(self) -> None:
        while self._wait(lambda: self._given is not None):
            if not self._try(self._commit_given):
                return
            with self._changed:
                self._given = None
            self._on_progress()
        while self._has_rest and self.num_waiting and not self._hurry.is_set():
            if not self._try(self._commit_rest):
                return

    def _wait(self, is_so: Callable[[], bool]) -> bool:
        """Wait for something; ``False``: the end has come, and it has not."""
        with self._changed:
            self._changed.wait_for(
                lambda: is_so() or self._draining.is_set() or self._hurry.is_set()
            )
            return is_so() and not self._hurry.is_set()

    def _try(self, call: Callable[[], None]) -> bool:
        """Call until it succeeds; ``False``: it will not, or the run ends before that."""
        for delay_s in BACKOFF.delays():
            try:
                with self._metrics.stage.labels("sink_write").time():
                    call()
            except FencedError as error:
                self._shut_out = error
                self._on_progress()
                return False
            except SinkError as error:
                self._fail(error)
            except Exception as error:
                _logger.exception("failed to write", extra={"sink": self.name})
                self._fail(error)
            else:
                self.watch.succeed()
                return True
            if self._hurry.wait(delay_s):
                return False
        raise AssertionError("delays never end")

    @override
    def _fail(self, error: Exception) -> None:
        if self._lost is None:  # which breaks a write off: told at the end
            super()._fail(error)

    def _recover(self) -> None:
        pointers = self._transactions.recover(self._groups or ())
        with self._changed:
            self._pointers = pointers
            self._changed.notify_all()

    def _commit_given(self) -> None:
        if self._given is not None:
            self._commit(self._given)

    def _commit_rest(self) -> None:
        """Commit what no frame has led to: all streams and sources are gone."""
        self._commit(Transaction(last_seq={kind: self._log.last_seq(kind) for kind in Kind}))

    def _commit(self, transaction: Transaction) -> None:
        last_seq = transaction.last_seq
        records = [
            record for kind in Kind for record in self._log.read_to(kind, self.name, last_seq[kind])
        ]
        refused = self._transactions.commit(records, transaction.advances, transaction.pointer)
        self._count(records, refused)
        for kind in Kind:
            self._log.confirm(kind, self.name, last_seq[kind])
        for one in refused:
            self._bury(one)
