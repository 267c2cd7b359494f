import numpy as np
import pytest
import torch

from models.sam2.video import BATCH, VideoOptions, VideoSession, without_overlap
from tests.models.tiny_sam2 import make_clip, make_model

POINT, MASK = [[8, 15]], np.zeros((40, 60), bool)
MASK[5:30, 10:40] = True


@pytest.fixture(scope="module")
def model():
    return make_model()


def open_prompted(model, frames=18, **options):
    session = VideoSession(model, make_clip(frames), options=VideoOptions(**options))
    session.add_points_or_box(0, 7, POINT)
    return session


def logits(results):
    return np.stack([result.mask_logits for result in results])


def test_stream_gives_what_the_clip_gives():
    model = make_model(score_bias=-0.3)
    clip = make_clip(18)
    whole = open_prompted(model)
    whole.add_mask(0, 2, MASK)
    expected = list(whole.propagate())
    stream = VideoSession(model)
    assert stream.push(clip[0]).object_ids == ()
    stream.add_points_or_box(0, 7, POINT)
    first = stream.add_mask(0, 2, MASK)
    results = [first, *(stream.push(frame) for frame in clip[1:])]
    assert [r.object_ids for r in results] == [(7, 2)] * 18
    np.testing.assert_allclose(logits(results), logits(expected), atol=1e-4)
    assert len({tuple(r.object_scores > 0.5) for r in expected}) > 1  # objects come and go


def test_stream_keeps_a_constant_number_of_bytes(model):
    stream, sizes = VideoSession(model), []
    clip = make_clip(60)
    stream.push(clip[0])
    stream.add_points_or_box(0, 1, POINT)
    stream.add_mask(0, 2, MASK)
    for frame in clip[1:]:
        stream.push(frame)
        sizes.append(stream.num_bytes)
    assert sizes[0] < sizes[20] == sizes[-1]


def test_stream_forgets_all_but_the_newest_prompted_frames(model):
    stream, sizes = VideoSession(model, options=VideoOptions(max_conditioning_frames=2)), []
    for t, frame in enumerate(make_clip(40)):
        stream.push(frame)
        stream.add_points_or_box(t, 1, POINT)
        sizes.append(stream.num_bytes)
    assert sizes[25] == sizes[-1]


def test_objects_together_give_what_each_gives_alone(model):
    session = VideoSession(model, make_clip(8))
    prompts = {t: (t % 3, [[10 + 5 * t, 20]]) for t in range(BATCH + 2)}
    for object_id, (frame, point) in prompts.items():
        session.add_points_or_box(frame, object_id, point)
    together = logits(session.propagate())
    for object_id in (0, 1, BATCH + 1):
        alone = VideoSession(model, make_clip(8))
        frame, point = prompts[object_id]
        alone.add_points_or_box(frame, object_id, point)
        np.testing.assert_allclose(
            logits(alone.propagate(0))[:, 0], together[:, object_id], atol=2e-3
        )


@pytest.mark.parametrize("reverse", [False, True])
def test_propagation_goes_where_it_is_told(model, reverse):
    session = open_prompted(model, frames=7)
    session.add_points_or_box(4, 7, POINT)
    frames = [r.frame_index for r in session.propagate(4, 2, reverse=reverse)]
    assert frames == ([4, 3, 2] if reverse else [4, 5, 6])
    assert [r.frame_index for r in session.propagate(max_frames=1)] == [0, 1]
    assert list(session.propagate(0, reverse=True)) == []


def test_prompted_frame_shows_its_own_mask(model):
    session = open_prompted(model, frames=4)
    shown = session.add_mask(2, 7, MASK)
    results = list(session.propagate())
    np.testing.assert_array_equal(results[2].mask_logits, shown.mask_logits)
    overlap = (shown.masks[0] & MASK).sum() / (shown.masks[0] | MASK).sum()
    assert overlap > 0.9
    assert shown.object_scores[0] > 0.99


