"""Flags that several commands have, and flags into the configuration that a file gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from connectors.errors import redact_url
from connectors.registry import sink_from_url, source_from_url
from pipeline.config.loading import explain_invalid
from pipeline.config.run import ANY_STREAM, RunConfig
from pipeline.config.sections.model import LOOKS_AT_FILES, ModelConfig
from pipeline.errors import ConfigError

_Config = TypeVar("_Config")
_Section = TypeVar("_Section", bound=BaseModel)
Json = Annotated[bool, typer.Option("--json", help="Write machine-readable lines to stdout.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything failed.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights of the model.")]
# Either may be left out in some commands, so the type is theirs to say.
_Text = TypeVar("_Text", str, str | None)
ModelName = Annotated[_Text, typer.Option(help="Name of the model, see 'models list'.")]
Device = Annotated[_Text, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DEFAULT_STREAM_ID = ""  # a name that suits the source
_CAMERA_ID = "camera"


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
    zones = [_parse_zone(text) for text in flags.zones]
    source = _parsed("--source", source_from_url, flags.source)
    default_id = ANY_STREAM if source.names_streams else _CAMERA_ID
    stream = {
        "id": flags.stream_id or default_id,
        "source": source,
        "concepts": tuple(flags.concepts),
        "zones": zones,
        "rules": _default_rules([str(zone["name"]) for zone in zones]),
        "max_fps": flags.max_fps,
    }
    sinks = [_parsed("--sink", sink_from_url, text) for text in flags.sinks]
    if not flags.concepts and (not sinks or any(sink.needs_model for sink in sinks)):
        raise ConfigError(["--concept: is missing (accepted: what to look for, such as deer)"])
    console = {"type": "console", "json_lines": flags.json_lines}
    try:
        config = RunConfig.model_validate({"streams": [stream], "sinks": sinks or [console]})
    except ValidationError as error:
        raise explain_invalid(error, name="flags") from None
    return apply_overrides(config, overrides)


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


def _parse_zone(text: str) -> dict[str, object]:
    name, found, corners = text.partition("=")
    try:
        polygon = [tuple(map(float, corner.split(","))) for corner in corners.split()]
    except ValueError:
        polygon = []
    if not found or len(polygon) < 3 or any(len(corner) != 2 for corner in polygon):
        accepted = "'gate=0.1,0.2 0.9,0.2 0.5,0.9', at least three corners"
        raise ConfigError([f"--zone: bad zone {text!r} (accepted: {accepted})"])
    return {"name": name.strip(), "polygon": polygon}


def _default_rules(zones: Sequence[str]) -> list[dict[str, str]]:
    rules = [{"type": kind, "name": kind} for kind in ("appear", "disappear")]
    for zone in zones:
        rules += [
            {"type": kind, "name": f"{kind} {zone}", "zone": zone} for kind in ("enter", "leave")
        ]
    return rules


def _parsed(flag: str, parse: Callable[[str], _Config], text: str) -> _Config:
    try:
        return parse(text)
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError([f"{flag}: {redact_url(text)!r}: {redact_url(reasons)}"]) from None
    except ValueError as error:
        raise ConfigError([f"{flag}: {redact_url(str(error))}"]) from None
