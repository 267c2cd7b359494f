"""Draws objects on frames: translucent masks, outlines, name plates, captions, prompts.

Shape legend:
    H, W frame height and width; h, w height and width of the drawing.
"""

import colorsys
from collections.abc import Iterable, Sequence
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
# Pixels of the frame that an enlarged mask's edge may move by: 1 for the interpolation, and of the
# blur 4 px of a drawing that is at least twice as large.
_BLUR_REACH = 3
_GOLDEN_TURN = 0.61803398875
_INK_DARK: Colour = (16, 18, 22)
_INK_LIGHT: Colour = (248, 248, 248)
# An outline's points lie no farther than this from the mask's edge. Each segment is drawn by
# itself, so that a point a pixel cost 1.4 ms for an outline of 1,000.
_OUTLINE_PX = 0.6
_YES, _NO = (40, 200, 90), (235, 60, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a drawing looks.

    Attributes:
        min_width: Frames narrower than this many pixels are drawn larger by a whole factor.
        mask_opacity: 0 leaves the picture as it is, 1 covers it.
        max_factor: The largest such factor.
        max_side: Drawings are made no longer than this on either side; 0 sets no limit.
    """

    min_width: int = 960
    mask_opacity: float = 0.45
    max_factor: int = 2
    max_side: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a person pointed at on the frame, in its px; the last value of each is "yes" or "no".

    Attributes:
        points: x, y, and whether it is on the object.
        boxes: x, y, width, height, and whether it is around what is meant.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[tuple[float, float, float, float, bool], ...] = ()


_NO_MARKS = Marks()


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask on the drawing: 0 and 255, with its corner there; empty outside."""

    plane: Picture
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class _Label:
    """Where and how an object's name plate is to stand."""

    text: str
    colour: Colour
    strength: float
    box: tuple[int, int, int, int]


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
    """Return (h, w) of the drawing of a frame: even, and larger or smaller as the style says."""
    factor = min(max(-(-style.min_width // width), 1), style.max_factor)
    scale = min(factor, style.max_side / max(height, width)) if style.max_side else factor
    h, w = round(height * scale), round(width * scale)
    return max(h - h % 2, 2), max(w - w % 2, 2)


def draw(
    pixels: Picture,
    overlays: Iterable[Overlay],
    captions: Sequence[str],
    style: Style,
    *,
    marks: Marks = _NO_MARKS,
) -> Picture:
    """Return a new RGB picture, shape (h, w, 3), with everything drawn on it.

    Args:
        pixels: Shape (H, W, 3), RGB, uint8; not changed.
        overlays: Objects; later ones are drawn over earlier ones, name plates over all. Taken one
            at a time, so that a generator need not hold all masks at once.
        captions: Lines for the corner, newest last.
        style: Sizes and opacity.
        marks: What a person pointed at.
    """
    height, width = pixels.shape[:2]
    h, w = drawing_size(height, width, style)
    canvas = _resized(pixels, h, w)
    labels: list[_Label] = []
    for overlay in overlays:
        mask = _scaled(overlay, (height, width), (h, w))
        box = _box_of(mask)
        if box is None:
            continue
        _draw_mask(canvas, overlay, mask, style)
        if overlay.label:
            strength = 0.55 if overlay.is_occluded or overlay.is_tentative else 0.92
            text = f"{overlay.number}  {overlay.label}"
            labels.append(_Label(text, colour_of(overlay.number), strength, box))
    _draw_marks(canvas, marks, (w / width, h / height))
    taken: list[tuple[int, int, int, int]] = []
    for label in labels:
        _draw_label(canvas, label, taken)
    _draw_captions(canvas, captions)
    return canvas


def _resized(pixels: Picture, h: int, w: int) -> Picture:
    if pixels.shape[:2] == (h, w):
        return pixels.copy()
    way = cv2.INTER_AREA if h < pixels.shape[0] else cv2.INTER_CUBIC
    return cast("Picture", cv2.resize(pixels, (w, h), interpolation=way))


def _scaled(overlay: Overlay, frame_hw: tuple[int, int], drawing_hw: tuple[int, int]) -> _Mask:
    """Bring a mask to the drawing's size, with smooth edges where it is enlarged."""
    (height, width), (h, w) = frame_hw, drawing_hw
    crop = overlay.bits.astype(np.uint8) * np.uint8(255)
    if frame_hw == drawing_hw:
        return _Mask(crop, overlay.x0, overlay.y0)
    factor = h // height
    if (h, w) != (factor * height, factor * width):
        # Pixels of the drawing straddle those of the frame: only the whole can be resized.
        whole = np.zeros(frame_hw, np.uint8)
        whole[_span(overlay.y0, crop.shape[0]), _span(overlay.x0, crop.shape[1])] = crop
        return _Mask(_resized_mask(whole, h, w), 0, 0)
    x0, y0 = max(overlay.x0 - _BLUR_REACH, 0), max(overlay.y0 - _BLUR_REACH, 0)
    x1 = min(overlay.x0 + crop.shape[1] + _BLUR_REACH, width)
    y1 = min(overlay.y0 + crop.shape[0] + _BLUR_REACH, height)
    plane = np.zeros((y1 - y0, x1 - x0), np.uint8)
    rows, columns = crop.shape
    plane[_span(overlay.y0 - y0, rows), _span(overlay.x0 - x0, columns)] = crop
    large = _resized_mask(plane, factor * (y1 - y0), factor * (x1 - x0))
    return _Mask(large, factor * x0, factor * y0)


def _span(start: int, length: int) -> slice:
    return slice(start, start + length)


def _resized_mask(plane: Picture, h: int, w: int) -> Picture:
    if h < plane.shape[0]:
        # A quarter of a pixel is enough, or thin objects would vanish.
        shrunk = cv2.resize(plane, (w, h), interpolation=cv2.INTER_AREA)
        return cast("Picture", cv2.threshold(shrunk, 63, 255, cv2.THRESH_BINARY)[1])
    enlarged = cv2.resize(plane, (w, h), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(enlarged, (0, 0), 1.2)
    return cast("Picture", cv2.threshold(smooth, 127, 255, cv2.THRESH_BINARY)[1])


def _draw_mask(
    canvas: Picture,
    overlay: Overlay,
    mask: _Mask,
    style: Style,
) -> None:
    rows, columns = mask.plane.shape
    region = canvas[_span(mask.y, rows), _span(mask.x, columns)]
    colour = colour_of(overlay.number)
    opacity = style.mask_opacity * (0.5 if overlay.is_occluded or overlay.is_tentative else 1.0)
    region[:] = cv2.copyTo(_tinted(region, colour, opacity), mask.plane, region)
    contours, _ = cv2.findContours(
        mask.plane, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(mask.x, mask.y)
    )
    unit = _unit(canvas)
    thickness = unit if overlay.is_tentative else 2 * unit
    for contour in contours:
        if overlay.is_occluded:
            _draw_dashed(canvas, contour, colour, thickness)
        else:
            outline = cv2.approxPolyDP(contour, _OUTLINE_PX, True)  # noqa: FBT003
            cv2.polylines(canvas, [outline], True, _INK_DARK, thickness + unit, cv2.LINE_AA)  # noqa: FBT003
            cv2.polylines(canvas, [outline], True, colour, thickness, cv2.LINE_AA)  # noqa: FBT003


def _tinted(region: Picture, colour: Colour, opacity: float) -> Picture:
    """Return a region covered with a colour; looked up, ten times faster than computed."""
    levels = np.arange(256)[:, None] * (1.0 - opacity) + np.asarray(colour) * opacity
    return cast("Picture", cv2.LUT(region, levels.astype(np.uint8)[None]))


def _draw_dashed(canvas: Picture, contour: MatLike, colour: Colour, thickness: int) -> None:
    dash = 5 * thickness
    for start in range(0, len(contour), 2 * dash):
        piece = contour[start : start + dash]
        cv2.polylines(canvas, [piece], False, colour, thickness, cv2.LINE_AA)  # noqa: FBT003


def _draw_marks(canvas: Picture, marks: Marks, scale_xy: tuple[float, float]) -> None:
    unit = _unit(canvas)
    to_canvas = np.array(scale_xy)
    for *corners, is_positive in marks.boxes:
        corner, size = np.array(corners[:2]), np.array(corners[2:])
        x0, y0 = np.rint(corner * to_canvas).astype(int)
        x1, y1 = np.rint((corner + size) * to_canvas).astype(int)
        outline = _rectangle(x0, y0, x1, y1)
        cv2.polylines(canvas, [outline], True, _INK_DARK, 3 * unit, cv2.LINE_AA)  # noqa: FBT003
        _draw_dashed(canvas, outline, _YES if is_positive else _NO, 2 * unit)
    for x, y, is_positive in marks.points:
        centre = round(x * scale_xy[0]), round(y * scale_xy[1])
        colour = _YES if is_positive else _NO
        for radius, ink in ((9, _INK_DARK), (8, _INK_LIGHT), (6, colour)):
            cv2.circle(canvas, centre, radius * unit, ink, cv2.FILLED, cv2.LINE_AA)


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> MatLike:
    """Return every pixel on a rectangle's edge in order, shape (n, 1, 2), int32."""
    across, down = np.arange(x0, x1), np.arange(y0, y1)
    edges = (
        (across, np.full_like(across, y0)),
        (np.full_like(down, x1), down),
        (across[::-1] + 1, np.full_like(across, y1)),
        (np.full_like(down, x0), down[::-1] + 1),
    )
    xs, ys = (np.concatenate(values) for values in zip(*edges, strict=True))
    return np.stack([xs, ys], axis=1)[:, None].astype(np.int32)


def _draw_label(canvas: Picture, label: _Label, taken: list[tuple[int, int, int, int]]) -> None:
    plate = _measure((label.text,), _unit(canvas) * 0.5)
    x, y = _place(canvas, plate, label.box, taken)
    taken.append((x, y, *plate.size_wh))
    _fill(canvas, (x, y, *plate.size_wh), label.colour, label.strength)
    luma = float(np.dot(label.colour, (0.299, 0.587, 0.114)))
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
    if region.size:  # a plate may lie outside of a tiny picture
        region[:] = _tinted(region, colour, opacity)


def _box_of(mask: _Mask) -> tuple[int, int, int, int] | None:
    x, y, width, height = cv2.boundingRect(mask.plane) if mask.plane.size else (0, 0, 0, 0)
    return (mask.x + x, mask.y + y, width, height) if width and height else None


def _unit(canvas: Picture) -> int:
    """Return the width of a thin line that is visible at this size."""
    return max(round(canvas.shape[1] / 1100), 1)
