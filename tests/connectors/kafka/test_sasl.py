"""Users and passwords, before a listener that asks for them and one that does not."""

import socket
import struct
import threading
from contextlib import closing, suppress

import pytest

from connectors.errors import SinkUnauthorizedError, UnauthorizedError
from connectors.kafka.sink import KafkaSink
from tests.connectors.kafka.helpers import events, kafka_source, publish, sink_config
from tests.pipeline.fakes import make_walk
from tests.servers import free_port, kafka_broker

PASSWORD = "päss wörd"  # noqa: S105
SASL = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "gate",
    "sasl_plain_password": PASSWORD,
    "connect_timeout_s": 1,
}


class SaslListener:
    """Stands before a broker that has no SASL: lets those in who know the password."""

    HANDSHAKE, AUTHENTICATE = 17, 36

    def __init__(self, upstream_port):
        self.tokens = []
        self.password = PASSWORD
        self._clients = []
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self):
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.hang_up()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self._upstream_port)) as server:
            while (frame := read_frame(client)) is not None:
                key, version, number = struct.unpack_from(">hhi", frame)
                if key == self.HANDSHAKE:
                    answer = struct.pack(">hih", 0, 1, 5) + b"PLAIN"
                elif key == self.AUTHENTICATE:
                    answer = self._judge(frame, version)
                else:
                    server.sendall(struct.pack(">i", len(frame)) + frame)
                    answer = None
                if answer is not None:
                    send_frame(client, struct.pack(">i", number) + answer)
                elif (answer := read_frame(server)) is not None:
                    send_frame(client, answer)

    def _judge(self, frame, version):
        assert version == 2
        (size,) = struct.unpack_from(">h", frame, 8)  # of the client's name
        start = 10 + size + 1  # no tags
        token = frame[start + 1 : start + frame[start]]
        self.tokens.append(token)
        is_right = token.split(b"\0")[1:] == [b"gate", self.password.encode()]
        return struct.pack(">bhbbqb", 0, 0 if is_right else 58, 0, 1, 0, 0)


def read_frame(one):
    head = read_exactly(one, 4)
    return None if head is None else read_exactly(one, struct.unpack(">i", head)[0])


def read_exactly(one, size):
    found = b""
    while len(found) < size:
        try:
            more = one.recv(size - len(found))
        except OSError:
            return None
        if not more:
            return None
        found += more
    return found


def send_frame(one, frame):
    one.sendall(struct.pack(">i", len(frame)) + frame)


@pytest.fixture(scope="module")
def broker():
    """A broker known by the address of its listener, and what that listener is."""
    port = free_port()
    listener = SaslListener(port)
    with closing(listener), kafka_broker(port, advertised_port=listener.port):
        yield listener


def test_user_and_password_reach_the_broker_as_rfc_4616_has_them(broker):
    broker.tokens.clear()
    with KafkaSink(config=sink_config(broker.address, **SASL)) as sink:
        sink.write(events(1, 2))
    publish(broker.address, "frames", make_walk(2), **SASL)
    with kafka_source(broker.address, "frames", **SASL) as source:
        assert (source.read().frame_seq, source.read().frame_seq) == (0, 1)
    assert set(broker.tokens) == {f"gate\0gate\0{PASSWORD}".encode()}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sasl_plain_password": "wrong"}, "sasl_plain_password"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "sasl_mechanism"),
    ],
)
def test_a_listener_that_turns_one_away_says_which_field_is_wrong(broker, changes, field):
    fields = SASL | changes
    sink = KafkaSink(config=sink_config(broker.address, **fields))
    with sink, pytest.raises(SinkUnauthorizedError, match=f"accepted: .*{field}") as refused:
        sink.write(events(1))
    source = kafka_source(broker.address, "frames", **fields)
    with pytest.raises(UnauthorizedError, match=f"accepted: .*{field}") as unread:
        source.open()
    assert (refused.value.recoverable, unread.value.recoverable) == (True, True)
    assert "wrong" not in f"{refused.value}{unread.value}"


def test_a_broker_without_sasl_is_told_from_one_that_is_away(kafka_bootstrap):
    sink = KafkaSink(config=sink_config(kafka_bootstrap, **SASL))
    with sink, pytest.raises(SinkUnauthorizedError, match="accepted: security_protocol and"):
        sink.write(events(1))


def test_a_password_that_is_changed_back_lets_the_sink_in_again(broker):
    sink = KafkaSink(config=sink_config(broker.address, **SASL))
    with sink:
        sink.write(events(1))
        broker.password = "another"  # noqa: S105
        broker.hang_up()
        with pytest.raises(SinkUnauthorizedError, match="sasl_plain_password"):
            sink.write(events(2))
        broker.password = PASSWORD
        assert sink.write(events(2)) == []


@pytest.mark.parametrize(
    ("changes", "faulty"),
    [
        ({}, []),
        ({"security_protocol": "SASL_SSL"}, []),
        ({"security_protocol": "SSL"}, ["security_protocol"]),
        ({"sasl_mechanism": None}, ["sasl_mechanism"]),
        ({"sasl_plain_username": None}, ["sasl_plain_username"]),
        ({"sasl_plain_password": None}, ["sasl_plain_password"]),
    ],
)
def test_fields_that_do_not_go_together_are_named(changes, faulty):
    assert list(sink_config("127.0.0.1:9", **SASL | changes).find_faults()) == faulty
