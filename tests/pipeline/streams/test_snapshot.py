"""A stream that goes on from a snapshot, and snapshots as text."""

import time
from dataclasses import fields, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SnapshotError
from pipeline.streams.snapshot import decode_snapshot, encode_snapshot
from tests.benchmarks.tracks import make_crowd
from tests.benchmarks.tracks import make_prediction as make_crowd_prediction
from tests.pipeline.fakes import START, make_frame, make_observation
from tests.pipeline.streams.steps import (
    INSIDE,
    NOW,
    OUTSIDE,
    SEEN,
    STEPS,
    ZONES,
    make_stream,
    play,
    records_of,
    seen,
    steps_of,
    told,
)


def captions_of(results):
    return [result.scene.captions for result in results if result.scene]


@given(STEPS, st.data(), st.booleans())
def test_a_restored_stream_goes_on_as_if_nothing_had_been(steps, data, is_live):
    steps = list(told(steps))
    cut = data.draw(st.integers(0, len(steps)), label="cut")
    whole = make_stream(is_live=is_live)
    before, expected = play(whole, steps[:cut]), play(whole, steps[cut:], first=cut)
    first, second = make_stream(is_live=is_live), make_stream(is_live=is_live)
    assert records_of(play(first, steps[:cut])) == records_of(before)
    text = encode_snapshot(first.snapshot())
    second.restore(decode_snapshot(text))
    assert encode_snapshot(second.snapshot()) == text
    assert second.open_events == first.open_events
    after = play(second, steps[cut:], first=cut)
    assert records_of(after) == records_of(expected)
    assert captions_of(after) == captions_of(expected)
    assert encode_snapshot(second.snapshot()) == encode_snapshot(whole.snapshot())
    ends = [one.end_session("stream_ended", now=NOW) for one in (second, whole)]
    assert records_of(filter(None, ends[:1])) == records_of(filter(None, ends[1:]))


@given(STEPS)
def test_a_snapshot_stays_as_it_was_while_its_streams_go_on(steps):
    steps = list(told(steps))
    half = len(steps) // 2
    stream, other = make_stream(), make_stream()
    play(stream, steps[:half])
    snapshot = stream.snapshot()
    text = encode_snapshot(snapshot)
    other.restore(snapshot)
    play(stream, steps[half:], first=half)
    assert encode_snapshot(snapshot) == text
    play(other, steps[half:], first=half)
    assert encode_snapshot(snapshot) == text


def snapshot_text():
    stream = make_stream()
    play(stream, [(at * 200_000, seen(INSIDE, OUTSIDE)) for at in range(8)])
    return encode_snapshot(stream.snapshot())


def test_another_session_s_thresholds_apply_from_then_on():
    stream, other = make_stream(), make_stream(lost_s=0.5)
    play(stream, [(at * 200_000, seen(INSIDE)) for at in range(8)])
    other.restore(stream.snapshot())
    hidden = [(at * 200_000, seen(None)) for at in range(8, 12)]
    assert play(stream, hidden, first=8)[-1].tracks[0].state == "occluded"
    assert play(other, hidden, first=8)[-1].tracks[0].state == "lost"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[:-9], "is not JSON"),
        (lambda text: "[]", "version None"),
        (lambda text: text.replace('"version":1', '"version":2'), "version 2 .accepted: 1"),
        (lambda text: text.replace('"next_no":3', '"next_no":"x"'), "stream.*next_no"),
        (lambda text: text.replace('"version":1', '"version":1.5'), "version 1.5"),
        (lambda text: text.replace('"stream_us":0', '"stream_us":0.5'), "stream_us"),
        (lambda text: text.replace('"counts":"', '"counts":"0'), "last_mask.*run lengths"),
        (lambda text: text.replace('"type":"dwell"', '"type":"nap"'), "config.*'nap'.*accepted"),
        (lambda text: text.replace('"dwell_s":2.0', '"dwell_s":-1'), "config.*dwell_s"),
        (lambda text: text.replace('"is_live":false', '"is_live":true'), "lacks or adds"),
        (lambda text: text.replace('"num_reanchored":0,', ""), "lacks or adds"),
        (lambda text: text.replace('"is_live":false', '"is_live":7'), "timeline"),
        (lambda text: text.replace('"began_at":"2026', '"began_at":"20x6'), "began_at"),
    ],
)
def test_a_text_that_is_no_snapshot_is_refused_with_the_place_and_the_reason(damage, reason):
    text = snapshot_text()
    assert damage(text) != text
    with pytest.raises(SnapshotError, match=reason):
        decode_snapshot(damage(text))


