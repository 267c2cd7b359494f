"""Sources and sinks of other distributions, found by their entry points."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol, cast

from pydantic import Field
from typing_extensions import override

from connectors.base import Sink, Source
from connectors.config import BaseSinkConfig, BaseSourceConfig
from connectors.errors import Position

ENTRY_POINT_GROUP = "maskstream.connectors"


class PluginSourceConfig(BaseSourceConfig, frozen=True):
    """A source of another distribution, found by its entry point."""

    type: Literal["plugin"] = "plugin"
    entry_point: str = Field(min_length=1, description="In the group maskstream.connectors.")
    live: bool = Field(default=False, description="Whether its frames come as they happen.")
    options: dict[str, Any] = Field(default_factory=dict[str, Any])

    @override
    def find_faults(self) -> Mapping[str, str]:
        return _find_faults(self.entry_point)

    @property
    @override
    def is_live(self) -> bool:
        return self.live


class PluginSinkConfig(BaseSinkConfig, frozen=True):
    """A sink of another distribution, found by its entry point."""

    type: Literal["plugin"] = "plugin"
    entry_point: str = Field(min_length=1, description="In the group maskstream.connectors.")
    options: dict[str, Any] = Field(default_factory=dict[str, Any])

    @override
    def find_faults(self) -> Mapping[str, str]:
        return _find_faults(self.entry_point)


class SourcePlugin(Protocol):
    """What an entry point for sources must be."""

    def __call__(
        self, *, stream_id: str, options: Mapping[str, Any], position: Position | None
    ) -> Source:
        """Return a source that is not open yet."""
        ...


class SinkPlugin(Protocol):
    """What an entry point for sinks must be."""

    def __call__(self, *, options: Mapping[str, Any]) -> Sink:
        """Return a sink that is not open yet."""
        ...


def _find_faults(entry_point: str) -> dict[str, str]:
    try:
        _find(entry_point)
    except ValueError as error:
        return {"entry_point": str(error)}
    return {}


def build_plugin_source(
    *, stream_id: str, config: PluginSourceConfig, position: Position | None
) -> Source:
    """Return a source of another distribution. Raises ``ValueError`` if it is not installed."""
    plugin = cast("SourcePlugin", _load(config.entry_point))
    return plugin(stream_id=stream_id, options=config.options, position=position)


def build_plugin_sink(*, config: PluginSinkConfig) -> Sink:
    """Return a sink of another distribution. Raises ``ValueError`` if it is not installed."""
    return cast("SinkPlugin", _load(config.entry_point))(options=config.options)


def _load(name: str) -> object:
    return _find(name).load()


def _find(name: str) -> EntryPoint:
    found = entry_points(group=ENTRY_POINT_GROUP)
    for point in found:
        if point.name == name:
            return point
    names = ", ".join(sorted(point.name for point in found)) or "none"
    raise ValueError(f"no connector plugin named {name!r} is installed; accepted: {names}")
