"""Recovery after full occlusion, of sequences that can be read: one letter a frame.

A digit is a frame on which the object counts and that track is on it, ``-`` one on which nobody
is; ``p`` shows a part, ``h`` is hidden, ``a`` is away.
"""

from dataclasses import replace

import numpy as np
import pytest

from connectors.world.compose import WorldFrame, WorldObject
from models.common.masks import CropMask
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.ledger import ClipLedger
from pipeline.lab.evaluation.video import VideoSettings, draw_clip, evaluate_video
from pipeline.lab.metrics.recovery import (
    Moment,
    Outcome,
    Recovery,
    Showing,
    count_recoveries,
    find_recoveries,
    showing_of,
)
from pipeline.tracking.track import Track
from tests.pipeline.fakes import make_track
from tests.pipeline.lab.oracles import OracleTracker

SHOWN = {"p": Showing.PARTLY, "h": Showing.HIDDEN, "a": Showing.AWAY}
FPS = 5.0


def moment(letter: str) -> Moment:
    if letter in SHOWN:
        return Moment(showing=SHOWN[letter])
    name = None if letter == "-" else int(letter)
    return Moment(showing=Showing.COUNTED, track_no=name)


def events_of(letters: str) -> list[Recovery]:
    return find_recoveries([moment(x) for x in letters], fps=FPS, clip=4, object_id=7)


def outcomes_of(letters: str) -> list[Outcome]:
    return [event.outcome for event in events_of(letters)]


def test_event_tells_when_for_how_long_and_how_it_ended() -> None:
    (event,) = events_of("11111phhhp11111")
    assert event == Recovery(
        clip=4,
        object_id=7,
        hidden_from=6,
        shown_from=10,
        hidden_s=pytest.approx(0.6),
        has_left=False,
        outcome=Outcome.RECOVERED,
    )


@pytest.mark.parametrize(
    ("letters", "outcome"),
    [
        ("11111hh-1---", Outcome.RECOVERED),
        ("11111hh221", Outcome.RECOVERED),
        ("11111hh22222", Outcome.RENAMED),
        ("11111hh-----1111", Outcome.LOST),
        ("11111hh----2", Outcome.RENAMED),
        ("-----hh11111", Outcome.UNTRACKED),
        ("11---hh11111", Outcome.UNTRACKED),
        ("111--hh11111", Outcome.RECOVERED),
        ("22111hh11111", Outcome.RECOVERED),
        ("2222211111hh22222", Outcome.RENAMED),
        ("11hh11111", Outcome.UNTRACKED),
    ],
)
def test_outcome_asks_for_the_masklet_of_the_second_before(letters: str, outcome: Outcome) -> None:
    assert outcomes_of(letters) == [outcome]


def test_part_that_shows_for_a_moment_does_not_end_an_occlusion() -> None:
    (event,) = events_of("11111hhphhppp11111")
    assert (event.hidden_from, event.shown_from) == (5, 13)
    assert event.hidden_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    "letters", ["", "11111", "11111pp11111", "11111hh", "hh11111", "aa111aa", "11111hh11"]
)
def test_no_event_without_hiding_and_showing_again(letters: str) -> None:
    assert events_of(letters) == []


def test_every_occlusion_of_an_object_is_judged_by_itself() -> None:
    assert outcomes_of("11111hh22222hh22222hh-----") == [
        Outcome.RENAMED,
        Outcome.RECOVERED,
        Outcome.LOST,
    ]


def test_leaving_is_counted_apart_from_hiding() -> None:
    events = [*events_of("11111hah11111"), *events_of("11111hh11111hhhh2222")]
    stayed, left = count_recoveries(events), count_recoveries(events, has_left=True)
    assert (stayed.recovered, stayed.renamed, stayed.judged, stayed.share) == (1, 1, 2, 0.5)
    assert (left.recovered, left.judged) == (1, 1)


def test_counts_by_length_hold_every_event_once() -> None:
    events: list[Recovery] = []
    for frames in (1, 2, 3, 5, 6, 10, 11):
        events += events_of("11111" + "h" * frames + "11111")
    bounds = [(0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, float("inf"))]
    counts = [count_recoveries(events, over_s=low, up_to_s=high).judged for low, high in bounds]
    assert counts == [2, 2, 2, 1]
    assert count_recoveries(events).judged == 6


