"""Draws masklets on frames: translucent masks, outlines, name plates, captions.

Shape legend:
    H, W frame height and width; h, w height and width of the drawing (the frame, perhaps doubled).
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from connectors.base import Overlay

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_GOLDEN_TURN = 0.61803398875
_INK_DARK: Colour = (16, 18, 22)
_INK_LIGHT: Colour = (248, 248, 248)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a drawing looks.

    Attributes:
        min_width: Frames narrower than this many pixels are drawn twice as large.
        mask_opacity: 0 leaves the picture as it is, 1 covers it.
    """

    min_width: int = 960
    mask_opacity: float = 0.45


@dataclass(frozen=True, slots=True)
class _Plate:
    lines: tuple[str, ...]
    scale: float
    thickness: int
    size_wh: tuple[int, int]
    line_height: int
    padding: int


def colour_of(number: int) -> Colour:
    """Return the RGB colour of a track's number; neighbours in number differ in hue."""
    hue = (0.08 + number * _GOLDEN_TURN) % 1.0
    value = 1.0 if number % 2 else 0.93
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.72, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def drawing_size(height: int, width: int, style: Style) -> tuple[int, int]:
    """Return (h, w) of the drawing of a frame: even, and doubled if the frame is small."""
    factor = 2 if width < style.min_width else 1
    h, w = height * factor, width * factor
    return max(h - h % 2, 2), max(w - w % 2, 2)


def draw(
    pixels: Picture, overlays: Sequence[Overlay], captions: Sequence[str], style: Style
) -> Picture:
    """Return a new RGB picture, shape (h, w, 3), with everything drawn on it.

    Args:
        pixels: Shape (H, W, 3), RGB, uint8; not changed.
        overlays: Objects; later ones are drawn over earlier ones, name plates over all.
        captions: Lines for the corner, newest last.
        style: Sizes and opacity.
    """
    h, w = drawing_size(pixels.shape[0], pixels.shape[1], style)
    canvas = _resized(pixels, h, w)
    masks = [_mask_to(overlay.mask, h, w) for overlay in overlays]
    for overlay, mask in zip(overlays, masks, strict=True):
        _draw_mask(canvas, overlay, mask, style)
    taken: list[tuple[int, int, int, int]] = []
    for overlay, mask in zip(overlays, masks, strict=True):
        _draw_label(canvas, overlay, mask, taken)
    _draw_captions(canvas, captions)
    return canvas


def _resized(pixels: Picture, h: int, w: int) -> Picture:
    if pixels.shape[:2] == (h, w):
        return pixels.copy()
    return cast("Picture", cv2.resize(pixels, (w, h), interpolation=cv2.INTER_CUBIC))


