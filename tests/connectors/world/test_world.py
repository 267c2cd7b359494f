from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.world.background import Backdrop
from connectors.world.compose import MIN_VISIBLE_PX, Scene, draw_frame
from connectors.world.concepts import ABSENT_PHRASES, CONCEPTS, SPRITES, concept_named
from connectors.world.light import Light
from connectors.world.motion import SMALLEST, TALLEST, Actor, Path
from connectors.world.scene import DEMO, World, WorldConfig

PLAIN_LIGHT = Light(is_night=False, gain=1.0, gamma=1.0, tint=(1.0, 1.0, 1.0), noise=0.0)
SMALL = WorldConfig(seed=0, width=96, height=80, duration_s=25.0, empty_probability=0.0)
seeds = st.integers(0, 2**32)


def make_actor(**changes):
    still = Actor(
        concept="car", start_x=0.5, start_s=0.0, velocity=0.0, nearness=0.5, height=0.4,
        steps_per_s=0.0,
    )  # fmt: skip
    return replace(still, **changes)


def make_scene(*actors, light=PLAIN_LIGHT):
    grey = np.full((120, 160, 3), 128, dtype=np.uint8)
    backdrop = Backdrop(pixels=grey, horizon=0.3)
    return Scene(
        backdrop=backdrop, props=(), actors=dict(enumerate(actors)), light=light, noise_seed=1
    )


