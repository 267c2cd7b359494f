"""Engines over cameras that film for ever, in this process or in one of their own.

As a program: ``python -m tests.e2e.cameras CONFIG`` runs a configuration until a signal, with a
model that costs nothing or, by MASKSTREAM_TEST_MODEL_S, a fixed time for each batch, and that
forgets a thing out of sight after MASKSTREAM_TEST_MEMORY_S; MASKSTREAM_TEST_ZOOM makes pictures
and records larger.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from connectors.base import Source
from connectors.files.jsonl import JsonlSink, JsonlSinkConfig
from connectors.frame import CaptureClock, Frame
from connectors.registry import build_source
from pipeline.app import App, build_app, build_observations, serve_observations
from pipeline.config.loading import load_config
from pipeline.config.run import RunConfig
from tests.pipeline.fakes import LossyBlobTracker, make_frame

FPS = 10.0
_NO_URL = "rtsp://camera.example/1"


class Camera(Source):
    """Films a red thing that comes, walks into the right half and goes, again and again.

    A blue thing stands by all the time.

    Args:
        stream_id: Its stream.
        fps: Frames a second.
        zoom: Of its small pictures; larger ones have masks with holes, and large records.
    """

    def __init__(self, stream_id: str, *, fps: float = FPS, zoom: int = 1) -> None:
        self._stream_id = stream_id
        self._zoom = zoom
        self._gap_s = 1.0 / fps
        self._num_frames = 0
        self._due_s = time.monotonic()
        self._closed = threading.Event()

    def open(self) -> None:
        """Nothing to connect to."""

    def read(self) -> Frame | None:
        if self._closed.wait(max(0.0, self._due_s - time.monotonic())):
            return None
        self._due_s += self._gap_s
        seq, self._num_frames = self._num_frames, self._num_frames + 1
        place = seq % 32
        blobs = {"blue": (2, 17), **({"red": (place, 8)} if place <= 26 else {})}
        frame = make_frame(seq, blobs=blobs, stream_id=self._stream_id)
        pixels = frame.pixels.repeat(self._zoom, axis=0).repeat(self._zoom, axis=1)
        if self._zoom > 1:
            pixels[::2, ::2] = 0  # holes, for masks of many runs
        return replace(
            frame,
            pixels=pixels,
            pts_us=round(1e6 * seq * self._gap_s),
            captured_at=datetime.now(UTC),
            capture_clock=CaptureClock.ARRIVAL,
        )

    def position(self) -> dict[str, int | float | str]:
        return {}

    def close(self) -> None:
        self._closed.set()


class WriteAheadSink(JsonlSink):
    """Files that get an alert once it is in the log, as Kafka does: what a kill must not lose."""

    needs_log = True
    pace_s = 0.0


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Sections of a configuration of cameras.

    Attributes:
        stream_ids: The cameras.
        urls: Of those that are real, by id; the others film in the engine's process.
        concepts: Colours to look for.
        kafka: Addresses of brokers, by name of the sink.
        jsonl: Folders, by name of the sink.
        sections: Further sections.
    """

    stream_ids: tuple[str, ...] = ("a", "b")
    urls: Mapping[str, str] = field(default_factory=dict)
    concepts: tuple[str, ...] = ("red",)
    kafka: dict[str, str] = field(default_factory=dict)
    jsonl: dict[str, str] = field(default_factory=dict)
    sections: dict[str, dict] = field(default_factory=dict)

    def build(self) -> dict:
        """Return them as they would stand in a file."""
        rules = [
            {"type": "appear", "name": "seen", "update_every_s": 0.1},
            {"type": "enter", "name": "in-right", "zone": "right", "settle_s": 0.0},
        ]
        right = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]
        stream = {"concepts": self.concepts, "rules": rules}
        stream["zones"] = [{"name": "right", "polygon": right}]
        urls = {stream_id: self.urls.get(stream_id, _NO_URL) for stream_id in self.stream_ids}
        streams = [
            {"id": stream_id, "source": {"type": "rtsp", "url": url}, **stream}
            for stream_id, url in urls.items()
        ]
        kafka = [
            {"type": "kafka", "name": name, "bootstrap": address, "delivery_timeout_s": 1.0}
            for name, address in self.kafka.items()
        ]
        jsonl = [
            {"type": "jsonl", "name": name, "folder": folder} for name, folder in self.jsonl.items()
        ]
        return {
            "streams": streams,
            "sinks": [*kafka, *jsonl],
            "tracking": {"confirm_s": 0.1},
            "status": {"every_s": 0.2},
            **self.sections,
        }


def build_cameras(fps: float = FPS, zoom: int = 1) -> Callable:
    """Return what builds a camera for each stream without a real source."""

    def build(stream, position):
        if getattr(stream.source, "url", None) != _NO_URL:
            return build_source(stream.source, stream.id, position=position)
        return Camera(stream.id, fps=fps, zoom=zoom)

    return build


def watch_cameras(
    config: RunConfig,
    *,
    step_s: float = 0.0,
    memory_s: float = 0.1,
    fps: float = FPS,
    zoom: int = 1,
    **parts,
) -> App:
    """Return an engine over cameras that film for ever."""
    tracker = LossyBlobTracker(memory_s=memory_s, step_s=step_s)
    return build_app(config, tracker=tracker, build=build_cameras(fps, zoom), **parts)


def main() -> None:
    """Run until SIGTERM."""
    step_s = float(os.environ.get("MASKSTREAM_TEST_MODEL_S", "0"))
    memory_s = float(os.environ.get("MASKSTREAM_TEST_MEMORY_S", "0.1"))
    zoom = int(os.environ.get("MASKSTREAM_TEST_ZOOM", "1"))
    folder = os.environ.get("MASKSTREAM_TEST_WITNESS")
    sinks = [WriteAheadSink(config=JsonlSinkConfig(folder=Path(folder)))] if folder else []
    config = load_config(Path(sys.argv[1]))
    seen = build_observations(config)
    with serve_observations(config, seen):
        times = {"step_s": step_s, "memory_s": memory_s}
        app = watch_cameras(config, zoom=zoom, sinks=sinks, observations=seen, **times)
        signal.signal(signal.SIGTERM, lambda *_: app.engine.stop())
        app.engine.run()


if __name__ == "__main__":
    main()
