"""A stream that goes on in another session knows its objects again."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from connectors.world.scene import World, WorldConfig
from models.build import build_sam3
from models.catalogue import MODELS
from models.protocols import (
    ConceptQuery,
    ExemplarBox,
    FrameInput,
    Reminder,
    ResumableTracker,
    SavedStateError,
    StreamMemory,
    View,
)
from models.sam3.tracking.masklet import Masklet
from models.sam3.tracking.saved import SavedMasklet
from models.sam3.tracking.session import Sam3Session

CONCEPTS = ["cow", "bus", "deer"]
OPTIONS = replace(MODELS["sam3-nano"].session, keep_exemplars=True)


@pytest.fixture(scope="module")
def nano():
    return build_sam3("sam3-nano", checkpoint=None, device="cpu")


@pytest.fixture(scope="module")
def frames():
    world = World(WorldConfig(seed=12, min_objects=3, width=200, height=150))
    return [world.render(40 + k).pixels for k in range(60)]


class Clip:
    """A stream whose frames are given one by one."""

    def __init__(self, nano, memory=None, concepts=CONCEPTS):
        self.session = Sam3Session(*nano, OPTIONS)
        if memory is None:
            self.session.open_stream("a", concepts)
        else:
            self.session.restore_stream("a", concepts, memory)

    def see(self, pixels, time_s):
        (told,) = self.session.step([FrameInput(stream_id="a", pixels=pixels, time_s=time_s)])
        return told

    def save(self, *, is_full=False, **more):
        saved = self.session.save_stream("a")
        return StreamMemory(numbers=saved.numbers(), arrays=saved.arrays(is_full=is_full), **more)


def plain(prediction):
    """What a prediction says, comparable to the bit."""
    told = [
        {one.name: getattr(seen, one.name) for one in fields(seen)} for seen in prediction.masklets
    ]
    for seen in told:
        seen["mask"] = seen["mask"].run_lengths().counts
        seen["pointer"] = None if seen["pointer"] is None else seen["pointer"].tobytes()
    return told, prediction.ended, prediction.presence


def masks_of(prediction):
    return {seen.masklet_id: seen.mask for seen in prediction.masklets if not seen.mask.is_empty}


def test_a_session_is_a_tracker_whose_streams_can_go_on(nano):
    assert isinstance(Sam3Session(*nano), ResumableTracker)


@pytest.mark.parametrize(
    ("num_before", "num_after"), [(3, 3), pytest.param(30, 30, marks=pytest.mark.slow)]
)
def test_with_all_tensors_what_follows_is_equal_to_the_bit(nano, frames, num_before, num_after):
    box = ExemplarBox(box_xyxy=(0.2, 0.2, 0.5, 0.6))
    clip = Clip(nano, concepts=[*CONCEPTS, ConceptQuery(phrase="pig", exemplars=(box,))])
    for k in range(num_before):
        clip.see(frames[k], k / 10)
    assert clip.session._streams["a"].concepts[3].kept is not None
    blank = np.full_like(frames[0], 60)
    again = Clip(nano, clip.save(is_full=True), concepts=[*CONCEPTS, "pig"])
    for k in range(num_before, num_before + num_after):
        pixels = blank if k % 7 == 5 else frames[k]
        told = clip.see(pixels, k / 10)
        assert told.masklets
        assert plain(again.see(pixels, k / 10)) == plain(told)


def test_what_was_saved_stays_as_it_was_while_the_stream_goes_on(nano, frames):
    clip = Clip(nano)
    clip.see(frames[0], 0.0)
    saved = clip.session.save_stream("a")
    numbers, arrays = saved.numbers(), saved.arrays(is_full=True)
    copies = {name: array.copy() for name, array in arrays.items()}
    for k in (1, 2):
        clip.see(frames[k], k / 10)
    assert saved.numbers() == numbers
    assert saved.arrays(is_full=True).keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, copies[name])


def test_one_picture_is_enough_to_know_every_object_again(nano, frames):
    clip = Clip(nano)
    for k in range(4):
        told = clip.see(frames[k], k / 10)
    small = frames[3][::2, ::2]
    memory = clip.save(views=[View(pixels=small, masks=masks_of(told))])
    assert all(array.size <= 256 for array in memory.arrays.values())
    again = Clip(nano, memory)
    for k in range(4, 6):
        before, after = (
            masks_of(clip.see(frames[k], k / 10)),
            masks_of(again.see(frames[k], k / 10)),
        )
        same = before.keys() & after.keys()
        assert len(same) >= len(before) - 1 > 1
        for number in same:
            assert before[number].iou(after[number]) > 0.5


def test_object_known_by_its_place_alone_is_found_there_under_its_number(nano, frames):
    clip = Clip(nano)
    (first, *_) = clip.see(frames[0], 0.0).masklets
    x, y, width, height = first.mask.bbox
    reminder = Reminder(
        masklet_id=77,
        concept_id=first.concept_id,
        score=0.5,
        centre_xy=(x + width / 2, y + height / 2),
        last_seen_s=0.0,
    )
    empty = Clip(nano)
    memory = replace(empty.save(), reminders=[reminder, replace(reminder, concept_id="none")])
    again = Clip(nano, memory)
    told = {seen.masklet_id: seen for seen in again.see(frames[0], 0.1).masklets}
    assert told[77].mask.iou(first.mask) > 0.9
    assert told[77].is_matched
    later = {seen.masklet_id: seen for seen in again.see(frames[1], 0.2).masklets}
    assert not later[77].mask.is_empty
    assert again.session._streams["a"].next_id > 77


def test_masklet_without_view_waits_at_its_place(nano, frames):
    clip = Clip(nano)
    for k in range(2):
        told = clip.see(frames[k], k / 10)
    again = Clip(nano, clip.save())
    nothing = again.see(np.full_like(frames[0], 60), 0.2)
    assert {seen.masklet_id for seen in nothing.masklets} == set(masks_of(told))
    assert masks_of(nothing) == {}
    found = set(masks_of(again.see(frames[2], 0.3)))
    assert len(found & set(masks_of(told))) > 1  # what comes in by the edge is somebody else


def test_concepts_that_are_no_longer_looked_for_are_left_out(nano, frames):
    clip = Clip(nano)
    told = clip.see(frames[0], 0.0)
    kept = {seen.masklet_id for seen in told.masklets if seen.concept == "cow"}
    assert 0 < len(kept) < len(told.masklets)
    again = Clip(nano, clip.save(is_full=True), concepts=["pig", "cow"])
    told = again.see(frames[0], 0.1)
    assert {seen.masklet_id for seen in told.masklets if seen.concept == "cow"} >= kept


def test_every_field_of_a_masklet_is_saved():
    saved = {one.name for one in fields(SavedMasklet)} - {"concept_id", "good", "newest"}
    assert saved == {one.name for one in fields(Masklet)} - {"concept", "bank"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body.update(version=2), "version 2"),
        (lambda body: body["layout"].update(memory_dim=7), "memory_dim=7"),
        (lambda body: body.pop("masklets"), "masklets"),
        (lambda body: body["masklets"][0].update(good=[99]), "lacks its pointer"),
    ],
)
def test_numbers_that_do_not_fit_open_no_stream(nano, frames, change, reason):
    clip = Clip(nano)
    clip.see(frames[0], 0.0)
    memory = clip.save(is_full=True)
    body = json.loads(memory.numbers)
    change(body)
    other = Sam3Session(*nano)
    for numbers, text in ((json.dumps(body), reason), (memory.numbers[:-3], "is not JSON")):
        with pytest.raises(SavedStateError, match=text):
            other.restore_stream("a", CONCEPTS, replace(memory, numbers=numbers))
        assert other._streams == {}


@pytest.mark.parametrize("fault", ["shape", "partner", "name"])
def test_arrays_that_do_not_fit_open_no_stream(nano, frames, fault):
    clip = Clip(nano)
    clip.see(frames[0], 0.0)
    memory = clip.save(is_full=True)
    arrays = dict(memory.arrays)
    name = next(name for name in arrays if "given-map" in name)
    if fault == "shape":
        arrays[name] = arrays[name][:-1]
    elif fault == "partner":
        del arrays[name]
    else:
        arrays[name.replace("given-map", "odd")] = arrays.pop(name)
    other = Sam3Session(*nano)
    with pytest.raises(SavedStateError):
        other.restore_stream("a", CONCEPTS, replace(memory, arrays=arrays))
    assert other._streams == {}