def _mask_to(mask: NDArray[np.bool_], h: int, w: int) -> Picture:
    """Return the mask as 0 and 255, shape (h, w), with smooth edges where it was enlarged."""
    plane = mask.astype(np.uint8) * np.uint8(255)
    if plane.shape == (h, w):
        return plane
    enlarged = cv2.resize(plane, (w, h), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(enlarged, (0, 0), 1.2)
    return cast("Picture", cv2.threshold(smooth, 127, 255, cv2.THRESH_BINARY)[1])


def _draw_mask(canvas: Picture, overlay: Overlay, mask: Picture, style: Style) -> None:
    box = _box_of(mask)
    if box is None:
        return
    x, y, width, height = box
    region, inside = canvas[y : y + height, x : x + width], mask[y : y + height, x : x + width] > 0
    colour = colour_of(overlay.number)
    opacity = style.mask_opacity * (0.5 if overlay.is_occluded or overlay.is_tentative else 1.0)
    tinted = region[inside] * (1.0 - opacity) + np.asarray(colour, dtype=np.float32) * opacity
    region[inside] = tinted.astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    unit = _unit(canvas)
    thickness = unit if overlay.is_tentative else 2 * unit
    for contour in contours:
        if overlay.is_occluded:
            _draw_dashed(canvas, contour, colour, thickness)
        else:
            cv2.polylines(canvas, [contour], True, _INK_DARK, thickness + unit, cv2.LINE_AA)  # noqa: FBT003
            cv2.polylines(canvas, [contour], True, colour, thickness, cv2.LINE_AA)  # noqa: FBT003


def _draw_dashed(canvas: Picture, contour: MatLike, colour: Colour, thickness: int) -> None:
    dash = 5 * thickness
    for start in range(0, len(contour), 2 * dash):
        piece = contour[start : start + dash]
        cv2.polylines(canvas, [piece], False, colour, thickness, cv2.LINE_AA)  # noqa: FBT003


def _draw_label(
    canvas: Picture,
    overlay: Overlay,
    mask: Picture,
    taken: list[tuple[int, int, int, int]],
) -> None:
    box = _box_of(mask)
    if box is None:
        return
    plate = _measure((f"{overlay.number}  {overlay.label}",), _unit(canvas) * 0.5)
    x, y = _place(canvas, plate, box, taken)
    taken.append((x, y, *plate.size_wh))
    colour = colour_of(overlay.number)
    strength = 0.55 if overlay.is_occluded or overlay.is_tentative else 0.92
    _fill(canvas, (x, y, *plate.size_wh), colour, strength)
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    _write(canvas, plate, (x, y), _INK_DARK if luma > 110 else _INK_LIGHT)


def _place(
    canvas: Picture,
    plate: _Plate,
    box: tuple[int, int, int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Return the plate's corner: above the object, else below it, else as near as there is room."""
    h, w = canvas.shape[:2]
    width, height = plate.size_wh
    gap = 2 * _unit(canvas)
    x = int(np.clip(box[0] + box[2] // 2 - width // 2, 0, max(w - width, 0)))
    wanted = [box[1] - height - gap - step * (height + 1) for step in range(3)]
    wanted += [box[1] + box[3] + gap + step * (height + 1) for step in range(3)]
    places = [(x, y) for y in wanted if 0 <= y <= h - height]
    for place in places:
        if not any(_overlap((*place, width, height), other) for other in taken):
            return place
    return places[0] if places else (x, int(np.clip(box[1], 0, max(h - height, 0))))


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


def _draw_captions(canvas: Picture, captions: Sequence[str]) -> None:
    if not captions:
        return
    margin = 6 * _unit(canvas)
    plate = _measure(tuple(captions), _unit(canvas) * 0.5)
    _fill(canvas, (margin, margin, *plate.size_wh), _INK_DARK, 0.6)
    _write(canvas, plate, (margin, margin), _INK_LIGHT)


def _measure(lines: tuple[str, ...], scale: float) -> _Plate:
    ascii_lines = tuple(line.encode("ascii", "replace").decode() for line in lines)
    thickness = max(round(scale * 1.4), 1)
    sizes = [cv2.getTextSize(line, _FONT, scale, thickness)[0] for line in ascii_lines]
    padding = round(scale * 10)
    line_height = round(max(size[1] for size in sizes) + scale * 14)
    size_wh = max(size[0] for size in sizes) + 2 * padding, line_height * len(lines) + padding // 2
    return _Plate(ascii_lines, scale, thickness, size_wh, line_height, padding)


def _write(canvas: Picture, plate: _Plate, corner: tuple[int, int], ink: Colour) -> None:
    for row, line in enumerate(plate.lines):
        base = corner[1] + plate.line_height * (row + 1) - round(plate.scale * 5)
        place = corner[0] + plate.padding, base
        cv2.putText(canvas, line, place, _FONT, plate.scale, ink, plate.thickness, cv2.LINE_AA)


def _fill(canvas: Picture, box: tuple[int, int, int, int], colour: Colour, opacity: float) -> None:
    x, y, width, height = box
    region = canvas[y : y + height, x : x + width]
    region[:] = region * (1.0 - opacity) + np.asarray(colour, dtype=np.float32) * opacity


def _box_of(mask: Picture) -> tuple[int, int, int, int] | None:
    x, y, width, height = cv2.boundingRect(mask)
    return (x, y, width, height) if width and height else None


def _unit(canvas: Picture) -> int:
    """Return the width of a thin line that is visible at this size."""
    return max(round(canvas.shape[1] / 1100), 1)