def test_empty_mask_says_that_the_object_is_not_there(model):
    session = VideoSession(model, make_clip(2))
    shown = session.add_mask(0, 1, np.zeros((40, 60)))
    assert not shown.masks.any()
    assert shown.object_scores[0] < 0.01


def test_mask_of_another_size_is_brought_to_the_video(model):
    session = VideoSession(model, make_clip(1))
    small = session.add_mask(0, 1, MASK[::2, ::2].astype(np.uint8) * 255).masks
    assert (small[0] & MASK).sum() / (small[0] | MASK).sum() > 0.8


def correct(model):
    session = open_prompted(model, frames=6)
    before = logits(session.propagate())
    shown = session.add_points_or_box(3, 7, [[50, 30], [20, 12]], [1, 0])
    return before, shown.mask_logits, logits(session.propagate())


def test_correction_stays_and_changes_what_follows(model):
    before, shown, after = correct(model)
    np.testing.assert_array_equal(after[3], shown)
    assert not np.array_equal(after[4], before[4])
    np.testing.assert_array_equal(after[0], before[0])


def test_second_click_looks_at_the_first_answer(model):
    session = open_prompted(model)
    again = session.add_points_or_box(0, 7, [[30, 30]]).mask_logits
    fresh = VideoSession(model, make_clip(1)).add_points_or_box(0, 7, [[30, 30]]).mask_logits
    assert np.abs(again - fresh).max() > 0.01


class ForgetfulSession(VideoSession):
    """Does not look at the earlier answer, so that points alone tell."""

    def _earlier_mask(self, memory, frame_index):
        return None


def test_points_join_earlier_ones_when_asked(model):
    session = ForgetfulSession(model, make_clip(1))
    session.add_points_or_box(0, 1, POINT)
    joined = session.add_points_or_box(0, 1, [[30, 30]], [0], clear_old_points=False)
    other = VideoSession(model, make_clip(1))
    expected = other.add_points_or_box(0, 1, [*POINT, [30, 30]], [1, 0])
    np.testing.assert_array_equal(joined.mask_logits, expected.mask_logits)


def test_cleared_prompts_leave_the_other_ones(model):
    session = open_prompted(model, frames=5)
    expected = logits(session.propagate())
    session.add_mask(3, 7, MASK)
    session.clear_prompts(3, 7)
    np.testing.assert_array_equal(logits(session.propagate()), expected)
    session.clear_prompts(0, 7)
    with pytest.raises(ValueError, match="object_id 7 has no prompt left"):
        session.propagate()


def test_removed_object_leaves_the_others_as_they_were(model):
    session = open_prompted(model, frames=3)
    expected = logits(session.propagate())
    session.add_mask(1, 9, MASK)
    session.remove_object(9)
    assert session.object_ids == (7,)
    np.testing.assert_array_equal(logits(session.propagate()), expected)
    session.reset()
    assert session.object_ids == ()
    assert session.num_frames == 3


def test_overlap_goes_to_the_surest(model):
    session = open_prompted(model, non_overlapping=True)
    shown = session.add_mask(0, 2, MASK)
    assert shown.masks.sum(axis=0).max() == 1
    pair = torch.tensor([[[3.0, -1.0]], [[1.0, -2.0]]])
    assert without_overlap(pair).tolist() == [[[3.0, -1.0]], [[-10.0, -10.0]]]


def test_points_outside_the_picture_are_allowed(model):
    session = VideoSession(model, make_clip(1))
    shown = session.add_points_or_box(0, 1, [[-50, 500]])
    assert np.isfinite(shown.mask_logits).all()


