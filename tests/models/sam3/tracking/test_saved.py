"""A stream that goes on in another session knows its objects again."""

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import MODELS
from models.common.masks import CropMask
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
from models.sam3.tracking.session import Sam3Session
from tests.models.sam3.tracking.worlds import world_frames

CONCEPTS = ["cow", "bus", "deer"]
OPTIONS = replace(MODELS["sam3-nano"].session, keep_exemplars=True)


@pytest.fixture(scope="module")
def frames():
    return [one.pixels for one in world_frames(60)]


class Clip:
    """A stream whose frames are given one by one."""

    def __init__(self, nano, memory=None, concepts=CONCEPTS, options=OPTIONS):
        self.session = Sam3Session(*nano, options)
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


def test_with_all_tensors_what_follows_is_equal_to_the_bit(nano, frames):
    box = ExemplarBox(box_xyxy=(0.2, 0.2, 0.5, 0.6))
    clip = Clip(nano, concepts=[*CONCEPTS, ConceptQuery(phrase="pig", exemplars=(box,))])
    for k in range(3):
        clip.see(frames[k], k / 10)
    assert clip.session._streams["a"].concepts[3].kept is not None
    again = Clip(nano, clip.save(is_full=True), concepts=[*CONCEPTS, "pig"])
    for k in range(3, 6):
        told = clip.see(frames[k], k / 10)
        assert told.masklets
        assert plain(again.see(frames[k], k / 10)) == plain(told)


@pytest.mark.slow
def test_sixty_frames_of_births_deaths_and_hidings_are_equal_to_the_bit(nano):
    pictures = [one.pixels for one in world_frames(80, first=20)]
    for k in (23, 24, 70):
        pictures[k] = np.full_like(pictures[k], 60)
    options = replace(OPTIONS, life=replace(OPTIONS.life, expiry_s=1.0))
    clip = Clip(nano, options=options)
    for k in range(20):
        known = {seen.masklet_id for seen in clip.see(pictures[k], k / 10).masklets}
    again = Clip(nano, clip.save(is_full=True), options=options)
    born, ended, hidden, came_back = set(), set(), set(), set()
    for k in range(20, 80):
        told = clip.see(pictures[k], k / 10)
        assert plain(again.see(pictures[k], k / 10)) == plain(told)
        seen = set(masks_of(told))
        born |= {one.masklet_id for one in told.masklets} - known
        ended |= set(told.ended)
        came_back |= hidden & seen
        hidden |= {one.masklet_id for one in told.masklets} - seen
    assert born
    assert ended & known
    assert came_back & known


def test_frames_repeated_in_other_batches_have_the_same_objects_and_masks_nearly_so(nano, frames):
    clip = Clip(nano)
    clip.session.open_stream("b", CONCEPTS)
    for k in range(2):
        clip.see(frames[k], k / 10)
    again = Clip(nano, clip.save(is_full=True))
    for k in range(2, 6):
        batch = [
            FrameInput(stream_id=name, pixels=frames[number], time_s=k / 10)
            for name, number in (("a", k), ("b", k + 20))
        ]
        together, alone = clip.session.step(batch)[0], again.see(frames[k], k / 10)
        assert together.ended == alone.ended
        before, after = (
            {(one.masklet_id, one.concept_id, one.is_matched): one.mask for one in told.masklets}
            for told in (together, alone)
        )
        assert before.keys() == after.keys() != set()
        for about, mask in before.items():
            assert mask.is_empty == after[about].is_empty
            assert mask.is_empty or mask.iou(after[about]) >= 0.99


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


@pytest.mark.parametrize("life", [OPTIONS.life, MODELS["sam3"].session.life])
def test_object_known_by_its_place_alone_is_found_there_under_its_number(nano, frames, life):
    options = replace(OPTIONS, life=life)
    clip = Clip(nano, options=options)
    (first, *_) = clip.see(frames[0], 0.0).masklets
    x, y, width, height = first.mask.bbox
    reminder = Reminder(
        masklet_id=77,
        concept_id=first.concept_id,
        score=0.5,
        centre_xy=(x + width / 2, y + height / 2),
        last_seen_s=0.0,
    )
    empty = Clip(nano, options=options)
    memory = replace(empty.save(), reminders=[reminder, replace(reminder, concept_id="none")])
    again = Clip(nano, memory, options=options)
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
    assert masks_of(again.see(frames[2], 0.3)).keys() >= masks_of(told).keys()


