"""Configurations of video files, network cameras and webcams."""

from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator, model_validator
from typing_extensions import override

from connectors.config import GivenPath, LiveSourceConfig, RecordedSourceConfig, split_url
from connectors.errors import redact_url

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "ogv", "ts", "webm", "wmv", "h264", "264", "h265", "265", "hevc"),
    )
)


class RtspSourceConfig(LiveSourceConfig, frozen=True):
    """A network camera. A user and password in the URL are moved out of it."""

    type: Literal["rtsp"] = "rtsp"
    url: str = Field(description="rtsp://host[:port]/path or rtsps://…")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="How RTP travels.")
    user: str | None = Field(default=None, description="User name, if the camera asks for one.")
    password: SecretStr | None = Field(default=None, description="Password, best given as ${ENV}.")
    password_file: Path | None = Field(
        default=None, description="File that holds the password; read anew at each connection."
    )
    open_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Longest wait for a connection."
    )
    read_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Silence taken for a dead camera."
    )

    @model_validator(mode="before")
    @classmethod
    def _move_credentials_out(cls, data: Any) -> Any:  # noqa: ANN401 - raw input
        if not isinstance(data, dict):
            return data
        fields = cast("dict[str, Any]", data)
        url = fields.get("url")
        parts = split_url(url) if isinstance(url, str) else None
        if parts is None or parts.username is None:
            return fields
        moved = {**fields, "url": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()}
        if moved.get("user") is None:
            moved["user"] = unquote(parts.username)
        if moved.get("password") is None and parts.password is not None:
            moved["password"] = unquote(parts.password)
        return moved

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if self.password_file is not None and (self.user is None or self.password is not None):
            raise ValueError(
                "password_file takes the place of password; accepted: user with one of the two"
            )
        return self

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = split_url(url)
        if parts.scheme not in {"rtsp", "rtsps"} or not parts.hostname:
            raise ValueError(
                f"bad camera URL {redact_url(url)!r}; accepted: rtsp://host[:port]/path"
            )
        return url

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate({"url": url})


class FileSourceConfig(RecordedSourceConfig, frozen=True):
    """A video file, or a folder of them played by name, each one a new stream epoch."""

    type: Literal["file"] = "file"
    path: GivenPath = Field(description="A video file, or a folder of video files.")
    loop: bool = Field(
        default=False, description="Begin again at the end; each round is a new epoch."
    )

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate({"path": url})


class WebcamSourceConfig(LiveSourceConfig, frozen=True):
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

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate({"device": url.partition(":")[2] or "0"})
