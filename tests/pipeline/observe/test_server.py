"""The port: what it answers, and what it does to hostile clients."""

import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection

import pytest

from pipeline.clock import ManualClock
from pipeline.errors import ConfigError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.observe.server import MAX_CONNECTIONS, ObserveServer
from pipeline.observe.serving import MAX_HEADER_BYTES

HALF = b"GET /metrics HTTP/1.1\r\nHost: gate\r\n"
WHOLE = HALF + b"\r\n"
PATIENCE_S = 30.0


@contextmanager
def serving(*, request_timeout_s=PATIENCE_S, host="127.0.0.1"):
    clock, metrics = ManualClock(), Metrics(tuple)
    health = Health(clock, stall_s=10.0)
    server = ObserveServer(metrics, health, host=host, port=0, request_timeout_s=request_timeout_s)
    server.start()
    try:
        yield server, clock, metrics, health
    finally:
        server.stop()


@pytest.fixture
def served():
    with serving() as all_of_it:
        yield all_of_it


def get(server, path, method="GET"):
    request = urllib.request.Request(server.url + path, method=method)  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def connect(server):
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def read_to_end(connection):
    """Return all that comes until the peer closes; a reset is a close as well."""
    told = b""
    with suppress(ConnectionError):
        while data := connection.recv(65_536):
            told += data
    return told


def test_metrics_are_served(served):
    server, _, metrics, _ = served
    metrics.events.labels("cam", "dwell", "new").inc(3)
    status, body, headers = get(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'maskstream_events_total{phase="new",rule="dwell",stream="cam"} 3.0' in body


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
def test_liveness_follows_the_engine_s_turns(served, path):
    server, clock, _, health = served
    health.beat()
    assert get(server, path)[0] == 200
    clock.advance(11.0)
    status, body, headers = get(server, path)
    assert (status, headers["Content-Type"]) == (503, "application/json")
    assert json.loads(body) == {
        "ok": False,
        "reasons": ["the engine has not turned for 11 s (accepted: 10 s)"],
        "streams": {},
        "sinks": {},
    }


def test_readiness_is_no_before_the_engine_turns(served):
    server, _, _, health = served
    assert get(server, "/readyz")[0] == 503
    health.beat()
    assert get(server, "/readyz")[0] == 200


def test_head_is_an_answer_without_a_body(served):
    status, body, headers = get(served[0], "/metrics", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 0


def test_other_paths_and_methods_say_what_is_accepted(served):
    status, body, _ = get(served[0], "/secret")
    assert (status, body) == (404, "accepted: /metrics, /livez, /healthz, /readyz\n")
    status, body, headers = get(served[0], "/metrics", "POST")
    assert (status, body) == (405, "accepted: GET, HEAD\n")
    assert set(headers["Allow"].split(", ")) == {"GET", "HEAD"}


def test_connection_is_kept_for_the_next_scrape(served):
    connection = HTTPConnection(served[0].url.removeprefix("http://"), timeout=PATIENCE_S)
    with closing(connection):
        for _ in range(2):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read().startswith(b'{"ok": true')
            assert connection.sock is not None  # None once the server says that it closes


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_stop_frees_the_port_and_the_thread(host):
    num_threads = threading.active_count()
    with serving(host=host) as (server, *_):
        port = int(server.url.rpartition(":")[2])
        assert get(server, "/healthz")[0] == 200
    assert threading.active_count() == num_threads
    ObserveServer(Metrics(tuple), Health(ManualClock(), stall_s=1.0), host=host, port=port).stop()


def test_stop_waits_for_no_client():
    with ExitStack() as stack:
        with serving() as (server, *_):
            connections = [stack.enter_context(connect(server)) for _ in range(3)]
            connections[0].sendall(HALF)
            connections[1].sendall(WHOLE * 50)  # and never reads an answer
        for connection in connections:
            read_to_end(connection)


def test_port_in_use_is_named_with_its_field(served):
    port = int(served[0].url.rpartition(":")[2])
    with pytest.raises(ConfigError) as caught:
        ObserveServer(
            Metrics(tuple), Health(ManualClock(), stall_s=1.0), host="127.0.0.1", port=port
        )
    assert str(caught.value) == (
        f"observe.port: cannot listen on 127.0.0.1:{port}: Address already in use "
        "(accepted: a free port, 0 for any)"
    )


def test_host_that_is_no_address_is_named_with_its_field():
    with pytest.raises(ConfigError, match=r"^observe\.host: cannot listen on no\.invalid:0: "):
        ObserveServer(Metrics(tuple), Health(ManualClock(), stall_s=1.0), host="no.invalid", port=0)


def test_half_sent_requests_hold_no_thread_and_stop_no_answer(served):
    server = served[0]
    num_threads = threading.active_count()
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(3 * MAX_CONNECTIONS)]
        for connection in connections:
            with suppress(ConnectionError):  # closed already, to make room
                connection.sendall(HALF)
        assert get(server, "/healthz")[0] == 200
        assert threading.active_count() == num_threads
        # The oldest were closed to make room for the youngest.
        assert read_to_end(connections[0]) == b""
        connections[-1].sendall(b"\r\n")
        assert connections[-1].recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("sent", [b"", HALF, WHOLE, WHOLE + HALF])
def test_connection_without_a_next_request_is_closed_in_time(sent):
    with serving(request_timeout_s=0.2) as (server, *_), connect(server) as connection:
        connection.sendall(sent)
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == sent.count(WHOLE)


def test_answer_that_nobody_reads_is_cut_off():
    with serving(request_timeout_s=0.2) as (server, _, metrics, _), connect(server) as connection:
        for number in range(3000):
            metrics.events.labels("x" * 1000, "dwell", str(number)).inc()
        connection.sendall(WHOLE * 40)
        for _ in range(2):  # connections of later deadlines, closed in their turn
            with connect(server) as witness:
                read_to_end(witness)
        assert read_to_end(connection).count(b"HTTP/1.1 200 OK") < 40


@pytest.mark.parametrize("num_at_once", [1000, 10 * MAX_HEADER_BYTES])
def test_huge_headers_are_refused(served, num_at_once):
    with connect(served[0]) as connection:
        with suppress(ConnectionError):
            connection.sendall(HALF)
            for _ in range(10 * MAX_HEADER_BYTES // num_at_once):
                connection.sendall(b"X: " + b"y" * num_at_once + b"\r\n")
            connection.sendall(b"\r\n")
        assert b"HTTP/1.1 200" not in read_to_end(connection)
    assert get(served[0], "/healthz")[0] == 200


def test_huge_header_answer_names_the_reason(served):
    with connect(served[0]) as connection:
        connection.sendall(HALF + b"X: " + b"y" * MAX_HEADER_BYTES)
        assert read_to_end(connection).startswith(b"HTTP/1.1 431 ")


def test_garbage_is_a_bad_request(served):
    with connect(served[0]) as connection:
        connection.sendall(b"\x00\xff\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 400 ")
    assert get(served[0], "/healthz")[0] == 200
