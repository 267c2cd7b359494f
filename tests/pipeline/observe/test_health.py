"""Liveness and readiness, with their reasons."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.clock import ManualClock
from pipeline.observe.health import Health, SinkState, StreamHealth
from pipeline.records.schema import RestoredState, StreamState

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def health(clock):
    return Health(clock, stall_s=10.0)


def set_streams(health, *states):
    for number, state in enumerate(states):
        stream = StreamHealth(state=StreamState(state), since=SINCE)
        health.set_stream(f"cam-{number}", stream)


def test_engine_is_live_before_its_first_turn(health, clock):
    clock.advance(100.0)
    assert health.liveness().is_good
    assert health.readiness().reasons == ("the engine has not begun to turn",)


def test_engine_is_live_for_as_long_as_it_turns(health, clock):
    health.beat()
    clock.advance(10.0)
    assert health.liveness().is_good
    clock.advance(1.0)
    reason = "the engine has not turned for 11 s (accepted: 10 s)"
    assert health.liveness().reasons == (reason,)
    assert health.readiness().reasons == (reason,)
    health.beat()
    assert health.liveness().is_good


@pytest.mark.parametrize(
    ("states", "is_ready"),
    [
        ((), True),  # a topic without a key yet
        (("connecting",), True),
        (("running", "offline"), True),
        (("reconnecting", "failed"), True),
        (("ended", "ended"), True),
        (("offline",), False),
        (("offline", "failed"), False),
        (("ended", "offline"), False),
    ],
)
def test_readiness_needs_one_stream_that_can_be_seen(health, states, is_ready):
    health.beat()
    set_streams(health, *states)
    assert health.readiness().is_good is is_ready


def test_reason_counts_the_streams_that_are_away(health):
    health.beat()
    set_streams(health, "offline", "failed", "ended")
    assert health.readiness().reasons == ("all 2 stream(s) are offline or failed",)


def test_forgotten_stream_is_left_out(health):
    health.beat()
    set_streams(health, "offline")
    health.forget_stream("cam-0")
    assert health.readiness().is_good
    assert health.readiness().streams == {}


def test_readiness_needs_every_durable_sink(health):
    health.beat()
    health.set_sink("video", SinkState.DOWN, error="disk full", is_durable=False)
    health.set_sink("kafka", SinkState.BEHIND)
    assert health.readiness().is_good
    health.set_sink("kafka", SinkState.DOWN, error="nobody answers")
    assert health.readiness().reasons == ("sink 'kafka' is down: nobody answers",)
    health.set_sink("kafka", SinkState.UP)
    assert health.readiness().is_good


def test_a_stream_whose_state_is_not_kept_is_not_ready(health):
    health.beat()
    set_streams(health, "running", "running")
    running = StreamHealth(state=StreamState.RUNNING, since=SINCE)
    health.set_stream("cam-1", replace(running, state_error="snapshot not written: disk full"))
    reason = "the state of 1 stream(s) is not kept: snapshot not written: disk full"
    assert health.readiness().reasons == (reason,)
    assert health.liveness().is_good
    health.set_stream("cam-1", running)
    assert health.readiness().is_good


def test_answer_tells_what_a_stream_went_on_from(health):
    restored = RestoredState(taken_at=SINCE, age_s=1.5, error="cut; the one before it is used")
    stream = StreamHealth(state=StreamState.RUNNING, since=SINCE, restored=restored)
    health.set_stream("gate", stream)
    assert json.loads(json.dumps(health.liveness().to_json()["streams"]["gate"]["restored"])) == {
        "taken_at": "2026-01-01T00:00:00.000000Z",
        "age_s": 1.5,
        "error": "cut; the one before it is used",
    }


def test_liveness_is_the_engine_s_alone(health):
    health.beat()
    set_streams(health, "failed")
    health.set_sink("kafka", SinkState.DOWN)
    assert health.liveness().is_good
    assert not health.readiness().is_good


def test_answer_holds_states_and_no_secret(health):
    health.beat()
    error = "rtsp://bob:hunter2@gate: 401 " + "x" * 1000
    stream = StreamHealth(state=StreamState.OFFLINE, since=SINCE, error=error, state_error=error)
    health.set_stream("gate", stream)
    health.set_sink("kafka", SinkState.DOWN, error="kafka://bob:hunter2@host")
    body = health.readiness().to_json()
    assert "hunter2" not in str(body)
    assert body["ok"] is False
    stream = body["streams"]["gate"]
    assert (stream["state"], stream["since"]) == ("offline", "2026-01-01T00:00:00.000000Z")
    assert stream["error"].startswith("rtsp://***@gate: 401 ")
    assert len(stream["error"]) == 500
    assert stream["state_error"] == stream["error"]
    assert stream["restored"] is None
    assert body["sinks"] == {"kafka": {"state": "down", "error": "kafka://***@host"}}
