"""Every connector's configuration, and their unions by ``type``.

The unions are static: the JSON schema never depends on what is installed. Connectors of other
distributions are named with ``type: plugin``. Importing this loads no connector.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from connectors.errors import redact_url

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "ogv", "ts", "webm", "wmv", "h264", "264", "h265", "265", "hevc"),
    )
)
IMAGE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"])


TopicKind = Literal["masklets", "tracks", "events", "status", "frames", "dlq"]


class ConnectorConfig(BaseModel):
    """Frozen; misspelt keys are errors; errors do not repeat the input, it may hold secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BackoffConfig(ConnectorConfig):
    """How long to wait between tries to connect."""

    initial_s: float = Field(default=0.5, gt=0, le=60, description="First delay in seconds.")
    maximum_s: float = Field(default=30.0, gt=0, le=3600, description="Longest delay in seconds.")


class RtspSourceConfig(ConnectorConfig):
    """A network camera. A user and password in the URL are moved out of it."""

    type: Literal["rtsp"] = "rtsp"
    url: str = Field(description="rtsp://host[:port]/path or rtsps://…")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="How RTP travels.")
    user: str | None = Field(default=None, description="User name, if the camera asks for one.")
    password: SecretStr | None = Field(default=None, description="Password, best given as ${ENV}.")
    open_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Longest wait for the first packet."
    )
    read_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Silence taken for a dead camera."
    )
    reconnect: bool = Field(default=True, description="Connect again after a lost connection.")
    max_retries: int | None = Field(
        default=None,
        ge=1,
        description="Tries in a row before the stream fails; empty means no limit.",
    )
    backoff: BackoffConfig = BackoffConfig()

    @model_validator(mode="before")
    @classmethod
    def _move_credentials_out(cls, data: Any) -> Any:  # noqa: ANN401 - raw input
        if not isinstance(data, dict):
            return data
        fields = cast("dict[str, Any]", data)
        url = fields.get("url")
        parts = _split(url) if isinstance(url, str) else None
        if parts is None or parts.username is None:
            return fields
        moved = {**fields, "url": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()}
        if moved.get("user") is None:
            moved["user"] = unquote(parts.username)
        if moved.get("password") is None and parts.password is not None:
            moved["password"] = unquote(parts.password)
        return moved

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = _split(url)
        if parts.scheme not in {"rtsp", "rtsps"} or not parts.hostname:
            raise ValueError(
                f"bad camera URL {redact_url(url)!r}; accepted: rtsp://host[:port]/path"
            )
        return url


class FileSourceConfig(ConnectorConfig):
    """A video file, or a folder of them played by name, each one a new stream epoch."""

    type: Literal["file"] = "file"
    path: Path = Field(description="A video file, or a folder of video files.")
    realtime: bool = Field(default=False, description="Deliver at the speed of the recording.")
    loop: bool = Field(
        default=False, description="Begin again at the end; each round is a new epoch."
    )


class ImagesSourceConfig(ConnectorConfig):
    """Single pictures, by name: a folder or a pattern such as ``night/*.jpg``."""

    type: Literal["images"] = "images"
    path: Path = Field(description="A folder, one picture, or a pattern with * and **.")
    fps: float = Field(default=1.0, gt=0, le=1000, description="Pictures per second of media time.")
    realtime: bool = Field(default=False, description="Deliver at that speed.")


class WebcamSourceConfig(ConnectorConfig):
    """A camera of this machine (Video4Linux)."""

    type: Literal["webcam"] = "webcam"
    device: str = Field(default="/dev/video0", description="Device file, or its number.")
    width: int | None = Field(default=None, ge=16, le=16384, description="Wanted width in pixels.")
    height: int | None = Field(
        default=None, ge=16, le=16384, description="Wanted height in pixels."
    )
    fps: float | None = Field(default=None, gt=0, le=1000, description="Wanted frame rate.")
    read_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Silence taken for a dead camera."
    )

    @field_validator("device", mode="before")
    @classmethod
    def _name_device(cls, device: Any) -> Any:  # noqa: ANN401 - raw input
        number = str(device)
        return f"/dev/video{number}" if number.isdigit() else device


