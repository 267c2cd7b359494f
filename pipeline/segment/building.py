"""A model and prompts into what answers them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.config.loading import explain_invalid
from pipeline.config.sections.model import ModelConfig
from pipeline.errors import ConfigError
from pipeline.model_building import choose_device
from pipeline.segment.prompts import FLAGS_OF_KIND, PromptKind, Prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.segment.finders import Finder

DEFAULT_MODEL = "sam3-nano"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model answers, and how sure it must be.

    Attributes:
        name: A name of the model registry; the checkpoint's, or the shipped model, when left out.
        checkpoint: Weights; the shipped ones when left out.
        device: A torch device, or ``auto``.
        min_score: What scores less is dropped; left out, each way of asking has its own bound.
    """

    name: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    min_score: float | None = None

    @property
    def known_name(self) -> str | None:
        """The model's name, or ``None`` if only the checkpoint tells."""
        return self.name or (DEFAULT_MODEL if self.checkpoint is None else None)

    def to_config(self) -> ModelConfig:
        """Return the configuration's section; its name is the default's if only a file tells.

        Raises:
            ConfigError: If there is no such model, checkpoint or kind of device.
        """
        fields = {"name": self.known_name or DEFAULT_MODEL, "device": self.device}
        try:
            return ModelConfig.model_validate(fields)
        except ValidationError as error:
            raise explain_invalid(error, name="model", root=ModelConfig) from None


def build_finder(prompts: Prompts, choice: ModelChoice) -> "Finder":
    """Build what answers ``prompts`` with the chosen model.

    Raises:
        ConfigError: If there is no such model, weights or device, or the model cannot be asked in
            this way; says what it can.
    """
    from models.build import build_detector, build_object_predictor
    from models.sam1.model import Sam1
    from pipeline.segment.finders import ConceptFinder, EverythingFinder, ObjectFinder

    name = choice.known_name
    wanted = choice.to_config()
    if name is not None:
        check_way(name, prompts.kind)
    mask = None if prompts.mask is None else read_mask(prompts.mask)
    device = choose_device(wanted.device)
    try:
        if prompts.kind is PromptKind.CONCEPT:
            detector = build_detector(name, checkpoint=choice.checkpoint, device=device)
            if choice.min_score is not None:
                detector.min_score = choice.min_score
            return ConceptFinder(detector, prompts)
        predictor = build_object_predictor(name, checkpoint=choice.checkpoint, device=device)
    except ValueError as error:
        raise ConfigError([f"--model, --checkpoint: {error}"]) from error
    if prompts.kind is PromptKind.EVERYTHING:
        return EverythingFinder(predictor, min_score=choice.min_score)
    return ObjectFinder(
        predictor,
        prompts,
        mask=mask,
        min_score=choice.min_score or 0.0,
        # SAM 1 never saw a mask without a click or a box in training.
        adds_box=isinstance(predictor.model, Sam1),
    )


def check_way(name: str, kind: PromptKind) -> None:
    """Raise a ``ConfigError`` if a model cannot be asked in this way. Imports no torch."""
    from models.catalogue import find_size

    if kind is not PromptKind.CONCEPT or find_size(name).knows_concepts:
        return
    able = ", or ".join(FLAGS_OF_KIND[way] for way in PromptKind if way is not kind)
    problem = f"{FLAGS_OF_KIND[kind]}: {name} knows no concepts (accepted with it: {able})"
    raise ConfigError([problem])


def warn_of_model(name: str, prompts: Prompts) -> str | None:
    """Return what a person should know before trusting this model's answers; mostly nothing."""
    from models.catalogue import find_size

    if find_size(name).knows_clicks or not (
        prompts.points or prompts.boxes or prompts.is_everything
    ):
        return None
    return (
        f"{name} was not trained to answer points and boxes, so these masks mean little; "
        "it does know --concept, --exemplar and --mask"
    )


def read_mask(path: Path) -> "NDArray[np.bool_]":
    """Return where a picture is brighter than half of its brightest pixel, shape (H, W).

    Raises:
        ConfigError: If it cannot be read, or is dark all over.
    """
    from connectors.errors import PictureError
    from connectors.pictures.stills import read_picture

    try:
        grey = read_picture(path).max(axis=2)
    except PictureError as error:
        raise ConfigError([f"--mask: {error}"]) from error
    brightest = int(grey.max())
    if not brightest:
        raise ConfigError([f"--mask: {str(path)!r} is black all over (accepted: bright on object)"])
    return grey > brightest / 2
