"""The engine: drain, plan, run, reconcile.

Its thread is the single writer of all streams. Other threads hand it messages by the inbox and
frames by the streams' buffers; it hands results to the outbox.
"""

import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future

from connectors.errors import FencedError
from models.protocols import DeviceLostError
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import ANY_STREAM
from pipeline.engine.command_executor import CommandExecutor
from pipeline.engine.committer import Committer
from pipeline.engine.control import StreamControl
from pipeline.engine.delivery import Undelivered
from pipeline.engine.handovers import Handovers
from pipeline.engine.inbox import ExecuteCommand
from pipeline.engine.overlay import Change
from pipeline.engine.parts import EngineParts
from pipeline.engine.state.cut_keeper import CutKeeper
from pipeline.engine.summary import RunSummary
from pipeline.engine.transactor import Transactor
from pipeline.engine.turns import Turns
from pipeline.records.command import AnyCommand, CommandResult

_logger = logging.getLogger("maskstream.engine")

_POLL_S = 0.1  # how soon a stop and the passing of time are noticed while nothing comes
_SOURCES_SHARE = 0.5  # of the time to stop, for sources that end and frames that are under way
_JOIN_SHARE = 0.1  # for letting go of what sources hold; then the sinks write on, to the end of
_SINKS_SHARE = 0.7  # then what still writes is broken off, and the log is closed in
_KEEPER_SHARE = 0.05  # for the last snapshots, of what is safe by then
_CLOSE_SHARE = 0.2  # at most; the rest is for the command, which sums up and ends


