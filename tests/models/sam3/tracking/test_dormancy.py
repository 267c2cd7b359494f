"""Masklets that no detection has matched for long: what they cost, and how they come back."""

from dataclasses import replace

import numpy as np
import pytest

from connectors.world.scene import World, WorldConfig
from models.build import build_sam3
from models.catalogue import MODELS
from models.protocols import FrameInput
from models.sam3.tracking.session import Sam3Session

NANO = MODELS["sam3-nano"].session
LIFE = replace(NANO.life, expiry_s=30.0, dormant_s=1.0, revive_s=10.0)


@pytest.fixture(scope="module")
def nano():
    return build_sam3("sam3-nano", checkpoint=None, device="cpu")


@pytest.fixture(scope="module")
def frames():
    world = World(WorldConfig(seed=12, min_objects=3, width=200, height=150))
    return [world.render(40 + k).pixels for k in range(3)]


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


def test_a_dormant_masklet_costs_no_pass_and_comes_back_where_it_was(nano, frames, num_tracked):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    for k, pixels in enumerate(frames):
        before = clip.see(pixels, k / 10)
    ids = {seen.masklet_id for seen in before.masklets if not seen.mask.is_empty}
    assert ids
    clip.see(nothing, 1.0)
    hidden = clip.see(nothing, 2.0)
    assert {seen.masklet_id for seen in hidden.masklets} >= ids
    assert all(seen.mask.is_empty for seen in hidden.masklets)
    num_tracked.clear()
    memory = clip.session.num_memory_bytes
    dormant = clip.see(nothing, 2.1)
    assert num_tracked == []
    assert clip.session.num_memory_bytes == memory
    assert [seen.pointer for seen in dormant.masklets] == [None] * len(dormant.masklets)
    back = clip.see(frames[-1], 9.0)
    assert {seen.masklet_id for seen in back.masklets if not seen.mask.is_empty} & ids
    clip.see(frames[-1], 9.1)
    assert num_tracked[-1] >= 1


def test_dormant_masklets_make_room_and_the_oldest_goes_first(nano, frames):
    clip, nothing = Clip(nano, max_masklets=2), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    assert len(first) == 2
    clip.see(nothing, 1.5)
    # Mirrored, what is there lies elsewhere: nothing comes back.
    told = clip.see(np.ascontiguousarray(frames[0][::-1, ::-1]), 1.6)
    shown = {seen.masklet_id for seen in told.masklets}
    assert len(shown) == 2
    assert shown - first
    assert set(told.ended) == first - shown


def test_a_dormant_masklet_expires(nano, frames):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    assert {seen.masklet_id for seen in clip.see(nothing, 30.0).masklets} == first
    assert set(clip.see(nothing, 30.1).ended) == first


@pytest.mark.parametrize(("time_s", "is_same"), [(9.9, True), (10.1, False)])
def test_after_a_while_nobody_comes_back(nano, frames, time_s, is_same):
    clip, nothing = Clip(nano), np.full_like(frames[0], 60)
    first = {seen.masklet_id for seen in clip.see(frames[0], 0.0).masklets}
    clip.see(nothing, 5.0)
    told = clip.see(frames[0], time_s)
    shown = {seen.masklet_id for seen in told.masklets if not seen.mask.is_empty}
    assert shown
    assert (shown == first) == is_same
    assert is_same or not shown & first