class Split(StrEnum):
    """Which part of the wide world is drawn and asked for."""

    TRAIN = "train"
    TEST_COMBINATIONS = "test_combinations"
    TEST_CONCEPTS = "test_concepts"


class WorldSourceConfig(ConnectorConfig):
    """The synthetic camera: a seeded scene with exact ground truth."""

    type: Literal["world"] = "world"
    preset: Literal["demo"] | None = Field(
        default=None,
        description="A prepared scene; the other fields but realtime are then not used.",
    )
    style: Literal["meadow", "wide"] = Field(
        default="meadow",
        description="meadow: 12 concepts; wide: hundreds, in many places, looks and weathers.",
    )
    split: Split = Field(default=Split.TRAIN, description="Which part of the wide world is shown.")
    seed: int = Field(default=0, ge=0, description="Which scene.")
    width: int = Field(default=640, ge=32, le=4096)
    height: int = Field(default=360, ge=32, le=4096)
    fps: float = Field(default=10.0, gt=0, le=120)
    duration_s: float = Field(default=12.0, gt=0, le=86400)
    min_objects: int = Field(default=1, ge=0, le=32)
    max_objects: int = Field(default=5, ge=0, le=32)
    night_probability: float = Field(default=0.15, ge=0, le=1)
    realtime: bool = Field(default=False, description="Deliver at the speed of the scene.")

    @model_validator(mode="after")
    def _check_objects(self) -> "WorldSourceConfig":
        if self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects {self.min_objects} is above max_objects {self.max_objects}; "
                "accepted: equal or below"
            )
        return self


class KafkaClientConfig(ConnectorConfig):
    """What every Kafka client needs; ``security`` fields are named as kafka-python names them."""

    bootstrap: str = Field(description="host:port, several with commas.")
    client_id: str = Field(default="maskstream", min_length=1)
    connect_timeout_s: float = Field(
        default=8.0, gt=0, le=120, description="Longest wait for a broker."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: SecretStr | None = None
    ssl_check_hostname: bool = True
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict[str, str | int | float | bool],
        description="Further options of kafka-python's client, by its names.",
    )

    @field_validator("bootstrap")
    @classmethod
    def _check_bootstrap(cls, bootstrap: str) -> str:
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(
                    f"bad broker address {redact_url(address)!r}; accepted: host:port[,…]"
                )
        return bootstrap


class KafkaSourceConfig(KafkaClientConfig):
    """Encoded frames of one or several streams, keyed by stream."""

    type: Literal["kafka"] = "kafka"
    topic: str = Field(default="maskstream.frames.v1", min_length=1, max_length=249)
    group_id: str = Field(default="maskstream", min_length=1, description="Consumer group.")
    group_instance_id: str | None = Field(
        default=None, description="Static member name, if wanted."
    )
    streams: tuple[str, ...] = Field(default=(), description="Streams to take; empty takes all.")
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="If nothing is committed."
    )
    until_end: bool = Field(
        default=False, description="End at the records that were there at the start."
    )
    max_pixels: int = Field(default=64_000_000, ge=1, description="Larger pictures are refused.")
    session_timeout_s: float = Field(default=10.0, gt=0, le=600)


class PluginSourceConfig(ConnectorConfig):
    """A source of another distribution, found by its entry point."""

    type: Literal["plugin"] = "plugin"
    name: str = Field(min_length=1, description="Entry point in the group maskstream.connectors.")
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


SourceConfig = Annotated[
    RtspSourceConfig
    | FileSourceConfig
    | ImagesSourceConfig
    | WebcamSourceConfig
    | WorldSourceConfig
    | KafkaSourceConfig
    | PluginSourceConfig,
    Field(discriminator="type"),
]


