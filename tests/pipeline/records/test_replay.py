"""Events that were logged behind a snapshot, replayed over it."""

from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.frame import KafkaOrigin
from pipeline.records.base import SourceRef
from pipeline.records.replay import end_of, open_events_of, replay_events
from pipeline.records.schema import EventRecord
from pipeline.records.translate import to_models
from pipeline.streams.snapshot import decode_snapshot, encode_snapshot
from tests.pipeline.fakes import make_observation
from tests.pipeline.streams.steps import (
    INSIDE,
    NOW,
    OUTSIDE,
    SEEN,
    STEPS,
    make_stream,
    play,
    seen,
    steps_of,
    told,
)

ENTER = {"type": "enter", "name": "in", "zone": "right", "settle_s": 0, "update_every_s": 0}
GONE = {"type": "disappear", "name": "gone", "after_s": 60}
FREE_ID = 5


def logged_of(results):
    models = (model for result in results if result for model in to_models(result))
    return [
        EventRecord.model_validate_json(model.model_dump_json(by_alias=True))
        for model in models
        if isinstance(model, EventRecord)
    ]


def replay(stream, snapshot, log, **fields):
    """Replay by the configuration of a stream, over a snapshot that went through a file."""
    return replay_events(
        decode_snapshot(encode_snapshot(snapshot)),
        log,
        next_masklet_id=FREE_ID,
        rules=stream._rules,
        zones=stream._zones,
        **fields,
    )


@given(STEPS, STEPS, st.data(), st.booleans())
def test_every_event_begins_once_and_ends_once_whenever_a_process_is_killed(
    steps, later, data, is_live
):
    steps = list(told(steps))
    killed = data.draw(st.integers(0, len(steps)), label="killed")
    taken = data.draw(st.integers(max(killed - 6, 0), killed), label="taken")
    stream, second = make_stream(is_live=is_live), make_stream(is_live=is_live)
    log = logged_of(play(stream, steps[:taken]))
    snapshot = stream.snapshot()
    lost = logged_of(play(stream, steps[taken:killed], first=taken))
    replayed = replay(second, snapshot, lost)
    again = replay(second, snapshot, [*log, *lost, *lost[: data.draw(st.integers(0, 9))]])
    assert encode_snapshot(again.snapshot) == encode_snapshot(replayed.snapshot)
    second.restore(replayed.snapshot, first_no=1000)
    assert {one.masklet_id for one in replayed.remembered} == {
        number for number in snapshot_lives(replayed.snapshot) if number >= FREE_ID
    }
    ends = [end_of(one, reason="lost", now=NOW) for one in replayed.orphans]
    rest = [(at_us + steps[-1][0], masklets) for at_us, masklets in told(later)]
    rest = [(at, [*seen_again(masklets, data, replayed)]) for at, masklets in rest]
    results = play(second, rest, first=10_000, boot_us=-(10**12))
    results.append(second.end_session("stream_ended", now=NOW))
    check_lives(log + lost + ends + logged_of(results))


def snapshot_lives(snapshot):
    return snapshot.session.book.lives if snapshot.session else {}


def seen_again(masklets, data, replayed):
    """Masklets of a step, those of remembered tracks among them at times."""
    yield from masklets
    for one in replayed.remembered:
        if data.draw(st.booleans()):
            yield make_observation(one.masklet_id, box=data.draw(st.sampled_from([INSIDE, None])))


def check_lives(log):
    """Check that each event is told as one: new, updates, one end, in order, nothing twice."""
    events = defaultdict(list)
    for record in log:
        events[record.event_id].append(record)
    told_once = Counter((one.event_id, one.sequence) for one in log)
    assert max(told_once.values(), default=1) == 1
    for phases in events.values():
        names = [one.phase.value for one in phases]
        assert names == ["new", *["update"] * (len(names) - 2), "end"]
        assert [one.sequence for one in phases] == list(range(len(phases)))
        assert len({one.start_time for one in phases}) == 1
        assert all(value >= 0 for one in phases for value in one.value.values())


