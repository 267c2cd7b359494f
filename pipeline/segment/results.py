"""What is found on pictures."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.masks import CropMask, RunLengths


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """One object on one picture.

    Attributes:
        concept: The phrase it was found with; ``visual`` for exemplars alone, ``object`` for
            points, boxes, masks and everything.
        run_lengths: Its pixels at the picture's size, at least one.
        score: What objects are chosen by, 0 to 1: score times presence of a concept, otherwise
            predicted IoU.
        presence_score: Probability that the concept is on the picture at all.
        predicted_iou: The model's own estimate of the mask's quality.
        stability_score: IoU between the masks at a higher and a lower threshold.
    """

    concept: str
    run_lengths: RunLengths
    score: float
    presence_score: float | None = None
    predicted_iou: float | None = None
    stability_score: float | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Its pixels, shape (H, W) of the picture; decoded at each use."""
        return self.run_lengths.mask()

    @property
    def area(self) -> int:
        """Its pixels' number."""
        return self.run_lengths.area

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the mask in px."""
        x0, y0, x1, y1 = CropMask.of(self.mask).corners
        return x0, y0, x1 - x0, y1 - y0


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that was found on one picture.

    Attributes:
        objects: By concept in the order asked for, best first.
        presence_scores: By phrase: probability that it is on the picture at all.
    """

    objects: tuple[FoundObject, ...] = ()
    presence_scores: dict[str, float] | None = None

    def count(self) -> dict[str, int]:
        """Return the number of objects by concept."""
        return dict(Counter(found.concept for found in self.objects))


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureResult:
    """The answer about one picture.

    Attributes:
        path: Its file; ``None`` of a picture given as an array.
        error: Why there is no answer; ``None`` if there is one.
        pixels: The upright picture, RGB (H, W, 3), uint8; empty if it could not be read.
        findings: What was found.
        wall_s: Seconds that it took.
    """

    path: Path | None
    error: str | None = None
    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    findings: Findings = field(default_factory=Findings)
    wall_s: float = 0.0

    @property
    def objects(self) -> tuple[FoundObject, ...]:
        """The objects found, best first for each concept."""
        return self.findings.objects
