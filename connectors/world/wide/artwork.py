"""The wide world's sprites in every look they come in: painted in a colour, striped, spotted."""

from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.atlas import CELL_PX, Sprite, sprite_from
from connectors.world.background import Floats, as_colour
from connectors.world.wide.catalogue import (
    COATS,
    PERSON,
    WIDE_CONCEPTS,
    WideConcept,
    is_near_held_out_combination,
    wide_concept_named,
)

WIDE_ATLAS_PATH: Final = Path(__file__).with_name("atlas_wide.webp")
WIDE_COLUMNS: Final = 16

PAINTS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (214, 36, 34),
    "orange": (245, 130, 26),
    "yellow": (250, 206, 40),
    "green": (48, 150, 62),
    "blue": (40, 96, 214),
    "purple": (136, 58, 176),
    "pink": (246, 152, 176),
    "brown": (134, 84, 48),
    "white": (240, 240, 238),
    "grey": (140, 142, 146),
    "black": (44, 44, 48),
}
# Degrees on the colour wheel within which a pixel belongs to the painted part.
_HUE_REACH = 24.0
# Where the painted part is not what has most colour: clothes beside skin and hair.
_BODY_HUES: Final[dict[str, float]] = {"person": 28.0}
_LUMA: Final = np.array((0.3, 0.59, 0.11), dtype=np.float32)
_GREY_BODIES: Final = frozenset({"white", "grey"})
# A thing whose colours have no names is painted if this share of it is, so that the paint is what
# anyone would call its colour.
_LEAST_BODY: Final = 0.6
# Animals with a coat of their own, whose artwork shows it.
_MARKED: Final = frozenset(
    {"tiger", "giraffe", "chipmunk", "skunk", "badger", "turtle", "owl", "peacock", "turkey"}
)


@lru_cache(maxsize=1)
def _cells() -> dict[str, NDArray[np.uint8]]:
    """Read the atlas once; straight (not premultiplied) RGBA by concept, cropped."""
    encoded = np.frombuffer(WIDE_ATLAS_PATH.read_bytes(), dtype=np.uint8)
    bgra = cast("NDArray[np.uint8]", cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    cells: dict[str, NDArray[np.uint8]] = {}
    for cell, concept in enumerate(WIDE_CONCEPTS):
        top, left = cell // WIDE_COLUMNS * CELL_PX, cell % WIDE_COLUMNS * CELL_PX
        rgba = bgra[top : top + CELL_PX, left : left + CELL_PX][..., [2, 1, 0, 3]]
        rows, columns = np.nonzero(rgba[..., 3])
        cells[concept.name] = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return cells


@lru_cache(maxsize=2048)
def wide_sprite(name: str, attributes: tuple[str, ...] = ()) -> Sprite:
    """Return the artwork of a concept in the look that its attributes name.

    Args:
        name: Name of a :class:`WideConcept`.
        attributes: Its colour and its coat, where it has them; a colour that comes first in its
            list and a plain coat leave the artwork as it is. Or one of its odd looks.

    Raises:
        ValueError: If there is no such concept, or it does not come in that look.
    """
    concept = wide_concept_named(name)
    rgba = _cells()[name].astype(np.float32)
    for attribute in attributes:
        if attribute not in looks_of(concept) and attribute not in odd_looks_of(concept):
            raise ValueError(
                f"{name!r} does not come {attribute!r}; it comes {looks_of(concept)}, and may be "
                f"made {odd_looks_of(concept)}"
            )
        if attribute in PAINTS and attribute != next(iter(concept.colours), None):
            _paint(rgba, concept, attribute)
    for coat in COATS:
        if coat in attributes:
            _put_coat(rgba, coat)
    return sprite_from(np.clip(rgba, 0, 255).astype(np.uint8))


def looks_of(concept: WideConcept) -> tuple[str, ...]:
    """Return every attribute that a concept may have."""
    return concept.colours + (COATS if concept.has_coats else ())


@lru_cache(maxsize=512)
def odd_looks_of(concept: WideConcept) -> tuple[str, ...]:
    """Return looks that the catalogue does not list for a concept but that it can be given.

    A goat may be purple or striped. What is held out is not among them, for the concept or for
    anything that it may be taken for.
    """
    odd: tuple[str, ...] = ()
    # People without clothes of a named colour have nothing to paint but their skin.
    if len(concept.colours) > 1 or (PERSON not in concept.kinds and _is_paintable(concept)):
        odd += tuple(PAINTS)
    if "animal" in concept.kinds and concept.name not in _MARKED:
        odd += COATS
    known = looks_of(concept)
    return tuple(
        look
        for look in odd
        if look not in known and not is_near_held_out_combination(look, concept)
    )


def _is_paintable(concept: WideConcept) -> bool:
    rgba = _cells()[concept.name].astype(np.float32)
    solid = rgba[..., 3] > 128
    return float(_body(rgba, concept)[solid].mean()) >= _LEAST_BODY


def _hsv(rgba: Floats) -> Floats:
    """Hue in degrees, saturation and value in [0, 1], shape (h, w, 3)."""
    rgb = np.ascontiguousarray(rgba[..., :3] / 255, dtype=np.float32)
    return cast("Floats", cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))


