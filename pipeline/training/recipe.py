"""What a training run does, as one YAML file."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Strict):
    """A stretch of training with one picture size and a linear course of the learning rate."""

    name: str
    steps: int = Field(gt=0, description="Optimiser steps of this stage.")
    image_size: int = Field(
        gt=0, description="Side of the square picture in px, a multiple of the patch size."
    )
    images: int = Field(default=12, gt=0, description="Pictures (or clips) per step.")
    lr_start: float = Field(gt=0)
    lr_end: float = Field(gt=0)
    exemplar_probability: float = Field(
        default=0.2, ge=0, le=1, description="Share of concepts shown by boxes too."
    )
    max_objects: int = Field(default=5, gt=0)
    freeze_trunk: bool = Field(
        default=False, description="Keep the vision backbone and text encoder as they are."
    )


class Recipe(_Strict):
    """A training run: a size, a seed and stages one after another."""

    model: str = "sam3-nano"
    seed: int = 0
    warmup_steps: int = 200
    weight_decay: float = 0.02
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    checkpoint_every: int = Field(default=200, gt=0)
    stages: tuple[Stage, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe. Raises pydantic's ``ValidationError`` for unknown or impossible fields."""
        return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, float]:
        """Return the stage of a step and its learning rate."""
        start = 0
        for stage in self.stages:
            if step < start + stage.steps:
                share = (step - start) / stage.steps
                rate = stage.lr_start + share * (stage.lr_end - stage.lr_start)
                return stage, rate * min(1.0, (step + 1) / self.warmup_steps)
            start += stage.steps
        raise IndexError(f"step {step} lies beyond the recipe's {self.total_steps} steps")
