"""The tables of all sources and sinks: adding one is one new file and one row here.

The rows decide the accepted ``type`` values, the JSON schema, the short forms of ``--source`` and
``--sink`` and what is built. A connector's class is imported when it is built, so that the table
costs nothing. Configurations accept rows that are there when :mod:`connectors.unions` is imported.
Connectors of other distributions need no row: they are named with ``type: plugin``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from connectors.annotate.config import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    PictureSinkConfig,
    VideoSinkConfig,
)
from connectors.base import Sink, Source
from connectors.config import BaseSinkConfig, BaseSourceConfig
from connectors.console import ConsoleSinkConfig
from connectors.errors import Position, redact_url
from connectors.files.jsonl import JsonlSinkConfig
from connectors.kafka.config import FramesSinkConfig, KafkaSinkConfig, KafkaSourceConfig
from connectors.pictures.config import IMAGE_SUFFIXES, ImagesSourceConfig
from connectors.plugin import PluginSinkConfig, PluginSourceConfig
from connectors.video import config as video
from connectors.world.config import WorldSourceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One kind of source.

    Attributes:
        config: Its configuration; the default of the field ``type`` is its name.
        connector: ``module:name`` of what is called with ``stream_id``, ``config``, ``position``.
        forms: Short forms for people, to be named in messages.
        schemes: What stands before the ``:`` in its short forms.
        suffixes: Names of files it reads, lower case. Of a folder that holds several kinds, the
            first row of the table that reads one takes it.
        takes_patterns: Whether its path may hold ``* ? [``.
    """

    config: type[BaseSourceConfig]
    connector: str
    forms: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    suffixes: frozenset[str] = frozenset()
    takes_patterns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRow:
    """One kind of sink.

    Attributes:
        config: Its configuration; the default of the field ``type`` is its name.
        connector: ``module:name`` of what is called with ``config``.
        forms: Short forms for people, to be named in messages.
        schemes: What stands before the ``:`` in its short forms.
        suffixes: Names of files it writes, lower case.
    """

    config: type[BaseSinkConfig]
    connector: str
    forms: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    suffixes: frozenset[str] = frozenset()


SOURCES: list[SourceRow] = [
    SourceRow(
        config=video.RtspSourceConfig,
        connector="connectors.video.rtsp:RtspSource",
        forms=("rtsp://host/path",),
        schemes=("rtsp", "rtsps"),
    ),
    SourceRow(
        config=KafkaSourceConfig,
        connector="connectors.kafka.source:KafkaSource",
        forms=("kafka://host:port",),
        schemes=("kafka",),
    ),
    SourceRow(
        config=WorldSourceConfig,
        connector="connectors.world.source:build_world_source",
        forms=("world://demo", "world://SEED", "world://wide/SEED"),
        schemes=("world",),
    ),
    SourceRow(
        config=video.WebcamSourceConfig,
        connector="connectors.video.webcam:WebcamSource",
        forms=("webcam:0",),
        schemes=("webcam",),
    ),
    SourceRow(
        config=video.FileSourceConfig,
        connector="connectors.video.file:FileSource",
        forms=("a video file", "a folder of videos"),
        suffixes=video.VIDEO_SUFFIXES,
    ),
    SourceRow(
        config=ImagesSourceConfig,
        connector="connectors.pictures.images:ImagesSource",
        forms=("a picture", "a folder of pictures", "a pattern such as 'night/*.jpg'"),
        suffixes=IMAGE_SUFFIXES,
        takes_patterns=True,
    ),
    SourceRow(config=PluginSourceConfig, connector="connectors.plugin:build_plugin_source"),
]
SINKS: list[SinkRow] = [
    SinkRow(
        config=KafkaSinkConfig,
        connector="connectors.kafka.transactions:build_kafka_sink",
        forms=("kafka://host:port",),
        schemes=("kafka",),
    ),
    SinkRow(
        config=FramesSinkConfig,
        connector="connectors.kafka.frames:KafkaFrameSink",
        forms=("frames://host:port",),
        schemes=("frames",),
    ),
    SinkRow(
        config=JsonlSinkConfig,
        connector="connectors.files.jsonl:JsonlSink",
        forms=("jsonl:FOLDER",),
        schemes=("jsonl",),
    ),
    SinkRow(
        config=VideoSinkConfig,
        connector="connectors.annotate.video:VideoSink",
        forms=("FILE.mp4",),
        schemes=("video",),
        suffixes=VIDEO_SUFFIXES,
    ),
    SinkRow(
        config=PictureSinkConfig,
        connector="connectors.annotate.picture:BestPictureSink",
        forms=("FILE.png",),
        schemes=("picture",),
        suffixes=PICTURE_SUFFIXES,
    ),
    SinkRow(
        config=ConsoleSinkConfig,
        connector="connectors.console:ConsoleSink",
        forms=("console",),
        schemes=("console",),
    ),
    SinkRow(config=PluginSinkConfig, connector="connectors.plugin:build_plugin_sink"),
]
_Row = TypeVar("_Row", SourceRow, SinkRow)