@pytest.mark.parametrize("fields", [{"stream_id": "dam"}, {"is_live": True}])
def test_a_snapshot_of_another_stream_is_refused_and_changes_nothing(fields):
    stream = make_stream(**fields)
    before = encode_snapshot(stream.snapshot())
    with pytest.raises(SnapshotError, match="stream 'cam', live False"):
        stream.restore(decode_snapshot(snapshot_text()))
    assert encode_snapshot(stream.snapshot()) == before


ENTER = {"type": "enter", "name": "in", "zone": "right", "settle_s": 0, "update_every_s": 0}
WIDE = {"name": "right", "polygon": [(0.1, 0), (1, 0), (1, 1), (0.1, 1)]}


def events_of(results):
    return [
        (event.rule, event.phase.value, event.ordinal, event.end_reason)
        for result in results
        for event in result.events
    ]


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"rules": (SEEN, {**ENTER, "settle_s": 0.1})}, [("in", "new", 2, None)]),
        ({"rules": (SEEN, {**ENTER, "concepts": ("red",)})}, [("in", "new", 2, None)]),
        ({"rules": (SEEN, ENTER), "zones": (ZONES[0], WIDE)}, [("in", "new", 2, None)]),
        ({"rules": (SEEN,)}, []),
    ],
)
def test_events_of_a_rule_that_is_configured_otherwise_end_and_others_go_on(changed, again):
    stream = make_stream(rules=(SEEN, ENTER))
    before = play(stream, steps_of(*[INSIDE] * 8))
    assert events_of(before) == [("seen", "new", 1, None), ("in", "new", 1, None)]
    other = make_stream(**changed)
    other.restore(decode_snapshot(encode_snapshot(stream.snapshot())))
    assert other.open_events[0].rule == "in"
    (result,) = play(other, steps_of(INSIDE, first=8), first=8)
    assert events_of([result])[0] == ("in", "end", 1, "rule_changed")
    end = result.events[0]
    assert (end.sequence, end.zone, end.start) == (1, "right", before[3].events[0].start)
    rest = play(other, steps_of(INSIDE, first=9), first=9)
    assert events_of([result, *rest])[1:] == again


def test_an_ordinal_is_not_given_again_by_a_rule_that_was_away():
    streams = [make_stream(rules=rules) for rules in [(SEEN, ENTER), (SEEN,), (SEEN, ENTER)]]
    told, first = [], 0
    for stream, follower in zip(streams, [*streams[1:], None], strict=True):
        told += events_of(play(stream, steps_of(*[INSIDE] * 8, first=first), first=first))
        first += 8
        if follower:
            follower.restore(stream.snapshot())
    assert [one for one in told if one[0] == "in"] == [
        ("in", "new", 1, None), ("in", "end", 1, "rule_changed"), ("in", "new", 2, None),
    ]  # fmt: skip
    assert len([one for one in told if one[0] == "seen" and one[1] == "new"]) == 1


