"""The model on single pictures, as evaluations and studies ask it. torch is imported when built."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.sam3.predictor import Sam3ImageDetector
    from pipeline.config.sections.model import ModelConfig

# The published predictions are kept from here on; only average precision looks below 0.5.
MIN_SCORE = 0.3


def build_image_detector(
    model: "ModelConfig", *, min_score: float = MIN_SCORE
) -> "Sam3ImageDetector":
    """Build the model for single pictures; detections of at most ``min_score`` are dropped.

    Raises:
        ConfigError: If the model, its weights or the device cannot be used.
    """
    from models.build import build_detector
    from pipeline.model_building import build_with

    detector = build_with(build_detector, model)
    detector.min_score = min_score
    return detector
