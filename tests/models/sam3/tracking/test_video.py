"""SAM 2's video session over SAM 3's tracker: one implementation, two checkpoints."""

import numpy as np
import pytest

from models.protocols import FrameInput
from models.sam2.promptable import PromptableTracker
from models.sam2.video import VideoSession
from models.sam3.tracking.session import Sam3Session
from tests.models.sam3.tracking.worlds import world_frames


@pytest.fixture(scope="module")
def frames():
    return world_frames(6)


def test_an_object_is_followed_by_sam3s_tracker(nano, frames):
    model = nano[0]
    video = VideoSession(PromptableTracker(model.tracker_model, model.encode_pixels))
    video.push(frames[0].pixels)
    first = video.add_mask(0, 7, frames[0].visible_objects[1].visible_mask)
    assert list(first.object_ids) == [7]
    for frame in frames[1:]:
        last = video.push(frame.pixels)
    shown = frames[-1].visible_objects[1].visible_mask
    assert (last.masks[0] & shown).sum() / (last.masks[0] | shown).sum() > 0.3


def test_a_chosen_object_of_a_stream_starts_as_one_of_a_video(nano, frames, monkeypatch):
    """Until memories are selected by quality the two are one algorithm: equal on the next frame.

    But for the refiner, which SAM 2's sessions know nothing of.
    """
    model, shown = nano[0], frames[0].visible_objects[1].visible_mask
    monkeypatch.setattr(model, "mask_refiner", None)
    video = VideoSession(PromptableTracker(model.tracker_model, model.encode_pixels))
    video.push(frames[0].pixels)
    video.add_mask(0, 1, shown)
    session = Sam3Session(*nano)
    session.open_stream("a", ["bus"])
    session.step([FrameInput(stream_id="a", pixels=frames[0].pixels, time_s=0.0)])
    chosen = session.add_object("a", mask=shown)
    by_video = video.push(frames[1].pixels)
    step = session.step([FrameInput(stream_id="a", pixels=frames[1].pixels, time_s=0.1)])[0]
    (seen,) = [m for m in step.masklets if m.masklet_id == chosen.masklet_id]
    assert np.mean(seen.mask.full() != by_video.masks[0]) < 1e-3
