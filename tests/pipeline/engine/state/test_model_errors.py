"""Streams on which the model fails go back to what was saved of them before they begin anew."""

import threading

import pytest

from connectors.kafka.config import KafkaSourceConfig
from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.config.run import RunConfig
from tests.pipeline.engine.runs import CAMERA, assert_settled, bodies, make_app, make_config
from tests.pipeline.engine.runs import wait_until as wait_for
from tests.pipeline.engine.sinks import value_of
from tests.pipeline.fakes import BlobTracker, make_frame

KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames")
SAVED, FAILED_TWICE = Pause(1), Pause(2)


class SpoiltTracker(BlobTracker):
    """Fails on every frame behind the first ten, until what it remembers is replaced."""

    def __init__(self, *, is_saved_sound=True):
        super().__init__(memory_s=0.3)
        self.is_saved_sound = is_saved_sound
        self.is_spoilt = None
        self.memories = []

    def open_stream(self, stream_id, concepts):
        super().open_stream(stream_id, concepts)
        self.is_spoilt = None if self.is_spoilt is None else False

    def restore_stream(self, stream_id, concepts, memory):
        self.memories.append(memory)
        problems = super().restore_stream(stream_id, concepts, memory)
        self.is_spoilt = not self.is_saved_sound
        return problems

    def step(self, inputs):
        if self.is_spoilt or (self.is_spoilt is None and len(self.batches) >= 10):
            self.is_spoilt = True
            raise RuntimeError("nothing but NaN")
        return super().step(inputs)


def make_script():
    """Red stands there all the time, blue leaves after the first frame, green comes later."""
    places = [{"red": (24, 8), "blue": (14, 8)}, *[{"red": (24, 8)}] * 3]
    places += [{"red": (24, 8), "green": (4, 8)}] * 22
    frames = [make_frame(number, blobs=blobs) for number, blobs in enumerate(places)]
    return [*frames[:1], SAVED, *frames[1:12], FAILED_TWICE, *frames[12:]]


SCRIPT = make_script()


@pytest.fixture
def play(tmp_path):
    """Play the script; its pauses last until what they are named for has come about."""

    def run(tracker, script=SCRIPT, *, source=CAMERA, resume=True):
        config = make_config(
            source=source, concepts=("red", "green", "blue"), overflow="wait", zones=[], rules=RULES
        )
        state = {"folder": tmp_path / "state", "snapshot_every_s": 600, "resume": resume}
        config = RunConfig.model_validate({**config.model_dump(), "state": state})

        def wait(seconds):
            if seconds == FAILED_TWICE.seconds:
                wait_for(lambda: value_of(app.metrics, "model_errors_total", stream="cam") == 2)
                threading.Event().wait(0.6)  # until the stream is no longer left out
            elif resume:
                wait_for(lambda: value_of(app.metrics, "snapshots_total", stream="cam") == 1)
                # No further snapshot can be written; this one can be read.
                (state["folder"] / "snapshots/cam/next.snapshot").mkdir()

        sink = MemorySink()
        played = MemorySource(script, stream_id="cam", wait=wait)
        app = make_app(config, build=lambda *_: played, tracker=tracker, sink=sink)
        assert_settled(app.engine.run())
        return app, sink

    return run


RULES = [{"type": "appear", "name": "seen", "update_every_s": 0}]


def ends_of(sink):
    tracks = bodies(sink, Topic.TRACKS)
    return [(t["concept"], t["reason"]) for t in tracks if t["kind"] == "ended"]


def alerts_of(sink):
    return [e["concept"] for e in bodies(sink, Topic.EVENTS) if e["phase"] == "new"]


@pytest.mark.parametrize("source", [CAMERA, KAFKA])
def test_tracks_and_events_go_on_with_the_memory_that_was_saved(play, source):
    tracker = SpoiltTracker()
    app, sink = play(tracker, source=source)
    assert ends_of(sink) == [
        ("blue", "tracker"),
        ("red", "stream_ended"),
        ("green", "stream_ended"),
    ]
    assert alerts_of(sink) == ["red", "green"]
    (memory,) = tracker.memories
    assert [one.concept_id for one in memory.reminders] == ["green"]
    assert len(memory.forgotten) == 1
    assert memory.has_gap
    first, *_, last = [body.get("restored") for body in bodies(sink, Topic.STATUS)]
    assert first is None
    assert last["taken_at"] > "2026"
    assert value_of(app.metrics, "model_resets_total", stream="cam") == 0


def test_a_stream_whose_saved_memory_fails_as_well_begins_anew(play):
    tracker = SpoiltTracker(is_saved_sound=False)
    app, sink = play(tracker)
    reasons = [reason for _, reason in ends_of(sink)]
    assert reasons == ["tracker", "model_error", "model_error"]
    assert len(tracker.memories) == 1
    assert value_of(app.metrics, "model_resets_total", stream="cam") == 1


def test_without_saved_state_the_second_failure_begins_the_stream_anew(play):
    tracker = SpoiltTracker()
    _, sink = play(tracker, resume=False)
    assert alerts_of(sink).count("red") == 2
    assert tracker.memories == []


def test_what_was_saved_of_another_session_is_not_gone_back_to(play, caplog):
    class NumberingTracker(SpoiltTracker):
        def open_stream(self, stream_id, concepts):
            super().open_stream(stream_id, concepts)
            self.next_id = 1

    red, green = {"red": (24, 8)}, {"green": (4, 8)}
    frames = [make_frame(number, blobs=red) for number in range(5)]
    later = [make_frame(1000 + number, blobs=green) for number in range(20)]
    app, sink = play(NumberingTracker(), [*frames[:1], SAVED, *frames[1:], *later], source=KAFKA)
    assert [reason for _, reason in ends_of(sink)] == [
        "discontinuity",
        "model_error",
        "stream_ended",
    ]
    assert "snapshot: is of another session" in caplog.text
    assert value_of(app.metrics, "model_resets_total", stream="cam") == 1