def kill(stream, *boxes, lost, **fields):
    """Play boxes, take a snapshot, lose steps; return what is lost and what replay makes of it."""
    play(stream, steps_of(*boxes))
    snapshot = stream.snapshot()
    log = logged_of(play(stream, lost, first=len(boxes)))
    return log, replay(stream, snapshot, log, **fields)


def open_state(snapshot, name):
    """The watches of a rule."""
    return next(one.watches for one in snapshot.session.rules.rules if one.config.name == name)


def test_an_event_that_the_log_leaves_open_stands_as_if_the_snapshot_had_been_later():
    stream = make_stream(is_live=True, rules=(SEEN, ENTER))
    lost = steps_of(*[INSIDE] * 6, first=6)
    _, replayed = kill(stream, *[OUTSIDE] * 6, lost=lost)
    later = stream.snapshot()
    assert open_state(replayed.snapshot, "in") == open_state(later, "in")
    assert replayed.remembered == replayed.ended_masklets == replayed.orphans == ()


def test_a_known_track_goes_on_with_its_open_event_in_the_next_process():
    stream, other = (make_stream(is_live=True, rules=(SEEN, ENTER)) for _ in range(2))
    log, replayed = kill(stream, *[OUTSIDE] * 6, lost=steps_of(*[INSIDE] * 6, first=6))
    other.restore(replayed.snapshot, first_no=100)
    results = play(other, steps_of(INSIDE, OUTSIDE, OUTSIDE, first=20), first=90, boot_us=0)
    (end,) = logged_of(results)
    assert (end.event_id, end.sequence, end.end_reason) == (log[0].event_id, 1, "left_zone")
    assert (end.start_time, end.track_uid) == (log[0].start_time, log[0].track_uid)
    # Entered at 1.2 s and told of then; the frames behind that and the way up to 4 s are a gap.
    assert end.gap_s == pytest.approx(2.6, abs=0.001)
    assert end.value == {"dwell_s": pytest.approx(0.4, abs=0.001)}


def test_an_event_that_the_log_ends_has_ended_and_its_next_one_has_the_next_ordinal():
    stream, other = (make_stream(is_live=True, rules=(SEEN, ENTER)) for _ in range(2))
    log, replayed = kill(stream, *[INSIDE] * 8, lost=steps_of(*[OUTSIDE] * 3, first=8))
    assert [one.phase.value for one in log] == ["end"]
    other.restore(replayed.snapshot, first_no=100)
    results = play(other, steps_of(OUTSIDE, INSIDE, first=12), first=90)
    events = [event for result in results for event in result.events]
    assert [(one.rule, one.phase.value, one.ordinal) for one in events] == [("in", "new", 2)]


def test_a_track_that_only_the_log_knows_is_remembered_at_its_box():
    stream, other = (make_stream(is_live=True, rules=(SEEN,)) for _ in range(2))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    log = logged_of(play(stream, steps_of(*[INSIDE] * 5, first=1), first=1))
    replayed = replay(stream, snapshot, log)
    (one,) = replayed.remembered
    assert (one.masklet_id, one.track.uid, one.track.no) == (FREE_ID, log[0].track_uid, 1)
    assert (one.track.concept, one.track.concept_id, one.track.state) == ("red", "red", "confirmed")
    assert (one.track.is_visible, one.track.bbox) == (False, log[0].bbox)
    assert (one.track.area, one.track.score) == (0, log[0].score)
    assert one.track.last_mask.corners == (18, 3, 24, 9)
    other.restore(replayed.snapshot, first_no=100)
    found = [(1_600_000, [make_observation(FREE_ID, box=INSIDE), make_observation(9)])]
    (result,) = play(other, found, first=90)
    assert [track.uid for track in result.tracks][:1] == [log[0].track_uid]
    assert [track.no for track in result.tracks] == [1, 100]
    assert result.tracks[0].visible_us <= result.tracks[0].age_us
    assert logged_of([result]) == []
    (ended,) = play(other, [(1_800_000, [])], first=91)
    assert [(one.event_id, one.end_reason) for one in logged_of([ended])] == [
        (log[0].event_id, "tracker")
    ]


