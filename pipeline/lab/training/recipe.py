"""What a training run does, as one YAML file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator

from pipeline.config.loading import load_yaml

TaskName = Literal["backbone", "detector", "tracker", "refiner"]
OptimiserName = Literal["adamw", "muon"]
# What only scenes that are drawn to order can obey: annotated pictures are what they are.
WORLD_OPTIONS = ("questions", "uncut", "hard_negatives")
DETECTOR_OPTIONS = ("contrast", "rehearse", "mask_weight", "present_weight")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorldData(_Strict):
    """Pictures and clips of the synthetic world, drawn afresh for every step."""

    type: Literal["world"] = "world"
    style: Literal["plain", "full", "wide"] = Field(
        default="full",
        description="plain: day and few objects; full: nights and crowds too; "
        "wide: many concepts, looks and conditions.",
    )
    weight: float = Field(
        default=1.0, gt=0, description="Share of the pictures, against the others."
    )
    crowds: float | None = Field(
        default=None, ge=0, le=1, description="Share of crowds in the wide world, if not its own."
    )
    nights: float | None = Field(
        default=None, ge=0, le=1, description="Share of infrared nights, if not the world's own."
    )
    odd_looks: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the wide world's things in looks that are not theirs "
        "(a purple goat), so that looks and nouns are learned apart.",
    )

    @model_validator(mode="after")
    def _check_wide(self) -> Self:
        given = {"crowds": self.crowds is not None, "odd_looks": self.odd_looks > 0}
        for name, is_given in given.items():
            if is_given and self.style != "wide":
                raise ValueError(
                    f"{name}: not with style {self.style!r}; only the wide world has any"
                )
        return self


class CocoData(_Strict):
    """Pictures of one's own with COCO annotations; the names of the categories are the phrases."""

    type: Literal["coco"]
    images: Path = Field(description="Folder that file_name is looked up in.")
    annotations: Path = Field(description="JSON in COCO's format, with masks (polygons or RLE).")
    on_bad: Literal["skip", "fail"] = Field(
        default="skip", description="What to do with entries that cannot be used; all are listed."
    )
    weight: float = Field(default=1.0, gt=0)


class YtvisData(_Strict):
    """Clips of one's own in the YTVIS or SA-Co/VEval format; frames are files."""

    type: Literal["ytvis"]
    images: Path = Field(description="Folder that file_names are looked up in.")
    annotations: Path = Field(description="JSON with videos, categories and annotations.")
    on_bad: Literal["skip", "fail"] = "skip"
    weight: float = Field(default=1.0, gt=0)


Data = Annotated[WorldData | CocoData | YtvisData, Field(discriminator="type")]


class Stage(_Strict):
    """A stretch of training: one task, one picture size, a linear course of the learning rate."""

    name: str
    task: TaskName = "detector"
    steps: int = Field(gt=0, description="Optimiser steps of this stage.")
    image_size: int = Field(
        gt=0, description="Side of the square picture in px, a multiple of the patch size."
    )
    images: int = Field(default=12, gt=0, description="Pictures (or clips) per batch.")
    accumulate: int = Field(default=1, gt=0, description="Batches per optimiser step.")
    lr_start: float = Field(gt=0)
    lr_end: float = Field(gt=0)
    shares: tuple[NonNegativeFloat, ...] = Field(
        default=(),
        description="Weights of the recipe's data in this stage, in their order; the data's own "
        "when left out.",
    )
    questions: int = Field(default=2, gt=0, description="Phrases asked of each picture of a world.")
    close_ups: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the scenes that are shown object by object from nearby, of each at "
        "most max_objects: a backbone learns looks from small pictures, for a sixteenth of the "
        "cost of whole ones.",
    )
    uncut: bool = Field(
        default=False,
        description="Show a world's scenes that are drawn no larger than the picture px for px, "
        "so that their edges are as sharp as a camera's, where others are cut out and stretched.",
    )
    contrast: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the backbone task's loss in a detector stage, so that the backbone "
        "goes on learning to tell all phrases apart; for a model trained by it from the start.",
    )
    rehearse: int = Field(
        default=0,
        ge=0,
        description="Close-ups beside each batch of a detector stage, whose contrast is learned "
        "with the same weight, so that names and looks are not forgotten for outlines.",
    )
    mask_weight: float = Field(
        default=1.0,
        ge=0,
        description="What the outlines count in a detector stage, as a multiple of the usual.",
    )
    present_weight: float = Field(
        default=1.0,
        gt=0,
        description="What presence counts in a detector stage where the concept is there, as a "
        "multiple of where it is not: above 1 fewer are missed and more are false alarms.",
    )
    exemplar_probability: float = Field(
        default=0.2, ge=0, le=1, description="Share of concepts shown by boxes too."
    )
    negative_exemplar_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of those, and of absent ones, that show what is not meant.",
    )
    strange_words: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of phrases beside boxes that are a word for nothing in any world: what "
        "is shown then says what is meant, as when a person teaches a new word.",
    )
    hard_negatives: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Share of absent phrases that name a thing of the world, not a stranger; the "
        "wide world has shares of its own.",
    )
    max_objects: int = Field(
        default=5, gt=0, description="Most objects of a world's scene, and close-ups of a picture."
    )
    frames: int = Field(default=6, gt=0, description="Frames of a clip (tracker).")
    objects: int = Field(default=2, gt=0, description="Most objects followed in a clip (tracker).")
    train: tuple[str, ...] = Field(
        default=(),
        description="Beginnings of the parameter names that learn; the task's own when left out.",
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="Beginnings of parameter names that stay as they are all the same."
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        description="Learn low-rank changes of the linear layers among them, merged on saving.",
    )