class KafkaSinkConfig(KafkaClientConfig):
    """Records to Kafka topics, keyed by stream."""

    type: Literal["kafka"] = "kafka"
    topic_prefix: str = Field(default="", description="Put before every topic's name.")
    topics: dict[TopicKind, str] = Field(
        default_factory=dict[TopicKind, str],
        description="Other names for single topics, without the prefix.",
    )
    compression: Literal["zstd", "lz4", "gzip", "none"] = "lz4"
    acks: Literal["all", "leader"] = "all"
    max_pending: int = Field(
        default=10_000, ge=1, description="Unconfirmed records before writing waits."
    )
    delivery_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="Until a record has failed."
    )


class JsonlSinkConfig(ConnectorConfig):
    """One file of JSON lines per kind of record."""

    type: Literal["jsonl"] = "jsonl"
    folder: Path = Field(description="Folder, made if missing.")
    append: bool = Field(
        default=True, description="Go on in files that are there, or begin them anew."
    )


class VideoSinkConfig(ConnectorConfig):
    """Annotated H.264 video."""

    type: Literal["video"] = "video"
    path: Path = Field(description="An .mp4 file; {stream_id} in its name is filled in.")
    fps: float = Field(
        default=25.0, gt=0, le=240, description="Nominal rate; frames keep their own times."
    )
    quality: int = Field(default=23, ge=0, le=51, description="x264 CRF, lower is better.")
    min_width: int = Field(
        default=960, ge=0, le=8192, description="Smaller frames are drawn twice as large."
    )
    mask_opacity: float = Field(default=0.45, ge=0, le=1)

    @field_validator("path")
    @classmethod
    def _check_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in {".mp4", ".mkv", ".mov"}:
            raise ValueError(
                f"bad video path {str(path)!r}; accepted: a name ending in .mp4, .mkv, .mov"
            )
        return path


class PictureSinkConfig(ConnectorConfig):
    """The most telling annotated frames, as pictures."""

    type: Literal["picture"] = "picture"
    path: Path = Field(description="A .png or .jpg file; {stream_id} in its name is filled in.")
    num_pictures: int = Field(default=1, ge=1, le=100, description="More than one are numbered.")
    min_gap_s: float = Field(default=1.0, ge=0, description="Media time between two chosen frames.")
    min_width: int = Field(
        default=960, ge=0, le=8192, description="Smaller frames are drawn twice as large."
    )
    mask_opacity: float = Field(default=0.45, ge=0, le=1)

    @field_validator("path")
    @classmethod
    def _check_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
            raise ValueError(
                f"bad picture path {str(path)!r}; accepted: a name ending in .png, .jpg"
            )
        return path


class ConsoleSinkConfig(ConnectorConfig):
    """Events, track changes and status as readable lines, or every record as JSON."""

    type: Literal["console"] = "console"
    json_lines: bool = Field(default=False, description="Write every record as one line of JSON.")
    kinds: tuple[Literal["masklets", "tracks", "events", "status"], ...] = (
        "tracks",
        "events",
        "status",
    )


class PluginSinkConfig(ConnectorConfig):
    """A sink of another distribution, found by its entry point."""

    type: Literal["plugin"] = "plugin"
    name: str = Field(min_length=1, description="Entry point in the group maskstream.connectors.")
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


SinkConfig = Annotated[
    KafkaSinkConfig
    | JsonlSinkConfig
    | VideoSinkConfig
    | PictureSinkConfig
    | ConsoleSinkConfig
    | PluginSinkConfig,
    Field(discriminator="type"),
]

_SOURCE_URLS = (
    "rtsp://host/path, kafka://host:port/topic, world://demo, world://SEED, world://wide/SEED, "
    "webcam:0, "
    "a video file, a folder of videos or pictures, a pattern such as 'night/*.jpg'"
)
_STRAY_AT = (  # quotes nothing: what seems to be the host or the port may be half a password
    "bad URL, with an @ behind its first /, ? or #; "
    "accepted: percent-encode the password, or give user and password as fields"
)
_SINK_URLS = "kafka://host:port, jsonl:FOLDER, FILE.mp4, FILE.png, console"


