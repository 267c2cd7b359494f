"""Masklets that no detection has matched for long: what they cost, and how they come back."""

from dataclasses import replace

import numpy as np
import pytest

from models.catalogue import MODELS
from models.protocols import FrameInput
from models.sam3.tracking.session import Sam3Session
from tests.models.sam3.tracking.worlds import world_frames

NANO = MODELS["sam3-nano"].session
LIFE = replace(NANO.life, expiry_s=30.0, dormant_s=1.0)


@pytest.fixture(scope="module")
def frames():
    return [one.pixels for one in world_frames(3)]


@pytest.fixture
def num_tracked(nano):
    """How many objects the tracker followed into each frame."""
    counts = []

    def count(_module, given, _output):
        counts.append(given[2].tokens.shape[0])

    handle = nano[0].tracker_model.memory_attention.register_forward_hook(count)
    yield counts
    handle.remove()


class Clip:
    """A stream whose frames are given one by one."""

    def __init__(self, nano, **changes):
        self.session = Sam3Session(*nano, replace(NANO, life=LIFE, **changes))
        self.session.open_stream("a", ["cow", "bus", "deer"])

    def see(self, pixels, time_s):
        (told,) = self.session.step([FrameInput(stream_id="a", pixels=pixels, time_s=time_s)])
        return told


def test_a_dormant_masklet_costs_neither_a_pass_nor_memory(nano, frames, num_tracked):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    ids = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    assert len(ids) > 1
    clip.see(nothing, 1.0)
    assert num_tracked == [len(ids)]
    clip.see(nothing, 2.0)
    num_tracked.clear()
    memory = clip.session.num_memory_bytes
    dormant = clip.see(nothing, 2.1).masklets
    assert num_tracked == []
    assert clip.session.num_memory_bytes == memory
    assert {seen.masklet_id for seen in dormant} == ids
    assert all(seen.mask.is_empty and seen.pointer is None for seen in dormant)


@pytest.mark.parametrize(("time_s", "comes_back"), [(1.0, True), (1.1, False)])
def test_what_is_found_in_place_of_a_dormant_masklet_is_new(nano, frames, time_s, comes_back):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    clip.see(nothing, time_s)
    told = clip.see(frames[0], time_s + 0.1)
    shown = {seen.masklet_id for seen in told.masklets if not seen.mask.is_empty}
    assert shown
    assert shown == first if comes_back else not shown & first


def test_dormant_masklets_make_room_and_the_oldest_goes_first(nano, frames):
    clip, nothing = Clip(nano, max_masklets=2), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    assert len(first) == 2
    clip.see(nothing, 1.5)
    told = clip.see(frames[0], 1.6)
    shown = {seen.masklet_id for seen in told.masklets}
    assert len(shown) == 2
    assert shown - first
    assert set(told.ended) == first - shown


def test_a_dormant_masklet_expires(nano, frames):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    assert {seen.masklet_id for seen in clip.see(nothing, 30.0).masklets} == first
    assert set(clip.see(nothing, 30.1).ended) == first