NAN = float("nan")
REFUSED = {
    "frame_index 5 is not among": lambda s: s.add_points_or_box(5, 1, POINT),
    "frame_index -1 is not among": lambda s: s.add_mask(-1, 1, MASK),
    "frame_index is 0.5": lambda s: s.add_mask(0.5, 1, MASK),
    "object_id is 'a'": lambda s: s.add_points_or_box(0, "a", POINT),
    "object_id 4 is unknown": lambda s: s.remove_object(4),
    "object_id 5 is unknown": lambda s: s.clear_prompts(0, 5),
    "no prompt; accepted": lambda s: s.add_points_or_box(0, 8),
    "no prompt; accepted: at least": lambda s: s.add_points_or_box(0, 8, np.zeros((0, 2))),
    "labels is given without points": lambda s: s.add_points_or_box(0, 8, labels=[1]),
    r"points has shape \(2,\)": lambda s: s.add_points_or_box(0, 8, [1, 2]),
    "points has values that are not finite": lambda s: s.add_points_or_box(0, 8, [[NAN, 1]]),
    r"labels has shape \(2,\)": lambda s: s.add_points_or_box(0, 8, POINT, [1, 1]),
    r"labels has \[7.0\]": lambda s: s.add_points_or_box(0, 8, POINT, [7]),
    r"box has shape \(3,\)": lambda s: s.add_points_or_box(0, 8, box=[1, 2, 3]),
    r"box has \[9.0": lambda s: s.add_points_or_box(0, 8, box=[9, 1, 2, 3]),
    "box is given with clear_old_points": lambda s: s.add_points_or_box(
        0, 8, box=[1, 2, 3, 4], clear_old_points=False
    ),
    r"mask has shape \(40,\)": lambda s: s.add_mask(0, 8, MASK[:, 0]),
    r"mask has shape \(0, 4\)": lambda s: s.add_mask(0, 8, np.zeros((0, 4))),
    "frame_index 3 is not among": lambda s: s.propagate(3),
    "max_frames is -1": lambda s: s.propagate(max_frames=-1),
    "max_frames is 1.5; accepted: an integer": lambda s: s.propagate(max_frames=1.5),
    r"object_id is \[7\]; accepted: an integer": lambda s: s.remove_object([7]),
    "push is for streams": lambda s: s.push(make_clip(1)[0]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_call_leaves_the_session_as_it_was(model, message):
    session, untouched = (open_prompted(model, frames=3) for _ in range(2))
    with pytest.raises(ValueError, match=message):
        REFUSED[message](session)
    assert session.object_ids == (7,)
    assert session.num_bytes == untouched.num_bytes
    np.testing.assert_array_equal(logits(session.propagate()), logits(untouched.propagate()))


def test_clip_without_objects_is_not_propagated(model):
    with pytest.raises(ValueError, match="there is no object"):
        VideoSession(model, make_clip(1)).propagate()


def test_stream_refuses_what_only_clips_can(model):
    stream = VideoSession(model, options=VideoOptions(cached_frames=2))
    with pytest.raises(ValueError, match="accepted: none yet"):
        stream.add_points_or_box(0, 1, POINT)
    for frame in make_clip(3):
        stream.push(frame)
    with pytest.raises(ValueError, match="accepted: 1 to 2"):
        stream.add_points_or_box(0, 1, POINT)
    with pytest.raises(ValueError, match="a stream is tracked by push"):
        stream.propagate()


@pytest.mark.parametrize(
    "pixels", [np.zeros((40, 61, 3), np.uint8), np.zeros((40, 60), np.uint8), make_clip(1)[0] / 255]
)
def test_stream_refuses_a_frame_of_another_kind_and_goes_on(model, pixels):
    stream = VideoSession(model)
    stream.push(make_clip(1)[0])
    with pytest.raises(ValueError, match="pixels is"):
        stream.push(pixels)
    assert stream.push(make_clip(2)[1]).frame_index == 1


def test_options_are_checked():
    with pytest.raises(ValueError, match="cached_frames is 0; accepted: at least 1"):
        VideoOptions(cached_frames=0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_session_stays_near_fp32(model, dtype, bound):
    half = make_model()
    half.tracker.to(dtype)
    runs = []
    for each in (model, half):
        session = open_prompted(each, frames=4)
        session.add_mask(2, 7, MASK)
        runs.append(logits(session.propagate()))
    assert runs[1].dtype == np.float32
    assert np.linalg.norm(runs[1] - runs[0]) <= bound * np.linalg.norm(runs[0])
