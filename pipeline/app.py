"""The composition root: configuration in, wired engine out.

The only file of the running pipeline that knows concrete models and connectors.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.base import Sink, Source
from connectors.errors import Position
from connectors.registry import build_sink, build_source
from models.protocols import ConceptTracker
from pipeline.clock import Clock, SystemClock
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.desired_state import DesiredState
from pipeline.engine.engine import Engine
from pipeline.engine.inbox import Inbox
from pipeline.engine.ledger import Ledger
from pipeline.engine.outbox import Outbox
from pipeline.engine.parts import EngineParts
from pipeline.engine.publisher import Publisher
from pipeline.engine.retry import HostLimit
from pipeline.engine.scheduler import Scheduler
from pipeline.engine.sink_watch import Observers
from pipeline.engine.source_runner import BuildSource, GroupSource, RunnerParts
from pipeline.engine.state.cut_keeper import CutKeeper
from pipeline.engine.state.keeper import StateKeeper, keeps_state
from pipeline.engine.state.restorer import StateRestorer
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.engine.state.snapshot_store import SnapshotStore
from pipeline.engine.state.writer import SnapshotWriter
from pipeline.engine.status import StatusBook
from pipeline.engine.stream_table import StreamTable
from pipeline.engine.summary import SummaryBook
from pipeline.engine.worker import Worker
from pipeline.model_building import build_model
from pipeline.observe.health import Health
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics
from pipeline.streams.result import FrameResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What can be looked at while an engine runs.

    Attributes:
        ledger: Counts of frames.
        metrics: For Prometheus.
        health: For probes.
        live: The newest of every stream; ``None``: nobody watches.
    """

    ledger: Ledger
    metrics: Metrics
    health: Health
    live: LiveView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A wired engine with what can be looked at while it runs."""

    engine: Engine
    metrics: Metrics
    health: Health


def build_app(  # noqa: PLR0913 - all but the first may be left out
    config: RunConfig,
    *,
    tracker: ConceptTracker | None = None,
    build: BuildSource | None = None,
    sinks: Sequence[Sink] | None = None,
    clock: Clock | None = None,
    observations: Observations | None = None,
    on_result: Callable[[FrameResult], None] | None = None,
    load: Callable[[], RunConfig] | None = None,
) -> App:
    """Wire an engine. The sinks are open then, and the log of records, if one needs it.

    Args:
        config: Everything; the other arguments replace what it would build.
        tracker: The model.
        build: Builds a stream's source, not open, that goes on at a position.
        sinks: Used in addition to the configured ones.
        clock: The machine's by default.
        observations: Those whose port is open already.
        on_result: Called with each result, in the engine's thread.
        load: Reads the configuration file again, for ``reload``; ``None``: there is none.
    """
    clock = clock or SystemClock()
    seen = observations or build_observations(config, clock=clock)
    inbox = Inbox()
    is_kept = _is_kept(config)  # by the file alone, whatever commands have added
    outbox = Outbox(
        _named_sinks(config, sinks or ()),
        config=config.delivery,
        state_folder=config.state.folder_of(config.deployment),
        keeps_state=is_kept and config.exactly_once is None,
        deployment=config.deployment,
        worker=config.worker,
        observers=Observers(metrics=seen.metrics, health=seen.health, clock=clock, live=seen.live),
        on_room=inbox.wake,
    )
    desired, worker = _open_and_build_worker(config, tracker, outbox, seen.metrics, load)
    config = desired.config
    store = _build_store(config) if is_kept and worker is not None else None
    publisher = Publisher(outbox, metrics=seen.metrics, on_result=on_result, live=seen.live)
    runners = RunnerParts(
        build=_source_builder(config, build or _build_source),
        host_of=_host_of,
        inbox=inbox,
        ledger=seen.ledger,
        hosts=HostLimit(config.engine.connections_per_host),
        clock=clock,
        store=store,
    )
    keeper, restorer = _build_state(config, store, outbox, worker, seen.metrics, clock, inbox)
    parts = EngineParts(
        config=config.engine,
        inbox=inbox,
        desired=desired,
        table=StreamTable(config, runners, live=seen.live),
        scheduler=Scheduler(max_batch=config.engine.max_batch),
        worker=worker,
        publisher=publisher,
        outbox=outbox,
        ledger=seen.ledger,
        status=_build_status(config, publisher, keeper, seen, clock),
        summary=SummaryBook(clock),
        metrics=seen.metrics,
        health=seen.health,
        clock=clock,
        keeper=keeper,
        restorer=restorer,
        exactly_once=config.exactly_once,
    )
    return App(engine=Engine(parts), metrics=seen.metrics, health=seen.health)


def build_observations(config: RunConfig, *, clock: Clock | None = None) -> Observations:
    """Return what can be looked at of an engine that is still to be wired."""
    ledger = Ledger()
    health = Health(clock or SystemClock(), stall_s=config.observe.stall_s)
    live = LiveView() if config.api.is_served else None
    return Observations(ledger=ledger, metrics=Metrics(ledger.snapshot), health=health, live=live)


@contextmanager
def serve_observations(config: RunConfig, observations: Observations) -> Generator[str | None]:
    """Keep the port with metrics and health open, if one is configured; yields its address.

    Raises:
        ConfigError: If nothing can listen there.
    """
    if config.observe.port is None:
        yield None
        return
    # Imported here, because a web server costs 0.2 s that a run without a port need not pay.
    from pipeline.observe.server import ObserveServer

    server = ObserveServer(
        observations.metrics,
        observations.health,
        host=config.observe.host,
        port=config.observe.port,
    )
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def _named_sinks(config: RunConfig, extra: Sequence[Sink]) -> dict[str, Sink]:
    plan = config.exactly_once
    configs = config.sinks if plan is None else [plan.complete(one) for one in config.sinks]
    sinks = {one.name: build_sink(one) for one in configs}
    for sink in extra:
        kind = type(sink).__name__
        names = (kind, *(f"{kind}-{number}" for number in range(2, len(extra) + 1)))
        sinks[next(name for name in names if name not in sinks)] = sink
    return sinks


def _build_source(stream: StreamConfig, position: Position | None) -> Source:
    return build_source(stream.source, stream.id, position=position)


def _source_builder(config: RunConfig, build: BuildSource) -> BuildSource:
    """Return what builds sources; for exactly once they leave their offsets to transactions."""
    if config.exactly_once is None:
        return build

    def build_source(stream: StreamConfig, position: Position | None) -> Source:
        source = build(stream, position)
        if isinstance(source, GroupSource):
            source.leave_offsets()
        return source

    return build_source


def _is_kept(config: RunConfig) -> bool:
    """Whether streams are kept: not where frames are handed on without a model."""
    is_wanted = config.state.resume and config.needs_model
    return is_wanted and any(keeps_state(stream) for stream in config.streams)


def _build_store(config: RunConfig) -> SnapshotStore:
    """Return where streams are kept for another process."""
    if config.state.topic is None:
        return SnapshotFolder(config.state.folder_of(config.deployment) / "snapshots")
    # Imported here, because kafka-python costs 0.3 s that others need not pay.
    from connectors.kafka.state_topic import StateTopic
    from pipeline.engine.state.snapshot_topic import SnapshotTopic

    return SnapshotTopic(StateTopic(config.state.topic), deployment=config.deployment)


def _build_state(
    config: RunConfig,
    store: SnapshotStore | None,
    outbox: Outbox,
    worker: Worker | None,
    metrics: Metrics,
    clock: Clock,
    inbox: Inbox,
) -> tuple[StateKeeper | CutKeeper, StateRestorer]:
    """Return what keeps streams for another process, and what was kept for this one."""
    writer = None if store is None else SnapshotWriter(store, on_done=inbox.wake)
    keeper: StateKeeper | CutKeeper
    if config.exactly_once is not None and writer is not None:
        keeper = CutKeeper(config, writer, worker=worker, metrics=metrics, clock=clock)
    else:
        keeper = StateKeeper(
            config, writer, outbox=outbox, worker=worker, metrics=metrics, clock=clock
        )
    alerts = () if store is None or config.exactly_once else outbox.logged_alerts()
    return keeper, StateRestorer(store, alerts, worker=worker, clock=clock)


def _build_status(
    config: RunConfig,
    publisher: Publisher,
    keeper: StateKeeper | CutKeeper,
    seen: Observations,
    clock: Clock,
) -> StatusBook:
    return StatusBook(
        config.status,
        publish=publisher.status,
        ledger=seen.ledger,
        metrics=seen.metrics,
        health=seen.health,
        clock=clock,
        state_error_of=keeper.error_of,
    )


def _host_of(stream: StreamConfig) -> str | None:
    """Return the host that a camera is at; other sources connect as they like."""
    url = getattr(stream.source, "url", None)
    return urlsplit(url).hostname if isinstance(url, str) else None


def _open_and_build_worker(
    config: RunConfig,
    tracker: ConceptTracker | None,
    outbox: Outbox,
    metrics: Metrics,
    load: Callable[[], RunConfig] | None,
) -> tuple[DesiredState, Worker | None]:
    """Open the sinks before the model is built, which takes seconds; let go of them if it fails."""
    with ExitStack() as undo:
        undo.callback(outbox.close)
        outbox.open()
        desired = DesiredState(config, outbox.folder, load=load)
        worker = _build_worker(config, tracker, outbox, metrics)
        undo.pop_all()
    return desired, worker


def _build_worker(
    config: RunConfig, tracker: ConceptTracker | None, outbox: Outbox, metrics: Metrics
) -> Worker | None:
    """Return what runs the model; ``None`` if all sinks take frames as they come."""
    if tracker is None and not outbox.needs_model:
        return None
    if tracker is None:
        tracker = build_model(config.model, expiry_s=config.tracking.expire_s)
    return Worker(tracker, metrics)
