from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.world.compose import MIN_VISIBLE_PX
from connectors.world.config import Split
from connectors.world.light import Light
from connectors.world.wide.actors import Course, WideActor
from connectors.world.wide.camera import Conditions
from connectors.world.wide.casting import MOST_IN_CROWD, SMALLEST_PX, WideContent
from connectors.world.wide.catalogue import (
    WIDE_CONCEPTS,
    Manner,
    is_held_out_combination,
    wide_concept_named,
)
from connectors.world.wide.compose import WideScene, draw_wide_frame
from connectors.world.wide.phrases import Verdict, is_held_out
from connectors.world.wide.questions import Asked, View, draw_wide_questions
from connectors.world.wide.scene import WideConfig, WideWorld
from connectors.world.wide.still import render_wide_clip, render_wide_still

SIDE = 96
FULL = WideContent(empty_probability=0.0)
SMALL = WideConfig(seed=0, width=112, height=SIDE, duration_s=25.0, content=FULL)
seeds = st.integers(0, 2**32)
splits = st.sampled_from(Split)


def make_still(seed, **content):
    rng = np.random.default_rng(seed)
    return render_wide_still(rng, size=SIDE, content=replace(FULL, **content))


def make_view(frame):
    present = [thing for thing in frame.visible_objects if thing.visibility > 0.15]
    return View(present=present, seen=frame.visible_objects, is_night=frame.is_night)


def ask_training(rng, num_scenes, **content):
    """Return what training is asked of the first scenes, six questions each."""
    return [
        question
        for seed in range(num_scenes)
        for question in draw_wide_questions(
            rng, make_view(make_still(seed, **content)), split=Split.TRAIN, number=6
        )
    ]


def assert_same(one, other):
    assert np.array_equal(one.pixels, other.pixels)
    assert [t.object_id for t in one.objects] == [t.object_id for t in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert np.array_equal(a.visible_mask, b.visible_mask)
        assert (a.concept, a.attributes, a.visibility) == (b.concept, b.attributes, b.visibility)


@settings(max_examples=12, deadline=None)
@given(seed=seeds, index=st.integers(0, 249))
def test_frame_depends_on_config_and_index_only(seed, index):
    first, second = WideWorld(replace(SMALL, seed=seed)), WideWorld(replace(SMALL, seed=seed))
    second.render(0)
    assert_same(first.render(index), second.render(index))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, split=splits)
def test_still_depends_on_the_generator_only(seed, split):
    assert_same(make_still(seed, split=split), make_still(seed, split=split))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, split=splits)
def test_masks_are_disjoint_and_inside_silhouettes(seed, split):
    frame = make_still(seed, split=split)
    assert frame.pixels.shape == (SIDE, SIDE, 3)
    for thing in frame.objects:
        assert not (thing.visible_mask & ~thing.full_mask).any()
        assert (thing.visibility > 0) == (thing.visible_mask.sum() >= MIN_VISIBLE_PX)
    for one, other in combinations(frame.objects, 2):
        assert not (one.visible_mask & other.visible_mask).any()


@settings(max_examples=40, deadline=None)
@given(seed=seeds, odd_looks=st.sampled_from((0.0, 0.7)))
def test_training_never_draws_what_is_held_out(seed, odd_looks):
    for thing in make_still(seed, crowd_probability=0.5, odd_looks=odd_looks).objects:
        concept = wide_concept_named(thing.concept)
        assert not concept.is_held_out
        assert not any(is_held_out_combination(a, concept) for a in thing.attributes)


def test_test_splits_draw_what_training_never_saw():
    combos = [t for s in range(30) for t in make_still(s, split=Split.TEST_COMBINATIONS).objects]
    concepts = [t for s in range(30) for t in make_still(s, split=Split.TEST_CONCEPTS).objects]
    named = [(wide_concept_named(thing.concept), thing) for thing in combos]
    assert sum(any(is_held_out_combination(a, c) for a in t.attributes) for c, t in named) >= 10
    assert not any(concept.is_held_out for concept, _ in named)
    assert sum(wide_concept_named(thing.concept).is_held_out for thing in concepts) >= 10


