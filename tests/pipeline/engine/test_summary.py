"""One rule decides how a run ends."""

import pytest

from pipeline.clock import ManualClock
from pipeline.engine.summary import RunSummary, StreamSummary, SummaryBook
from pipeline.records.schema import FrameCounts

GOOD = StreamSummary(stream_id="good", counts=FrameCounts(received=5, processed=5))
EMPTY = StreamSummary(stream_id="empty")
DARK = StreamSummary(stream_id="dark", error="nobody answers")
BROKEN = StreamSummary(stream_id="broken", counts=FrameCounts(received=3), error="torn")
GARBAGE = StreamSummary(
    stream_id="garbage", counts=FrameCounts(received=4, dropped={"bad_frame": 4})
)
PICTURE = StreamSummary(stream_id="one", counts=FrameCounts(received=1, dropped={"bad_file": 1}))
CARD = StreamSummary(
    stream_id="card",
    counts=FrameCounts(received=9, processed=6, dropped={"bad_file": 3}),
    bad_files=("a is torn", "b is torn", "c is torn"),
)
BAD_CARD = StreamSummary(stream_id="card", counts=FrameCounts(received=3, dropped={"bad_file": 3}))
FLAWED = StreamSummary(
    stream_id="flawed", counts=FrameCounts(received=9, processed=7, dropped={"bad_frame": 2})
)


def summary_of(*streams, **fields):
    return RunSummary(wall_s=1.0, streams=streams, **{"sink_errors": {}, **fields})


@pytest.mark.parametrize(
    ("streams", "num_failed", "code", "strict_code"),
    [
        ([GOOD], 0, 0, 0),
        ([GOOD, EMPTY], 0, 0, 0),
        ([GOOD, DARK], 1, 1, 1),
        ([GOOD, BROKEN], 1, 0, 1),
        ([GOOD, GARBAGE], 4, 1, 1),
        ([GOOD, PICTURE], 1, 1, 1),
        ([GOOD, FLAWED], 2, 0, 1),
        ([GOOD, CARD], 3, 0, 1),
        ([GOOD, BAD_CARD], 3, 1, 1),
        ([BROKEN, CARD, DARK], 5, 1, 1),
    ],
)
def test_code_is_1_when_a_source_gave_nothing_or_by_choice_when_anything_failed(
    streams, num_failed, code, strict_code
):
    summary = summary_of(*streams)
    assert summary.num_failed == num_failed
    assert (summary.exit_code(), summary.exit_code(is_strict=True)) == (code, strict_code)


def test_a_sink_that_was_given_up_is_code_1_and_counts_as_failed():
    errors = {"jsonl": "disk full"}
    summary = summary_of(GOOD, sink_errors=errors, failed_sinks=("jsonl",))
    assert (summary.num_failed, summary.exit_code()) == (1, 1)


def test_what_a_sink_of_pictures_leaves_out_is_code_0_but_not_by_choice():
    summary = summary_of(GOOD, sink_errors={"film": "disk full"})
    assert (summary.exit_code(), summary.exit_code(is_strict=True)) == (0, 1)


@pytest.mark.parametrize(("others", "code"), [({}, 0), ({"jsonl": "disk full"}, 1)])
def test_what_the_log_keeps_is_code_0_but_not_by_choice(others, code):
    kept = {"kafka": "away; 7 records are kept in /state for the next run"}
    errors = {"sink_errors": kept | others, "failed_sinks": tuple(others)}
    summary = summary_of(GOOD, **errors, num_kept={"kafka": 7})
    assert summary.num_failed == 1 + len(others)
    assert (summary.exit_code(), summary.exit_code(is_strict=True)) == (code, 1)


def test_a_lost_device_has_a_code_of_its_own():
    summary = summary_of(DARK, device_error="the device is gone")
    assert summary.exit_code() == summary.exit_code(is_strict=True) == 3
    assert "the device is gone" in summary.errors
    assert summary.num_failed == 2


def test_every_failure_is_a_line():
    lines = summary_of(CARD, BROKEN, unfinished=("source hung",)).errors
    assert lines[:4] == ["a is torn", "b is torn", "c is torn", "torn"]
    assert "source hung" in lines[4]
    assert summary_of(GOOD, unfinished=("source hung",)).num_failed == 1


def test_streams_that_are_gone_are_added_up_under_one_name():
    book = SummaryBook(ManualClock())
    book.retire(StreamSummary(stream_id="*", num_tracks=2, concepts={"deer": 2}))
    book.retire(StreamSummary(stream_id="*", num_tracks=1, events={"seen": 1}, error="torn"))
    summary = book.build(
        [StreamSummary(stream_id="*", num_tracks=1, concepts={"deer": 1})],
        counts=[("*", FrameCounts(received=2, waiting=2)), ("*", FrameCounts(received=1, gated=1))],
        sink_errors={},
    )
    [stream] = summary.streams
    assert (stream.num_tracks, stream.concepts, stream.events) == (4, {"deer": 3}, {"seen": 1})
    counts = stream.counts
    assert (counts.received, counts.gated, counts.waiting, stream.error) == (3, 1, 2, "torn")


def test_every_count_is_added_up():
    first = FrameCounts(received=31, processed=13, gated=7, dropped={"a": 3, "b": 1}, waiting=7)
    second = FrameCounts(received=29, processed=11, gated=5, dropped={"a": 5}, waiting=3)
    some = StreamSummary(
        stream_id="*",
        num_tracks=3,
        num_started=7,
        concepts={"deer": 3},
        events={"seen": 5},
        bad_files=("a is torn",),
    )
    book = SummaryBook(ManualClock())
    for _ in range(2):
        book.retire(some)
    counts = [("*", first), ("*", second)]
    [stream] = book.build([some], counts=counts, sink_errors={}).streams
    assert stream == StreamSummary(
        stream_id="*",
        counts=FrameCounts(
            received=60, processed=24, gated=12, dropped={"a": 8, "b": 1}, waiting=10
        ),
        num_tracks=9,
        num_started=21,
        concepts={"deer": 9},
        events={"seen": 15},
        bad_files=("a is torn",) * 3,
    )


def test_bad_files_are_named_up_to_a_bound():
    book = SummaryBook(ManualClock())
    for number in range(50):
        book.note_bad_file("card", ValueError(f"file {number}"))
    [stream] = book.build([], counts=[], sink_errors={}).streams
    assert len(stream.bad_files) == 20
    assert stream.bad_files[0] == "file 0"


def test_speed_is_frames_per_second_of_wall_time():
    clock = ManualClock()
    book = SummaryBook(clock)
    clock.advance(2.0)
    summary = book.build([], counts=[("cam", FrameCounts(processed=5))], sink_errors={})
    assert (summary.num_processed, summary.wall_s, summary.fps) == (5, 2.0, 2.5)
    assert SummaryBook(clock).build([], counts=[], sink_errors={}).fps == 0.0
