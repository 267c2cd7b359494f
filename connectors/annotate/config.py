"""Configurations of drawings: annotated video and pictures."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator
from typing_extensions import override

from connectors.config import BaseSinkConfig, check_placeholders, why_no_folder

VIDEO_SUFFIXES = frozenset([".mkv", ".mov", ".mp4"])
PICTURE_SUFFIXES = frozenset([".jpeg", ".jpg", ".png"])
STREAM_ID = "{stream_id}"


class _DrawingConfig(BaseSinkConfig, frozen=True):
    suffixes: ClassVar[frozenset[str]]
    path: Path = Field(description="A file; {stream_id} in its name is filled in.")
    overwrite: bool = Field(
        default=False,
        description="Replace files of former runs; false: begin another, named by its UTC too.",
    )
    max_open: int = Field(
        default=64, ge=1, le=1024, description="Streams whose file is open at once."
    )
    min_width: int = Field(
        default=960, ge=0, le=8192, description="Smaller frames are drawn twice as large."
    )
    mask_opacity: float = Field(default=0.45, ge=0, le=1)

    @field_validator("path")
    @classmethod
    def _check_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in cls.suffixes:
            accepted = f"a name ending in {', '.join(sorted(cls.suffixes))}"
            raise ValueError(f"bad path {str(path)!r}; accepted: {accepted}")
        return check_placeholders(path, accepted=STREAM_ID)

    @override
    def find_faults(self) -> Mapping[str, str]:
        # The lowest one that is the same for all streams.
        folder = next(one for one in self.path.parents if STREAM_ID not in str(one))
        reason = why_no_folder(folder)
        if reason is None and self.path.is_dir():
            reason = f"{str(self.path)!r} is a folder; accepted: a file"
        return {} if reason is None else {"path": reason}

    @property
    @override
    def owned_path(self) -> Path:
        return self.path

    @override
    def list_files(self) -> list[Path]:
        # A stream's name, a time and a picture's number follow a -.
        ends = ("*",) if STREAM_ID in self.path.name else ("", "-*")
        stem, suffix = glob.escape(str(self.path.with_suffix(""))), self.path.suffix
        stem = stem.replace(glob.escape(STREAM_ID), "*")
        patterns = [f"{stem}{end}{suffix}" for end in ends]
        # Not Path.glob: the folder may hold the stream's name too.
        return sorted({Path(name) for one in patterns for name in glob.glob(one)})  # noqa: PTH207

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        prefix = f"{cls.model_fields['type'].default}:"
        return cls.model_validate({"path": url.removeprefix(prefix)})


class VideoSinkConfig(_DrawingConfig, frozen=True):
    """Annotated H.264 video, an .mp4, .mkv or .mov file per stream.

    Further files of a stream are named by the UTC at which they begin: ``a-20261129T014500Z.mp4``.
    """

    suffixes = VIDEO_SUFFIXES
    type: Literal["video"] = "video"
    fps: float = Field(
        default=25.0, gt=0, le=240, description="Nominal rate; frames keep their own times."
    )
    quality: int = Field(default=23, ge=0, le=51, description="x264 CRF, lower is better.")
    segment_s: float | None = Field(
        default=3600.0,
        ge=0,
        le=31_622_400,
        allow_inf_nan=False,
        description="Media time, gaps included, after which another file is begun; 0 or null: "
        "never.",
    )
    segment_bytes: int | None = Field(
        default=1024**3,
        ge=0,
        description="Size at which another file is begun; 0 or null: never.",
    )


class PictureSinkConfig(_DrawingConfig, frozen=True):
    """The most telling annotated frames, as .png or .jpg pictures."""

    suffixes = PICTURE_SUFFIXES
    type: Literal["picture"] = "picture"
    num_pictures: int = Field(default=1, ge=1, le=100, description="More than one are numbered.")
    min_gap_s: float = Field(default=1.0, ge=0, description="Media time between two chosen frames.")
