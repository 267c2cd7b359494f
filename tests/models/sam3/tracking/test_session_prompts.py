"""Exemplars on streams, and objects that a person chooses, on the small trained model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.catalogue import MODELS, sam3_network
from models.common.masks import CropMask
from models.protocols import ConceptQuery, ExemplarBox, ExemplarPoint, FrameInput
from models.sam3.concept_search import encode_exemplars, find
from models.sam3.masks import to_images
from models.sam3.network.model import preprocess
from models.sam3.prompts import pack_exemplars
from models.sam3.tracking.options import SessionOptions
from models.sam3.tracking.session import Sam3Session
from tests.models.sam3.tracking.worlds import world_frames

NANO, NANO_SIDE = MODELS["sam3-nano"].session, sam3_network("sam3-nano").vision.image_size
# Equal prompts agree to 1e-5. Of a foreign noun the model is not sure before it is shown what is
# meant; of the world's own nouns it is.
CHANGED, FOREIGN = 0.05, "zebra"


@pytest.fixture(scope="module")
def frames():
    return world_frames(12)


def make_session(nano, options=NANO, **changes):
    return Sam3Session(*nano, replace(options, **changes))


def exemplar_of(frame, which=1):
    ys, xs = np.nonzero(frame.visible_objects[which].visible_mask)
    corners = (xs.min() / 200, ys.min() / 150, (xs.max() + 1) / 200, (ys.max() + 1) / 150)
    return ExemplarBox(box_xyxy=tuple(float(v) for v in corners))


def overlap(mask, frame, which=1):
    return mask.iou(CropMask.of(frame.visible_objects[which].visible_mask))


def step(session, frames, index, stream_id="a"):
    item = FrameInput(stream_id=stream_id, pixels=frames[index].pixels, time_s=index * 0.1)
    return session.step([item])[0]


def test_what_an_exemplar_finds_is_tracked_from_then_on(nano, frames):
    session = make_session(nano, detection_score=0.3)
    session.open_stream("a", [ConceptQuery(exemplars=(exemplar_of(frames[0]),))])
    first = step(session, frames, 0)
    (born,) = [m for m in first.masklets if overlap(m.mask, frames[0]) > 0.5]
    assert born.concept == "visual"
    assert born.is_matched
    seen = [step(session, frames, k) for k in range(1, 9)]  # then it goes behind something
    last = {m.masklet_id: m for m in seen[-1].masklets}
    assert overlap(last[born.masklet_id].mask, frames[8]) > 0.3
    assert not last[born.masklet_id].is_matched


def test_exemplars_are_read_on_the_next_frame_alone(nano, frames):
    session = make_session(nano)
    session.open_stream("a", [FOREIGN])
    session.open_stream("b", [FOREIGN])
    session.add_exemplars("a", [exemplar_of(frames[0])], concept=" ZEBRA ")
    shown = [[step(session, frames, k, s).presence[FOREIGN] for k in range(2)] for s in "ab"]
    assert abs(shown[0][0] - shown[1][0]) > CHANGED
    assert shown[0][1] == pytest.approx(shown[1][1], abs=1e-5)


def test_kept_exemplars_go_on_saying_what_is_meant(nano, frames):
    session = make_session(nano, keep_exemplars=True)
    for stream_id in "ab":
        session.open_stream(stream_id, [FOREIGN])
    session.add_exemplars("a", [exemplar_of(frames[0])], concept=FOREIGN)
    shown = [[step(session, frames, k, s).presence[FOREIGN] for k in range(3)] for s in "ab"]
    assert abs(shown[0][2] - shown[1][2]) > CHANGED
    session.clear_exemplars("a", concept=FOREIGN)
    last = [step(session, frames, 3, s).presence[FOREIGN] for s in "ab"]
    assert last[0] == pytest.approx(last[1], abs=1e-5)


def test_exemplars_drawn_on_the_last_frame_are_read_with_the_next(nano, frames):
    session = make_session(nano)
    for stream_id in "ab":
        session.open_stream(stream_id, [FOREIGN])
        step(session, frames, 0, stream_id)
    session.add_exemplars("a", [exemplar_of(frames[0])], concept=FOREIGN, on_last_frame=True)
    shown = [[step(session, frames, k, s).presence[FOREIGN] for k in (1, 2)] for s in "ab"]
    assert abs(shown[0][0] - shown[1][0]) > CHANGED
    assert shown[0][1] == pytest.approx(shown[1][1], abs=1e-5)


def test_the_same_frame_again_makes_both_kinds_of_exemplars_one(nano, frames):
    session, box = make_session(nano), exemplar_of(frames[0])
    for stream_id in "ab":
        session.open_stream(stream_id, [FOREIGN])
        with pytest.raises(ValueError, match="has had no frame; step one first"):
            session.add_exemplars(stream_id, [], concept=FOREIGN, on_last_frame=True)
        before = step(session, frames, 0, stream_id).presence[FOREIGN]
    text = session._streams["a"].concepts[0].text
    session.add_exemplars("a", [box], concept=FOREIGN, on_last_frame=True)
    session.add_exemplars("b", [box], concept=FOREIGN)
    shown = [step(session, frames, 0, s).presence[FOREIGN] for s in "ab"]
    # What the detector says to the tokens of the last frame's box, and to the box on this frame.
    detector, boxes = nano[0].detector_model, pack_exemplars([(box,)], torch.device("cpu"))
    with torch.inference_mode():
        images = preprocess(to_images(frames[0].pixels, torch.device("cpu")), NANO_SIDE)
        vision = detector.vision_encoder(images)
        tokens = encode_exemplars(detector, vision.detector_pyramid[-1], boxes)
        asked = ((text.extend(tokens), None), (text, boxes))
        expected = [
            find(detector, vision, torch.tensor([0]), [prompt], given, min_score=0.5)[0].presence
            for prompt, given in asked
        ]
    assert shown == pytest.approx(expected, abs=1e-5)
    # On an equal frame both are one but for the picture's own token, which saw only the second.
    assert abs(shown[0] - shown[1]) < 0.02 * abs(shown[1] - before)


def test_kept_exemplars_are_bounded(nano, frames):
    session = make_session(nano, keep_exemplars=True, max_kept_exemplars=3)
    session.open_stream("a", ["cow"])
    for k in range(5):
        session.add_exemplars("a", [exemplar_of(frames[k])] * 2, concept="cow")
        step(session, frames, k)
        (cow,) = session._streams["a"].concepts
        assert cow.kept.tokens.shape[1] == min(2 * (k + 1), 3)
        assert (cow.pending, cow.shown) == ((), None)


def test_streams_with_and_without_exemplars_share_a_batch(nano, frames):
    together, alone = make_session(nano), make_session(nano)
    together.open_stream("b", ["cow", "deer"])
    for session in (together, alone):
        session.open_stream("a", ["cow", ConceptQuery(exemplars=(exemplar_of(frames[0]),) * 3)])
    for k in range(3):
        inputs = [
            FrameInput(stream_id=s, pixels=frames[k].pixels, time_s=k * 0.1) for s in ("b", "a")
        ]
        both, single = together.step(inputs)[1], step(alone, frames, k)
        assert both.presence == pytest.approx(single.presence, abs=1e-4)
        assert [m.masklet_id for m in both.masklets] == [m.masklet_id for m in single.masklets]


def test_exemplars_alone_need_no_detector_between_them(nano, frames):
    session = make_session(nano)
    session.open_stream("a", [ConceptQuery(exemplars=(exemplar_of(frames[0]),))])
    passes = []
    handle = nano[0].detector_model.detr_decoder.register_forward_hook(lambda *_: passes.append(1))
    for k in range(4):
        step(session, frames, k)
    session.add_exemplars("a", [exemplar_of(frames[4])])
    step(session, frames, 4)
    handle.remove()
    assert len(passes) == 2


@pytest.mark.parametrize(
    ("exemplars", "concept", "message"),
    [
        ([ExemplarBox(box_xyxy=(0.5, 0.5, 0.5, 0.9))], "cow", "covers nothing"),
        ([ExemplarPoint(point_xy=(0.5, 0.5))], "cow", "hold points; accepted by this model: boxes"),
        ([(0, 0, 1, 1)], "cow", "is a tuple; accepted: an ExemplarBox"),
        ([ExemplarBox(box_xyxy=(0, 0, 1, 1))] * 2000, "cow", "2000 exemplars; accepted: at most"),
        ([ExemplarBox(box_xyxy=(0, 0, 1, 1))], "deer", r"no concept 'deer'; it has \['cow'\]"),
    ],
)
def test_refused_exemplars_leave_the_stream_as_it_was(nano, exemplars, concept, message):
    session = make_session(nano)
    session.open_stream("a", ["cow"])
    with pytest.raises(ValueError, match=message):
        session.add_exemplars("a", exemplars, concept=concept)
    assert session._streams["a"].concepts[0].pending == ()


def test_a_chosen_object_is_tracked_without_detections(nano, frames):
    session = make_session(nano, detection_score=1.0)
    session.open_stream("a", ["bus"])
    step(session, frames, 0)
    shown = frames[0].visible_objects[1].visible_mask
    chosen = session.add_object("a", mask=shown, label="that one")
    assert (chosen.masklet_id, chosen.concept, chosen.presence_score) == (1, "that one", 1.0)
    assert overlap(chosen.mask, frames[0]) > 0.8
    for k in range(1, 12):
        (seen,) = step(session, frames, k).masklets
    assert overlap(seen.mask, frames[11]) > 0.3
    assert (seen.first_seen_s, seen.concept) == (0.0, "that one")


def test_a_chosen_object_outlives_all_life_rules_until_it_is_removed(nano, frames):
    life = replace(NANO.life, expiry_s=0.05, unmatched_s=0.0, probation_s=9.0)
    session = make_session(nano, life=life, detection_score=1.0)
    session.open_stream("a", ["bus"])
    step(session, frames, 0)
    session.add_object("a", mask=frames[0].visible_objects[1].visible_mask)
    assert [len(step(session, frames, k).masklets) for k in range(1, 5)] == [1] * 4
    session.remove_object("a", 1)
    assert step(session, frames, 5).masklets == ()
    assert session.num_memory_bytes == 0


def test_points_and_boxes_choose_as_the_tracker_draws_them(nano, frames):
    session = make_session(nano)
    session.open_stream("a", ["bus"])
    step(session, frames, 0)
    by_points = session.add_object("a", points=[[60, 70], [5, 5]], labels=[1, 0])
    by_box = session.add_object("a", box=[40, 50, 90, 100])
    assert by_points.masklet_id != by_box.masklet_id
    assert by_points.mask.size_hw == by_box.mask.size_hw == (150, 200)
    assert {m.masklet_id for m in step(session, frames, 1).masklets} >= {1, 2}


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt; accepted: points, a box, both, or a mask"),
        ({"mask": np.zeros((150, 200), bool)}, "mask is empty"),
        ({"mask": np.ones((15, 20), bool)}, r"mask has shape \(15, 20\); accepted: \(150, 200\)"),
        ({"mask": np.ones((150, 200), bool), "box": [0, 0, 5, 5]}, "accepted: a mask alone"),
        ({"points": [[1, 2]], "labels": [7]}, r"labels has \[7\.0\]; accepted: 1"),
        ({"points": np.zeros((0, 2))}, "points has no point; accepted: at least one"),
        ({"labels": [1]}, "accepted"),
        ({"box": [9, 9, 2, 2]}, "accepted: x0, y0, x1, y1 in px"),
    ],
)
def test_a_refused_choice_leaves_the_stream_as_it_was(nano, frames, prompt, message):
    session = make_session(nano)
    session.open_stream("a", ["bus"])
    with pytest.raises(ValueError, match="has had no frame; step one first"):
        session.add_object("a", box=[0, 0, 5, 5])
    step(session, frames, 0)
    before = list(session._streams["a"].masklets)
    with pytest.raises(ValueError, match=message):
        session.add_object("a", **prompt)
    assert session._streams["a"].masklets == before


def test_a_full_stream_takes_no_more_objects(nano, frames):
    session = make_session(nano, SessionOptions(max_masklets=1, detection_score=1.0))
    session.open_stream("a", ["bus"])
    step(session, frames, 0)
    session.add_object("a", box=[40, 50, 90, 100])
    with pytest.raises(ValueError, match="has 1 masklets; accepted: at most 1"):
        session.add_object("a", box=[40, 50, 90, 100])
    with pytest.raises(ValueError, match=r"no masklet 5; living: \[1\]"):
        session.remove_object("a", 5)
