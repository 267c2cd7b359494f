"""One configuration: what to look for, where the frames come from and where the results go.

Knows shapes and bounds only; reading YAML is :mod:`pipeline.config.loading`.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from connectors.unions import SinkConfig, SourceConfig
from models.catalogue import Family, sizes_of
from pipeline.config.sections.model import ModelConfig
from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.union import RuleConfig
from pipeline.events.zones import ZoneConfig
from pipeline.fields import Name, Phrase, Seconds, Share, StrictModel
from pipeline.tracking.config import TrackingConfig

ANY_STREAM = "*"


class Overflow(StrEnum):
    """What a full buffer does with one frame more."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class RetryConfig(StrictModel):
    """When a source is tried again after an error that may pass: for ever, at growing intervals."""

    initial_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Wait before the first try; jittered, as all waits."""
    maximum_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """No wait is longer."""
    healthy_s: Seconds = 30.0
    """After this long without an error waits begin anew."""
    unauthorized_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Wait after a refused password."""


class StreamConfig(StrictModel):
    """One camera, file or topic, and what to look for on it."""

    id: Name
    """The stream's name; ``*`` makes this the template of all streams that the source names."""
    source: SourceConfig
    concepts: Annotated[tuple[Phrase, ...], Field(max_length=64)] = ()
    """What to look for, in plain words. Needed unless all sinks take frames only."""
    zones: tuple[ZoneConfig, ...] = ()
    rules: tuple[RuleConfig, ...] = ()
    overflow: Overflow | None = None
    """Of the frame buffer. By default live cameras drop the oldest, everything else waits."""
    max_fps: Annotated[float, Field(gt=0, le=240)] | None = None
    """Frames beyond this rate are gated: counted, not processed."""
    retry: RetryConfig = RetryConfig()

    @property
    def is_live(self) -> bool:
        """Whether frames come as they are taken."""
        return self.source.is_live

    @property
    def buffer_overflow(self) -> Overflow:
        """The policy given, or the one that fits the source."""
        if self.overflow is not None:
            return self.overflow
        return Overflow.WAIT if self.source.may_wait else Overflow.DROP_OLDEST

    @field_validator("concepts")
    @classmethod
    def _check_concepts(cls, concepts: tuple[str, ...]) -> tuple[str, ...]:
        seen: dict[str, str] = {}
        for concept in concepts:
            key = concept.casefold()  # The model reads capitals as small letters.
            if key in seen:
                both = f"{seen[key]!r} and {concept!r}"
                raise ValueError(f"{both} are one concept (accepted: each once)")
            seen[key] = concept
        return concepts

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        zones = [zone.name for zone in self.zones]
        _refuse_twice("zone", zones)
        _refuse_twice("rule", [rule.name for rule in self.rules])
        for rule in self.rules:
            if isinstance(rule, ZoneRuleConfig) and rule.zone not in zones:
                raise ValueError(
                    f"rule {rule.name!r} names zone {rule.zone!r} (accepted: {_listed(zones)})"
                )
            for concept in rule.concepts:
                if concept not in self.concepts:
                    accepted = _listed(self.concepts)
                    raise ValueError(
                        f"rule {rule.name!r} names concept {concept!r} (accepted: {accepted})"
                    )
        return self


class ObserveConfig(StrictModel):
    """The port with /metrics, /livez, /healthz and /readyz."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """None: no port is opened. 0: any free port, shown in the log."""
    log_format: Literal["text", "json"] = "text"
    stall_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """/livez and /healthz fail when the engine has not turned for this long."""


class EngineConfig(StrictModel):
    """How frames are taken and results are given."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames in one turn of the model, at most one per stream."""
    buffer_frames: Annotated[int, Field(ge=1, le=256)] = 4
    """Frames that wait for the model, per stream."""
    publish_queue: Annotated[int, Field(ge=1, le=4096)] = 32
    """Results that wait for the sinks."""
    max_streams: Annotated[int, Field(ge=1, le=4096)] = 64
    """Open at once, those that sources name by themselves included."""
    idle_close_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """A stream that a source named by itself is closed after this long without a frame."""
    commit_every_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """For sources that keep a position of their own (Kafka)."""
    connections_per_host: Annotated[int, Field(ge=1, le=1000)] = 4
    """Sources that try at once to connect to one host."""
    stop_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """The run ends within this time after SIGTERM or SIGINT, whatever sources and sinks do."""
    sink_retry_s: Seconds = 30.0
    """How long a failing sink is tried again before it is given up."""


class StatusConfig(StrictModel):
    """When a stream counts as what."""

    every_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A status record says how a stream is at each change and this often."""
    stalled_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """Connected, but no frame for this long, or for five of its usual intervals: stalled."""
    offline_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Lost for less: reconnecting; for longer: offline."""
    overload_share: Share = 0.05
    """Overloaded while more than this share of the frames is dropped for speed."""
    overload_window_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Time over which that share is taken."""


class RunConfig(StrictModel):
    """Everything that ``maskstream run`` needs to know."""

    deployment: Name = "default"
    """Name of this installation; part of what makes track ids unique."""
    model: ModelConfig = ModelConfig()
    streams: Annotated[tuple[StreamConfig, ...], Field(min_length=1)]
    sinks: tuple[SinkConfig, ...] = ()
    observe: ObserveConfig = ObserveConfig()
    engine: EngineConfig = EngineConfig()
    status: StatusConfig = StatusConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def needs_model(self) -> bool:
        """Whether some sink takes what a model finds; without sinks the totals count."""
        return not self.sinks or any(sink.needs_model for sink in self.sinks)

    @model_validator(mode="after")
    def _check_concepts(self) -> Self:
        bare = [number for number, stream in enumerate(self.streams) if not stream.concepts]
        if bare and self.needs_model:
            # Told as an error of the field, so that the line in a file can be named.
            errors = [
                InitErrorDetails(type="missing", loc=("streams", number, "concepts"), input=())
                for number in bare
            ]
            raise ValidationError.from_exception_data("RunConfig", errors)
        return self

    @field_validator("sinks")
    @classmethod
    def _check_paths(cls, sinks: tuple[SinkConfig, ...]) -> tuple[SinkConfig, ...]:
        paths = [str(sink.owned_path.resolve()) for sink in sinks if sink.owned_path is not None]
        _refuse_twice("sink path", paths)
        return sinks

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: ModelConfig) -> ModelConfig:
        if not model.has_concepts:
            able = ", ".join(size.name for size in sizes_of(Family.SAM3))
            raise ValueError(f"{model.name} knows no concepts (accepted: {able})")
        return model

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        _refuse_twice("stream", [stream.id for stream in self.streams])
        if len(self.streams) > self.engine.max_streams:
            raise ValueError(
                f"{len(self.streams)} streams (accepted: at most engine.max_streams = "
                f"{self.engine.max_streams})"
            )
        return self


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none is defined"


def _refuse_twice(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind} {name!r} is there twice (accepted: each once)")
        seen.add(name)