def _body(rgba: Floats, concept: WideConcept) -> Floats:
    """How far each pixel belongs to the part that is painted, in [0, 1], shape (h, w)."""
    hsv = _hsv(rgba)
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    solid = rgba[..., 3] > 128
    pale = np.clip((0.34 - saturation) / 0.08, 0, 1) * np.clip((value - 0.5) / 0.1, 0, 1)
    if concept.colours and concept.colours[0] in _GREY_BODIES:
        return pale
    colourful = np.clip((saturation - 0.22) / 0.12, 0, 1) * np.clip((value - 0.12) / 0.1, 0, 1)
    body_hue = _BODY_HUES.get(concept.group)
    if body_hue is None or concept.name == "dancing woman":
        weights = (saturation * value * solid).ravel()
        histogram = np.bincount((hue.ravel() / 10).astype(int) % 36, weights, minlength=36)
        smooth = histogram + 0.5 * (np.roll(histogram, 1) + np.roll(histogram, -1))
        body_hue = float(np.argmax(smooth)) * 10 + 5
    away = np.abs((hue - body_hue + 180) % 360 - 180)
    reach = 9.0 if concept.group in _BODY_HUES else _HUE_REACH
    body: Floats = colourful * np.clip((reach + 8 - away) / 8, 0, 1)
    # Where the colour has no name nobody says either whether it is one.
    return pale if not concept.colours and pale[solid].sum() > body[solid].sum() else body


def _paint(rgba: Floats, concept: WideConcept, colour: str) -> None:
    """Give the body another colour and keep its shading, in place."""
    share = _body(rgba, concept)[..., None]
    light = rgba[..., :3] @ _LUMA
    shown = light[(share[..., 0] > 0.5) & (rgba[..., 3] > 128)]
    middle = float(np.median(shown)) if shown.size else 128.0
    shade = np.clip(light / max(middle, 1.0), 0.35, 1.5)[..., None]
    # Pale paint has no room for highlights, dark paint little for shadows.
    shade = 1 + (shade - 1) * (0.55 if colour in {"white", "black"} else 0.85)
    painted = np.clip(as_colour(PAINTS[colour]) * shade, 0, 255)
    rgba[..., :3] += share * (painted - rgba[..., :3])


def _put_coat(rgba: Floats, coat: str) -> None:
    """Draw stripes or spots on the body, in place; outlines, eyes and hooves stay."""
    height, width = int(rgba.shape[0]), int(rgba.shape[1])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    if coat == "striped":
        bend = 5 * np.sin(rows / 11) + 0.25 * rows
        marks = np.clip(2.5 * (np.sin((columns + bend) * (2 * np.pi / 17)) - 0.05), 0, 1)
    else:
        row = np.floor(rows / 15)
        across = (columns + 7.5 * (row % 2)) % 15 - 7.5
        wobble = 2.2 * np.sin(row * 2.4 + np.floor(columns / 15) * 1.7)
        down = rows % 15 - 7.5 + wobble
        marks = np.clip(5.2 - np.sqrt(across**2 + down**2), 0, 1)
    light = rgba[..., :3] @ _LUMA
    solid = (rgba[..., 3] > 200).astype(np.uint8)
    inside = cv2.erode(solid, np.ones((3, 3), np.uint8), iterations=2).astype(np.float32)
    is_dark = float(np.median(light[solid > 0])) < 95
    ink = as_colour((232, 222, 200) if is_dark else (46, 34, 30))
    # What stands out from the coat (eyes, nose, hooves) is left alone.
    plain = light < 170 if is_dark else light > 60
    share = (0.9 * marks * inside * plain)[..., None]
    rgba[..., :3] += share * (ink - rgba[..., :3])