def test_a_number_that_the_log_names_is_not_given_again():
    stream, other = (make_stream(is_live=True, rules=(SEEN,)) for _ in range(2))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    log = logged_of(play(stream, [*steps_of(*[INSIDE] * 5, first=1), (1_200_000, [])], first=1))
    assert [one.phase.value for one in log] == ["new", "end"]
    log = [record.model_copy(update={"track_no": 120}) for record in log]
    other.restore(replay(stream, snapshot, log).snapshot, first_no=120)
    (result,) = play(other, [(1_600_000, [make_observation(9)])], first=90)
    assert [track.no for track in result.tracks] == [121]


def test_the_last_logged_frame_of_a_topic_says_where_it_came_from():
    stream = make_stream(rules=(SEEN,))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    log = logged_of(play(stream, steps_of(*[INSIDE] * 5, first=1), first=1))
    ref = SourceRef(topic="frames", partition=2, offset=7)
    log = [record.model_copy(update={"source_ref": ref}) for record in log]
    origin = KafkaOrigin(topic="frames", partition=2, offset=7)
    assert replay(stream, snapshot, log).snapshot.last_stamp.origin == origin


@pytest.mark.parametrize(
    ("bbox", "corners"),
    [
        ((0.25, 0.5, 0.25, 0.25), (8, 12, 16, 18)),
        ((-0.5, -0.5, 1, 1), (0, 0, 16, 12)),
        ((0.5, 0.5, 1, 1), (16, 12, 32, 24)),
        ((0.5, 0.5, 0, 0), (16, 12, 17, 13)),
        ((1, 1, 0.5, 0.5), (31, 23, 32, 24)),
        (None, (0, 0, 32, 24)),
    ],
)
def test_a_remembered_track_covers_its_box_as_far_as_that_is_in_the_picture(bbox, corners):
    stream = make_stream(is_live=True, rules=(SEEN,))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    (event,) = logged_of(play(stream, steps_of(*[INSIDE] * 5, first=1), first=1))
    told = event.model_copy(update={"bbox": bbox, "score": None})
    (one,) = replay(stream, snapshot, [told]).remembered
    assert one.track.last_mask.corners == corners
    assert one.track.last_mask.bits.all()
    assert one.track.bbox == (bbox or (0, 0, 1, 1))
    assert (one.track.score, one.track.best_score) == (0, 0)


def test_an_end_whose_beginning_is_logged_no_more_counts_and_the_rule_waits_for_nothing():
    rule = {**ENTER, "type": "leave"}
    del rule["update_every_s"]
    stream, without = (make_stream(is_live=True, rules=rules) for rules in ((rule,), ()))
    steps = steps_of(*[INSIDE] * 4, *[OUTSIDE] * 3, *[INSIDE] * 3)
    log = logged_of(play(stream, steps))
    assert [one.phase.value for one in log] == ["new", "end"]
    play(without, steps[:5])
    replayed = replay(stream, without.snapshot(), log[1:])
    (watch,) = open_state(replayed.snapshot, "in").values()
    assert (watch.is_armed, watch.num_events, watch.start) == (True, 1, None)


def test_a_remembered_track_that_is_not_found_again_expires():
    stream, other = (make_stream(is_live=True, rules=(SEEN,)) for _ in range(2))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    replayed = replay(stream, snapshot, logged_of(play(stream, steps_of(*[INSIDE] * 5, first=1))))
    other.restore(replayed.snapshot, first_no=100)
    hidden = [make_observation(FREE_ID, box=None)]
    results = play(other, [(at * 1_000_000, hidden) for at in range(2, 12)], first=90)
    ends = [one for one in logged_of(results) if one.phase.value == "end"]
    assert [one.end_reason for one in ends] == ["expired"]


