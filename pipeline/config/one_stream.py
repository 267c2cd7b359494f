"""A whole configuration from a few words: one stream, as flags and Python calls give it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from connectors.config import BaseSinkConfig, BaseSourceConfig
from connectors.errors import redact_url
from pipeline.config.loading import explain_invalid
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import ANY_STREAM
from pipeline.errors import ConfigError
from pipeline.fields import LOOKS_AT_FILES

_Config = TypeVar("_Config")
_CAMERA_ID = "camera"
Polygon = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStream:
    """One stream with everything that it needs.

    Attributes:
        source: Where the frames come from.
        concepts: What to look for.
        stream_id: If empty, ``camera``, or ``*`` for sources that name their streams themselves.
        zones: Names and corners, 0 to 1.
        rules: As in a file, but a rule may lack its name; ``None`` means rules for all that can
            happen: appear and disappear, enter and leave each zone.
        max_fps: Frames beyond this rate are gated.
        sinks: Where results go.
        model: The section ``model``.
    """

    source: BaseSourceConfig
    concepts: Sequence[str]
    stream_id: str = ""
    zones: Sequence[tuple[str, Polygon]] = ()
    rules: Sequence[Mapping[str, object]] | None = None
    max_fps: float | None = None
    sinks: Sequence[BaseSinkConfig | Mapping[str, object]] = ()
    model: Mapping[str, object] = field(default_factory=dict[str, object])

    def to_config(self, *, name: str) -> RunConfig:
        """Return the configuration; ``name`` stands in errors for the file that there is not.

        Raises:
            ConfigError: If something is not accepted.
        """
        every = _all_rules([zone for zone, _ in self.zones])
        stream = {
            "id": self.stream_id or (ANY_STREAM if self.source.names_streams else _CAMERA_ID),
            "source": self.source,
            "concepts": tuple(self.concepts),
            "zones": [{"name": zone, "polygon": polygon} for zone, polygon in self.zones],
            "rules": [_named(rule) for rule in (every if self.rules is None else self.rules)],
            "max_fps": self.max_fps,
        }
        fields = {"streams": [stream], "sinks": list(self.sinks), "model": self.model}
        try:
            return RunConfig.model_validate(fields, context={LOOKS_AT_FILES: True})
        except ValidationError as error:
            raise explain_invalid(error, name=name) from None


def parse_short_form(name: str, parse: Callable[[str], _Config], text: str) -> _Config:
    """Return what a short form such as ``rtsp://…`` stands for.

    Raises:
        ConfigError: If it is none; begins with ``name``.
    """
    try:
        return parse(text)
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError([f"{name}: {redact_url(text)!r}: {redact_url(reasons)}"]) from None
    except ValueError as error:
        raise ConfigError([f"{name}: {redact_url(str(error))}"]) from None


def _all_rules(zones: Sequence[str]) -> list[dict[str, object]]:
    rules: list[dict[str, object]] = [{"type": kind} for kind in ("appear", "disappear")]
    return rules + [{"type": kind, "zone": zone} for zone in zones for kind in ("enter", "leave")]


def _named(rule: Mapping[str, object]) -> dict[str, object]:
    """Return the rule; without a name it is called by its type and zone."""
    words = [str(rule[key]) for key in ("type", "zone") if key in rule]
    return {"name": " ".join(words), **rule}
