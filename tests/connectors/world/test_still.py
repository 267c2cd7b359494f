import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.world.still import StillConfig, render_clip, render_still


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_still_is_a_function_of_the_generator(seed):
    first, second = (render_still(np.random.default_rng(seed), size=96) for _ in range(2))
    assert first.pixels.shape == (96, 96, 3)
    assert np.array_equal(first.pixels, second.pixels)
    assert [o.concept for o in first.objects] == [o.concept for o in second.objects]


def test_successive_stills_differ():
    rng = np.random.default_rng(3)
    first, second = render_still(rng, size=96), render_still(rng, size=96)
    assert not np.array_equal(first.pixels, second.pixels)


def test_clip_keeps_identities_and_moves():
    clip = render_clip(
        np.random.default_rng(5),
        size=96,
        num_frames=6,
        fps=4.0,
        config=StillConfig(min_objects=3, empty_probability=0.0, prop_probability=0.0),
    )
    assert [frame.index for frame in clip] == list(range(6))
    for object_id, concept in {(o.object_id, o.concept) for f in clip for o in f.objects}:
        masks = [o.full_mask for f in clip for o in f.objects if o.object_id == object_id]
        assert {o.concept for f in clip for o in f.objects if o.object_id == object_id} == {concept}
        assert len(masks) < 2 or not np.array_equal(masks[0], masks[-1])


def test_stills_hold_occlusions_crowds_and_negatives():
    rng = np.random.default_rng(0)
    stills = [render_still(rng, size=96) for _ in range(150)]
    visibilities = [thing.visibility for still in stills for thing in still.objects]
    counts = [len(still.visible_objects) for still in stills]
    assert {0, 1, 3, 5} <= set(counts)
    assert 0.05 < np.mean([0.0 < v < 0.6 for v in visibilities]) < 0.6
    assert {thing.concept for still in stills for thing in still.objects} >= {"deer", "car", "cat"}


def test_still_config_decides_what_appears():
    config = StillConfig(concepts=("cow",), empty_probability=0.0, night_probability=1.0)
    still = render_still(np.random.default_rng(1), size=96, config=config)
    assert {thing.concept for thing in still.objects} == {"cow"}
    assert np.ptp(still.pixels.astype(int), axis=2).max() == 0


@pytest.mark.parametrize(("num_frames", "fps"), [(0, 10.0), (3, 0.0)])
def test_clip_refuses_nonsense(num_frames, fps):
    with pytest.raises(ValueError, match="expected"):
        render_clip(np.random.default_rng(0), size=96, num_frames=num_frames, fps=fps)
