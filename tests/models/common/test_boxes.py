"""Box formats and overlaps."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.boxes import (
    cxcywh_to_xyxy,
    generalized_iou,
    inverse_sigmoid,
    xyxy_to_cxcywh,
)

unit = st.floats(0, 1, width=32)
boxes = st.tuples(unit, unit, unit, unit)


@given(boxes)
@settings(max_examples=50, deadline=None)
def test_formats_turn_into_each_other_and_back(box):
    there = cxcywh_to_xyxy(torch.tensor(box))
    torch.testing.assert_close(xyxy_to_cxcywh(there), torch.tensor(box), atol=1e-6, rtol=0)


def test_corners_of_a_known_box():
    corners = cxcywh_to_xyxy(torch.tensor([[0.5, 0.4, 0.2, 0.6]]))
    torch.testing.assert_close(corners, torch.tensor([[0.4, 0.1, 0.6, 0.7]]))


@given(boxes, boxes)
@settings(max_examples=50, deadline=None)
def test_generalized_iou_is_symmetric_and_bounded(a, b):
    a_xyxy, b_xyxy = cxcywh_to_xyxy(torch.tensor(a)), cxcywh_to_xyxy(torch.tensor(b))
    value = generalized_iou(a_xyxy, b_xyxy)
    assert -1 - 1e-5 <= float(value) <= 1 + 1e-5
    torch.testing.assert_close(value, generalized_iou(b_xyxy, a_xyxy))


def test_generalized_iou_of_known_pairs():
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [4, 0, 6, 2], [0.5, 0.5, 1.5, 1.5]])
    wanted = torch.tensor([1.0, 1 / 3, -1 / 3, 1 / 4])
    torch.testing.assert_close(generalized_iou(box, others), wanted)


def test_overlaps_broadcast_to_a_table():
    table = generalized_iou(torch.rand(3, 1, 4), torch.rand(1, 5, 4))
    assert table.shape == (3, 5)


def test_inverse_sigmoid_undoes_sigmoid_and_is_bounded():
    p = torch.linspace(0.01, 0.99, 9)
    torch.testing.assert_close(inverse_sigmoid(p).sigmoid(), p)
    ends = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    torch.testing.assert_close(ends.abs(), torch.full((4,), 6.9078), atol=1e-3, rtol=0)
