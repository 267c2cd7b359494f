"""The whole configuration of a run, composed of its sections.

Knows shapes and bounds only; reading YAML is :mod:`pipeline.config.loading`.
"""

import socket
from collections.abc import Mapping
from typing import Annotated, LiteralString, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from connectors.config import ConnectorConfig
from connectors.unions import SinkConfig
from models.catalogue import Family, sizes_of
from pipeline.config.exactly_once import ExactlyOnce, find_exactly_once, refuse_mixtures
from pipeline.config.sections.api import ApiConfig
from pipeline.config.sections.delivery import DeliveryConfig
from pipeline.config.sections.engine import EngineConfig
from pipeline.config.sections.model import ModelConfig
from pipeline.config.sections.observe import ObserveConfig
from pipeline.config.sections.state import StateConfig
from pipeline.config.sections.status import StatusConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.fields import Name, StrictModel, looks_at_files, refuse_twice
from pipeline.tracking.config import TrackingConfig


class RunConfig(StrictModel):
    """Everything that ``maskstream run`` needs to know."""

    deployment: Name = "default"
    """Name of this installation; part of what makes track ids unique."""
    worker: Name = Field(default_factory=socket.gethostname)
    """Name of this process in its records; the machine's by default, so that it is the same after a
    restart."""
    model: ModelConfig = ModelConfig()
    streams: Annotated[tuple[StreamConfig, ...], Field(min_length=1)]
    sinks: tuple[SinkConfig, ...] = ()
    observe: ObserveConfig = ObserveConfig()
    api: ApiConfig = ApiConfig()
    engine: EngineConfig = EngineConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    state: StateConfig = StateConfig()
    status: StatusConfig = StatusConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def needs_model(self) -> bool:
        """Whether some sink takes what a model finds; without sinks the totals count."""
        return not self.sinks or any(sink.needs_model for sink in self.sinks)

    @property
    def exactly_once(self) -> ExactlyOnce | None:
        """How results are delivered exactly once; ``None``: at least once."""
        return find_exactly_once(
            self.sinks, self.streams, deployment=self.deployment, worker=self.worker
        )

    @model_validator(mode="after")
    def _check_exactly_once(self) -> Self:
        refuse_mixtures(self.sinks, self.streams, self.state)
        return self

    @model_validator(mode="after")
    def _check_concepts(self) -> Self:
        bare = [number for number, stream in enumerate(self.streams) if not stream.concepts]
        if bare and self.needs_model:
            # As an error of the field, so that the line in a file can be named.
            errors = [
                InitErrorDetails(type="missing", loc=("streams", number, "concepts"), input=())
                for number in bare
            ]
            raise ValidationError.from_exception_data("RunConfig", errors)
        return self

    @field_validator("sinks")
    @classmethod
    def _check_names(cls, sinks: tuple[SinkConfig, ...]) -> tuple[SinkConfig, ...]:
        names = [sink.name for sink in sinks]
        text = "a sink named '{taken}' is there already (accepted: a name of its own)"
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("name_taken", text, {"taken": name}),
                loc=(number, "name"),
                input=(),
            )
            for number, name in enumerate(names)
            if name in names[:number]
        ]
        if errors:
            raise ValidationError.from_exception_data("RunConfig", errors)
        return sinks

    @field_validator("sinks")
    @classmethod
    def _check_paths(cls, sinks: tuple[SinkConfig, ...]) -> tuple[SinkConfig, ...]:
        paths = [str(sink.owned_path.resolve()) for sink in sinks if sink.owned_path is not None]
        refuse_twice("sink path", paths)
        return sinks

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        """Refuse a circle, and what would have every record twice."""
        owners = {
            place: f"streams[{n}] reads"
            for n, one in enumerate(self.streams)
            for place in one.source.topics_read
        }
        writers: list[tuple[tuple[int | str, ...], frozenset[str], str]] = [
            (("sinks", number), sink.topics_written, f"sinks[{number}] writes")
            for number, sink in enumerate(self.sinks)
        ]
        if self.state.topic is not None:
            writers.append((("state", "topic"), self.state.topic.topics_written, "state writes"))
        errors: list[InitErrorDetails] = []
        for loc, topics, owner in writers:
            for place in sorted(topics & owners.keys())[:1]:
                text = "{owner} the topic {place} already (accepted: another topic)"
                errors.append(_taken(loc, text, owners[place], place))
            owners |= dict.fromkeys(topics - owners.keys(), owner)
        if errors:
            raise ValidationError.from_exception_data("RunConfig", errors)
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        """Refuse two readers that would take records away from each other."""
        owners: dict[str, str] = {}
        errors: list[InitErrorDetails] = []
        for number, stream in enumerate(self.streams):
            shares = stream.source.shared_reads
            for share in sorted(shares & owners.keys())[:1]:
                text = (
                    "{owner} {place} already, and would get what this one does not "
                    "(accepted: a group of its own)"
                )
                errors.append(_taken(("streams", number, "source"), text, owners[share], share))
            owners |= dict.fromkeys(shares - owners.keys(), f"streams[{number}] reads")
        if errors:
            raise ValidationError.from_exception_data("RunConfig", errors)
        return self

    @field_validator("sinks")
    @classmethod
    def _check_sinks(
        cls, sinks: tuple[SinkConfig, ...], info: ValidationInfo
    ) -> tuple[SinkConfig, ...]:
        if looks_at_files(info):
            _refuse_faults({(number,): sink for number, sink in enumerate(sinks)})
        return sinks

    @field_validator("streams")
    @classmethod
    def _check_sources(
        cls, streams: tuple[StreamConfig, ...], info: ValidationInfo
    ) -> tuple[StreamConfig, ...]:
        if looks_at_files(info):
            _refuse_faults({(n, "source"): one.source for n, one in enumerate(streams)})
        return streams

    @field_validator("state")
    @classmethod
    def _check_state(cls, state: StateConfig, info: ValidationInfo) -> StateConfig:
        if state.topic is None:
            return state
        streams: tuple[StreamConfig, ...] = info.data.get("streams", ())
        cameras = [stream.id for stream in streams if stream.is_live]
        if cameras:
            raise ValueError(
                f"a topic where {cameras[0]!r} is a camera (accepted: streams from Kafka alone; "
                "cameras are kept in the folder)"
            )
        if looks_at_files(info):
            _refuse_faults({("topic",): state.topic})
        return state

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: ModelConfig) -> ModelConfig:
        if not model.has_concepts:
            able = ", ".join(size.name for size in sizes_of(Family.SAM3))
            raise ValueError(f"{model.name} knows no concepts (accepted: {able})")
        return model

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        refuse_twice("stream", [stream.id for stream in self.streams])
        if len(self.streams) > self.engine.max_streams:
            raise ValueError(
                f"{len(self.streams)} streams (accepted: at most engine.max_streams = "
                f"{self.engine.max_streams})"
            )
        return self


def _taken(
    loc: tuple[int | str, ...], text: LiteralString, owner: str, place: str
) -> InitErrorDetails:
    error = PydanticCustomError("taken", text, {"owner": owner, "place": place})
    return InitErrorDetails(type=error, loc=loc, input=())


def _refuse_faults(connectors: Mapping[tuple[int | str, ...], ConnectorConfig]) -> None:
    """Raise for what cannot work on this machine, by the places of the connectors."""
    errors = [
        InitErrorDetails(
            type=PydanticCustomError("unusable", "{reason}", {"reason": reason}),
            loc=(*place, name),
            input=(),
        )
        for place, config in connectors.items()
        for name, reason in config.find_faults().items()
    ]
    if errors:
        raise ValidationError.from_exception_data("RunConfig", errors)
