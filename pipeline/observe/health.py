"""Whether the engine turns and its streams run, and the port that says so."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override

from pipeline.clock import Clock
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StreamState

_POLL_S = 0.1  # how soon stopping is noticed
_READY = frozenset({StreamState.RUNNING, StreamState.WAITING, StreamState.ENDED})


class Health:
    """Live: the engine turned lately. Ready: every stream runs or has come to its end."""

    def __init__(self, clock: Clock, *, stall_s: float) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._turned_s = clock.monotonic_s()
        self._states: dict[str, StreamState] = {}

    def beat(self) -> None:
        """Say that the engine has turned."""
        self._turned_s = self._clock.monotonic_s()

    def set_state(self, stream_id: str, state: StreamState) -> None:
        """Note what a stream is doing."""
        with self._lock:
            self._states[stream_id] = state

    def forget(self, stream_id: str) -> None:
        """Leave a stream out from now on."""
        with self._lock:
            self._states.pop(stream_id, None)

    @property
    def states(self) -> dict[str, StreamState]:
        """What each stream is doing."""
        with self._lock:
            return dict(self._states)

    @property
    def is_live(self) -> bool:
        """Whether the engine has turned within ``stall_s``."""
        return self._clock.monotonic_s() - self._turned_s <= self._stall_s

    @property
    def is_ready(self) -> bool:
        """Whether every known stream runs or has ended well."""
        states = self.states
        return bool(states) and all(state in _READY for state in states.values())


class ObserveServer:
    """Serves /metrics, /healthz and /readyz on a thread of its own.

    Args:
        metrics: What to show.
        health: What to judge by.
        host: Address to listen on.
        port: 0 takes any free one.
    """

    def __init__(self, metrics: Metrics, health: Health, *, host: str, port: int) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler_for(metrics, health))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_S,),
            name="maskstream-observe",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler_for(metrics: Metrics, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, metrics.exposition(), "text/plain; version=0.0.4; charset=utf-8")
            elif path == "/healthz":
                self._tell(is_good=health.is_live)
            elif path == "/readyz":
                self._tell(is_good=health.is_live and health.is_ready)
            else:
                self._answer(404, b"accepted: /metrics, /healthz, /readyz\n", "text/plain")

        def _tell(self, *, is_good: bool) -> None:
            body = {"ok": is_good, "streams": health.states}
            self._answer(200 if is_good else 503, json.dumps(body).encode(), "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Keep the log free of one line per scrape."""

    return Handler
