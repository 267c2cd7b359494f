"""What an engine is wired from; see :mod:`pipeline.app`."""

from dataclasses import dataclass

from pipeline.clock import Clock
from pipeline.config.exactly_once import ExactlyOnce
from pipeline.config.sections.engine import EngineConfig
from pipeline.engine.desired_state import DesiredState
from pipeline.engine.inbox import Inbox
from pipeline.engine.ledger import Ledger
from pipeline.engine.outbox import Outbox
from pipeline.engine.publisher import Publisher
from pipeline.engine.scheduler import Scheduler
from pipeline.engine.state.cut_keeper import CutKeeper
from pipeline.engine.state.keeper import StateKeeper
from pipeline.engine.state.restorer import StateRestorer
from pipeline.engine.status import StatusBook
from pipeline.engine.stream_table import StreamTable
from pipeline.engine.summary import SummaryBook
from pipeline.engine.worker import Worker
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """The parts of one engine, each with one owner of its own.

    Attributes:
        config: Limits of the engine.
        inbox: Takes what other threads have to say.
        desired: What streams there are to be.
        table: The streams and their sources.
        scheduler: Chooses whose turn it is.
        worker: The model; without one frames are handed on as they are.
        publisher: Says what comes out.
        outbox: All sinks.
        ledger: Counts frames.
        status: Judges what streams are doing.
        summary: Keeps what came of them.
        metrics: For Prometheus.
        health: For probes.
        clock: The time.
        keeper: Keeps what streams go on from in another process.
        restorer: Lets them go on.
        exactly_once: How results are delivered exactly once; ``None``: at least once.
    """

    config: EngineConfig
    inbox: Inbox
    desired: DesiredState
    table: StreamTable
    scheduler: Scheduler
    worker: Worker | None
    publisher: Publisher
    outbox: Outbox
    ledger: Ledger
    status: StatusBook
    summary: SummaryBook
    metrics: Metrics
    health: Health
    clock: Clock
    keeper: StateKeeper | CutKeeper
    restorer: StateRestorer
    exactly_once: ExactlyOnce | None = None
