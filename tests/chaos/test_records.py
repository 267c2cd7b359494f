"""What is wrong with records is found: a measure that sees nothing would pass whatever happens."""

import json
from dataclasses import replace

import pytest

from tests.chaos.model_faults import judge
from tests.chaos.outcome import Limits, Outcome
from tests.chaos.records import (
    STANDING,
    Repeats,
    Tail,
    Told,
    count_holes,
    count_identities,
    count_unseen,
    find_event_faults,
    find_missing,
    find_repeats,
)

GOOD = Outcome(recoveries_s=(0.5, 1.0), identities=(2, 2), latencies_ms=(100.0, 120.0))
LIMITS = Limits(recovery_s=1.0)


def frame(seq, *, dropped=0, uid="t1", stream_id="cam", time_s=None, result_time="r"):
    body = {
        "stream_id": stream_id,
        "frame_seq": seq,
        "dropped_since_last": dropped,
        "stream_time_us": round(1e6 * (seq / 10 if time_s is None else time_s)),
        "objects": [{"concept": STANDING, "track_uid": uid}],
        "result_time": result_time,
    }
    return Told(kind="masklets", ce_id=f"{stream_id}/{seq}", body=body)


def event(sequence, phase, *, name="e1", concept=STANDING, reason=None):
    body = {"stream_id": "cam", "event_id": name, "sequence": sequence, "phase": phase}
    body |= {"concept": concept, "end_reason": reason}
    return Told(kind="events", ce_id=f"{name}/{sequence}", body=body)


def faults_of(*events):
    return find_event_faults(events, standing=("cam",))


def test_frames_without_record_are_holes_unless_the_next_one_counts_them():
    assert count_holes([frame(3), frame(4), frame(8, dropped=3)]) == 0
    assert count_holes([frame(3), frame(4), frame(8, dropped=1)]) == 2
    assert count_holes([frame(3), frame(4, dropped=3), frame(8), frame(8)]) == 0


def test_pauses_are_told_in_frames():
    assert count_unseen([frame(0), frame(1), frame(2, time_s=0.2)], fps=10) == 0
    assert count_unseen([frame(0), frame(1), frame(2, time_s=1.1)], fps=10) == 9
    assert count_unseen([frame(0), frame(1), frame(6, time_s=0.6, dropped=4)], fps=10) == 0


def test_repeats_may_differ_in_the_time_of_their_result_alone():
    again = frame(1, result_time="later")
    assert find_repeats([frame(1), frame(2), again]) == Repeats(1)
    fields = frozenset(["masklets.objects"])
    assert find_repeats([frame(1), frame(2), frame(1, uid="t2")]) == Repeats(0, 1, fields)


def test_what_one_consumer_lacks_is_missing():
    assert find_missing([frame(1), frame(2)], [frame(2)]) == {("masklets", "cam/1")}


def test_identity_is_kept_by_one_track_alone():
    assert count_identities([frame(1), frame(2)], standing=("cam",)) == (1, 1)
    assert count_identities([frame(1), frame(2, uid="t2")], standing=("cam",)) == (0, 1)
    assert count_identities([frame(1)], standing=("cam", "never-seen")) == (1, 2)


def car_park(*things, appeared=("car", "car", "car", "person")):
    """Frames with things, each a concept and its track, and events of what has appeared."""
    objects = [{"concept": concept, "track_uid": uid} for concept, uid in things]
    events = [event(0, "new", name=f"e{n}", concept=name) for n, name in enumerate(appeared)]
    return [Told(kind="masklets", ce_id="1", body={"objects": objects}), *events]


CARS = (("car", "a"), ("car", "b"), ("car", "c"))


@pytest.mark.parametrize(
    ("things", "num_kept"),
    [
        ((*CARS, ("person", "p")), 4),
        ((*CARS, ("person", "p"), ("person", "q")), 3),
        ((*CARS[1:], ("person", "p")), 3),
        (CARS, 3),
    ],
)
def test_things_of_the_car_park_keep_a_track_each(things, num_kept):
    assert judge(car_park(*things)) == (num_kept, [])


def test_car_park_tells_each_thing_once():
    _, [fault] = judge(car_park(*CARS, appeared=("car", "car", "car", "car")))
    assert "accepted: {'car': 3, 'person': 1}" in fault


def test_event_that_begins_and_goes_on_is_right_whatever_is_repeated():
    assert faults_of(event(0, "new"), event(1, "update"), event(1, "update")) == []
    other = (event(0, "new", name="e2", concept="red"), event(1, "end", name="e2", concept="red"))
    assert faults_of(event(0, "new"), *other) == []


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([event(0, "new"), event(2, "update")], "without a gap"),
        ([event(0, "new"), event(1, "new")], "begins 2 times"),
        ([event(0, "update")], "begins 0 times"),
        ([event(0, "new"), event(1, "end"), event(2, "update")], "after its end"),
        ([event(0, "new"), event(1, "end", reason="lost")], "event ended: lost"),
        ([event(0, "new"), event(0, "new", name="e2")], "2 events of the standing thing"),
        ([event(0, "new", concept="red")], "0 events of the standing thing"),
    ],
)
def test_wrong_events_are_named(events, fault):
    assert fault in " ".join(faults_of(*events))


def test_outcome_within_its_limits_breaks_none():
    assert GOOD.broken(LIMITS) == ()
    assert replace(GOOD, latencies_ms=(1.0, 999.0), load=4.0).broken(LIMITS) == ()


def test_repeats_break_the_limit_of_what_is_delivered_once():
    repeated = replace(GOOD, repeats=Repeats(2))
    assert repeated.broken(LIMITS) == ()
    assert repeated.broken(replace(LIMITS, repeats=False)) == ("2 repeats (accepted: 0)",)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"recoveries_s": (0.5, 1.1)}, "recovery took 1.1 s"),
        ({"recoveries_s": ()}, "recovery took for ever"),
        ({"records_lost": 1}, "1 records lost"),
        ({"repeats": Repeats(5, 1, frozenset("x"))}, "1 repeats with another x"),
        ({"identities": (1, 2)}, "1 of 2 identities"),
        ({"event_faults": ("begins twice",)}, "begins twice"),
        ({"latencies_ms": (100.0, 151.0)}, "p99 was 151 ms (accepted: 150 ms)"),
        ({"latencies_ms": (1000.0, 1201.0)}, "p99 was 1201 ms (accepted: 1200 ms)"),
        ({"others": ("exit code 1",)}, "exit code 1"),
    ],
)
def test_each_limit_is_named_when_it_is_broken(changes, limit):
    assert limit in " ".join(replace(GOOD, **changes).broken(LIMITS))


def test_tail_reads_whole_lines_as_they_come(tmp_path):
    tail = Tail(tmp_path)
    line = json.dumps({"ce_id": "1", "stream_id": "cam"})
    path = tmp_path / "tracks.jsonl"
    path.write_text(line[:5])
    assert tail.of("tracks", "cam") == []
    path.write_text(f"{line}\n{line[:5]}")
    assert [one.ce_id for one in tail.of("tracks", "cam")] == ["1"]
    assert tail.records == tail.of("tracks", "cam")
