"""What a box has shown is found where it was drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.build import build_detector
from models.protocols import ConceptQuery, ExemplarBox
from models.sam3.exemplar_matching import (
    LEAST_CELLS,
    answers_to,
    end_at_boxes,
    shown_boxes,
    with_first_box,
)
from models.sam3.masks import DrawnMasks
from models.sam3.network.exemplars import Exemplars
from models.sam3.picture_rules import PictureRules

# A share of the picture within which an edge is where it was drawn.
EDGE = 0.015
LEFT, RIGHT = (0.1, 0.2, 0.4, 0.6), (0.55, 0.5, 0.9, 0.8)


def exemplars():
    boxes = torch.tensor([[[0.25, 0.4, 0.3, 0.4], [0.5, 0.5, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]]])
    return Exemplars(
        boxes_cxcywh=boxes,
        is_positive=torch.tensor([[True, False, False]]),
        is_valid=torch.tensor([[True, True, False]]),
    )


def on_picture(logits, picture_hw):
    drawn = DrawnMasks.draw(logits[None], picture_hw, refiner=None, pixels=None)
    return drawn.masks()[0]


def answers(queries, shown, scores=None):
    given = np.zeros(len(queries)) if scores is None else np.array(scores)
    return answers_to(queries, given.astype(np.float32), shown).tolist()


def test_only_boxes_of_what_is_meant_are_answered():
    shown = shown_boxes(exemplars(), 0)
    torch.testing.assert_close(shown, torch.tensor([LEFT]))
    negative = replace(exemplars(), is_positive=torch.zeros(1, 3, dtype=torch.bool))
    for nothing in (shown_boxes(None, 0), shown_boxes(negative, 0), shown_boxes(exemplars(), None)):
        assert nothing.shape == (0, 4)
        assert answers(torch.tensor([LEFT, RIGHT]), nothing) == [-1, -1]


def test_the_first_box_alone_is_read():
    two = Exemplars(
        boxes_cxcywh=torch.rand(2, 4, 4),
        is_positive=torch.tensor([[False, True, True, True], [True, False, True, False]]),
        is_valid=torch.tensor([[True, True, True, False], [True, True, True, True]]),
    )
    read = with_first_box(two)
    assert read.is_valid.tolist() == [[True, True, False, False], [True, True, False, True]]
    assert torch.equal(read.boxes_cxcywh, two.boxes_cxcywh)


def test_each_box_is_answered_by_the_nearest_query_alone():
    near = torch.tensor(LEFT) + 0.01
    queries = torch.stack((near, torch.tensor(LEFT), torch.tensor(RIGHT), torch.zeros(4)))
    assert answers(queries, torch.tensor([RIGHT, LEFT])) == [-1, 1, 0, -1]
    # Two boxes on one place: the second query answers for the second.
    assert sorted(answers(queries, torch.tensor([LEFT, LEFT]))[:2]) == [0, 1]


def test_of_queries_that_lie_at_a_box_a_much_surer_one_answers():
    near = torch.tensor(LEFT) + 0.01
    queries, shown = torch.stack((near, torch.tensor(LEFT))), torch.tensor([LEFT])
    assert answers(queries, shown, scores=[0.9, 0.2]) == [0, -1]
    # A sure one that lies elsewhere has no say.
    aside = torch.tensor(LEFT) + torch.tensor([0.12, 0.0, 0.12, 0.0])
    assert answers(torch.stack((aside, near)), shown, scores=[1.0, 0.1]) == [-1, 0]


def test_a_box_that_no_query_lies_at_is_not_answered():
    queries = torch.tensor([LEFT])
    assert answers(queries, torch.tensor([RIGHT]), scores=[1.0]) == [-1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.06, 0.94), min_size=4, max_size=4), st.sampled_from([20, 33, 96]))
def test_masks_end_where_the_person_drew(edges, side):
    bounds = sorted(edges[:2]), sorted(edges[2:])
    (x0, x1), (y0, y1) = bounds
    # A narrower box is as wide as this, so that something is left of the mask.
    assume(min(x1 - x0, y1 - y0) > LEAST_CELLS / 16)
    everything = torch.full((2, 16, 16), 9.0)
    box = torch.tensor([[x0, y0, x1, y1]])
    bounded, free = end_at_boxes(everything, box, np.array([0, -1]))
    assert torch.equal(free, everything[1])
    mask = on_picture(bounded, (side, side))
    centres = (np.arange(side) + 0.5) / side
    columns, rows = ((low - EDGE < centres) & (centres < high + EDGE) for low, high in bounds)
    assert not mask[:, ~columns].any()
    assert not mask[~rows].any()
    # Away from its corners, which the enlargement rounds, the box is full.
    if min(x1 - x0, y1 - y0) > 0.3:
        middle = mask[int((y0 + y1) / 2 * side)]
        assert middle[(centres > x0 + 3 * EDGE) & (centres < x1 - 3 * EDGE)].all()


@pytest.mark.parametrize("corner", [(0.4, 0.4), (0.41, 0.33), (0.0, 0.99)])
def test_a_box_narrower_than_a_cell_keeps_something(corner):
    x, y = corner
    box = torch.tensor([[x, y, x + 0.01, y + 0.01]])
    (bounded,) = end_at_boxes(torch.full((1, 80, 80), 9.0), box, np.array([0]))
    assert on_picture(bounded, (1080, 1920)).any()


@pytest.mark.parametrize(("covered", "stays"), [(0, False), (2, False), (4, True), (40, True)])
def test_of_what_a_box_shows_something_is_there(covered, stays):
    """A mask of less than a twentieth of its box, here 64 cells, is none."""
    box = torch.tensor([[0.25, 0.5, 0.5, 0.75]])
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[16:24, 8:16] = True
    drawn = torch.full((2, 32, 32), -3.0)
    drawn[:, *(index[:covered] for index in inside.nonzero(as_tuple=True))] = 2.0
    answering, other = end_at_boxes(drawn, box, np.array([0, -1])) > 0
    assert torch.equal(answering, drawn[0] > 0 if stays else inside)
    assert torch.equal(other, drawn[1] > 0)


@pytest.fixture(scope="module")
def detector():
    return build_detector("sam3-nano")


@pytest.mark.parametrize("box", [LEFT, RIGHT])
def test_what_a_box_shows_is_found_within_it(detector, box):
    """Noise holds nothing that anybody could find; what is shown is found there all the same."""
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    detector.min_score = 0.0
    query = ConceptQuery(phrase="deer", exemplars=(ExemplarBox(box_xyxy=box),))
    ours = detector.detect(pixels, [query])[0].detections
    detector.rules, sizes_own = PictureRules(nms_iou=0.5), detector.rules
    published = detector.detect(pixels, [query])[0].detections
    detector.rules = sizes_own
    sure = [one for one in ours if one.score == pytest.approx(one.presence_score)]
    assert len(sure) == 1
    assert not any(one.score == pytest.approx(one.presence_score) for one in published)
    rows, columns = sure[0].mask.nonzero()
    x0, y0, x1, y1 = box
    assert columns.min() >= x0 * 160 - 1
    assert columns.max() <= x1 * 160
    assert rows.min() >= y0 * 120 - 1
    assert rows.max() <= y1 * 120