def build_source(
    config: BaseSourceConfig, stream_id: str, *, position: Position | None = None
) -> Source:
    """Return the source a configuration describes, not open yet.

    Args:
        config: Of a type that has a row in ``SOURCES``.
        stream_id: Name of the stream; a source of several streams names them itself.
        position: Where to go on, as ``Source.position`` gave it; ``None`` begins at the start.

    Raises:
        ValueError: If a plugin is named that is not installed.
    """
    build = _load(SOURCES, config)
    return cast("Source", build(stream_id=stream_id, config=config, position=position))


def build_sink(config: BaseSinkConfig) -> Sink:
    """Return the sink a configuration describes, not open yet.

    Raises:
        ValueError: If a plugin is named that is not installed.
    """
    return cast("Sink", _load(SINKS, config)(config=config))


def source_from_url(url: str) -> BaseSourceConfig:
    """Return the configuration that a short form stands for.

    Raises:
        ValueError: If it is no known form; names what would be accepted. pydantic's
            ``ValidationError``, a ``ValueError`` too, if the form is right but a value is not.
    """
    row = _row_by_scheme(SOURCES, url)
    if row is not None:
        return row.config.from_url(url)
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "file" and rest:
        return _source_from_path(unquote(rest.removeprefix("//")))
    if "://" in url or not url:
        raise _unknown("source", url, SOURCES)
    return _source_from_path(url)


def sink_from_url(url: str) -> BaseSinkConfig:
    """Return the configuration that a short form stands for.

    Raises:
        ValueError: If it is no known form; names what would be accepted. pydantic's
            ``ValidationError``, a ``ValueError`` too, if the form is right but a value is not.
    """
    row = _row_by_scheme(SINKS, url)
    if row is None and "://" not in url:
        row = _row_by_suffix(SINKS, {Path(url).suffix.lower()})
    if row is None:
        raise _unknown("sink", url, SINKS)
    return row.config.from_url(url)


def _source_from_path(text: str) -> BaseSourceConfig:
    path = Path(text)
    if path.is_dir():
        suffixes = {entry.suffix.lower() for entry in path.iterdir() if entry.is_file()}
        row = _row_by_suffix(SOURCES, suffixes)
    elif any(sign in path.name for sign in "*?[") and not path.exists():
        row = next(row for row in SOURCES if row.takes_patterns)
    else:
        row = _row_by_suffix(SOURCES, {path.suffix.lower()})
    # An unknown suffix says nothing: containers of video have too many of them.
    return row.config.from_url(text) if row else video.FileSourceConfig(path=path)


def _row_by_scheme(rows: Sequence[_Row], url: str) -> _Row | None:
    scheme = url.partition(":")[0].lower()
    return next((row for row in rows if scheme in row.schemes), None)


def _row_by_suffix(rows: Sequence[_Row], suffixes: set[str]) -> _Row | None:
    return next((row for row in rows if row.suffixes & suffixes), None)


def _unknown(what: str, url: str, rows: Sequence[SourceRow] | Sequence[SinkRow]) -> ValueError:
    forms = ", ".join(form for row in rows for form in row.forms)
    return ValueError(f"unknown {what} {redact_url(url)!r}; accepted: {forms}")


def _load(
    rows: Sequence[SourceRow] | Sequence[SinkRow], config: BaseSourceConfig | BaseSinkConfig
) -> Any:  # noqa: ANN401 - a class or function, checked by the casts of its callers
    [connector] = [row.connector for row in rows if row.config is type(config)]
    module, _, name = connector.partition(":")
    return getattr(import_module(module), name)
