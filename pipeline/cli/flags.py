"""Flags that several commands have, and flags into the configuration that a file gives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from connectors.config import BaseSinkConfig
from connectors.registry import sink_from_url, source_from_url
from pipeline.config.loading import explain_invalid
from pipeline.config.one_stream import OneStream, Polygon, parse_short_form
from pipeline.config.run import RunConfig
from pipeline.config.sections.model import ModelConfig
from pipeline.errors import ConfigError
from pipeline.fields import LOOKS_AT_FILES

_Section = TypeVar("_Section", bound=BaseModel)
Json = Annotated[bool, typer.Option("--json", help="Write machine-readable lines to stdout.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything failed.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights of the model.")]
# Either may be left out in some commands, so the type is theirs to say.
_Text = TypeVar("_Text", str, str | None)
ModelName = Annotated[_Text, typer.Option(help="Name of the model, see 'models list'.")]
Device = Annotated[_Text, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DEFAULT_STREAM_ID = ""  # a name that suits the source


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlags:
    """Flags that choose the model."""

    model: ModelName[str] = "sam3-nano"
    checkpoint: Checkpoint = None
    device: Device[str] = "auto"

    def to_config(self) -> ModelConfig:
        """Return the choice as the configuration's section.

        Raises:
            ConfigError: If a flag is not what it accepts.
        """
        fields = {"name": self.model, "checkpoint": self.checkpoint, "device": self.device}
        return _validated(ModelConfig, fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Flags that change any configuration, also one from a file; ``None`` leaves it as it is.

    Attributes:
        model: Name of the model.
        checkpoint: Its weights.
        device: Where it runs.
        metrics_port: 0 switches the port off.
    """

    model: str | None = None
    checkpoint: Path | None = None
    device: str | None = None
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCamera:
    """Flags that describe a single stream.

    Attributes:
        source: As ``source_from_url`` takes it.
        concepts: What to look for.
        sinks: As ``sink_from_url`` takes them; none means the terminal.
        zones: ``NAME=x,y x,y x,y`` with corners from 0 to 1.
        stream_id: The stream's name; if empty, ``camera``, or ``*`` for Kafka, whose records name
            their streams.
        max_fps: Frames beyond this rate are gated.
        json_lines: Whether a terminal without other sinks gets JSON.
    """

    source: str
    concepts: Sequence[str]
    sinks: Sequence[str] = ()
    zones: Sequence[str] = ()
    stream_id: str = DEFAULT_STREAM_ID
    max_fps: float | None = None
    json_lines: bool = False


def config_from_flags(flags: OneCamera, overrides: Overrides) -> RunConfig:
    """Return the configuration of one camera, with rules for all that can happen in its zones.

    Raises:
        ConfigError: Naming the flag and what it would accept.
    """
    source = parse_short_form("--source", source_from_url, flags.source)
    zones = [_parse_zone(text) for text in flags.zones]
    sinks = [parse_short_form("--sink", sink_from_url, text) for text in flags.sinks]
    if not flags.concepts and (not sinks or any(sink.needs_model for sink in sinks)):
        raise ConfigError(["--concept: is missing (accepted: what to look for, such as deer)"])
    stream = OneStream(
        source=source,
        concepts=flags.concepts,
        stream_id=flags.stream_id,
        zones=zones,
        max_fps=flags.max_fps,
        sinks=_numbered(sinks) or [{"type": "console", "json_lines": flags.json_lines}],
    )
    return apply_overrides(stream.to_config(name="flags"), overrides)


def _numbered(sinks: Sequence[BaseSinkConfig]) -> list[BaseSinkConfig]:
    """Return sinks with names of their own, ``video`` and ``video-2``: flags have none."""
    seen: Counter[str] = Counter()
    named: list[BaseSinkConfig] = []
    for sink in sinks:
        seen[sink.type] += 1
        number = seen[sink.type]
        name = sink.type if number == 1 else f"{sink.type}-{number}"
        named.append(sink.model_copy(update={"name": name}))
    return named


def apply_overrides(config: RunConfig, overrides: Overrides) -> RunConfig:
    """Return the configuration with the flags that were given put in.

    Raises:
        ConfigError: If a flag's value is not accepted.
    """
    model = config.model.model_dump()
    if overrides.model is not None:
        # Another model's weights and options would not fit.
        model = {"name": overrides.model, "device": config.model.device}
    model |= {
        key: value
        for key, value in (("checkpoint", overrides.checkpoint), ("device", overrides.device))
        if value is not None
    }
    observe = config.observe.model_dump()
    if overrides.metrics_port is not None:
        observe["port"] = overrides.metrics_port or None
    changed = {
        "model": _validated(type(config.model), model),
        "observe": _validated(type(config.observe), observe),
    }
    return config.model_copy(update=changed)


def _validated(section: type[_Section], fields: Mapping[str, object]) -> _Section:
    try:
        return section.model_validate(fields, context={LOOKS_AT_FILES: True})
    except ValidationError as error:
        raise explain_invalid(error, name="flags", root=section) from None


def _parse_zone(text: str) -> tuple[str, Polygon]:
    name, found, corners = text.partition("=")
    try:
        polygon = [(float(x), float(y)) for x, y in (one.split(",") for one in corners.split())]
    except ValueError:
        polygon = []
    if not found or len(polygon) < 3:
        accepted = "'gate=0.1,0.2 0.9,0.2 0.5,0.9', at least three corners"
        raise ConfigError([f"--zone: bad zone {text!r} (accepted: {accepted})"])
    return name.strip(), polygon