def test_a_changed_rule_s_event_is_in_snapshots_until_it_has_ended_and_then_gone_with_its_track():
    stream, second, third = (make_stream(rules=rules) for rules in [(ENTER,), (), ()])
    play(stream, steps_of(*[INSIDE] * 8))
    second.restore(stream.snapshot())
    third.restore(second.snapshot())
    ended = third.end_session("stream_ended", now=NOW)
    assert events_of([ended]) == [("in", "end", 1, "rule_changed")]
    assert len(third.open_events) == 0
    play(second, [*steps_of(INSIDE, first=8), (1_900_000, [])], first=8)
    assert second.snapshot().session.rules.former == ()


def test_a_former_rule_begins_nothing_when_a_track_goes():
    gone = {"type": "disappear", "name": "gone", "after_s": 60}
    stream, other = make_stream(rules=(gone,)), make_stream(rules=())
    play(stream, steps_of(*[INSIDE] * 8))
    other.restore(stream.snapshot())
    assert events_of(play(other, [(1_600_000, [])], first=8)) == []


def resume(stream, steps, *, first, first_no=100, stream_epoch=0, **config):
    """Play steps by a stream of another process, whose clock of arrival began elsewhere."""
    other = make_stream(**config)
    other.restore(decode_snapshot(encode_snapshot(stream.snapshot())), first_no=first_no)
    other.restore(decode_snapshot(encode_snapshot(other.snapshot())))  # again before a frame came
    return play(other, steps, first=first, boot_us=-5_000_000_000, stream_epoch=stream_epoch)


def test_two_lives_that_go_on_from_one_snapshot_name_their_new_tracks_apart():
    stream = make_stream(is_live=True)
    (*_, last) = play(stream, steps_of(*[INSIDE] * 4))
    step = [(1_000_000, seen(INSIDE, OUTSIDE))]
    lives = [resume(stream, step, first=5, stream_epoch=epoch, is_live=True) for epoch in (7, 8)]
    ((old, one), (same, other)) = ([track.uid for track in life[0].tracks] for life in lives)
    assert old == same == last.tracks[0].uid
    assert one != other


def test_time_of_a_camera_goes_on_by_the_wall_clock_in_another_process():
    stream = make_stream(is_live=True)
    (*_, last) = play(stream, steps_of(*[INSIDE] * 8))
    results = resume(stream, steps_of(*[INSIDE] * 3, first=40), first=300, is_live=True)
    assert events_of(results) == []
    (track,) = results[0].tracks
    assert track.uid == last.tracks[0].uid
    assert track.now.stream_us == pytest.approx(8_000_000, abs=30)
    assert track.now.gap_us_since(track.first_seen) == pytest.approx(6_400_000, abs=30)
    steps = [b.stamp.stream_time_us - a.stamp.stream_time_us for a, b in pairwise(results)]
    assert steps == pytest.approx([200_000] * 2, abs=30)


def test_a_camera_that_was_away_for_a_session_s_gap_ends_its_events_at_their_last_sight():
    stream = make_stream(is_live=True)
    play(stream, steps_of(*[INSIDE] * 8))
    ended, begun = resume(stream, steps_of(INSIDE, first=108), first=300, is_live=True)
    assert {event.end_reason for event in ended.events} == {"discontinuity"}
    late = {event.ended_at - START - timedelta(seconds=1.4) for event in ended.events}
    assert max(map(abs, late)) < timedelta(microseconds=30)
    assert [track.no for track in begun.tracks] == [100]


def test_wall_time_of_a_camera_is_the_same_in_another_process():
    stream = make_stream(is_live=True, confirm_s=0)
    play(stream, steps_of(*[INSIDE] * 8))
    steps = [(1_600_000 + at, masklets) for at, masklets in steps_of(INSIDE, INSIDE)]
    steps[-1][1].append(make_observation(2, box=OUTSIDE))
    results = resume(stream, steps, first=300, is_live=True, confirm_s=0)
    (event,) = results[-1].events
    assert abs(event.started_at - START - timedelta(seconds=1.8)) < timedelta(microseconds=30)


