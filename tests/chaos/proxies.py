"""Ways to servers on loopback that are bad: slow, narrow, lossy, late or full of garbage."""

import heapq
import random
import re
import socket
import threading
import time
from contextlib import suppress

from tests.servers import TcpProxy

_DATAGRAM = 65536
_RTP_HEAD = 12
_PIECE_S = 0.05


class SlowProxy(TcpProxy):
    """A way that holds up what passes it."""

    def __init__(self, upstream_port: int) -> None:
        self.delay_s = 0.0
        self.bytes_per_s = float("inf")
        self._never = threading.Event()
        super().__init__(upstream_port)

    def _pass(self, data: bytes, target: socket.socket) -> None:
        self._never.wait(self.delay_s)
        while data:
            # In pieces, so that what is on its way notices the end of a narrow time.
            size = int(min(self.bytes_per_s * _PIECE_S + 1, len(data)))
            super()._pass(data[:size], target)
            data = data[size:]
            self._never.wait(size / self.bytes_per_s)


class BadAir(TcpProxy):
    """A way of RTSP over UDP on which pictures get lost, come late, or come as garbage.

    Its part of TCP is left alone, but for the ports that the client asks for its pictures: the
    server sends them here.
    """

    def __init__(self, upstream_port: int) -> None:
        self.loss = 0.0
        self.garbage = 0.0
        self.jitter_s = 0.0
        self._rng = random.Random(1)  # noqa: S311 - the same each time
        self._air: list[socket.socket] = []
        super().__init__(upstream_port)

    def cut(self) -> None:
        super().cut()
        for one in self._air:
            one.close()

    def _pass(self, data: bytes, target: socket.socket) -> None:
        asked = re.search(rb"client_port=(\d+)-(\d+)", data)
        if asked is not None and b"RTSP/1.0 200" not in data:
            first = self._relay(*map(int, asked.groups()))
            data = data.replace(asked.group(), b"client_port=%d-%d" % (first, first + 1))
        super()._pass(data, target)

    def _relay(self, *targets: int) -> int:
        """Open two neighbouring ports for RTP and RTCP; returns the first."""
        while True:
            pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in targets]
            try:
                pair[0].bind(("127.0.0.1", 0))
                first = pair[0].getsockname()[1]
                pair[1].bind(("127.0.0.1", first + 1))
                break
            except OSError:
                for one in pair:
                    one.close()
        self._air += pair
        for one, port in zip(pair, targets, strict=True):
            self._start(_Flight(self, one, port).run)
        return first

    def spoil(self, data: bytes) -> tuple[float, bytes] | None:
        """Return by how much a datagram is late and what is in it; ``None``: it is lost."""
        if self._rng.random() < self.loss:
            return None
        if self._rng.random() < self.garbage:
            head = data[: _RTP_HEAD * self._rng.randrange(2)]  # garbage as a packet, or in one
            data = head + self._rng.randbytes(len(data) - len(head))
        return self._rng.uniform(0.0, self.jitter_s), data


class _Flight:
    """Datagrams on their way to one port; late ones are overtaken."""

    def __init__(self, air: BadAir, source: socket.socket, port: int) -> None:
        self._air, self._source, self._port = air, source, port
        self._late: list[tuple[float, int, bytes]] = []

    def run(self) -> None:
        """Pass on until the socket is closed."""
        number = 0
        with suppress(OSError, ValueError):
            while True:
                now_s = time.monotonic()
                while self._late and self._late[0][0] <= now_s:
                    self._source.sendto(heapq.heappop(self._late)[2], ("127.0.0.1", self._port))
                self._source.settimeout(max(self._late[0][0] - now_s, 0.001) if self._late else 1.0)
                with suppress(TimeoutError):
                    found = self._air.spoil(self._source.recv(_DATAGRAM))
                    if found is not None:
                        late_s, data = found
                        number += 1
                        heapq.heappush(self._late, (time.monotonic() + late_s, number, data))