@settings(max_examples=60, deadline=None)
@given(seed=seeds, split=splits, number=st.integers(1, 8), odd_looks=st.sampled_from((0.0, 0.6)))
def test_answers_are_complete(seed, split, number, odd_looks):
    odd_looks = odd_looks if split is Split.TRAIN else 0.0
    frame = make_still(seed, split=split, night_probability=0.3, odd_looks=odd_looks)
    view = make_view(frame)
    rng = np.random.default_rng(seed)
    for question in draw_wide_questions(rng, view, split=split, number=number):
        verdicts = {
            thing.object_id: question.phrase.verdict(thing, is_night=frame.is_night)
            for thing in frame.visible_objects
        }
        assert Verdict.UNSURE not in verdicts.values()
        covered = {i for i, verdict in verdicts.items() if verdict is Verdict.YES}
        assert covered == set(question.object_ids)
        assert bool(covered) == (question.asked is Asked.PRESENT)
        assert split is not Split.TRAIN or not is_held_out(question.phrase)


def test_questions_are_of_all_sorts():
    rng = np.random.default_rng(0)
    asked = ask_training(rng, 60)
    shares = {why: np.mean([q.asked is why for q in asked]) for why in Asked}
    assert min(shares.values()) > 0.02
    assert 0.3 < shares[Asked.PRESENT] < 0.6
    with pytest.raises(ValueError, match="number of questions"):
        draw_wide_questions(rng, make_view(make_still(0)), split=Split.TRAIN, number=0)


def make_scene(*actors, **conditions):
    clear = Light(is_night=False, gain=1.0, gamma=1.0, tint=(1.0, 1.0, 1.0), noise=0.0)
    return WideScene(
        backdrop=np.full((120, 160, 3), 117, dtype=np.uint8),
        margin_px=0,
        horizon=0.3,
        obstacles=(),
        actors=dict(enumerate(actors)),
        conditions=Conditions(light=clear, **conditions),
        noise_seed=1,
    )


def draw(*actors, **conditions):
    return draw_wide_frame(make_scene(*actors, **conditions), index=0, time_s=0.0)


def make_actor(concept, *attributes, **changes):
    still = WideActor(
        concept=concept, attributes=attributes, course=Course.STAY, start_x=0.5, foot=0.9,
        height=0.5,
    )  # fmt: skip
    return replace(still, **changes)


@pytest.mark.parametrize("concept", [c for c in WIDE_CONCEPTS if c.manner is not Manner.STAND][::6])
def test_mask_is_what_is_drawn(concept):
    frame = draw(make_actor(concept.name))
    (thing,) = frame.objects
    changed = (np.abs(frame.pixels.astype(int) - draw().pixels) > 6).any(axis=2)
    # Artwork may hold some grey of its own; a shadow lies around the feet, never above them.
    assert changed[thing.visible_mask].mean() > 0.8
    feet = np.flatnonzero(thing.full_mask.any(axis=1))[-1]
    above = changed[: feet - 10] & ~thing.visible_mask[: feet - 10]
    assert above.sum() < 0.35 * thing.visible_mask.sum()


def test_nearer_thing_hides_farther_one():
    far, near = make_actor("car", "red", foot=0.85, height=0.4), make_actor("bus", "white")
    frame = draw(far, near)
    car, bus = frame.objects
    assert bus.depth < car.depth
    assert np.array_equal(bus.visible_mask, bus.full_mask)
    assert np.array_equal(car.visible_mask, car.full_mask & ~bus.full_mask)
    assert car.visibility == pytest.approx(car.visible_mask.sum() / car.full_mask.sum())


def test_fog_rain_and_compression_change_the_picture_and_not_the_truth():
    deer = make_actor("deer", foot=0.4, height=0.2)
    clear = draw(deer)
    for weather in ({"fog": 0.7}, {"rain": 0.8}, {"jpeg_quality": 20}, {"blur_px": 0.8}):
        other = draw(deer, **weather)
        assert not np.array_equal(other.pixels, clear.pixels)
        assert np.array_equal(other.objects[0].visible_mask, clear.objects[0].visible_mask)


def test_shake_moves_the_truth_along_with_the_picture():
    calm, shaken = draw(make_actor("car")), draw(make_actor("car"), shake=0.05, phase=1.0)
    (before,), (after,) = calm.objects, shaken.objects
    assert not np.array_equal(before.full_mask, after.full_mask)
    changed = (np.abs(shaken.pixels.astype(int) - draw().pixels) > 6).any(axis=2)
    assert changed[after.visible_mask].mean() > 0.8


