"""SAM 2.1 through videos against transformers, with the same random weights, in fp32.

Tolerance 1e-5: nothing but rounding differs, memories rounded to bfloat16 on both sides included. A
different choice anywhere (mask, memory, visibility) would show as an error of about 1.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.sam2.model import preprocess
from models.sam2.promptable import PromptableTracker
from tests.models.tiny_sam2 import SMALL
from tests.parity.closeness import relative_error
from tests.parity.sam2_reference import build_reference, video_reference
from tests.parity.variants import TransformersSam2Video, TransformersVideoSession

SIZE = SMALL.tracker.image_size
FRAMES, HEIGHT, WIDTH = 20, 72, 120
TOLERANCE = 1e-5
SCORE_SPREAD, SCORE_BIAS = 100.0, -0.3
POINT, BOX = [[10, 30]], [5, 15, 50, 45]


def make_clip(frames=FRAMES):
    """Two squares on noise; the first one hides behind the other for a while."""
    rng = np.random.default_rng(3)
    clip = rng.integers(0, 80, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for t in range(frames):
        clip[t, 20:40, 4 * t : 4 * t + 20] = (250, 120, 30)
        clip[t, 15:60, 50:80] = (20, 60, 240)
    return clip


def make_mask(t=0):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[15:60, 50:80] = True
    return mask


@pytest.fixture(scope="module")
def pair():
    theirs = build_reference(SMALL)
    # With random weights alone every object would be seen on every frame, or on none.
    score = theirs.mask_decoder.pred_obj_score_head.proj_out
    score.weight.data.mul_(SCORE_SPREAD)
    score.bias.data.fill_(SCORE_BIAS)
    one_by_one(theirs)
    ours = TransformersSam2Video(SMALL).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def one_by_one(theirs):
    """Keep their encoder from taking all objects of a frame for prompted when one is."""
    encode = theirs._batch_encode_memories

    def encode_each(inference_session, frame_idx, **lists):
        for row in zip(*lists.values(), strict=True):
            parts = {name: [value] for name, value in zip(lists, row, strict=True)}
            encode(inference_session=inference_session, frame_idx=frame_idx, **parts)

    theirs._batch_encode_memories = encode_each


class Theirs:
    """Their session, driven like ours."""

    def __init__(self, model, clip):
        self.model = model
        frames = preprocess(torch.from_numpy(clip), SIZE)
        self.session = video_reference.Sam2VideoInferenceSession(video=frames, dtype=torch.float32)

    def add_points(self, t, object_id, points, labels, box=None):
        scale = torch.tensor([SIZE / WIDTH, SIZE / HEIGHT])
        if box is not None:
            points, labels = [box[:2], box[2:], *points], [2, 3, *labels]
        coords = torch.tensor(points, dtype=torch.float32)[None, None] * scale
        named = {"point_coords": coords, "point_labels": torch.tensor(labels)[None, None]}
        row = self.session.obj_id_to_idx(object_id)
        self.session.add_point_inputs(row, t, named)
        self.session.remove_mask_inputs(row, t)
        return self._run(t, object_id)

    def add_mask(self, t, object_id, mask):
        given = F.interpolate(
            torch.from_numpy(mask)[None, None].float(),
            (SIZE, SIZE),
            mode="bilinear",
            antialias=True,
        )
        row = self.session.obj_id_to_idx(object_id)
        self.session.add_mask_inputs(row, t, (given >= 0.5).float())
        return self._run(t, object_id)

    def _run(self, t, object_id):
        self.session.obj_with_new_inputs = [object_id]
        return self._result(self.model(self.session, frame_idx=t))

    def propagate(self, start=None, count=None, reverse=False):
        for out in self.model.propagate_in_video_iterator(self.session, start, count, reverse):
            yield self._result(out)

    def _result(self, out):
        large = F.interpolate(out.pred_masks, (HEIGHT, WIDTH), mode="bilinear")[:, 0]
        return out.frame_idx, large, out.object_score_logits.flatten().sigmoid()


def assert_same(mine, theirs):
    frame_index, masks, scores = theirs
    assert mine.frame_index == frame_index
    for row in range(len(masks)):  # one by one, for a wrong one must not hide behind the others
        assert relative_error(torch.from_numpy(mine.mask_logits[row]), masks[row]) <= TOLERANCE
        assert abs(mine.object_scores[row] - scores[row]) <= TOLERANCE


def assert_same_run(mine, theirs):
    """Compare frame by frame; returns which objects were seen, shape (T, K)."""
    seen = []
    for result, reference in zip(mine, theirs, strict=True):
        assert_same(result, reference)
        seen.append(result.object_scores > 0.5)
    return np.stack(seen)


def open_both(pair, clip):
    ours, theirs = pair
    session = TransformersVideoSession(PromptableTracker(ours, ours.encode_pixels), clip)
    return session, Theirs(theirs, clip)


def test_twenty_frames_of_two_objects_then_a_third_and_a_correction_match(pair):
    mine, theirs = open_both(pair, make_clip())
    assert_same(mine.add_points_or_box(0, 7, POINT, [1]), theirs.add_points(0, 7, POINT, [1]))
    assert_same(mine.add_mask(0, 3, make_mask()), theirs.add_mask(0, 3, make_mask()))
    seen = assert_same_run(mine.propagate(), theirs.propagate())
    assert len(seen) == FRAMES
    assert seen.any(axis=0).all()
    assert not seen.all(axis=0).any()  # each is gone for a while
    reference = theirs.add_points(8, 5, POINT, [0], BOX)
    assert_same(mine.add_points_or_box(8, 5, POINT, [0], BOX), reference)
    assert_same_run(mine.propagate(8, 3), theirs.propagate(8, 3))
    reference = theirs.add_points(11, 7, [[60, 50], [30, 30]], [1, 0])
    assert_same(mine.add_points_or_box(11, 7, [[60, 50], [30, 30]], [1, 0]), reference)
    assert_same_run(mine.propagate(12, 4), theirs.propagate(12, 4))


def test_backward_run_matches(pair):
    mine, theirs = open_both(pair, make_clip(12))
    theirs.add_points(9, 1, POINT, [1], BOX)
    mine.add_points_or_box(9, 1, POINT, [1], BOX)
    theirs.add_mask(4, 1, make_mask())
    mine.add_mask(4, 1, make_mask())
    assert_same_run(mine.propagate(9, 9, reverse=True), theirs.propagate(9, 9, reverse=True))
    assert_same_run(mine.propagate(6), theirs.propagate(6))