class Engine:
    """Runs until all sources have ended, or until told to stop.

    Args:
        parts: Everything wired.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._control = StreamControl(parts)
        self._commands = CommandExecutor(self._control, parts.table, parts.desired, parts.inbox)
        self._turns = Turns(parts)
        self._committer = _build_committer(parts, self._control.handovers)
        self._unfinished: list[str] = []
        self._undelivered: dict[str, Undelivered] | None = None
        self._unkept: dict[str, str] = {}
        self._stop_s: float | None = None
        self._device_error: str | None = None

    def stop(self) -> None:
        """Ask the engine to end: what waits is dropped, sinks are flushed. For signal handlers."""
        if self._stop_s is None:  # now, not when the turn that is under way has ended
            self._stop_s = self._parts.clock.monotonic_s()
        self._parts.inbox.request_stop()

    @property
    def config(self) -> RunConfig:
        """What holds now, with what commands have changed; any thread may ask."""
        return self._parts.desired.config

    @property
    def changes(self) -> tuple[Change, ...]:
        """Which fields of it commands have changed; any thread may ask."""
        return self._parts.desired.overlay.changes

    def execute(self, command: AnyCommand) -> "Future[CommandResult]":
        """Have a command carried out at the next step. May be called by any thread; never waits."""
        return self._commands.post(command)

    def run(self, on_turn: Callable[[], None] = lambda: None) -> RunSummary:
        """Start everything, turn until done, stop everything.

        Args:
            on_turn: Called after every turn, for showing progress.

        Raises:
            SinkError: If a sink can never work; nothing was read then.
        """
        for _ in self.iterate():
            on_turn()
        return self.summary()

    def iterate(self) -> Generator[None]:
        """Like :meth:`run`, in the caller's time: yields after every turn.

        Between two turns nothing is decided; streams that cannot wait drop their oldest frames.
        Closing the generator stops everything.
        """
        self._parts.outbox.start()
        self._parts.keeper.start()
        try:
            if (yield from self._prepare()):
                for stream in self._parts.desired.config.streams:
                    self._control.add(stream)
                self._control.end_left_behind()
            yield from self._turn_until_done()
        except FencedError as error:
            _logger.critical("%s", error)
            self._parts.inbox.request_stop()
        except DeviceLostError as error:
            self._device_error = str(error)
            _logger.critical("the accelerator is gone: %s", error)
            self._parts.inbox.request_stop()
        except GeneratorExit:
            self._parts.inbox.request_stop()
            raise
        finally:
            self._shut_down()

    def step(self) -> None:
        """Drain, plan, run, reconcile."""
        for message in self._parts.inbox.drain():
            if isinstance(message, ExecuteCommand):
                self._commands.carry_out(message)
            else:
                self._control.carry_out(message)
        turns = self._turns.plan()
        outcomes = self._turns.run(turns)
        self._turns.reconcile(turns, outcomes)
        self._control.retire()
        self._parts.keeper.advance()
        self._control.handovers.advance()
        self._committer.advance()
        self._parts.status.refresh()
        self._parts.health.beat()

    def summary(self) -> RunSummary:
        """Return what happened so far."""
        parts, left = self._parts, self._undelivered or {}
        texts = {name: one.text for name, one in left.items()}
        named_by_source = {one.stream_id for one in parts.table if one.is_named_by_source}
        return parts.summary.build(
            [self._control.summary_of(running) for running in parts.table],
            counts=[
                (ANY_STREAM if stream_id in named_by_source else stream_id, counts)
                for stream_id, counts in parts.ledger.snapshot()
            ],
            sink_errors=parts.outbox.errors if self._undelivered is None else texts,
            num_kept={name: one.num_kept for name, one in left.items() if one.num_kept is not None},
            failed_sinks=[name for name, one in left.items() if one.is_failure],
            unfinished=self._unfinished,
            unkept=self._unkept,
            device_error=self._device_error,
        )

    def _prepare(self) -> Generator[None, None, bool]:
        """Wait until sources may begin to read; ``False``: the run is to end before that."""
        while not self._committer.prepare():
            if self._parts.inbox.is_stop_requested:
                return False
            self._parts.health.beat()
            yield
        return True

    def _turn_until_done(self) -> Generator[None]:
        parts = self._parts
        while parts.table.sources and not self._is_late(_SOURCES_SHARE):
            self.step()
            yield
            if self._turns.is_idle:
                parts.inbox.wait(_POLL_S)

    def _is_late(self, share: float = 1.0) -> bool:
        """Whether the end was asked for, and a share of the time that it may take is over."""
        if not self._parts.inbox.is_stop_requested:
            return False
        now_s = self._parts.clock.monotonic_s()
        if self._stop_s is None:
            self._stop_s = now_s
        return now_s - self._stop_s >= share * self._parts.config.stop_timeout_s

    def _shut_down(self) -> None:
        """Let go of everything; what does not end in time is named and left behind."""
        parts = self._parts
        self._committer.finish()
        self._control.stop()
        for running in parts.table:  # none are left unless a step has failed or was too late
            self._control.finish(running, "stopped")
        for source in parts.table.sources:
            source.runner.finish()
            parts.table.drop_source(source)
        sources = parts.table.join(_JOIN_SHARE * parts.config.stop_timeout_s)
        parts.inbox.close()
        self._commands.close(parts.inbox.drain(), _JOIN_SHARE * parts.config.stop_timeout_s)
        self._finish_sinks()
        self._unfinished = [f"source {name}" for name in sources]
        for name in self._unfinished:
            _logger.error("%s did not end in time and is left behind", name)

    def _finish_sinks(self) -> None:
        """Let the sinks write what waits as long as they get on and there is time."""
        parts = self._parts
        parts.outbox.request_stop()
        num_waiting, since_s = parts.outbox.num_waiting, parts.clock.monotonic_s()
        while parts.outbox.join(_POLL_S) and not self._is_late(_SINKS_SHARE):
            parts.keeper.advance()
            now_s = parts.clock.monotonic_s()
            if parts.outbox.num_waiting < num_waiting:
                num_waiting, since_s = parts.outbox.num_waiting, now_s
            elif now_s - since_s >= parts.config.stop_timeout_s:
                break
        self._undelivered = parts.outbox.close(_CLOSE_SHARE * parts.config.stop_timeout_s)
        self._unkept = parts.keeper.close(_KEEPER_SHARE * parts.config.stop_timeout_s)
        for name, reason in self._unkept.items():
            _logger.error("its state is not kept: %s", reason, extra={"stream": name})
        for name, left in self._undelivered.items():
            level = logging.ERROR if left.is_failure else logging.WARNING
            _logger.log(level, "%s", left.text, extra={"sink": name})


def _build_committer(parts: EngineParts, handovers: Handovers) -> Committer | Transactor:
    plan, feed, keeper = parts.exactly_once, parts.outbox.transactions, parts.keeper
    if plan is None or feed is None or not isinstance(keeper, CutKeeper):
        return Committer(parts)
    return Transactor(parts, handovers, plan=plan, feed=feed, keeper=keeper)
