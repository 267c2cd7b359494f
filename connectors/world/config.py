"""Configuration of the synthetic camera."""

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from connectors.config import RecordedSourceConfig
from connectors.errors import redact_url

if TYPE_CHECKING:
    from connectors.world.scene import WorldConfig
    from connectors.world.wide.scene import WideConfig


class Split(StrEnum):
    """Which part of the wide world is drawn and asked for."""

    TRAIN = "train"
    TEST_COMBINATIONS = "test_combinations"
    TEST_CONCEPTS = "test_concepts"


class WorldSourceConfig(RecordedSourceConfig, frozen=True):
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

    @model_validator(mode="after")
    def _check_objects(self) -> "WorldSourceConfig":
        if self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects {self.min_objects} is above max_objects {self.max_objects}; "
                "accepted: equal or below"
            )
        return self

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        name = url.partition(":")[2].removeprefix("//")
        style, _, seed = name.rpartition("/")
        if seed.isdigit() and style == "wide":
            return cls(style="wide", seed=int(seed))
        if name.isdigit():
            return cls(seed=int(name))
        if name in {"", "demo"}:
            return cls(preset="demo")
        accepted = "world://demo, world://SEED or world://wide/SEED"
        raise ValueError(f"unknown world {redact_url(url)!r}; accepted: {accepted}")

    def to_world(self) -> "WorldConfig | WideConfig":
        """Return the world's own description of what the camera sees."""
        from connectors.world.scene import DEMO, WorldConfig
        from connectors.world.wide.casting import WideContent
        from connectors.world.wide.scene import WideConfig

        if self.preset is not None:
            return DEMO
        frame = self.model_dump(include={"seed", "width", "height", "fps", "duration_s"})
        content = self.model_dump(include={"min_objects", "max_objects", "night_probability"})
        if self.style == "meadow":
            return WorldConfig(**frame, **content)
        return WideConfig(**frame, content=WideContent(**content, split=self.split))
