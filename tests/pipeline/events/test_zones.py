"""Points and polygons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events.zones import Anchor, anchor_of, contains

OBLONG = ((0.1, 0.3), (0.6, 0.3), (0.6, 0.9), (0.1, 0.9))
SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
NOTCHED = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0))
SLANTED = ((0.1, 0.1), (0.9, 0.3), (0.3, 0.9))
UNIT = st.floats(0, 1, allow_nan=False)
POINTS = st.tuples(UNIT, UNIT)


@pytest.mark.parametrize(
    ("polygon", "point", "expected"),
    [
        (SQUARE, (0.5, 0.5), True),
        (SQUARE, (0.9, 0.5), False),
        (SQUARE, (0.8, 0.5), True),
        (SQUARE, (0.2, 0.2), True),
        (NOTCHED, (0.5, 0.9), False),
        (NOTCHED, (0.1, 0.8), True),
        (NOTCHED, (0.75, 0.75), True),
        (SLANTED, (0.5, 0.2), True),
        (SLANTED, (0.6, 0.6), True),
        (SLANTED, (0.5, 0.19), False),
        (SLANTED, (0.61, 0.61), False),
    ],
)
def test_contains(polygon, point, expected):
    assert contains(polygon, point) is expected


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(("share", "expected"), [(-0.25, False), (0.75, True), (1.25, False)])
def test_edges_belong_to_a_polygon_and_what_lies_in_line_with_them_does_not(
    number, share, expected
):
    (x1, y1), (x2, y2) = OBLONG[number - 1], OBLONG[number]
    assert contains(OBLONG, (x1 + share * (x2 - x1), y1 + share * (y2 - y1))) is expected


@given(st.lists(POINTS, min_size=3, max_size=8), POINTS, st.integers(0, 7))
def test_a_polygon_is_the_same_reversed_and_from_any_corner(polygon, point, shift):
    shift %= len(polygon)
    turned = polygon[shift:] + polygon[:shift]
    assert contains(polygon[::-1], point) == contains(polygon, point) == contains(turned, point)


def test_anchors_stay_on_the_picture():
    assert anchor_of((0.5, 0.8, 0.2, 0.21), Anchor.BOTTOM_CENTER) == (0.6, 1.0)
    assert anchor_of((0.5, 0.8, 0.2, 0.2), Anchor.CENTER) == (0.6, 0.9)