def test_what_recedes_shrinks():
    leaving = make_actor("runner", recession=0.2, course=Course.CROSS)
    near, far = (leaving.pose_at(t, width=160, height=120, horizon=0.3) for t in (0.0, 4.0))
    assert far.height_px < 0.7 * near.height_px
    assert far.foot_px < near.foot_px


def test_stills_hold_crowds_empties_nights_tiny_and_large_things():
    stills = [make_still(seed, empty_probability=0.06) for seed in range(150)]
    counts = [len(still.objects) for still in stills]
    rows = [
        np.ptp(np.flatnonzero(thing.full_mask.any(axis=1))) + 1
        for still in stills
        for thing in still.visible_objects
    ]
    assert min(counts) == 0
    assert 8 <= max(counts) <= MOST_IN_CROWD
    assert 0.05 < np.mean([still.is_night for still in stills]) < 0.3
    assert min(rows) <= SMALLEST_PX + 2
    assert max(rows) >= 0.4 * SIDE
    hidden = [thing.visibility == 0.0 for still in stills for thing in still.objects]
    partly = [0.0 < thing.visibility < 0.7 for still in stills for thing in still.objects]
    assert np.mean(hidden) > 0.01
    assert 0.1 < np.mean(partly) < 0.7


def test_night_is_grey():
    night = make_still(3, night_probability=1.0)
    assert night.is_night
    assert np.ptp(night.pixels.astype(int), axis=2).max() <= 4


def test_clip_keeps_identities_and_moves():
    clip = render_wide_clip(np.random.default_rng(8), size=SIDE, num_frames=6, fps=4.0)
    seen = {}
    for frame in clip:
        for thing in frame.objects:
            known = seen.setdefault(thing.object_id, (thing.concept, thing.attributes))
            assert known == (thing.concept, thing.attributes)
    assert [frame.index for frame in clip] == list(range(6))
    assert len({frame.pixels.tobytes() for frame in clip}) == 6


@settings(max_examples=4, deadline=None)
@given(seed=seeds)
def test_nothing_that_moves_pops_up_in_mid_frame(seed):
    world = WideWorld(replace(SMALL, seed=seed, fps=20.0, duration_s=12.0))
    before = world.render(0)
    for index in range(1, world.num_frames):
        now = world.render(index)
        gone = {thing.object_id: thing for thing in before.objects}
        come = {thing.object_id: thing for thing in now.objects}
        for object_id in gone.keys() ^ come.keys():
            mask = (gone | come)[object_id].full_mask
            assert mask[:, :9].any() or mask[:, -9:].any()
        before = now


def test_an_object_leaves_and_returns():
    for seed in range(40):
        world = WideWorld(replace(SMALL, seed=seed, fps=4.0))
        frames = [{t.object_id for t in world.render(i).objects} for i in range(world.num_frames)]
        for object_id in set.union(*frames):
            shown = "".join("x" if object_id in ids else " " for ids in frames)
            if len(shown.split()) > 1:
                return
    pytest.fail("nothing came back in 40 scenes")


@pytest.mark.parametrize("index", [-1, 250])
def test_render_refuses_index_outside_the_scene(index):
    with pytest.raises(IndexError, match="is not in"):
        WideWorld(SMALL).render(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seed": -1}, "seed"), ({"width": 8}, "32x32"), ({"fps": 0.0}, "fps")],
)
def test_config_refuses_nonsense(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_objects": 4, "max_objects": 3}, "min_objects"),
        ({"concepts": ("unicorn",)}, "unknown concept 'unicorn'"),
        ({"concepts": ("donkey",)}, "leave nothing to draw in split 'train'"),
    ],
)
def test_content_refuses_nonsense(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(FULL, **changes)


@pytest.mark.parametrize(("num_frames", "fps"), [(0, 10.0), (3, 0.0)])
def test_clip_refuses_nonsense(num_frames, fps):
    with pytest.raises(ValueError, match="expected"):
        render_wide_clip(np.random.default_rng(0), size=SIDE, num_frames=num_frames, fps=fps)
