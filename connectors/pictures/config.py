"""Configuration of single pictures as a stream."""

from typing import Literal, Self

from pydantic import Field
from typing_extensions import override

from connectors.config import GivenPath, RecordedSourceConfig

IMAGE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"])


class ImagesSourceConfig(RecordedSourceConfig, frozen=True):
    """Single pictures, by name: a folder or a pattern such as ``night/*.jpg``."""

    type: Literal["images"] = "images"
    path: GivenPath = Field(description="A folder, one picture, or a pattern with * and **.")
    fps: float = Field(default=1.0, gt=0, le=1000, description="Pictures per second of media time.")

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate({"path": url})