def test_a_wall_clock_that_was_set_back_does_not_take_time_back():
    stream = make_stream(is_live=True)
    play(stream, steps_of(*[INSIDE] * 8, first=50))
    results = resume(stream, steps_of(INSIDE, INSIDE), first=300, is_live=True)
    times_us = [result.stamp.stream_time_us for result in results]
    assert times_us == pytest.approx([1_400_001, 1_600_001], abs=30)


def test_numbers_and_ids_after_a_loss_are_none_of_those_that_were_lost():
    stream = make_stream()
    play(stream, [(at * 200_000, seen(INSIDE)) for at in range(4)])
    snapshot = stream.snapshot()
    lost = play(stream, [(800_000, seen(INSIDE, OUTSIDE))], first=4)[-1].tracks
    other = make_stream()
    other.restore(snapshot, first_no=50)
    tracks = play(other, [(800_000, seen(INSIDE, OUTSIDE, OUTSIDE))], first=4)[-1].tracks
    assert [track.no for track in tracks] == [1, 50, 51]
    assert {track.uid for track in tracks} & {track.uid for track in lost} == {lost[0].uid}


def test_another_aspect_ratio_ends_a_restored_session():
    stream, other = make_stream(), make_stream()
    play(stream, steps_of(*[INSIDE] * 8))
    other.restore(stream.snapshot())
    frame = replace(make_frame(8, size=(48, 48)), captured_at=START + timedelta(seconds=1.6))
    admission = other.admit(frame, arrived_us=0, now=NOW)
    assert admission.begins_session
    assert {event.end_reason for event in admission.ended.events} == {"discontinuity"}


def test_another_size_of_the_same_view_keeps_a_restored_session():
    stream, other = make_stream(), make_stream()
    play(stream, steps_of(*[INSIDE] * 8))
    other.restore(stream.snapshot())
    frame = replace(make_frame(8, size=(48, 64)), captured_at=START + timedelta(seconds=1.6))
    assert not other.admit(frame, arrived_us=0, now=NOW).begins_session
    session = decode_snapshot(encode_snapshot(other.snapshot())).session
    assert session.shape == (48, 64, 3)
    assert {life.track.last_mask.size_hw for life in session.book.lives.values()} == {(48, 64)}
    assert other.open_events == stream.open_events


def test_whatever_a_stream_knows_is_in_its_snapshot_or_is_configuration():
    stream = make_stream(is_live=True)
    play(stream, [(0, seen(INSIDE))])
    session = stream._session
    machine = session.rules._machines[0]
    config = {
        "stream_id", "_zones", "_rules", "_deployment", "_model", "_tracking", "_session_gap_us",
        "_confirm_us", "_occluded_us", "_lost_us", "_hidden_us", "_expire_us",
        "_config", "_zone", "_kind", "_condition", "_timing", "_is_former", "revisions",
    }  # fmt: skip
    known = {
        stream: {"_clock", "_session", "_last_stamp", "_next_no", "_captions"},
        stream._clock: {"_state", "_timeline"},
        stream._clock._timeline: {"_state"},
        make_stream()._clock._timeline: {"_state"},
        session.book: {"state"},
        session.rules: {"_machines", "_former"},
        machine: {"_watches"},
    }
    for one, state in known.items():
        assert vars(one).keys() - config == state, type(one).__name__
    assert {one.name for one in fields(session)} == {one.name for one in fields(session.state)}


def test_a_snapshot_of_fifty_tracks_costs_the_engine_s_thread_little():
    stream = make_stream()
    crowd = make_crowd_prediction(make_crowd(50))
    for seq in range(8):
        admission = stream.admit(make_frame(seq), arrived_us=0, now=NOW)
        stream.apply(admission, crowd, now=NOW, dropped_since_last=0)
    costs = []
    for _ in range(5):
        began_s = time.process_time()
        snapshot = stream.snapshot()
        costs.append(time.process_time() - began_s)
    assert len(snapshot.session.book.lives) == 50
    assert min(costs) <= 0.002
    assert len(encode_snapshot(snapshot)) <= 50 * 2_500