@pytest.mark.parametrize("has_gap", [False, True])
def test_what_may_have_moved_is_shown_and_remembered_once_it_is_confirmed(nano, frames, has_gap):
    clip = Clip(nano)
    for k in range(2):
        told = clip.see(frames[k], k / 10)
    again = Clip(nano, clip.save(is_full=True, has_gap=has_gap))
    again.see(np.full_like(frames[0], 60), 0.2)
    newest = {one.bank.newest for one in again.session._streams["a"].masklets}
    assert newest == ({1} if has_gap else {2})
    assert masks_of(again.see(frames[2], 0.3)).keys() >= masks_of(told).keys()
    assert {one.bank.newest for one in again.session._streams["a"].masklets} == {3}


def test_what_was_missed_ends_nobody_on_probation(nano, frames):
    clip = Clip(nano)
    told = clip.see(frames[0], 0.0)
    again = Clip(nano, clip.save(is_full=True, has_gap=True))
    blank = again.see(np.full_like(frames[0], 60), 1.4)
    assert blank.ended == ()
    assert len(blank.masklets) == len(told.masklets) > 1
    masklets = again.session._streams["a"].masklets
    assert {one.last_matched_s for one in masklets} == {1.4}
    assert {one.unmatched_s for one in masklets} == {0.0}


def test_concepts_that_are_no_longer_looked_for_are_left_out(nano, frames):
    clip = Clip(nano)
    told = clip.see(frames[0], 0.0)
    kept = {seen.masklet_id for seen in told.masklets if seen.concept == "cow"}
    assert 0 < len(kept) < len(told.masklets)
    again = Clip(nano, clip.save(is_full=True), concepts=["pig", "cow"])
    told = again.see(frames[0], 0.1)
    assert {seen.masklet_id for seen in told.masklets if seen.concept == "cow"} >= kept


def test_exemplars_for_the_next_frame_are_saved(nano, frames):
    box = ExemplarBox(box_xyxy=(0.25, 0.25, 0.5, 0.625))
    clip = Clip(nano)
    clip.see(frames[0], 0.0)
    clip.session.add_exemplars("a", [box], concept="deer")
    again = Clip(nano, clip.save(is_full=True))
    assert [one.pending for one in again.session._streams["a"].concepts] == [(), (), (box,)]
    assert plain(again.see(frames[1], 0.1)) == plain(clip.see(frames[1], 0.1))
    # They were for one frame, and that has been: the query they came with brings them no more.
    query = ConceptQuery(phrase="deer", exemplars=(box,))
    later = Clip(nano, again.save(is_full=True), concepts=["cow", "bus", query])
    assert later.session._streams["a"].concepts[2].pending == ()
    newer = Clip(nano, again.save(is_full=True), concepts=["cow", replace(query, phrase="pig")])
    assert newer.session._streams["a"].concepts[1].pending == (box,)


def test_chosen_object_without_a_memory_ends_as_any_other(nano, frames):
    clip = Clip(nano)
    clip.see(frames[0], 0.0)
    chosen = clip.session.add_object("a", box=(60, 40, 140, 110), label="mine").masklet_id
    again = Clip(nano, clip.save())
    expiry_s = OPTIONS.life.expiry_s
    assert chosen in {seen.masklet_id for seen in again.see(frames[1], expiry_s).masklets}
    assert chosen in again.see(frames[2], expiry_s + 0.1).ended
    whole = Clip(nano, clip.save(is_full=True))
    assert chosen in {seen.masklet_id for seen in whole.see(frames[1], expiry_s + 1).masklets}


def rewritten(memory, change):
    """The memory with other numbers."""
    body = json.loads(memory.numbers)
    change(body)
    return replace(memory, numbers=json.dumps(body))


def first(body):
    return body["masklets"][0]