@settings(max_examples=20, deadline=None)
@given(seed=seeds, index=st.integers(0, 249))
def test_render_depends_on_seed_and_index_only(seed, index):
    first, second = World(replace(SMALL, seed=seed)), World(replace(SMALL, seed=seed))
    for other in (249, 0, index - index // 2):
        second.render(other)
    a, b = first.render(index), second.render(index)
    assert np.array_equal(a.pixels, b.pixels)
    assert [thing.object_id for thing in a.objects] == [thing.object_id for thing in b.objects]
    assert all(
        np.array_equal(x.visible_mask, y.visible_mask)
        for x, y in zip(a.objects, b.objects, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, index=st.integers(0, 249))
def test_visible_masks_are_disjoint_and_inside_full_masks(seed, index):
    frame = World(replace(SMALL, seed=seed)).render(index)
    for thing in frame.objects:
        assert not (thing.visible_mask & ~thing.full_mask).any()
        assert 0.0 <= thing.visibility <= 1.0
        assert (thing.visibility > 0) == (thing.visible_mask.sum() >= MIN_VISIBLE_PX)
    for one, other in combinations(frame.objects, 2):
        assert not (one.visible_mask & other.visible_mask).any()


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_world_keeps_to_its_bounds(seed):
    config = replace(SMALL, seed=seed, max_objects=3, concepts=("pig", "bus"))
    world = World(config)
    for index in range(0, world.num_frames, 25):
        frame = world.render(index)
        assert len(frame.objects) <= 3
        assert {thing.concept for thing in frame.objects} <= {"pig", "bus"}
        for thing in frame.objects:
            rows = np.flatnonzero(thing.full_mask.any(axis=1))
            assert rows[-1] - rows[0] + 1 <= (TALLEST + 0.03) * 80


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_object_id_keeps_its_concept_and_its_place_in_depth(seed):
    world = World(replace(SMALL, seed=seed, max_objects=4))
    seen: dict[int, tuple[str, float]] = {}
    for index in range(0, world.num_frames, 10):
        for thing in world.render(index).objects:
            known = seen.setdefault(thing.object_id, (thing.concept, thing.depth))
            assert known == (thing.concept, thing.depth)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_nobody_pops_up_or_vanishes_in_mid_frame(seed):
    world = World(replace(SMALL, seed=seed, fps=25.0))
    before = world.render(0)
    for index in range(1, world.num_frames):
        now = world.render(index)
        gone = {thing.object_id: thing for thing in before.objects}
        come = {thing.object_id: thing for thing in now.objects}
        for object_id in gone.keys() ^ come.keys():
            mask = (gone | come)[object_id].full_mask
            assert mask[:, :5].any() or mask[:, -5:].any()
            assert mask.sum() < 0.5 * mask.shape[0] * mask.shape[1] * TALLEST**2
        before = now


@pytest.mark.parametrize("concept", [concept.name for concept in CONCEPTS])
def test_mask_is_what_is_drawn(concept):
    empty, drawn = (
        draw_frame(make_scene(), index=0, time_s=0.0),
        draw_frame(make_scene(make_actor(concept=concept), light=PLAIN_LIGHT), index=0, time_s=0.0),
    )
    (thing,) = drawn.objects
    changed = (np.abs(drawn.pixels.astype(int) - empty.pixels) > 8).any(axis=2)
    # Artwork may hold some grey of its own; a shadow lies around the feet, never above them.
    assert changed[thing.visible_mask].mean() > 0.85
    feet = np.flatnonzero(thing.full_mask.any(axis=1))[-1]
    above = changed[: feet - 8] & ~thing.visible_mask[: feet - 8]
    assert above.sum() < 0.35 * thing.visible_mask.sum()


def test_nearer_object_hides_farther_one():
    far, near = make_actor(nearness=0.5), make_actor(nearness=0.52, concept="bus", height=0.45)
    frame = draw_frame(make_scene(far, near), index=0, time_s=0.0)
    car, bus = frame.objects
    assert bus.depth < car.depth
    assert np.array_equal(bus.visible_mask, bus.full_mask)
    assert np.array_equal(car.visible_mask, car.full_mask & ~bus.full_mask)
    assert car.visibility == pytest.approx(car.visible_mask.sum() / car.full_mask.sum())


def test_visibility_counts_what_lies_outside_the_frame():
    (half,) = draw_frame(make_scene(make_actor(start_x=0.0)), index=0, time_s=0.0).objects
    assert np.array_equal(half.visible_mask, half.full_mask)
    assert 0.4 < half.visibility < 0.6


@pytest.mark.parametrize("velocity", [0.1, -0.1])
def test_sprite_faces_where_it_goes(velocity):
    # A car seen from the side is not symmetric: its own mirror image tells the two apart.
    there, back = (
        draw_frame(make_scene(make_actor(velocity=v)), index=0, time_s=0.0).objects[0].full_mask
        for v in (velocity, -velocity)
    )
    assert not np.array_equal(there, back)
    overlap = (there[:, 1:] & back[:, :0:-1]).sum() / (there[:, 1:] | back[:, :0:-1]).sum()
    assert overlap > 0.93
    pose = make_actor(velocity=velocity).pose_at(0.0, width=160, height=120, horizon=0.3)
    assert pose.faces_right == (velocity > 0)


def test_visit_turns_round_and_returns():
    actor = make_actor(path=Path.VISIT, start_x=-0.2, velocity=0.14, span_s=10.0)
    places = [actor.x_at(time_s) for time_s in (-5.0, 0.0, 5.0, 10.0, 50.0)]
    assert places == pytest.approx([-0.2, -0.2, 0.5, -0.2, -0.2])


def test_night_is_grey_and_day_is_not():
    night, day = (
        World(replace(SMALL, night_probability=chance)).render(40).pixels.astype(int)
        for chance in (1.0, 0.0)
    )
    assert np.ptp(night, axis=2).max() == 0
    assert np.ptp(day, axis=2).max() > 20


def test_empty_world_has_no_object():
    world = World(replace(SMALL, empty_probability=1.0))
    assert all(world.render(index).objects == () for index in range(0, 250, 10))


def test_demo_deer_is_hidden_whole_and_comes_out():
    world = World(DEMO)
    shown = [
        {thing.object_id: thing for thing in world.render(index).objects}
        for index in range(0, world.num_frames, 2)
    ]
    far_deer = [objects[0].visibility for objects in shown if 0 in objects]
    hidden = [place for place, visibility in enumerate(far_deer) if visibility == 0.0]
    assert len(hidden) >= 2
    assert max(far_deer[: hidden[0]]) == 1.0
    assert max(far_deer[hidden[-1] :]) == 1.0


def test_demo_deer_cross_each_other():
    world = World(DEMO)
    middles = []
    for index in (20, 80):
        deer = [thing for thing in world.render(index).objects if thing.concept == "deer"]
        middles.append([np.nonzero(thing.full_mask)[1].mean() for thing in deer])
    assert middles[0][0] > middles[0][1]
    assert middles[1][0] < middles[1][1]


def test_demo_shows_its_first_object_at_once():
    assert World(DEMO).render(0).visible_objects


@pytest.mark.parametrize("index", [-1, 250])
def test_render_refuses_index_outside_the_scene(index):
    with pytest.raises(IndexError, match="is not in"):
        World(SMALL).render(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"width": 8}, "32x32"),
        ({"fps": 0.0}, "fps"),
        ({"min_objects": 4, "max_objects": 3}, "min_objects"),
        ({"concepts": ()}, "at least one concept"),
        ({"concepts": ("unicorn",)}, "unknown world concept 'unicorn'"),
    ],
)
def test_config_refuses_nonsense(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_every_phrase_names_one_thing_only():
    phrases = [p for concept in CONCEPTS for p in (concept.name, *concept.synonyms)]
    assert len(set(phrases)) == len(phrases)
    assert len(set(ABSENT_PHRASES)) == len(ABSENT_PHRASES)
    assert not set(phrases) & set(ABSENT_PHRASES)


def test_every_concept_has_its_own_artwork():
    assert {concept.sprite for concept in CONCEPTS} <= SPRITES.keys()
    assert len({concept.sprite for concept in CONCEPTS}) == len(CONCEPTS) == 12
    assert all(SMALLEST / TALLEST <= concept.stature <= 1 for concept in CONCEPTS)
    assert concept_named("deer").synonyms[0] == "stag"
