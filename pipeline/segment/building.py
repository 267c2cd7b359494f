"""A model and prompts into what answers them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
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


def build_finder(prompts: Prompts, choice: ModelChoice) -> "Finder":
    """Build what answers ``prompts`` with the chosen model.

    Raises:
        ConfigError: If there is no such model, weights or device, or the model cannot be asked in
            this way; says what it can.
    """
    from models.registry import build_detector
    from pipeline.app import check_model_name, choose_device
    from pipeline.segment.finders import ConceptFinder

    name = choice.name or DEFAULT_MODEL
    check_model_name(name)
    check_way(name, prompts.kind)
    device = choose_device(choice.device)
    try:
        detector = build_detector(name, checkpoint=choice.checkpoint, device=device)
    except ValueError as error:
        raise ConfigError([f"--model: {error}"]) from error
    return ConceptFinder(detector, prompts)


def check_way(name: str, kind: PromptKind) -> None:
    """Raise a ``ConfigError`` if a model cannot be asked in this way. Imports no torch."""
    ways = [PromptKind.CONCEPT]
    if kind not in ways:
        accepted = ", or ".join(FLAGS_OF_KIND[way] for way in ways)
        told = f"{FLAGS_OF_KIND[kind]}: {name} cannot be asked so (accepted with it: {accepted})"
        raise ConfigError([told])


def read_mask(path: Path) -> "NDArray[np.bool_]":
    """Return where a picture is brighter than half of its brightest pixel, shape (H, W).

    Raises:
        ConfigError: If it cannot be read, or is dark all over.
    """
    from connectors.errors import PictureError
    from connectors.stills import read_picture

    try:
        grey = read_picture(path).max(axis=2)
    except PictureError as error:
        raise ConfigError([f"--mask: {error}"]) from error
    brightest = int(grey.max())
    if not brightest:
        raise ConfigError([f"--mask: {str(path)!r} is black all over (accepted: bright on object)"])
    return grey > brightest / 2