def source_from_url(url: str) -> SourceConfig:
    """Return the configuration that a short form stands for.

    Raises:
        ValueError: If it is no known form; names what would be accepted. pydantic's
            ``ValidationError``, a ``ValueError`` too, if the form is right but a value is not.
    """
    scheme, _, rest = url.partition(":")
    match scheme.lower():
        case "rtsp" | "rtsps":
            return RtspSourceConfig(url=url)
        case "kafka":
            return KafkaSourceConfig(**_from_kafka_url(url, with_topic=True))
        case "world":
            return _world_from(rest.removeprefix("//"), url)
        case "webcam":
            return WebcamSourceConfig(device=rest or "0")
        case "file" if rest:
            return _source_from_path(unquote(rest.removeprefix("//")))
        case _ if "://" in url or not url:
            raise ValueError(f"unknown source {redact_url(url)!r}; accepted: {_SOURCE_URLS}")
        case _:
            return _source_from_path(url)


def sink_from_url(url: str) -> SinkConfig:
    """Return the configuration that a short form stands for.

    Raises:
        ValueError: If it is no known form; names what would be accepted. pydantic's
            ``ValidationError``, a ``ValueError`` too, if the form is right but a value is not.
    """
    scheme, _, rest = url.partition(":")
    suffix = Path(url).suffix.lower()
    if scheme == "kafka":
        return KafkaSinkConfig(**_from_kafka_url(url, with_topic=False))
    if scheme == "jsonl" and rest:
        return JsonlSinkConfig(folder=Path(rest))
    if url == "console":
        return ConsoleSinkConfig()
    if "://" not in url and suffix in {".mp4", ".mkv", ".mov"}:
        return VideoSinkConfig(path=Path(url.removeprefix("video:")))
    if "://" not in url and suffix in {".png", ".jpg", ".jpeg"}:
        return PictureSinkConfig(path=Path(url.removeprefix("picture:")))
    raise ValueError(f"unknown sink {redact_url(url)!r}; accepted: {_SINK_URLS}")


def _refuse_stray_at(url: str) -> None:
    _, *behind = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)
    if behind and "@" in behind[0]:
        raise ValueError(_STRAY_AT)


def _split(url: str) -> SplitResult:
    _refuse_stray_at(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"bad URL {redact_url(url)!r}: {redact_url(str(error))}") from None
    return parts


def _from_kafka_url(url: str, *, with_topic: bool) -> dict[str, Any]:
    _refuse_stray_at(url)
    parts = urlsplit(url)
    fields: dict[str, Any] = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        fields |= {"sasl_plain_username": unquote(user), "sasl_plain_password": unquote(password)}
        fields.setdefault("security_protocol", "SASL_PLAINTEXT")
        fields.setdefault("sasl_mechanism", "PLAIN")
    fields["bootstrap"] = unquote(parts.netloc.rpartition("@")[2])
    topic = unquote(parts.path.strip("/"))
    if topic and not with_topic:
        raise ValueError(
            f"bad sink {redact_url(url)!r}; accepted: kafka://host:port without a topic"
        )
    return fields | ({"topic": topic} if topic else {})


def _world_from(name: str, url: str) -> WorldSourceConfig:
    style, _, seed = name.rpartition("/")
    if seed.isdigit() and style == "wide":
        return WorldSourceConfig(style="wide", seed=int(seed))
    if name.isdigit():
        return WorldSourceConfig(seed=int(name))
    if name in {"", "demo"}:
        return WorldSourceConfig(preset="demo")
    raise ValueError(
        f"unknown world {url!r}; accepted: world://demo, world://SEED or world://wide/SEED"
    )


def _source_from_path(text: str) -> FileSourceConfig | ImagesSourceConfig:
    path = Path(text)
    if any(sign in path.name for sign in "*?[") and not path.exists():
        return ImagesSourceConfig(path=path)
    if path.is_dir():
        suffixes = {entry.suffix.lower() for entry in path.iterdir() if entry.is_file()}
        if suffixes & VIDEO_SUFFIXES or not suffixes & IMAGE_SUFFIXES:
            return FileSourceConfig(path=path)
        return ImagesSourceConfig(path=path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesSourceConfig(path=path)
    return FileSourceConfig(path=path)