def test_a_track_that_ended_in_the_log_is_given_to_the_tracker_to_forget():
    stream = make_stream(is_live=True, rules=(SEEN, GONE))
    log, replayed = kill(stream, *[INSIDE] * 8, lost=[(1_600_000, [])])
    assert [one.phase.value for one in log] == ["end", "new", "end"]
    assert replayed.ended_masklets == (1,)
    assert replayed.snapshot.session.book.lives == {}
    assert open_state(replayed.snapshot, "seen") == {}


def test_a_session_that_ended_in_the_log_ends_all_its_tracks_whose_events_have_ended():
    stream = make_stream(is_live=True, rules=(ENTER,))
    play(stream, [(at * 200_000, seen(INSIDE, OUTSIDE)) for at in range(8)])
    snapshot = stream.snapshot()
    log = logged_of([stream.end_session("model_error", now=NOW)])
    assert replay(stream, snapshot, log).ended_masklets == (1, 2)
    assert replay(stream, snapshot, []).ended_masklets == ()


def test_an_end_that_was_not_logged_before_the_kill_is_told_after_it():
    stream, other = (make_stream(is_live=True, rules=(SEEN, ENTER)) for _ in range(2))
    log, _ = kill(stream, *[INSIDE] * 8, lost=[])
    snapshot = stream.snapshot()
    log = logged_of(play(stream, [(1_600_000, [])], first=8))
    replayed = replay(stream, snapshot, log[:1])
    assert replayed.ended_masklets == ()
    other.restore(replayed.snapshot, first_no=100)
    assert [one.event_id for one in logged_of(play(other, [(1_800_000, [])], first=90))] == [
        log[1].event_id
    ]


def test_events_without_a_session_or_a_rule_are_ended_by_a_record():
    stream = make_stream(is_live=True, rules=(SEEN, ENTER))
    empty = stream.snapshot()
    log = logged_of(play(stream, steps_of(*[INSIDE] * 15)))
    assert [one.phase.value for one in log] == ["new", "new", "update"]
    replayed = replay(stream, empty, log)
    assert replayed.orphans == open_events_of(log) == (log[2], log[1])
    end = end_of(log[2], reason="lost", now=NOW)
    assert (end.phase, end.sequence, end.end_reason) == ("end", 2, "lost")
    assert abs(end.end_time - log[2].capture_time) < timedelta(microseconds=30)
    late = end_of(log[2].model_copy(update={"gap_s": 2.0}), reason="lost", now=NOW)
    assert late.end_time - end.end_time == timedelta(seconds=2)
    first, second = make_stream(is_live=True, rules=()), make_stream(is_live=True, rules=(SEEN,))
    play(first, [(0, [])])
    assert replay(first, first.snapshot(), log).orphans == (log[2], log[1])
    replayed = replay(second, first.snapshot(), log)
    assert replayed.orphans == (log[1],)
    assert len(replayed.remembered) == 1


def test_a_track_without_an_open_event_is_not_remembered():
    stream = make_stream(is_live=True, rules=(ENTER,))
    play(stream, [(0, [])])
    snapshot = stream.snapshot()
    log = logged_of(play(stream, steps_of(*[INSIDE] * 5, *[OUTSIDE] * 3, first=1), first=1))
    assert [one.phase.value for one in log] == ["new", "end"]
    assert replay(stream, snapshot, log[:1]).remembered != ()
    replayed = replay(stream, snapshot, log)
    assert replayed.remembered == ()
    assert open_state(replayed.snapshot, "in") == {}


def test_an_open_event_tells_which_time_behind_the_snapshot_was_not_observed():
    stream = make_stream(is_live=True, rules=(SEEN,))
    play(stream, steps_of(*[INSIDE] * 6))
    snapshot = stream.snapshot()
    results = play(stream, steps_of(*[INSIDE] * 12, first=40), first=6)
    (update,) = [event for result in results for event in result.events]
    replayed = replay(stream, snapshot, logged_of(results))
    assert replayed.snapshot.session.now == update.now
    assert update.gap_us > 6_000_000
    assert open_state(replayed.snapshot, "seen")[update.track.uid].told == update.now


