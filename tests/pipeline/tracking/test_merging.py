"""Which track goes on where another ended."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.masks import CropMask
from pipeline.tracking.merging import find_heirs
from tests.pipeline.fakes import make_track


def track(no, box, *, concept="red", **fields):
    x, y, width, height = box
    bits = np.ones((height, width), np.bool_)
    mask = CropMask(size_hw=(40, 40), x0=x, y0=y, bits=bits)
    return replace(make_track(no, concept=concept, **fields), last_mask=mask)


BOXES = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))


@given(st.lists(BOXES, max_size=4), st.lists(BOXES, max_size=6))
def test_a_track_has_an_heir_exactly_if_a_living_one_covers_half_of_both(gone, living):
    ended = [track(number, box) for number, box in enumerate(gone)]
    others = [track(100 + number, box) for number, box in enumerate(living)]
    heirs = find_heirs(ended, others)
    for one in ended:
        able = {o.uid for o in others if o.last_mask.iou(one.last_mask) >= 0.5}
        assert (heirs.get(one.uid) in able) if able else one.uid not in heirs


@pytest.mark.parametrize("fields", [{"concept": "blue"}, {"unseen_s": 0.5}])
def test_another_concept_or_an_object_out_of_sight_is_no_heir(fields):
    box = (5, 5, 10, 10)
    assert find_heirs([track(1, box)], [track(2, box, **fields)]) == {}


def test_the_likeliest_of_many_in_one_place_is_found():
    crowd = [track(number, (5, 5, 20, 13)) for number in range(2, 40)]
    twin = track(50, (5, 5, 20, 20))
    assert find_heirs([track(1, (5, 5, 20, 20))], [*crowd, twin]) == {"uid-1": "uid-50"}