def test_untracked_events_are_not_judged() -> None:
    counts = count_recoveries(events_of("-----hh11111"))
    assert (counts.untracked, counts.judged, counts.share) == (1, 0, None)


def thing(*, full: int, visible: int, visibility: float) -> WorldObject:
    masks = np.zeros((2, 400), dtype=np.bool_)
    masks[0, :full] = masks[1, :visible] = True
    return WorldObject(
        object_id=7,
        concept="deer",
        full_mask=masks[:1].repeat(2, axis=0) & [[True], [False]],
        visible_mask=masks[1:].repeat(2, axis=0) & [[True], [False]],
        visibility=visibility,
        depth=0.5,
    )


def test_showing_follows_the_truth_of_the_world() -> None:
    assert showing_of(thing(full=200, visible=100, visibility=0.5)) is Showing.COUNTED
    assert showing_of(thing(full=200, visible=20, visibility=0.1)) is Showing.PARTLY
    assert showing_of(thing(full=200, visible=0, visibility=0.0)) is Showing.HIDDEN
    assert showing_of(thing(full=8, visible=8, visibility=0.0)) is Showing.AWAY


def tracked(no: int, seen: WorldObject) -> list[Track]:
    if not seen.visibility:
        return []
    track = make_track(no, concept="deer")
    return [replace(track, last_mask=CropMask.of(seen.visible_mask))]


def test_ledger_gathers_the_moments_of_every_object() -> None:
    shown = thing(full=200, visible=200, visibility=1.0)
    hidden = thing(full=200, visible=0, visibility=0.0)
    ledger = ClipLedger({"deer": "deer"})
    frames = [None, *[shown] * 5, *[hidden] * 3, None, *[shown] * 5]
    for index, seen in enumerate(frames):
        frame = WorldFrame(
            index=index,
            time_s=index / FPS,
            pixels=np.zeros((2, 400, 3), dtype=np.uint8),
            objects=() if seen is None else (seen,),
        )
        ledger.add(frame, tracked(1 if index < 9 else 2, shown if seen is None else seen))
    (event,) = ledger.recoveries(fps=FPS, clip=0)
    assert event.outcome is Outcome.RENAMED
    assert (event.hidden_from, event.shown_from, event.has_left) == (6, 10, True)
    assert event.hidden_s == pytest.approx(4 / FPS)


SETTINGS = VideoSettings(num_clips=2, width=96, height=96, fps=5.0, duration_s=10.0, is_hiding=True)


def test_clips_that_hide_give_events_of_many_lengths_and_a_perfect_tracker_recovers() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS), SETTINGS)
    lengths = {event.hidden_s for event in report.recoveries}
    assert len(report.recoveries) >= 3
    assert len(lengths) >= 2
    assert {event.outcome for event in report.recoveries} <= {
        Outcome.RECOVERED,
        Outcome.UNTRACKED,
    }
    assert count_recoveries(report.recoveries).share == 1.0
    for event in report.recoveries:
        world, _ = draw_clip(SETTINGS, event.clip)
        seen = {one.object_id: one for one in world.render(event.hidden_from).objects}
        assert event.object_id not in seen or not seen[event.object_id].visibility


def test_tracker_that_renames_what_was_hidden_recovers_nothing() -> None:
    settings = replace(SETTINGS, num_clips=1)
    kept = evaluate_video(OracleTracker(settings=settings), settings).recoveries
    shown = {event.object_id: event.shown_from for event in kept}
    tracker = OracleTracker(
        settings=settings,
        masklet_id=lambda thing, index: thing + 1 + 100 * (index >= shown.get(thing, 10_000)),
    )
    events = evaluate_video(tracker, settings).recoveries
    last = [event for event in events if event.shown_from == shown[event.object_id]]
    assert {event.outcome for event in last} == {Outcome.RENAMED}


def test_wide_clips_cannot_be_told_to_hide() -> None:
    with pytest.raises(ValueError, match="is_hiding"):
        replace(SETTINGS, world=HeldOutWorld.WIDE)
