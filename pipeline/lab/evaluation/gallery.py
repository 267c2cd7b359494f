"""Pictures of what a detector got right and wrong, on one sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.annotate.draw import Style, draw
from connectors.base import Overlay
from connectors.errors import NotWritableError
from connectors.pictures.stills import write_picture
from models.protocols import ConceptDetector
from pipeline.errors import ConfigError
from pipeline.lab.evaluation.images import (
    Answer,
    ImageReport,
    PictureMark,
    PictureOutcome,
    examine_picture,
)

_GAP_PX, _GAP_GREY, _MIN_CELL_PX = 6, 245, 400
_ENOUGH_IOU = 0.5
_LINE_PX, _FONT, _FONT_SCALE = 17, cv2.FONT_HERSHEY_DUPLEX, 0.4
_HEADING_PX, _HEADING_SCALE, _HEADING_INK = 36, 0.7, (36, 41, 47)
_RIGHT_INK, _WRONG_INK = (20, 110, 40), (190, 20, 20)


def write_gallery(
    detector: ConceptDetector, report: ImageReport, path: Path, *, columns: int = 4, rows: int = 6
) -> None:
    """Ask again about the worst and the best pictures of a report and draw them.

    The sheet begins with the worst pictures and ends with the best, each under a heading unless
    all pictures are shown. Predictions are filled; missed
    objects are outlined and marked "missed". Below each picture stands what was asked.

    Args:
        detector: What the report is about.
        report: Where the marks of the pictures stand.
        path: Picture to write, such as ``sheet.png``.
        columns: Pictures side by side.
        rows: Pictures one below the other; fewer if the report has fewer.

    Raises:
        ConfigError: If the file cannot be written, or its ending is no picture's.
    """
    write_sheet(path, draw_gallery(detector, report, columns=columns, rows=rows))


def draw_gallery(
    detector: ConceptDetector, report: ImageReport, *, columns: int, rows: int
) -> NDArray[np.uint8]:
    """Return the sheet that :func:`write_gallery` writes, RGB, shape (H, W, 3)."""
    chosen = choose_pictures(report.pictures, columns * rows)
    outcomes = [examine_picture(detector, report.settings, index) for index in chosen]
    num_lines = max(len(outcome.answers) + 1 for outcome in outcomes) // 2
    cells = [
        np.concatenate([drawn, _legend(outcome, drawn.shape[1], num_lines)])
        for outcome in outcomes
        for drawn in [draw_outcome(outcome)]
    ]
    if len(chosen) == len(report.pictures):
        return lay_out(cells, columns)
    num_worst = len(chosen) - len(chosen) // 2
    parts = [("worst", cells[:num_worst]), ("best", cells[num_worst:])]
    return _stack(
        [
            (f"the {which} of {len(report.pictures)} pictures", lay_out(part, columns))
            for which, part in parts
            if part
        ]
    )


def _stack(sheets: Sequence[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Put sheets below one another, each under its heading."""
    width = max(sheet.shape[1] for _, sheet in sheets)
    rows: list[NDArray[np.uint8]] = []
    for heading, sheet in sheets:
        strip = np.full((_HEADING_PX, width, 3), _GAP_GREY, dtype=np.uint8)
        corner = _GAP_PX, _HEADING_PX - 11
        cv2.putText(strip, heading, corner, _FONT, _HEADING_SCALE, _HEADING_INK, 1, cv2.LINE_AA)
        spare = (0, 0), (0, width - sheet.shape[1]), (0, 0)
        rows += [strip, np.pad(sheet, spare, constant_values=_GAP_GREY)]
    return np.concatenate(rows)


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write an RGB picture (H, W, 3), uint8, making its folder.

    Raises:
        ConfigError: If the file cannot be written, or its ending is no picture's.
    """
    try:
        write_picture(path, sheet)
    except NotWritableError as error:
        raise ConfigError([str(error)]) from error


def choose_pictures(pictures: Sequence[PictureMark], number: int) -> list[int]:
    """Return the indices of the worst pictures and then the best, half of ``number`` each.

    Of equally good ones, those with more objects are the better.
    """
    # F1 falls short of 1 by what keeps its denominators from 0, and a rightly empty picture does
    # not: unrounded, the pictures without anything to see would be the best.
    marks = sorted(
        pictures, key=lambda mark: (round(mark.quality, 3), mark.num_objects, mark.index)
    )
    order = [mark.index for mark in marks]
    if len(order) <= number:
        return order
    num_best = number // 2
    return order[: number - num_best] + order[len(order) - num_best :]


def draw_outcome(outcome: PictureOutcome) -> NDArray[np.uint8]:
    """Draw one picture with its detections and misses."""
    overlays: list[Overlay] = []
    for answer in outcome.answers:
        for found in answer.detections:
            label = f"{answer.question.phrase} {found.score:.2f}"
            overlays.append(Overlay(number=len(overlays) + 1, label=label, bits=found.mask))
        for mask in _missed(answer):
            label = f"missed {answer.question.phrase}"
            overlays.append(
                Overlay(number=len(overlays) + 1, label=label, bits=mask, is_tentative=True)
            )
    width = outcome.frame.pixels.shape[1]
    style = Style(min_width=max(width, _MIN_CELL_PX), mask_opacity=0.4)
    return draw(outcome.frame.pixels, overlays, (), style)


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


def _legend(outcome: PictureOutcome, width: int, num_lines: int) -> NDArray[np.uint8]:
    """Return a strip with every question in two columns, green where the answer is right."""
    strip = np.full((_LINE_PX * num_lines + 6, width, 3), 255, dtype=np.uint8)
    for place, answer in enumerate(outcome.answers):
        phrase, score = answer.question.phrase, answer.score
        is_right = score.true_positives[0] == score.num_truth == score.num_predicted
        found = f"{score.true_positives[0]} of {score.num_truth} {phrase}"
        told = found if score.num_truth else f"no {phrase}"
        num_false = score.num_predicted - score.true_positives[0]
        told += f", {num_false} false" if num_false else ""
        corner = 6 + place // num_lines * width // 2, _LINE_PX * (place % num_lines + 1) - 2
        ink = _RIGHT_INK if is_right else _WRONG_INK
        cv2.putText(strip, told, corner, _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)
    return strip
