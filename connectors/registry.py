"""Which class carries out which configuration. Classes are imported when they are built."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, cast

from connectors import config as c
from connectors.base import PictureSink, RecordSink, Source
from connectors.errors import Position

if TYPE_CHECKING:
    from connectors.world.scene import WorldConfig
    from connectors.world.wide.scene import WideConfig

ENTRY_POINT_GROUP = "maskstream.connectors"

SOURCES: Mapping[type[c.ConnectorConfig], str] = {
    c.RtspSourceConfig: "connectors.video.rtsp:RtspSource",
    c.FileSourceConfig: "connectors.video.file:FileSource",
    c.ImagesSourceConfig: "connectors.pictures.images:ImagesSource",
    c.WebcamSourceConfig: "connectors.video.webcam:WebcamSource",
    c.WorldSourceConfig: "connectors.registry:build_world_source",
    c.KafkaSourceConfig: "connectors.kafka.source:KafkaSource",
    c.PluginSourceConfig: "connectors.registry:build_plugin_source",
}
SINKS: Mapping[type[c.ConnectorConfig], str] = {
    c.KafkaSinkConfig: "connectors.kafka.sink:KafkaSink",
    c.JsonlSinkConfig: "connectors.files.jsonl:JsonlSink",
    c.VideoSinkConfig: "connectors.annotate.video:VideoSink",
    c.PictureSinkConfig: "connectors.annotate.picture:BestPictureSink",
    c.ConsoleSinkConfig: "connectors.console:ConsoleSink",
    c.PluginSinkConfig: "connectors.registry:build_plugin_sink",
}


class SourcePlugin(Protocol):
    """What an entry point for sources must be."""

    def __call__(
        self, *, stream_id: str, options: Mapping[str, Any], position: Position | None
    ) -> Source:
        """Return a source that is not open yet."""
        ...


class SinkPlugin(Protocol):
    """What an entry point for sinks must be."""

    def __call__(self, *, options: Mapping[str, Any]) -> RecordSink | PictureSink:
        """Return a sink that is not open yet."""
        ...


def build_source(
    config: c.SourceConfig, stream_id: str, *, position: Position | None = None
) -> Source:
    """Return the source a configuration describes, not open yet.

    Args:
        config: Any member of ``SourceConfig``.
        stream_id: Name of the stream; a source of several streams names them itself.
        position: Where to go on, as ``Source.position`` gave it; ``None`` begins at the start.

    Raises:
        ValueError: If a plugin is named that is not installed.
    """
    build = _load(SOURCES[type(config)])
    return cast("Source", build(stream_id=stream_id, config=config, position=position))


def build_sink(config: c.SinkConfig) -> RecordSink | PictureSink:
    """Return the sink a configuration describes, not open yet.

    Raises:
        ValueError: If a plugin is named that is not installed.
    """
    return cast("RecordSink | PictureSink", _load(SINKS[type(config)])(config=config))


def build_world_source(
    *, stream_id: str, config: c.WorldSourceConfig, position: Position | None
) -> Source:
    """Return the synthetic camera; the world knows nothing of configuration files."""
    from connectors.world.source import WorldSource

    start = int((position or {}).get("index", 0))
    return WorldSource(
        stream_id=stream_id,
        config=world_config(config),
        start_index=start,
        realtime=config.realtime,
    )


def world_config(config: c.WorldSourceConfig) -> "WorldConfig | WideConfig":
    """Return the world's own description of what a synthetic camera sees."""
    from connectors.world.scene import DEMO, WorldConfig
    from connectors.world.wide.casting import WideContent
    from connectors.world.wide.scene import WideConfig

    if config.preset is not None:
        return DEMO
    frame = config.model_dump(include={"seed", "width", "height", "fps", "duration_s"})
    content = config.model_dump(include={"min_objects", "max_objects", "night_probability"})
    if config.style == "meadow":
        return WorldConfig(**frame, **content)
    return WideConfig(**frame, content=WideContent(**content, split=config.split))


def build_plugin_source(
    *, stream_id: str, config: c.PluginSourceConfig, position: Position | None
) -> Source:
    """Return a source of another distribution."""
    plugin = cast("SourcePlugin", _load_plugin(config.name))
    return plugin(stream_id=stream_id, options=config.options, position=position)


def build_plugin_sink(*, config: c.PluginSinkConfig) -> RecordSink | PictureSink:
    """Return a sink of another distribution."""
    return cast("SinkPlugin", _load_plugin(config.name))(options=config.options)


def _load(path: str) -> Any:  # noqa: ANN401 - a class or function, checked by the casts above
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _load_plugin(name: str) -> Any:  # noqa: ANN401 - a class or function, checked by the casts above
    found = entry_points(group=ENTRY_POINT_GROUP)
    for point in found:
        if point.name == name:
            return point.load()
    names = ", ".join(sorted(point.name for point in found)) or "none"
    raise ValueError(f"no connector plugin named {name!r} is installed; accepted: {names}")
