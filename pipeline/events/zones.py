"""Polygons on the picture. Coordinates run from 0 to 1, origin top left."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.common.masks import Box
from pipeline.fields import Name, Share, StrictModel

Point = tuple[float, float]


class Anchor(StrEnum):
    """The point of an object that must lie in a zone."""

    BOTTOM_CENTER = "bottom_center"
    CENTER = "center"


class ZoneConfig(StrictModel):
    """A named polygon on the picture."""

    name: Name
    polygon: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=200)]
    """Corners as x, y from 0 to 1, origin top left; closed by itself."""


def find_zone(name: str, zones: Sequence[ZoneConfig]) -> ZoneConfig:
    """Return the zone of a name, which must be there."""
    return next(zone for zone in zones if zone.name == name)


def contains(polygon: Sequence[Point], point: Point) -> bool:
    """Return whether a point lies in a polygon (even-odd rule), edges included."""
    x, y = point
    inside = False
    for corners in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        # In one order whichever way round the polygon is given, so that rounding is the same.
        (x1, y1), (x2, y2) = sorted(corners)
        if _is_on_segment(point, (x1, y1), (x2, y2)):
            return True
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


def anchor_of(bbox: Box, anchor: Anchor) -> Point:
    """Return the point of a box (x, y, width, height) that stands for the object."""
    x, y, width, height = bbox
    if anchor is Anchor.BOTTOM_CENTER:
        return x + width / 2, min(y + height, 1.0)
    return x + width / 2, y + height / 2


def zones_at(zones: Sequence[ZoneConfig], bbox: Box) -> tuple[str, ...]:
    """Return the names of the zones that hold the box's bottom centre."""
    point = anchor_of(bbox, Anchor.BOTTOM_CENTER)
    return tuple(zone.name for zone in zones if contains(zone.polygon, point))


def _is_on_segment(point: Point, a: Point, b: Point) -> bool:
    cross = (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
    if abs(cross) > 1e-12:
        return False
    in_x = min(a[0], b[0]) <= point[0] <= max(a[0], b[0])
    return in_x and min(a[1], b[1]) <= point[1] <= max(a[1], b[1])