NAN = float("nan")
DAMAGED_NUMBERS = {
    "version": (lambda body: body.update(version=1), "version 1"),
    "layout": (lambda body: body["layout"].update(memory_dim=7), "memory_dim=7"),
    "lacking": (lambda body: body.pop("masklets"), "masklets: Field required"),
    "text": (lambda body: first(body)["facts"].update(score="1"), r"facts.score: Input should be"),
    "good": (lambda body: first(body).update(good=[1]), r"masklets.0: good is \(1,\)"),
    "good-again": (lambda body: first(body).update(good=[0, 0]), "growing from 0"),
    "good-early": (lambda body: first(body).update(good=[-1]), "growing from 0"),
    "newest": (lambda body: first(body).update(newest=9), "newest is 9; accepted: at most 0"),
    "frame": (lambda body: body.update(frame_index=-2), "frame_index is -2"),
    "frames": (lambda body: body.update(frame_index=2**60), "frame_index is"),
    "next": (lambda body: body.update(next_id=1), "masklet_id is 1; accepted: at most 0"),
    "nexts": (lambda body: body.update(next_id=2**60), "next_id is"),
    "id": (lambda body: first(body)["facts"].update(masklet_id=0), "masklet_id is 0"),
    "twice": (lambda body: body["masklets"].append(first(body)), "masklet_id is 1 again"),
    "time": (lambda body: body.update(time_s=NAN), "time_s is nan; accepted: a finite number"),
    "times": (lambda body: body.update(time_s=float("inf")), "time_s is inf"),
    "matched": (lambda body: first(body)["facts"].update(last_matched_s=NAN), "last_matched_s"),
    "occluded": (lambda body: first(body)["facts"].update(last_occluded_s=NAN), "last_occluded_s"),
    "score": (lambda body: first(body)["facts"].update(score=2.0), "score is 2.0"),
    "place": (lambda body: first(body)["facts"]["place"].update(x=NAN), "place.x is nan"),
    "unmatched": (lambda body: first(body)["facts"].update(unmatched_s=-1.0), "unmatched_s"),
    "shared": (lambda body: first(body)["facts"].update(shared_s={"3": NAN}), "shared_s.3"),
    "presence": (
        lambda body: body["concepts"]["cow"].update(presence=NAN),
        "concepts.cow.presence",
    ),
    "pending": (
        lambda body: body["concepts"]["cow"].update(pending=[{"box_xyxy": [1, 1, 0, 0]}]),
        "box_xyxy",
    ),
}


@pytest.fixture(scope="module")
def seen(nano, frames):
    """What is known, in whole and in short, after one frame; with prompt tokens and its masks."""
    box = ExemplarBox(box_xyxy=(0.2, 0.2, 0.5, 0.6))
    clip = Clip(nano, concepts=["cow", "bus", ConceptQuery(phrase="deer", exemplars=(box,))])
    view = View(pixels=frames[0], masks=masks_of(clip.see(frames[0], 0.0)))
    assert view.masks.keys() >= {1, 2}
    return clip.save(is_full=True), clip.save(views=[view])


def refusal(nano, memory):
    """Why a memory is refused; no stream is open then."""
    session = Sam3Session(*nano, OPTIONS)
    with pytest.raises(SavedStateError) as caught:
        session.restore_stream("a", CONCEPTS, memory)
    assert session._streams == {}
    return str(caught.value)


@pytest.mark.parametrize("fault", DAMAGED_NUMBERS)
def test_numbers_of_no_stream_open_none_and_are_named(nano, seen, fault):
    change, reason = DAMAGED_NUMBERS[fault]
    assert re.search(reason, refusal(nano, rewritten(seen[0], change)))


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 200_000, "\ud800", '{"version": 1' + "0" * 5000 + "}"]
)
def test_text_that_is_no_numbers_opens_no_stream(nano, seen, text):
    assert "saved tracker: text: " in refusal(nano, replace(seen[0], numbers=text))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kept/deer/tokens", lambda tokens: tokens[..., :-1]),
        ("kept/deer/tokens", lambda tokens: tokens[0]),
        ("kept/deer/tokens", lambda tokens: tokens.astype("U8")),
        ("kept/deer/tokens", lambda tokens: tokens * np.float32(NAN)),
        ("kept/deer/is_valid", lambda is_valid: np.ones((1, 7), bool)),
        ("kept/deer/is_valid", lambda is_valid: is_valid.astype(np.float32)),
    ],
)
def test_prompt_tokens_that_do_not_fit_open_no_stream(nano, seen, name, change):
    arrays = {**seen[0].arrays, name: change(seen[0].arrays[name])}
    assert name.rpartition("/")[0] in refusal(nano, replace(seen[0], arrays=arrays))


def test_picture_of_another_kind_opens_no_stream(nano, seen):
    (view,) = seen[1].views
    for pixels in (view.pixels[..., 0], view.pixels.astype(np.float32), view.pixels[:0]):
        memory = replace(seen[1], views=[replace(view, pixels=pixels)])
        assert "accepted: uint8, (H, W, 3)" in refusal(nano, memory)


DAMAGED_MEMORIES = {
    "shape": lambda name, map_: {name: map_[:-1]},
    "type": lambda name, map_: {name: map_.astype("U8")},
    "complex": lambda name, map_: {name: map_.astype(np.complex64)},
    "nan": lambda name, map_: {name: map_ * np.float32(NAN)},
    "partner": lambda name, map_: {name: None},
    "kind": lambda name, map_: {name: None, name.replace("given-map", "odd"): map_},
    "frame": lambda name, map_: {name.replace("map/0", "map/x"): map_},
    "later": lambda name, map_: {
        name.replace("map/0", "map/1"): map_,
        name.replace("map/0", "pointer/1"): np.zeros(64, np.float32),
    },
    "odd": lambda name, map_: {name.replace("given-map", "map"): map_},
}


