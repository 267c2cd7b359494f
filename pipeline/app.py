"""The composition root: configuration in, wired engine out.

The only file of the running pipeline that knows concrete models and connectors.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from connectors.base import Sink, Source
from connectors.registry import build_sink, build_source
from models.protocols import ConceptTracker
from pipeline.clock import Clock, SystemClock
from pipeline.config.model_names import check_concept_model, check_model_name
from pipeline.config.run import ModelConfig, RunConfig
from pipeline.engine.engine import Engine, EngineParts
from pipeline.engine.outbox import Publisher, name_sinks
from pipeline.engine.stream_table import Supervisor
from pipeline.engine.worker import Worker
from pipeline.errors import ConfigError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from models.sam3.tracking.session import SessionOptions

_logger = logging.getLogger("maskstream.app")

Built = TypeVar("Built")


def build_model(config: ModelConfig) -> ConceptTracker:
    """Return the model that a configuration names, with its weights. Imports torch.

    Raises:
        ConfigError: If the model or one of its options is not known, or there are no weights.
        models.checkpoints.weights.CheckpointError: If the weights do not fit.
    """
    # Imported here, because torch costs seconds that ``check`` and ``schema`` need not pay.
    from models.build import build_tracker

    check_concept_model(config.name)
    path = config.checkpoint
    if path is not None and not path.exists():
        accepted = "a .safetensors, .pt or .pth file, or a folder with one"
        raise ConfigError([f"model.checkpoint: nothing at {str(path)!r} (accepted: {accepted})"])
    options = build_options(config.name, config.options)
    return build_with(partial(build_tracker, options=options), config)


def build_with(build: Callable[..., Built], config: ModelConfig) -> Built:
    """Build a model by a function of :mod:`models.build`.

    Raises:
        ConfigError: If the name, the weights or the device cannot be used.
    """
    check_model_name(config.name)
    device = choose_device(config.device)
    began_s = time.monotonic()
    try:
        built = build(config.name, checkpoint=config.checkpoint, device=device)
    except ValueError as error:
        raise ConfigError([f"model: {error}"]) from error
    took_s = time.monotonic() - began_s
    _logger.info("model %s loaded on %s in %.1f s", config.name, device, took_s)
    return built


def choose_device(name: str) -> str:
    """Return ``name``, or for ``auto`` the best device that is there.

    Raises:
        ConfigError: If an accelerator is asked for that is not there.
    """
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    is_there = {"cpu": True, "mps": has_mps, "cuda": has_cuda}[name.partition(":")[0]]
    number = int(name.partition(":")[2] or 0)
    if not is_there or (name.startswith("cuda") and number >= torch.cuda.device_count()):
        raise ConfigError([f"model.device: {name!r} is not on this machine (accepted: auto, cpu)"])
    return name


def choose_flagged_device(name: str) -> str:
    """Like :func:`choose_device`, for what a person gave as ``--device``."""
    try:
        return choose_device(ModelConfig(device=name).device)
    except ValidationError:
        accepted = ModelConfig.model_fields["device"].description or ""
        told = f"--device: {name!r} (accepted: {accepted.rstrip('.')})"
        raise ConfigError([told]) from None


def build_options(name: str, options: Mapping[str, bool | int | float | str]) -> "SessionOptions":
    """Return a model's options; a dot reaches into a group: ``life.expiry_s``.

    Raises:
        ConfigError: If an option is not known or has the wrong type.
    """
    from models.sam3.sizes import SESSION_OPTIONS

    built = SESSION_OPTIONS[name]
    accepted = _options_of(built)
    for option, value in options.items():
        default = accepted.get(option)
        # True is an int to Python, but not to people.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number if isinstance(default, float) else type(value) is type(default)
        if not fits:
            names = ", ".join(f"{key}={known!r}" for key, known in sorted(accepted.items()))
            raise ConfigError([f"model.options.{option}: bad option {value!r} (accepted: {names})"])
        group, _, leaf = option.rpartition(".")
        number = float(value) if isinstance(default, float) else value
        if group:
            built = replace(built, **{group: replace(getattr(built, group), **{leaf: number})})
        else:
            built = replace(built, **{leaf: number})
    return built


def _options_of(group: "DataclassInstance", prefix: str = "") -> dict[str, object]:
    """Return every option's default by its dotted name."""
    options: dict[str, object] = {}
    for item in fields(group):
        value: Any = getattr(group, item.name)
        if is_dataclass(value) and not isinstance(value, type):
            options |= _options_of(value, f"{prefix}{item.name}.")
        else:
            options[prefix + item.name] = value
    return options


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


def _named_sinks(config: RunConfig, extra: Sequence[Sink]) -> dict[str, Sink]:
    built = [build_sink(sink) for sink in config.sinks]
    kinds = [sink.type for sink in config.sinks] + [type(sink).__name__ for sink in extra]
    return dict(zip(name_sinks(kinds), [*built, *extra], strict=True))