def test_an_update_takes_back_that_a_track_seemed_to_go():
    rule = {**ENTER, "settle_s": 0.5, "update_every_s": 0.1}
    stream, other = (make_stream(is_live=True, rules=(rule,)) for _ in range(2))
    lost = steps_of(INSIDE, INSIDE, first=9)
    log, replayed = kill(stream, *[INSIDE] * 8, OUTSIDE, lost=lost)
    assert [one.phase.value for one in log] == ["update", "update"]
    other.restore(replayed.snapshot, first_no=100)
    steps = steps_of(OUTSIDE, OUTSIDE, INSIDE, first=11)
    assert {one.phase.value for one in logged_of(play(other, steps, first=90))} == {"update"}


def test_the_end_of_a_changed_rule_s_event_is_not_that_of_its_track():
    stream, changed = (
        make_stream(is_live=True, rules=({**ENTER, "settle_s": settle_s},)) for settle_s in (0, 0.1)
    )
    play(stream, steps_of(*[INSIDE] * 8))
    snapshot = stream.snapshot()
    changed.restore(snapshot)
    log = logged_of(play(changed, steps_of(*[INSIDE] * 3, first=8), first=8))
    assert [one.end_reason for one in log] == ["rule_changed", None]
    second = make_stream(is_live=True, rules=({**ENTER, "settle_s": 0.1},))
    second.restore(snapshot)  # killed after another snapshot, before its first frame
    for base in (snapshot, second.snapshot()):
        replayed = replay(changed, base, log)
        assert replayed.ended_masklets == ()
        # Nor if none of the track's events is open.
        assert (
            replay(changed, base, [one for one in log[:1] if one.rule == "in"]).ended_masklets == ()
        )
        (watch,) = open_state(replayed.snapshot, "in").values()
        assert (watch.num_events, watch.start is None) == (2, False)
        assert all(one.start is None for rule in replayed.snapshot.session.rules.former
                   for one in rule.watches.values())  # fmt: skip


def test_a_rule_that_waited_for_the_opposite_waits_no_more_if_it_has_told():
    rule = {**ENTER, "type": "leave", "settle_s": 0.1}
    del rule["update_every_s"]
    stream = make_stream(is_live=True, rules=(rule,))
    log, replayed = kill(stream, *[INSIDE] * 4, lost=steps_of(INSIDE, *[OUTSIDE] * 3, first=4))
    assert [one.phase.value for one in log] == ["new"]
    (watch,) = open_state(replayed.snapshot, "in").values()
    assert watch.is_armed


def test_records_that_are_told_again_change_nothing():
    stream = make_stream(is_live=True, rules=(SEEN,))
    gone = logged_of(play(stream, [*steps_of(*[INSIDE] * 6), (1_200_000, [])]))
    snapshot = stream.snapshot()
    log = logged_of(play(stream, steps_of(*[INSIDE] * 16, first=7), first=7))
    assert [one.phase.value for one in [*gone, *log]] == ["new", "end", "new", "update"]
    expected = replay(stream, snapshot, log)
    for told_again in ([*gone, *log], [*log, log[0]], [*gone[:1], *log, *log]):
        replayed = replay(stream, snapshot, told_again)
        assert encode_snapshot(replayed.snapshot) == encode_snapshot(expected.snapshot)


def test_time_goes_on_behind_the_last_logged_frame():
    stream, other = (make_stream(is_live=True, rules=(SEEN,)) for _ in range(2))
    log, replayed = kill(stream, *[INSIDE] * 4, lost=steps_of(*[INSIDE] * 12, first=4))
    assert replayed.snapshot.last_stamp.frame_seq == log[-1].frame_seq
    assert replayed.snapshot.session.now.stream_us == log[-1].stream_time_us
    other.restore(replayed.snapshot, first_no=100)
    (result,) = play(other, steps_of(INSIDE, first=16), first=90, boot_us=0)
    assert result.stamp.stream_time_us == pytest.approx(3_200_000, abs=30)
    assert result.tracks[0].now.gap_us_since(result.tracks[0].first_seen) == 0
