"""The composition root: configuration in, wired engine out.

The only file of the running pipeline that knows concrete models and connectors.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from connectors.base import Sink, Source
from connectors.registry import build_sink, build_source
from models.protocols import ConceptTracker
from pipeline.clock import Clock, SystemClock
from pipeline.config.run import RunConfig
from pipeline.engine.engine import Engine, EngineParts
from pipeline.engine.outbox import Publisher, name_sinks
from pipeline.engine.stream_table import Supervisor
from pipeline.engine.worker import Worker
from pipeline.model_building import build_model
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What can be looked at while an engine runs."""

    metrics: Metrics
    health: Health


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A wired engine with what can be looked at while it runs."""

    engine: Engine
    metrics: Metrics
    health: Health


def build_app(
    config: RunConfig,
    *,
    tracker: ConceptTracker | None = None,
    sources: Sequence[Source] | None = None,
    sinks: Sequence[Sink] | None = None,
    clock: Clock | None = None,
    observations: Observations | None = None,
) -> App:
    """Wire an engine. Nothing is opened yet.

    Args:
        config: Everything; the other arguments replace what it would build.
        tracker: The model.
        sources: One per configured stream, in order.
        sinks: Used in addition to the configured ones.
        clock: The machine's by default.
        observations: Those whose port is open already.
    """
    clock = clock or SystemClock()
    observations = observations or build_observations(config, clock=clock)
    metrics, health = observations.metrics, observations.health
    if sources is None:
        sources = [build_source(stream.source, stream.id) for stream in config.streams]
    publisher = Publisher(
        _named_sinks(config, sinks or ()),
        capacity=config.engine.publish_queue,
        retry_s=config.engine.sink_retry_s,
        metrics=metrics,
    )
    supervisor = Supervisor(config, sources, publisher, metrics=metrics, health=health, clock=clock)
    worker = Worker(build_model(config.model) if tracker is None else tracker, metrics)
    parts = EngineParts(
        worker=worker,
        supervisor=supervisor,
        publisher=publisher,
        metrics=metrics,
        health=health,
        clock=clock,
    )
    return App(engine=Engine(config, parts), metrics=metrics, health=health)


def build_observations(config: RunConfig, *, clock: Clock | None = None) -> Observations:
    """Return metrics and health of an engine that is still to be wired."""
    health = Health(clock or SystemClock(), stall_s=config.observe.stall_s)
    return Observations(metrics=Metrics(), health=health)


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


@contextmanager
def open_app(config: RunConfig) -> Generator[App]:
    """Open the configured port, and build everything behind it.

    Raises:
        ConfigError: If nothing can listen there; no model is loaded then.
    """
    observations = build_observations(config)
    with serve_observations(config, observations):
        yield build_app(config, observations=observations)


def _named_sinks(config: RunConfig, extra: Sequence[Sink]) -> dict[str, Sink]:
    built = [build_sink(sink) for sink in config.sinks]
    kinds = [sink.type for sink in config.sinks] + [type(sink).__name__ for sink in extra]
    return dict(zip(name_sinks(kinds), [*built, *extra], strict=True))