class Recipe(_Strict):
    """A training run: a size, where to start, data, and stages one after another."""

    model: str = "sam3-nano"
    start: Path | Literal["nothing", "shipped"] = Field(
        default="nothing", description="Weights to start from: nothing, shipped, or a checkpoint."
    )
    seed: int = 0
    data: tuple[Data, ...] = (WorldData(),)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    optimiser: OptimiserName = Field(
        default="adamw", description="muon: for the hidden matrices, with AdamW for the rest."
    )
    warmup_steps: int = Field(default=200, gt=0)
    weight_decay: float = 0.02
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    checkpoint_every: int = Field(default=200, gt=0)
    picture_every: int = Field(
        default=500, ge=0, description="Steps between pictures of predictions; 0 for none."
    )
    workers: int = Field(default=0, ge=0, description="Processes that prepare batches.")
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages are called {names!r}; each needs a name of its own")
        return self

    @model_validator(mode="after")
    def _check_rehearsals(self) -> Self:
        for stage in self.stages:
            if stage.rehearse and not (stage.task == "detector" and stage.contrast):
                raise ValueError(
                    f"stage {stage.name!r} has rehearse {stage.rehearse!r}; expected 0, or a "
                    "detector stage with contrast above 0"
                )
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        for stage in self.stages:
            if not stage.shares:
                continue
            if len(stage.shares) != len(self.data):
                raise ValueError(
                    f"stage {stage.name!r} has {len(stage.shares)} shares; "
                    f"expected one for each of the {len(self.data)} data"
                )
            is_clips = stage.task == "tracker"
            if not any(
                share and not (is_clips and isinstance(data, CocoData))
                for share, data in zip(stage.shares, self.data, strict=True)
            ):
                raise ValueError(
                    f"stage {stage.name!r} has shares {stage.shares!r}; "
                    f"expected one above 0 for data that has {'clips' if is_clips else 'pictures'}"
                )
        return self

    @model_validator(mode="after")
    def _check_detector_options(self) -> Self:
        for stage in self.stages:
            given = [name for name in DETECTOR_OPTIONS if name in stage.model_fields_set]
            if given and stage.task != "detector":
                raise ValueError(
                    f"stage {stage.name!r} has {given[0]} and task {stage.task!r}; expected it "
                    "left out, or task 'detector'"
                )
        return self

    @model_validator(mode="after")
    def _check_world_options(self) -> Self:
        for stage in self.stages:
            weights = stage.shares or tuple(data.weight for data in self.data)
            if any(
                weight and isinstance(data, WorldData)
                for weight, data in zip(weights, self.data, strict=True)
            ):
                continue
            for name in WORLD_OPTIONS:
                if name in stage.model_fields_set:
                    raise ValueError(
                        f"stage {stage.name!r} has {name} {getattr(stage, name)!r}, which only a "
                        "world obeys; expected it left out, or a share of data of type world"
                    )
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe. Paths in it are relative to it.

        Raises:
            ConfigError: Names file, line, field and what would be accepted.
        """
        recipe = load_yaml(path, cls)
        return recipe.model_copy(
            update={
                "start": _from(path, recipe.start),
                "data": tuple(_located(path, data) for data in recipe.data),
            }
        )

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def start_of(self, index: int) -> int:
        """Return the first step of a stage."""
        return sum(stage.steps for stage in self.stages[:index])

    def stage_index(self, step: int) -> int:
        """Return which stage a step belongs to. Raises ``IndexError`` beyond the last."""
        for index in range(len(self.stages)):
            if step < self.start_of(index + 1):
                return index
        raise IndexError(f"step {step} lies beyond the recipe's {self.total_steps} steps")

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step; each stage of another task warms up anew."""
        index = self.stage_index(step)
        stage, begin = self.stages[index], self.start_of(index)
        first = index
        while first and self.stages[first - 1].task == stage.task:
            first -= 1
        share = (step - begin) / stage.steps
        rate = stage.lr_start + share * (stage.lr_end - stage.lr_start)
        return rate * min(1.0, (step - self.start_of(first) + 1) / self.warmup_steps)


def _from(recipe: Path, path: Path | str) -> Path | str:
    return recipe.parent / path if isinstance(path, Path) else path


def _located(recipe: Path, data: WorldData | CocoData | YtvisData) -> BaseModel:
    if isinstance(data, WorldData):
        return data
    where = {"images": recipe.parent / data.images, "annotations": recipe.parent / data.annotations}
    return data.model_copy(update=where)
