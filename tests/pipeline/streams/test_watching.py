"""Frames, a model and a stream without an engine."""

import pytest

from pipeline.streams.stream import Stream
from pipeline.streams.watching import watch
from pipeline.tracking.config import TrackingConfig
from tests.pipeline.fakes import BlobTracker
from tests.pipeline.streams.player import Player, red


def make_stream(**tracking):
    tracking = TrackingConfig(**tracking)
    return Stream("cam", deployment="d", model="blobs", tracking=tracking, is_live=False)


def steps_of(result):
    return [(one.kind, one.track.uid, one.reason) for one in result.changes]


def test_watching_gives_what_the_engine_s_calls_give():
    frames = [red(0, at_s=0), red(1, at_s=0.1), red(2, at_s=60), red(3, at_s=60.1)]
    player = Player(session_gap_s=10)
    player.play(*frames)
    player.end()
    tracker, stream = BlobTracker(), make_stream(session_gap_s=10)
    results = list(watch(frames, tracker, stream, ["red"]))
    assert [steps_of(result) for result in results] == [steps_of(one) for one in player.results]
    assert [[track.no for track in one.tracks] for one in results] == [[1], [1], [], [2], [2], []]
    assert [one.scene.dropped_since_last for one in results if one.scene] == [0] * 4
    assert [result.result_time for result in results[:2]] == [one.captured_at for one in frames[:2]]
    assert tracker.streams == {}


def test_a_caller_that_leaves_closes_both_sessions():
    tracker, stream = BlobTracker(), make_stream()
    results = watch([red(0), red(1)], tracker, stream, ["red"])
    next(results)
    results.close()
    assert tracker.streams == {}
    assert stream.snapshot().session is None


def test_a_model_that_raises_closes_both_sessions():
    class Broken(BlobTracker):
        def step(self, inputs):
            raise ZeroDivisionError("a bug")

    tracker, stream = Broken(), make_stream()
    with pytest.raises(ZeroDivisionError):
        list(watch([red(0)], tracker, stream, ["red"]))
    assert tracker.streams == {}
    assert stream.snapshot().session is None


def test_no_frames_give_nothing():
    tracker = BlobTracker()
    assert list(watch([], tracker, make_stream(), ["mauve"])) == []
