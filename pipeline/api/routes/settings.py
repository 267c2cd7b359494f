"""/v1/concepts, rules, zones, sinks and config: what is looked for, and where it goes."""

from collections.abc import Iterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query

from connectors.errors import redact_url
from pipeline.api.answers import ERRORS, UNKNOWN, ApiModel, Flag, unknown_stream
from pipeline.api.backend import Backend, Served
from pipeline.api.guard import AS_OPERATOR, AS_VIEWER
from pipeline.api.routes.streams import config_of
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.overlay import Change
from pipeline.events.rules.union import RuleConfig
from pipeline.events.zones import ZoneConfig
from pipeline.observe.health import SinkState
from pipeline.records.base import UtcTime

router = APIRouter(dependencies=AS_VIEWER, responses=ERRORS, tags=["settings"])

OneStream = Annotated[str | None, Query(description="Of this stream; of all if left out.")]


class ConceptAnswer(ApiModel):
    """Something that is looked for."""

    stream_id: str
    """Where."""
    id: str
    """The concept's id."""
    phrase: str
    """In plain words."""
    name: str
    """What records call it."""


class ConceptsAnswer(ApiModel):
    """What is looked for."""

    concepts: tuple[ConceptAnswer, ...]
    """By stream."""


class ZoneAnswer(ApiModel):
    """A polygon on the picture."""

    stream_id: str
    """Of which stream."""
    zone: ZoneConfig
    """As it is configured."""


class ZonesAnswer(ApiModel):
    """Polygons on pictures."""

    zones: tuple[ZoneAnswer, ...]
    """By stream."""


class RuleAnswer(ApiModel):
    """What is told as an event."""

    stream_id: str
    """Of which stream."""
    rule: RuleConfig
    """As it is configured."""


class RulesAnswer(ApiModel):
    """What is told as events."""

    rules: tuple[RuleAnswer, ...]
    """By stream."""


class SinkAnswer(ApiModel):
    """Where results go."""

    name: str
    """The sink's name."""
    type: str | None
    """Its type; null for one that is not of the configuration."""
    state: SinkState
    """What it is doing."""
    error: str | None
    """Why it takes nothing."""
    is_durable: bool
    """Whether all that it is given must arrive."""


class SinksAnswer(ApiModel):
    """Where results go."""

    sinks: tuple[SinkAnswer, ...]
    """By name."""


class OriginAnswer(ApiModel):
    """A field of a stream that is not what the configuration file says."""

    stream_id: str
    """Of which stream."""
    field: str
    """Its name; `present` says whether the stream is there at all."""
    command_id: str
    """The command that has changed it last."""
    issued_by: str
    """Who issued that."""
    issued_at: UtcTime
    """When."""


class ConfigAnswer(ApiModel):
    """The configuration as it holds now."""

    config: dict[str, Any]
    """As in a configuration file, with all defaults."""
    origin: tuple[OriginAnswer, ...] | None
    """What of it commands have changed; null if that was not asked for."""


@router.get("/v1/concepts", responses=UNKNOWN)
async def list_concepts(backend: Served, stream_id: OneStream = None) -> ConceptsAnswer:
    """List what is looked for."""
    found = (
        ConceptAnswer(stream_id=name, id=one.concept_id, phrase=one.phrase, name=one.name)
        for name, config in _configs(backend, stream_id)
        for one in config.searched
    )
    return ConceptsAnswer(concepts=tuple(found))


@router.get("/v1/zones", responses=UNKNOWN)
async def list_zones(backend: Served, stream_id: OneStream = None) -> ZonesAnswer:
    """List the zones."""
    found = (
        ZoneAnswer(stream_id=name, zone=zone)
        for name, config in _configs(backend, stream_id)
        for zone in config.zones
    )
    return ZonesAnswer(zones=tuple(found))


@router.get("/v1/rules", responses=UNKNOWN)
async def list_rules(backend: Served, stream_id: OneStream = None) -> RulesAnswer:
    """List the rules."""
    found = (
        RuleAnswer(stream_id=name, rule=rule)
        for name, config in _configs(backend, stream_id)
        for rule in config.rules
    )
    return RulesAnswer(rules=tuple(found))


@router.get("/v1/sinks")
async def list_sinks(backend: Served) -> SinksAnswer:
    """List the sinks with what they are doing."""
    types = {sink.name: sink.type for sink in backend.config.sinks}
    sinks = backend.health.liveness().sinks
    found = (
        SinkAnswer(
            name=name,
            type=types.get(name),
            state=sink.state,
            error=sink.error,
            is_durable=sink.is_durable,
        )
        for name, sink in sorted(sinks.items())
    )
    return SinksAnswer(sinks=tuple(found))


@router.get("/v1/config", dependencies=AS_OPERATOR)
async def get_config(
    backend: Served,
    origin: Annotated[Flag, Query(description="Say what commands have changed of it.")] = "false",
) -> ConfigAnswer:
    """Return the configuration as it holds now. Secrets are hidden."""
    changes, fields = backend.changes, backend.config.model_dump(mode="json")
    return ConfigAnswer(
        config={name: _without_secrets(value) for name, value in fields.items()},
        origin=tuple(map(_origin_of, changes)) if origin == "true" else None,
    )


def _origin_of(change: Change) -> OriginAnswer:
    return OriginAnswer(
        stream_id=change.stream_id,
        field=change.field,
        command_id=change.command_id,
        issued_by=change.issued_by,
        issued_at=change.issued_at,
    )


def _configs(backend: Backend, stream_id: str | None) -> Iterator[tuple[str, StreamConfig]]:
    """Yield the streams that are open or configured, or one of them.

    Raises:
        RefusedError: If there is none of that name.
    """
    live = backend.live.streams
    names = sorted({*live, *(one.id for one in backend.config.streams)})
    if stream_id is not None and stream_id not in names:
        raise unknown_stream(stream_id, names)
    for name in names if stream_id is None else [stream_id]:
        config = config_of(backend, live, name)
        if config is not None:
            yield name, config


def _without_secrets(value: object) -> object:
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {name: _without_secrets(one) for name, one in fields.items()}
    if isinstance(value, list):
        return [_without_secrets(one) for one in cast("list[object]", value)]
    return value
