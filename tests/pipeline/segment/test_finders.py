"""Prompts to masks, by a model whose every answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from models.common.image_predictor import ImagePredictor
from models.common.prompting import InputFrame, MaskCandidates
from pipeline.segment.finders import EverythingFinder, ObjectFinder
from pipeline.segment.prompts import PromptFlags, Prompts, parse_prompts
from tests.models.colour_model import ColourModel

SIDE = 64


class PaddedModel:
    """Answers with what all prompts agree on: colours clicked, inside of the box, of the mask.

    Like SAM 1 it puts a picture into the upper left of its square.
    """

    device, mask_side = torch.device("cpu"), SIDE

    def __init__(self):
        self.asked = []

    def frame_of(self, picture_hw):
        scale = SIDE / max(picture_hw)
        content_hw = tuple(round(length * scale) for length in picture_hw)
        return InputFrame(picture_hw=picture_hw, content_hw=content_hw, side=SIDE)

    def encode_picture(self, pixels):
        frame = self.frame_of(pixels.shape[1:3])
        planes = pixels.permute(0, 3, 1, 2).float()
        small = F.interpolate(planes, frame.content_hw, mode="nearest-exact")[0, 0]
        square = torch.full((SIDE, SIDE), -1.0)
        square[: small.shape[0], : small.shape[1]] = small
        return square

    def decode_prompts(self, state, prompts, *, multimask):
        self.asked.append((prompts, multimask))
        masks = []
        for row in range(len(prompts.points)):
            mask = state >= 0
            places = (prompts.points[row] * SIDE).long().clamp(max=SIDE - 1).tolist()
            for (x, y), label in zip(places, prompts.labels[row].tolist(), strict=True):
                mask = mask & ((state == state[y, x]) == bool(label))
            if prompts.boxes is not None:
                x0, y0, x1, y1 = (prompts.boxes[row] * SIDE).round().long().tolist()
                inside = torch.zeros_like(mask)
                inside[y0:y1, x0:x1] = True
                mask = mask & inside
            if prompts.mask_logits is not None:
                mask = mask & (prompts.mask_logits[row, 0] > 0)
            masks.append(mask)
        logits = torch.where(torch.stack(masks), 10.0, -10.0)[:, None]
        count = 3 if multimask else 1
        iou = torch.tensor([0.4, 0.9, 0.5] if multimask else [0.8]).expand(len(masks), count)
        return MaskCandidates(mask_logits=logits.expand(-1, count, -1, -1), predicted_iou=iou)

    def upscale(self, mask_logits, frame):
        content = mask_logits[..., : frame.content_hw[0], : frame.content_hw[1]]
        return F.interpolate(content, frame.picture_hw, mode="nearest-exact")


def picture():
    """128 x 64 px: a ground of 10, a square of 20 at the left, one of 30 at the right."""
    pixels = np.full((64, 128, 3), 10, np.uint8)
    pixels[16:32, 20:40] = 20
    pixels[32:56, 80:120] = 30
    return pixels


def find(model, *, mask=None, min_score=0.0, pixels=None, adds_box=False, **flags):
    prompts = parse_prompts(PromptFlags(**flags)) if flags else Prompts()
    finder = ObjectFinder(
        ImagePredictor(model), prompts, mask=mask, min_score=min_score, adds_box=adds_box
    )
    found = finder.find(picture() if pixels is None else pixels).objects
    return [(one.mask, one.score) for one in found]


def test_a_lone_point_takes_the_best_of_three():
    [(mask, score)] = find(PaddedModel(), points=["30,20"])
    assert np.array_equal(mask, picture()[..., 0] == 20)
    assert score == pytest.approx(0.9)


def test_points_together_are_one_object_with_one_answer():
    model = PaddedModel()
    [(mask, score)] = find(model, points=["30,20,neg", "100,50,neg"])
    assert np.array_equal(mask, picture()[..., 0] == 10)
    assert score == pytest.approx(0.8)
    assert not model.asked[0][1]


def test_each_box_is_an_object_in_its_order():
    masks = [mask for mask, _ in find(PaddedModel(), boxes=["80,32,40,24", "0,0,10,10"])]
    assert [int(mask.sum()) for mask in masks] == [40 * 24, 100]
    assert masks[0][32:56, 80:120].all()


def test_a_box_and_points_are_about_one_object():
    [(mask, _)] = find(PaddedModel(), boxes=["70,30,58,34"], points=["100,50"])
    assert np.array_equal(mask, picture()[..., 0] == 30)


def test_a_box_is_cut_to_the_picture():
    model = PaddedModel()
    find(model, boxes=["-50,-50,1000,1000"])
    assert model.asked[0][0].boxes.tolist() == [[0, 0, 1, 0.5]]


def test_a_mask_lies_in_the_input_where_the_picture_does():
    wanted = picture()[..., 0] == 30
    [(mask, _)] = find(PaddedModel(), mask=wanted)
    assert np.array_equal(mask, wanted)


def test_a_mask_brings_its_box_where_the_model_needs_it():
    model = PaddedModel()
    find(model, mask=picture()[..., 0] == 30, adds_box=True)
    corners = model.asked[0][0].boxes[0].tolist()
    assert np.allclose(corners, [80 / 128, 32 / 128, 120 / 128, 56 / 128])


def test_doubtful_objects_and_empty_masks_are_dropped():
    assert find(PaddedModel(), points=["30,20"], min_score=0.95) == []
    assert find(PaddedModel(), points=["30,20", "100,50"]) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"points": ["129,5"]}, "--point 129,5 is not on the picture; accepted: 0,0 to 128,64"),
        ({"points": ["3,-1"]}, "--point 3,-1 is not on the picture"),
        ({"boxes": ["128,0,5,5"]}, "--box 128,0,5,5 is not on the picture; accepted: a box that"),
        ({"mask": np.ones((2, 3), bool)}, "--mask is 3x2; accepted: the picture's size, 128x64"),
    ],
)
def test_what_is_not_on_the_picture_is_told(flags, told):
    with pytest.raises(ValueError, match=told):
        find(PaddedModel(), **flags)


def test_thousands_of_boxes_at_once():
    boxes = [f"{x},{y},3,3" for x in range(0, 120, 3) for y in range(0, 60, 1)]
    found = find(PaddedModel(), boxes=boxes)
    assert len(found) == len(boxes) == 2400


def test_thousands_of_points_at_once():
    points = [f"{x},{y}" for x in range(80, 120) for y in range(32, 56)]
    [(mask, _)] = find(PaddedModel(), points=points)
    assert np.array_equal(mask, picture()[..., 0] == 30)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.data())
def test_any_prompt_on_a_picture_of_any_size_is_answered(width, height, data):
    # On the far border itself this model, which looks at single pixels, sees the padding.
    x, y = data.draw(st.floats(0, width - 0.5)), data.draw(st.floats(0, height - 0.5))
    pixels = np.full((height, width, 3), 7, np.uint8)
    [(mask, _)] = find(PaddedModel(), pixels=pixels, points=[f"{x},{y}"])
    assert mask.shape == (height, width)
    assert mask.all()


def test_everything_is_found_surest_first():
    finder = EverythingFinder(ImagePredictor(ColourModel(side=128)), min_score=None)
    found = finder.find(picture()).objects
    regions = {int(one.mask.sum()) for one in found}
    assert regions == {320, 960, 128 * 64 - 320 - 960}
    assert {(round(one.score, 2), one.stability_score) for one in found} == {(0.95, 1.0)}


def test_everything_of_too_low_a_score_is_dropped():
    finder = EverythingFinder(ImagePredictor(ColourModel(side=128)), min_score=0.96)
    assert finder.find(picture()).objects == ()
