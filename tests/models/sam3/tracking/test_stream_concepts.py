"""Concepts that come, are called otherwise and go while their stream goes on."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from connectors.world.scene import World, WorldConfig
from models.catalogue import MODELS
from models.common.masks import CropMask
from models.protocols import (
    Concept,
    ConceptQuery,
    DeviceLostError,
    EditableTracker,
    ExemplarBox,
    FrameInput,
    StreamMemory,
)
from models.sam3.tracking.session import Sam3Session
from tests.models.sam3.tracking.worlds import world_frames

NANO = MODELS["sam3-nano"].session
CONCEPTS = ["cow", "bus", "deer"]


@pytest.fixture(scope="module")
def frames():
    return [one.pixels for one in world_frames(10)]


class Clips:
    """Streams of one session that see the same frames, and some of them more."""

    def __init__(self, nano, frames, **streams):
        self.session = Sam3Session(*nano, NANO)
        self.frames, self.names = frames, list(streams)
        self.index = -1
        for stream_id, concepts in streams.items():
            self.session.open_stream(stream_id, concepts)

    def see(self):
        self.index += 1
        time_s, pixels = self.index / 10, self.frames[self.index]
        return {
            told.stream_id: told
            for told in self.session.step(
                [FrameInput(stream_id=one, pixels=pixels, time_s=time_s) for one in self.names]
            )
        }


def plain(prediction, *, without=(), known_s=math.inf, **renamed):
    """What a prediction says, comparable to the bit; numbers only of what was known by a time."""
    told = [
        {one.name: getattr(seen, one.name) for one in fields(seen)}
        for seen in prediction.masklets
        if seen.concept_id not in without
    ]
    for seen in told:
        seen["mask"] = seen["mask"].run_lengths().counts
        seen["pointer"] = None if seen["pointer"] is None else seen["pointer"].tobytes()
        seen["masklet_id"] = seen["masklet_id"] if seen["first_seen_s"] <= known_s else None
        seen["concept"] = renamed.get(seen["concept"], seen["concept"])
    presence = {renamed.get(name, name): value for name, value in prediction.presence.items()}
    return told, {name: value for name, value in presence.items() if name not in without}


def ids_of(prediction, concept_id):
    return [seen.masklet_id for seen in prediction.masklets if seen.concept_id == concept_id]


def test_a_session_can_be_told_to_look_for_something_else(nano):
    assert isinstance(Sam3Session(*nano), EditableTracker)


def test_an_added_concept_is_found_on_the_next_frame_and_changes_nothing_else(nano, frames):
    clips = Clips(nano, frames, a=["bus"], b=CONCEPTS)
    undisturbed = Clips(nano, frames, a=["bus"], b=CONCEPTS)
    for _ in range(3):
        assert {one: plain(told) for one, told in clips.see().items()} == {
            one: plain(told) for one, told in undisturbed.see().items()
        }
    clips.session.add_concept("a", "cow", concept_id="my-cow")
    for _ in range(4):
        seen, expected = clips.see(), undisturbed.see()
        assert ids_of(seen["a"], "my-cow")
        assert {one.concept for one in seen["a"].masklets} >= {"cow"}
        assert plain(seen["a"], without=("my-cow", "cow"), known_s=0.2) == plain(
            expected["a"], known_s=0.2
        )
        assert plain(seen["b"]) == plain(expected["b"])


def test_a_renamed_concept_is_called_otherwise_and_looked_for_as_before(nano, frames):
    clips, undisturbed = (Clips(nano, frames, a=CONCEPTS) for _ in range(2))
    before = clips.see()["a"]
    undisturbed.see()
    clips.session.rename_concept("a", "cow", "Emma")
    for _ in range(3):
        seen = clips.see()["a"]
        assert {*ids_of(seen, "cow")} >= {*ids_of(before, "cow")} != set()
        assert plain(seen, Emma="cow") == plain(undisturbed.see()["a"])
        assert set(seen.presence) == {"Emma", "bus", "deer"}
    clips.session.rename_concept("a", "cow", "cow")
    assert plain(clips.see()["a"]) == plain(undisturbed.see()["a"])


@pytest.mark.parametrize("removed", CONCEPTS)
def test_a_removed_concept_takes_its_masklets_and_leaves_the_others_equal(nano, frames, removed):
    clips, undisturbed = (Clips(nano, frames, a=CONCEPTS) for _ in range(2))
    for _ in range(3):
        before = clips.see()["a"]
        undisturbed.see()
    assert ids_of(before, removed)
    memory = clips.session.num_memory_bytes
    clips.session.remove_concept("a", removed)
    assert clips.session.num_memory_bytes < memory
    for _ in range(6):
        seen, other = clips.see()["a"], undisturbed.see()["a"]
        gone = np.any([m.mask.full() for m in other.masklets if m.concept_id == removed], axis=0)
        seen = replace(seen, masklets=tuple(without_gain(seen, other, gone)))
        expected = plain(other, without=(removed,), known_s=0.2)
        assert plain(seen, known_s=0.2) == expected
        assert not seen.ended
    assert seen.masklets


def without_gain(seen, other, gone):
    """Masklets without the pixels that they would have shared with what is gone."""
    kept = [
        one for one in other.masklets if one.concept_id in {m.concept_id for m in seen.masklets}
    ]
    for mine, theirs in zip(seen.masklets, kept, strict=True):
        full, before = mine.mask.full(), theirs.mask.full()
        gained = full & ~before
        assert not (gained & ~gone).any()
        yield replace(mine, mask=CropMask.of(full & ~gained))


def test_a_concept_that_comes_again_is_found_anew(nano, frames):
    clips = Clips(nano, frames, a=CONCEPTS)
    first = ids_of(clips.see()["a"], "cow")
    clips.session.remove_concept("a", "cow")
    assert ids_of(clips.see()["a"], "cow") == []
    clips.session.add_concept("a", "cow", concept_id="cow")
    again = ids_of(clips.see()["a"], "cow")
    assert again
    assert min(again) > max(first)


def test_without_its_last_concept_a_stream_goes_on_and_finds_nothing(nano, frames):
    clips = Clips(nano, frames, a=["cow"])
    assert clips.see()["a"].masklets
    clips.session.remove_concept("a", "cow")
    for _ in range(2):
        told = clips.see()["a"]
        assert (told.masklets, told.presence) == ((), {})
    clips.session.add_concept("a", "cow", concept_id="cow")
    assert clips.see()["a"].masklets


def test_what_a_person_chose_stays_when_a_concept_of_its_name_goes(nano, frames):
    clips = Clips(nano, frames, a=["cow", "bus"])
    clips.see()
    chosen = clips.session.add_object("a", box=(60, 40, 140, 110), label="cow").masklet_id
    clips.session.remove_concept("a", "cow")
    assert ids_of(clips.see()["a"], "cow") == [chosen]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda it: it.add_concept("a", " COW ", concept_id="x"),
            r"'a' has a concept of phrase ' COW ' already; accepted: another than \['cow', 'bus'",
        ),
        (lambda it: it.add_concept("a", "pig", concept_id="cow"), "of concept_id 'cow' already"),
        (lambda it: it.add_concept("a", "emma", concept_id="emma"), "of name 'emma' already"),
        (lambda it: it.add_concept("a", " ", concept_id="x"), "phrase is ' '; accepted: text"),
        (lambda it: it.add_concept("a", 5, concept_id="x"), "phrase 5 is a int; accepted: a str"),
        (
            lambda it: it.add_concept("a", "pig", concept_id="My pig"),
            "'My pig'; accepted: small letters, digits and hyphens, such as 'my-pig'",
        ),
        (lambda it: it.add_concept("a", "pig", concept_id=""), "concept_id is ''; accepted: text"),
        (lambda it: it.add_concept("z", "pig", concept_id="x"), "'z' is not open"),
        (lambda it: it.rename_concept("a", "cow", "bus"), "of name 'bus' already"),
        (lambda it: it.rename_concept("a", "cow", ""), "name is ''; accepted: text"),
        (lambda it: it.rename_concept("a", "pig", "x"), r"no concept of id 'pig'; accepted: \['c"),
        (lambda it: it.remove_concept("a", "pig"), "no concept of id 'pig'; accepted"),
        (lambda it: it.remove_concept("z", "cow"), "'z' is not open"),
    ],
)
def test_a_refused_change_leaves_the_stream_as_it_was(nano, frames, edit, message):
    clips = Clips(nano, frames, a=["cow", "bus", "deer"])
    clips.session.rename_concept("a", "deer", "Emma")
    clips.see()
    before = replace(clips.session._streams["a"])
    concepts = [replace(one) for one in before.concepts]
    with pytest.raises(ValueError, match=message):
        edit(clips.session)
    assert clips.session._streams["a"] == before
    assert [one.concept for one in before.concepts] == [one.concept for one in concepts]


@pytest.mark.parametrize("field", ["concept_id", "phrase", "name"])
def test_a_stream_is_not_opened_with_two_concepts_that_share_something(nano, field):
    one = Concept(concept_id="a", phrase="cow", name="Emma")
    other = Concept(concept_id="b", phrase="bus", name="Line 5")
    session, twin = Sam3Session(*nano), replace(other, **{field: getattr(one, field)})
    with pytest.raises(ValueError, match=f"has a concept of {field} .* already"):
        session.open_stream("a", [one, twin])
    session.open_stream("a", [one, other])


def test_ids_of_phrases_keep_clear_of_ids_that_are_given(nano):
    session = Sam3Session(*nano)
    given = Concept(concept_id="cow", phrase="brown cow", name="brown")
    shown = ConceptQuery(exemplars=(ExemplarBox(box_xyxy=(0, 0, 1, 1)),))
    session.open_stream("a", ["cow", given, "cow herd", shown])
    concepts = session._streams["a"].concepts
    assert [one.concept_id for one in concepts] == ["cow-2", "cow", "cow-herd", "visual"]
    assert [one.name for one in concepts] == ["cow", "brown", "cow herd", "visual"]
    assert [one.has_phrase for one in concepts] == [True, True, True, False]


def test_a_restored_stream_goes_on_with_the_concepts_it_has_by_then(nano):
    world = World(WorldConfig(seed=1, min_objects=3, width=320, height=240))
    frames = [world.render(28 + k).pixels for k in range(5)]
    clips, undisturbed = (Clips(nano, frames, a=["pig", "bus", "deer"]) for _ in range(2))
    clips.see()
    clips.session.add_concept("a", "cow", concept_id="c1")
    clips.session.rename_concept("a", "deer", "Emma")
    clips.session.remove_concept("a", "bus")
    clips.see()
    saved = clips.session.save_stream("a")
    clips.session.remove_concept("a", "pig")  # what was saved stays as it was
    clips.session.rename_concept("a", "deer", "Bella")
    memory = StreamMemory(numbers=saved.numbers(), arrays=saved.arrays(is_full=True))
    deer = Concept(concept_id="deer", phrase="deer", name="Emma")
    cow = Concept(concept_id="c1", phrase="cow", name="cow")
    again = Clips(nano, frames)
    again.names, again.index = ["a"], clips.index
    again.session.restore_stream("a", ["pig", deer, cow], memory)
    for _ in range(2):
        undisturbed.see()
    for _ in range(3):
        expected = plain(undisturbed.see()["a"], without=("bus",), deer="Emma")
        told = again.see()["a"]
        assert {"pig", "Emma"} <= {one.concept for one in told.masklets}
        assert plain(told, without=("c1", "cow")) == expected


def test_a_concept_cannot_be_added_on_a_lost_device(nano, frames):
    clips = Clips(nano, frames, a=["cow"])

    def fail(*_):
        raise torch.AcceleratorError("CUDA error: unknown error")

    handle = nano[0].detector_model.text_encoder.register_forward_hook(fail)
    with pytest.raises(DeviceLostError, match="unknown"):
        clips.session.add_concept("a", "a phrase that nobody asked for", concept_id="x")
    handle.remove()
    assert set(clips.see()["a"].presence) == {"cow"}
