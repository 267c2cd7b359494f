"""The port, the health and the logs."""

import json
import logging
import urllib.error
import urllib.request

import pytest

from pipeline.clock import ManualClock
from pipeline.observe.health import Health, ObserveServer
from pipeline.observe.logs import set_up_logs
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StreamState


@pytest.fixture
def served():
    clock, metrics = ManualClock(), Metrics()
    health = Health(clock, stall_s=10.0)
    server = ObserveServer(metrics, health, host="127.0.0.1", port=0)
    server.start()
    yield f"http://127.0.0.1:{server.port}", clock, metrics, health
    server.stop()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_served(served):
    url, _, metrics, _ = served
    metrics.dropped.labels("cam", "overflow").inc(3)
    status, body = get(f"{url}/metrics")
    assert status == 200
    assert 'maskstream_frames_dropped_total{cause="overflow",stream="cam"} 3.0' in body


def test_health_follows_the_engine_s_turns(served):
    url, clock, _, health = served
    assert get(f"{url}/healthz")[0] == 200
    clock.advance(11.0)
    assert get(f"{url}/healthz")[0] == 503
    health.beat()
    assert get(f"{url}/healthz")[0] == 200


def test_readiness_follows_the_streams(served):
    url, _, _, health = served
    assert get(f"{url}/readyz")[0] == 503
    health.set_state("a", StreamState.RUNNING)
    assert get(f"{url}/readyz")[0] == 200
    health.set_state("b", StreamState.RECONNECTING)
    status, body = get(f"{url}/readyz")
    assert (status, json.loads(body)["streams"]["b"]) == (503, "reconnecting")


def test_other_paths_are_not_found(served):
    assert get(f"{served[0]}/secret")[0] == 404


@pytest.mark.parametrize("style", ["text", "json"])
def test_logs_hide_passwords(style, capsys):
    set_up_logs(style=style, level=logging.INFO)
    error = ValueError("bad rtsp://bob:hunter2@camera/1")
    logger = logging.getLogger("maskstream.test")
    logger.error("at rtsp://bob:hunter2@camera/1", exc_info=error)
    told = capsys.readouterr().err
    logging.getLogger("maskstream").handlers.clear()
    assert "camera" in told
    assert "hunter2" not in told


def test_forgetting_a_stream_removes_its_gauges():
    metrics = Metrics()
    metrics.buffer_frames.labels("cam").set(3)
    metrics.tracks.labels("cam", "lost").set(1)
    metrics.forget_stream("cam")
    assert b'stream="cam"' not in metrics.exposition()
