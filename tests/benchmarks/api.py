"""``make bench-api``: what viewers of the API cost the engine.

Time from capture to result, 8 streams of 640 x 360 at 5 fps with 5 objects each and a model that
takes 20 ms, in turns without viewers and with two hundred that follow events and read slowly; then
with twenty that ask for drawn frames besides. Viewers are in a process of their own.
"""

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from connectors.base import Source
from connectors.errors import Position
from pipeline.api.running import serve_api
from pipeline.app import build_app, build_observations
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.streams.result import FrameResult
from tests.benchmarks.delivery import LiveSource
from tests.benchmarks.engine import FixedTracker, build_config, make_frames
from tests.benchmarks.timing import machine

_NUM_STREAMS, _FPS = 8, 5.0
_TOKEN = "bench"  # noqa: S105 - of this measurement
_REST_S = 2.0  # between two turns, while viewers come or go
_KINDS = {"alone": (0, 0), "events": (200, 0), "events_and_frames": (200, 20)}


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--view", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.view:
        url, num_events, num_frames = options.view
        view(url, int(num_events), int(num_frames))
        return
    ages_ms = measure(options.rounds, options.seconds)
    figures = {
        f"{kind}_p{round(100 * share)}_ms": round(float(np.quantile(ages, share)), 2)
        for kind, ages in ages_ms.items()
        for share in (0.5, 0.99)
    }
    console = Console(highlight=False)
    if options.json:
        console.print_json(json.dumps({**machine(), **figures}), indent=None)
        return
    for name, figure in figures.items():
        console.print(f"{name}: {figure}")


def measure(num_rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return how old results were when they were known, by who was looking on."""
    ages_ms: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    now: list[str | None] = [None]

    def on_result(result: FrameResult) -> None:
        if now[0] is not None and result.scene is not None:
            age = result.result_time - result.stamp.captured_at
            ages_ms[now[0]].append(1000 * age.total_seconds())

    def build(stream: StreamConfig, position: Position | None) -> Source:
        time.sleep(1 / _FPS / _NUM_STREAMS)  # cameras do not film at the same moment
        num_frames = round(_FPS * (seconds + _REST_S + 5) * num_rounds * len(_KINDS))
        return LiveSource(make_frames(stream.id, (640, 360), num_frames), _FPS)

    with TemporaryDirectory() as folder:
        config = _config(Path(folder))
        seen = build_observations(config)
        with serve_api(config, seen) as server:
            assert server is not None
            tracker = FixedTracker(seconds=0.02)
            app = build_app(
                config, tracker=tracker, build=build, observations=seen, on_result=on_result
            )
            engine = threading.Thread(target=app.engine.run)
            engine.start()
            for _ in range(num_rounds):
                for kind, (num_events, num_frames) in _KINDS.items():
                    with _viewers(server.url, num_events, num_frames):
                        now[0] = kind
                        time.sleep(seconds)
                        now[0] = None
            app.engine.stop()
            engine.join()
    return ages_ms


def _config(folder: Path) -> RunConfig:
    fields = build_config(_NUM_STREAMS, folder).model_dump(exclude_unset=True)
    digest = sha256(_TOKEN.encode()).hexdigest()
    token = {"name": "bench", "role": "viewer", "sha256": digest}
    api = {"port": 0, "tokens": [token], "requests_per_s": 10_000}
    return RunConfig.model_validate({**fields, "api": api})


def _viewers(url: str, num_events: int, num_frames: int) -> ExitStack:
    """Begin to look on; returns once all do."""
    stack = ExitStack()
    time.sleep(_REST_S)
    if num_events:
        command = [sys.executable, "-m", "tests.benchmarks.api", "--view", url]
        viewers = subprocess.Popen(
            [*command, str(num_events), str(num_frames)], stdout=subprocess.PIPE
        )
        stack.enter_context(viewers)
        stack.callback(viewers.kill)
        assert viewers.stdout is not None
        viewers.stdout.readline()
    return stack


def view(url: str, num_events: int, num_frames: int) -> None:
    """Follow events and read 256 bytes a second of each; ask for drawn frames twice a second."""
    followers = [_ask(url, "/v1/events", buffer=4096) for _ in range(num_events)]
    askers = [_ask(url, "/v1/sinks") for _ in range(num_frames)]
    print(flush=True)  # noqa: T201 - to the process that has begun this one
    while True:
        began_s = time.monotonic()
        for number, asker in enumerate(askers):
            asker.sendall(_request(f"/v1/frames/cam{number % _NUM_STREAMS}?masks=true"))
        for connection in (*followers, *askers):
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.recv(256 if connection in followers else 1 << 20)
            connection.setblocking(True)
        time.sleep(max(0.0, (0.5 if askers else 1.0) - (time.monotonic() - began_s)))


def _ask(url: str, path: str, *, buffer: int = 1 << 20) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect((parts.hostname, parts.port))
    connection.sendall(_request(path))
    connection.recv(64)
    return connection


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {_TOKEN}\r\n\r\n".encode()


if __name__ == "__main__":
    main()
