"""Which model is measured, and building it. Heavy imports wait until it is built."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.cli.flags import Checkpoint, Device, ModelName
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from models.sam3.predictor import Sam3ImageDetector
    from pipeline.config.run import ModelConfig

DEFAULT_MODEL = "sam3-nano"
# The published predictions are kept from here on; only average precision looks below 0.5.
MIN_SCORE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlags:
    """Flags that choose the model."""

    model: ModelName[str] = DEFAULT_MODEL
    checkpoint: Checkpoint = None
    device: Device[str] = "auto"


def model_config(model: ModelFlags) -> "ModelConfig":
    """Return the flags as the pipeline's own choice of a model.

    Raises:
        ConfigError: If a flag is not what it accepts.
    """
    from pipeline.config.run import ModelConfig

    try:
        return ModelConfig(name=model.model, checkpoint=model.checkpoint, device=model.device)
    except ValidationError as error:
        raise ConfigError(
            [f"{item['loc'][0]}: {item['msg']}" for item in error.errors()]
        ) from error


def build_image_detector(model: ModelFlags, *, min_score: float = MIN_SCORE) -> "Sam3ImageDetector":
    """Build the model for single pictures; detections of at most ``min_score`` are dropped.

    Raises:
        ConfigError: If the model, its weights or the device cannot be used.
    """
    from models.build import build_detector
    from pipeline.app import build_with

    detector = build_with(build_detector, model_config(model))
    detector.min_score = min_score
    return detector
