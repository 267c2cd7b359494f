"""A stream that goes on from a snapshot, and snapshots as text."""

import time
from dataclasses import fields, replace
from datetime import timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.sections.stream import StreamConfig
from pipeline.errors import SnapshotError
from pipeline.records.translate import to_models
from pipeline.streams.snapshot import decode_snapshot, encode_snapshot
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from tests.benchmarks.tracks import make_crowd
from tests.benchmarks.tracks import make_prediction as make_crowd_prediction
from tests.pipeline.fakes import START, make_frame, make_observation, make_prediction

ZONES = (
    {"name": "left", "polygon": [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]},
    {"name": "right", "polygon": [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]},
)
SEEN = {"type": "appear", "name": "seen", "update_every_s": 2}
RULES = (
    SEEN,
    {"type": "disappear", "name": "gone", "after_s": 1},
    {"type": "enter", "name": "in", "zone": "right", "accepts": "tentative"},
    {"type": "leave", "name": "out", "zone": "right"},
    {"type": "dwell", "name": "stay", "zone": "left", "dwell_s": 2},
)
NOW = START + timedelta(hours=1)


def make_stream(*, is_live=False, rules=RULES, zones=ZONES, stream_id="cam", **tracking):
    config = StreamConfig(
        id="cam", source={"type": "world"}, concepts=("red",), rules=rules, zones=zones
    )
    return Stream(
        stream_id,
        deployment="d",
        model="blobs",
        tracking=TrackingConfig(expire_s=8, session_gap_s=20, **tracking),
        is_live=is_live,
        zones=config.zones,
        rules=config.rules,
    )


def play(stream, steps, *, first=0):
    """Run steps of (microseconds since the first, masklets) through a stream; arrival jitters."""
    results = []
    for seq, (at_us, masklets) in enumerate(steps, start=first):
        frame = replace(make_frame(seq), captured_at=START + timedelta(microseconds=at_us))
        admission = stream.admit(frame, arrived_us=777 + at_us + 9 * (seq % 3), now=NOW)
        results += [admission.ended] if admission.ended else []
        said = make_prediction(*masklets)
        results.append(stream.apply(admission, said, now=NOW, dropped_since_last=0))
    return results


def records_of(results):
    return [model.model_dump() for result in results for model in to_models(result)]


def captions_of(results):
    return [result.scene.captions for result in results if result.scene]


def seen(*boxes, is_matched=True):
    return [
        make_observation(number, box=box, is_matched=is_matched)
        for number, box in enumerate(boxes, start=1)
    ]


BOXES = st.none() | st.tuples(
    st.integers(0, 20), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)
)
MASKLETS = st.dictionaries(st.integers(1, 4), st.tuples(BOXES, st.booleans()), max_size=4)
STEP_US = st.integers(1, 1_500_000) | st.sampled_from([0, -5_000_000, 4_000_000, 21_000_000])
STEPS = st.lists(st.tuples(STEP_US, MASKLETS), min_size=2, max_size=25)


def told(steps):
    """Turn drawn steps into what a stream is played."""
    at_us = accumulate(step_us for step_us, _ in steps)
    for time_us, (_, masklets) in zip(at_us, steps, strict=True):
        yield (
            time_us,
            [
                make_observation(number, box=box, is_matched=is_matched)
                for number, (box, is_matched) in masklets.items()
            ],
        )


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
    play(stream, [(at * 200_000, seen((18, 3, 6, 6), (1, 1, 4, 9))) for at in range(8)])
    return encode_snapshot(stream.snapshot())


def test_another_session_s_thresholds_apply_from_then_on():
    stream, other = make_stream(), make_stream(lost_s=0.5)
    play(stream, [(at * 200_000, seen((18, 3, 6, 6))) for at in range(8)])
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


def test_whatever_a_stream_knows_is_in_its_snapshot_or_is_configuration():
    stream = make_stream(is_live=True)
    play(stream, [(0, seen((18, 3, 6, 6)))])
    session = stream._session
    machine = session.rules._machines[0]
    config = {
        "stream_id", "_zones", "_rules", "_deployment", "_model", "_tracking", "_session_gap_us",
        "_confirm_us", "_occluded_us", "_lost_us", "_hidden_us", "_expire_us",
        "_config", "_zone", "_kind", "_condition", "_timing", "_is_former",
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
