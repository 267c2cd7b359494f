"""Answers that go on for ever: as long as somebody reads them, and no longer."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest

from pipeline.observe.serving import HttpServer, Limits

PATIENCE_S = 30.0
REQUEST = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}


async def trickle(_scope, receive, send):
    """Says a byte each 50 ms until the client is gone."""
    await send(START)
    gone = asyncio.ensure_future(receive())
    while not gone.done() or gone.result()["type"] != "http.disconnect":
        if gone.done():
            gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        await asyncio.sleep(0.05)


async def flood(_scope, _receive, send):
    """Says more than any client's buffers hold; notes when it is let go."""
    await send(START)
    for _ in range(300):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


@contextmanager
def serving(application, **limits):
    limits = Limits(
        **{"timeout_s": 0.3, "max_connections": 10, "are_answers_endless": True} | limits
    )
    server = HttpServer(application, section="api", host="127.0.0.1", port=0, limits=limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(server):
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def read_parts(connection, num):
    """Return what has come once ``num`` points have, or the peer has closed."""
    told = b""
    while told.count(b"\r\n.\r\n") < num and (data := connection.recv(65_536)):
        told += data
    return told


def test_the_body_of_an_answer_waits_for_no_acknowledgement():
    with serving(trickle) as server:
        assert server._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_answer_goes_on_beyond_the_time_for_a_request():
    with serving(trickle) as server, connect(server) as connection:
        connection.sendall(REQUEST)
        assert read_parts(connection, 20).count(b"\r\n.\r\n") >= 20


def test_an_answer_ends_in_time_where_answers_may_not_last():
    with serving(trickle, are_answers_endless=False) as server, connect(server) as connection:
        connection.sendall(REQUEST)
        assert read_parts(connection, 20).count(b"\r\n.\r\n") < 20


@pytest.mark.parametrize(
    "sent", [b"", REQUEST[:20], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_a_request_must_arrive_in_time_all_the_same(sent):
    async def wait_for_all(_scope, receive, _send):
        while (await receive()).get("more_body"):
            pass

    with serving(wait_for_all) as server, connect(server) as connection:
        connection.sendall(sent)
        assert connection.recv(65_536) == b""


def test_a_client_that_does_not_read_is_cut_off():
    done = threading.Event()

    async def flood_and_tell(scope, receive, send):
        await flood(scope, receive, send)
        done.set()

    with serving(flood_and_tell) as server, connect(server) as connection:
        connection.sendall(REQUEST)
        assert done.wait(PATIENCE_S)  # what is sent to a client that was cut off goes nowhere


def test_a_stop_ends_answers_that_would_go_on():
    num_threads = threading.active_count()
    with serving(trickle) as server, connect(server) as connection:
        connection.sendall(REQUEST)
        read_parts(connection, 1)
        server.stop()
        assert threading.active_count() == num_threads


def test_what_clients_do_wrong_is_not_logged_and_what_we_do_is(caplog):
    async def fail(_scope, _receive, _send):
        raise ZeroDivisionError("a bug of ours")

    with serving(fail) as server:
        for sent in (
            b"\x00\xff\r\n\r\n",
            REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
        ):
            with connect(server) as connection:
                connection.sendall(sent)
                connection.recv(65_536)
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert "a bug of ours" in caplog.text
