"""Pictures of what a detector got right and wrong, on one sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.base import Overlay
from connectors.draw import Style, draw
from models.protocols import ConceptDetector
from pipeline.errors import ConfigError
from pipeline.evaluation.images import Answer, ImageReport, PictureOutcome, examine_picture

_GAP_PX, _GAP_GREY, _MIN_CELL_PX = 6, 245, 400
_ENOUGH_IOU = 0.5


def write_gallery(
    detector: ConceptDetector, report: ImageReport, path: Path, *, columns: int = 4, rows: int = 6
) -> None:
    """Ask again about the worst and the best pictures of a report and draw them.

    The upper half of the sheet shows the worst pictures, the lower half the best. Predictions are
    filled, missed objects outlined and marked "missed".

    Args:
        detector: What the report is about.
        report: Where the marks of the pictures stand.
        path: Picture to write, such as ``sheet.png``.
        columns: Pictures side by side.
        rows: Pictures one below the other; fewer if the report has fewer.

    Raises:
        ConfigError: If the file cannot be written, or its ending is no picture's.
    """
    chosen = choose_pictures(report.quality, columns * rows)
    cells = [draw_outcome(examine_picture(detector, report.settings, index)) for index in chosen]
    _save(path, lay_out(cells, columns))


def choose_pictures(quality: Sequence[float], number: int) -> list[int]:
    """Return the indices of the worst pictures and then the best, half of ``number`` each."""
    order = sorted(range(len(quality)), key=lambda index: (quality[index], index))
    if len(order) <= number:
        return order
    num_best = number // 2
    return order[: number - num_best] + order[len(order) - num_best :]


def draw_outcome(outcome: PictureOutcome) -> NDArray[np.uint8]:
    """Draw one picture with its detections, its misses and what was asked."""
    overlays: list[Overlay] = []
    for answer in outcome.answers:
        for found in answer.detections:
            label = f"{answer.question.phrase} {found.score:.2f}"
            overlays.append(Overlay(number=len(overlays) + 1, label=label, mask=found.mask))
        for mask in _missed(answer):
            label = f"missed {answer.question.phrase}"
            overlays.append(
                Overlay(number=len(overlays) + 1, label=label, mask=mask, is_tentative=True)
            )
    marks = [_mark(answer) for answer in outcome.answers]
    captions = [f"#{outcome.index}  {outcome.quality:.2f}", *marks]
    width = outcome.frame.pixels.shape[1]
    style = Style(min_width=max(width, _MIN_CELL_PX), mask_opacity=0.4)
    return draw(outcome.frame.pixels, overlays, captions, style)


def lay_out(cells: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Return one picture with cells of equal shape in rows of ``columns``."""
    height, width = cells[0].shape[:2]
    num_rows = -(-len(cells) // columns)
    wide = min(columns, len(cells))
    sheet = np.full(
        (num_rows * (height + _GAP_PX) - _GAP_PX, wide * (width + _GAP_PX) - _GAP_PX, 3),
        _GAP_GREY,
        dtype=np.uint8,
    )
    for place, cell in enumerate(cells):
        top = place // columns * (height + _GAP_PX)
        left = place % columns * (width + _GAP_PX)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _missed(answer: Answer) -> list[NDArray[np.bool_]]:
    return [
        mask
        for mask in answer.truth
        if not any(_iou(found.mask, mask) >= _ENOUGH_IOU for found in answer.detections)
    ]


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def _mark(answer: Answer) -> str:
    phrase, score = answer.question.phrase, answer.score
    if answer.truth:
        return f"{phrase}: {score.true_positives[0]} of {score.num_truth}"
    return f"not {phrase}: {len(answer.detections)} false" if answer.detections else f"not {phrase}"


def _save(path: Path, sheet: NDArray[np.uint8]) -> None:
    try:
        is_encoded, encoded = cv2.imencode(path.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error:
        is_encoded, encoded = False, np.zeros(0, dtype=np.uint8)
    if not is_encoded:
        raise ConfigError([f"cannot write a gallery as {str(path)!r}; expected .png or .jpg"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise ConfigError([f"cannot write {str(path)!r}: {error.strerror}"]) from error