@pytest.mark.parametrize("fault", DAMAGED_MEMORIES)
def test_object_whose_memory_is_damaged_costs_the_others_nothing(nano, frames, seen, fault):
    whole, _ = seen
    name = "memory/1/given-map/0"
    changed = {**whole.arrays, **DAMAGED_MEMORIES[fault](name, whole.arrays[name])}
    arrays = {name: array for name, array in changed.items() if array is not None}
    session = Sam3Session(*nano, OPTIONS)
    (problem,) = session.restore_stream("a", CONCEPTS, replace(whole, arrays=arrays))
    assert re.match(r"saved tracker: masklet 1: .*accepted: ", problem)
    masklets = {one.masklet_id: one for one in session._streams["a"].masklets}
    assert [number for number, one in masklets.items() if one.is_reminder] == [1]
    for k in (1, 2):
        session.step([FrameInput(stream_id="a", pixels=frames[k], time_s=k / 10)])


def test_what_does_not_fit_of_one_object_in_a_view_is_left_out(nano, seen):
    _, short = seen
    (view,) = short.views
    masks = {**view.masks, 1: CropMask.empty((150, 200))}
    arrays = {**short.arrays, "newest-pointer/2": np.zeros(63, np.float32)}
    odd = Reminder(
        masklet_id=70, concept_id="cow", score=NAN, centre_xy=(0.5, 0.5), last_seen_s=0.0
    )
    living = replace(odd, masklet_id=2, score=0.5)
    memory = replace(
        short, views=[replace(view, masks=masks)], arrays=arrays, reminders=[odd, living]
    )
    session = Sam3Session(*nano, OPTIONS)
    problems = session.restore_stream("a", CONCEPTS, memory)
    assert [problem.split(": ")[1] for problem in problems] == [
        "masklet 1",
        "masklet 2",
        "masklet 70",
    ]
    masklets = session._streams["a"].masklets
    assert [one.masklet_id for one in masklets if one.is_reminder] == [1]
    assert len({one.masklet_id for one in masklets}) == len(masklets) == len(view.masks)


ODD_VALUES = st.one_of(
    st.sampled_from([None, True, "", "cow", -1, 0, 1, 3, 2**70, -(2**70), NAN, 1e400, -1e400]),
    st.floats(),
    st.lists(st.integers(-2, 5), max_size=3),
    st.dictionaries(st.sampled_from(["1", "x", "time_s"]), st.integers(-2, 5), max_size=2),
)
ODD_ARRAYS = st.sampled_from(
    [
        None,
        *(lambda array: array[:0], lambda array: array[..., :-1], lambda array: array[None]),
        *(lambda array: array.astype("U8"), lambda array: array.astype(np.float64)),
        *(lambda array: array * np.float32(NAN), lambda array: array.astype(bool)),
        *(lambda array: -array.astype(np.float32), lambda array: np.float32(0) + np.zeros(())),
    ]
)


def paths(body, path=()):
    """Ways to all parts of a JSON document but itself."""
    items = body.items() if isinstance(body, dict) else enumerate(body)
    for key, part in items:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from paths(part, (*path, key))


def at(body, path):
    for key in path:
        body = body[key]
    return body


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_is_damaged_is_refused_or_tracked_on(nano, frames, seen, data):
    memory = data.draw(st.sampled_from(seen))
    body, arrays = json.loads(memory.numbers), dict(memory.arrays)
    if data.draw(st.booleans()):
        *way, last = data.draw(st.sampled_from(list(paths(body))))
        parent = at(body, way)
        how = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
        if how == "remove":
            del parent[last]
        elif how == "repeat" and isinstance(parent, list):
            parent.append(parent[last])
        else:
            parent[last] = data.draw(ODD_VALUES)
    else:
        name, change = data.draw(st.sampled_from(list(arrays))), data.draw(ODD_ARRAYS)
        array = arrays.pop(name)
        if change is not None:
            arrays[data.draw(st.sampled_from([name, name + "1", "odd"]))] = change(array)
    session = Sam3Session(*nano, OPTIONS)
    damaged = replace(memory, numbers=json.dumps(body), arrays=arrays)
    try:
        session.restore_stream("a", CONCEPTS, damaged)
    except SavedStateError:
        assert session._streams == {}
        return
    time_s = max(session._streams["a"].time_s, 0.0)
    for k in (1, 2, 3):
        item = FrameInput(stream_id="a", pixels=frames[k], time_s=time_s + k / 10)
        (told,) = session.step([item])
        numbers = [one.masklet_id for one in told.masklets]
        assert len(set(numbers)) == len(numbers)
