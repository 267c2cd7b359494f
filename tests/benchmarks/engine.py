"""``make bench-engine``: what an engine costs without its model, and who holds the interpreter.

Three figures, with a model of fixed time whose masklets move (its own CPU is taken off):

- CPU of the engine's thread for a step of 8 streams of 640 x 360 with 5 tracks each;
- CPU of the whole process for a frame of 1080p with 5 objects, records written as JSON lines;
- share of time in which the interpreter's lock is held at 100 such frames a second (py-spy).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from connectors.base import Source
from connectors.errors import Position
from connectors.frame import CaptureClock, Frame
from connectors.memory import MemorySource
from models.common.masks import CropMask
from models.protocols import ConceptTracker, FrameInput, MaskletObservation, Prediction
from pipeline.app import build_app
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from tests.benchmarks.timing import machine

NUM_OBJECTS = 5
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class FixedTracker(ConceptTracker):
    """Answers after a fixed time with ellipses that walk to and fro.

    Attributes:
        seconds: How long it takes; it sleeps, as a process does that waits for a device.
        cpu_s: CPU that its own answers cost so far.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    _steps: dict[str, int] = field(default_factory=dict[str, int])
    _ellipses: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def open_stream(self, stream_id: str, concepts: Sequence[str]) -> None:
        """Begin a stream; its concepts do not matter."""
        self._steps[stream_id] = 0

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream."""
        del self._steps[stream_id]

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Return one prediction per input."""
        time.sleep(self.seconds)
        began_s = time.thread_time()
        predictions = [self._look(item) for item in inputs]
        self.cpu_s += time.thread_time() - began_s
        return predictions

    def _look(self, item: FrameInput) -> Prediction:
        self._steps[item.stream_id] += 1
        masklets = tuple(self._observe(item, number) for number in range(NUM_OBJECTS))
        return Prediction(
            stream_id=item.stream_id, masklets=masklets, ended=(), presence={"deer": 0.95}
        )

    def _observe(self, item: FrameInput, number: int) -> MaskletObservation:
        height, width = item.pixels.shape[:2]
        h, w = height // 3, width // 8
        if (h, w) not in self._ellipses:
            rows, columns = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
            self._ellipses[h, w] = rows**2 + columns**2 <= 1
        shift = abs((self._steps[item.stream_id] % 100) - 50)
        return MaskletObservation(
            masklet_id=number + 1,
            concept="deer",
            concept_id="deer",
            score=0.9,
            presence_score=0.95,
            occlusion_score=0.99,
            is_matched=True,
            first_seen_s=0.0,
            last_seen_s=item.time_s,
            mask=CropMask(
                size_hw=(height, width),
                x0=number * (width // 6) + shift * width // 1000,
                y0=height // 2 - h // 2 + shift,
                bits=self._ellipses[h, w],
            ),
            pointer=None,
        )


def main() -> None:
    """Measure and print the three figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    parser.add_argument("--hold", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        run_many(num_frames=round(100 * options.hold), fps=100.0)
        return
    figures = {
        "step_ms": round(median(step_times_ms()), 2),
        "frame_1080p_cpu_ms": round(median(frame_cpu_ms() for _ in range(3)), 2),
        "lock_held_share": lock_share(),
    }
    console = Console(highlight=False)
    if options.json:
        console.print_json(json.dumps({**machine(), **figures}), indent=None)
        return
    console.print(f"step of 8 streams 640 x 360, 5 tracks each: {figures['step_ms']} ms (goal 4)")
    console.print(f"frame of 1080p, 5 objects: {figures['frame_1080p_cpu_ms']} ms CPU (goal 15)")
    console.print(f"lock held at 100 frames/s: {figures['lock_held_share']} (goal 0.60)")


def make_frames(stream_id: str, size_wh: tuple[int, int], num_frames: int) -> list[Frame]:
    """Return frames that share one picture, decoded as it were."""
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    return [
        Frame(
            stream_id=stream_id,
            stream_epoch=0,
            frame_seq=number,
            pixels=pixels,
            pts_us=number * 100_000,
            captured_at=START + timedelta(milliseconds=100 * number),
            capture_clock=CaptureClock.WORLD,
        )
        for number in range(num_frames)
    ]


class PacedSource(MemorySource):
    """Gives its frames at a rate, as a camera does."""

    def __init__(self, frames: Sequence[Frame], fps: float) -> None:
        super().__init__(frames)
        self._gap_s = 1.0 / fps
        self._due_s: float | None = None

    def read(self) -> Frame | None:
        """Wait until the next frame is due."""
        now_s = time.monotonic()
        self._due_s = now_s if self._due_s is None else self._due_s + self._gap_s
        time.sleep(max(self._due_s - now_s, 0.0))
        return super().read()


def build_config(num_streams: int, folder: Path) -> RunConfig:
    """Return a configuration with a zone and the rules that people use most."""
    zone = {"name": "left", "polygon": [(0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 1.0)]}
    rules = [
        {"type": "appear", "name": "seen"},
        {"type": "enter", "name": "enters", "zone": "left"},
        {"type": "dwell", "name": "stays", "zone": "left", "dwell_s": 1.0},
    ]
    stream = {"source": {"type": "world", "preset": "demo"}, "concepts": ["deer"]}
    streams = [
        {"id": f"cam{number}", **stream, "zones": [zone], "rules": rules}
        for number in range(num_streams)
    ]
    sinks = [{"type": "jsonl", "folder": str(folder)}]
    return RunConfig.model_validate({"streams": streams, "sinks": sinks})


def step_times_ms(num_frames: int = 150) -> list[float]:
    """Return CPU of the engine's thread for each step that held a frame of all 8 streams."""
    tracker = FixedTracker(seconds=0.03)
    costs: list[float] = []
    last = [0.0, 0.0]

    def on_turn() -> None:
        now_s = time.thread_time()
        own_s = now_s - last[0] - (tracker.cpu_s - last[1])
        last[0], last[1] = now_s, tracker.cpu_s
        costs.append(1000 * own_s)

    def build(stream: StreamConfig, position: Position | None) -> Source:
        return MemorySource(make_frames(stream.id, (640, 360), num_frames))

    with TemporaryDirectory() as folder:
        app = build_app(build_config(8, Path(folder)), tracker=tracker, build=build)
        last[0] = time.thread_time()
        app.engine.run(on_turn)
    return costs[20:-20]


def frame_cpu_ms(num_frames: int = 200) -> float:
    """Return CPU of the process for a frame of 1080p, start and end taken off."""
    began_s = time.process_time()
    tracker = run_many(num_frames=20, fps=30.0)
    start_s = time.process_time() - began_s - tracker.cpu_s
    began_s = time.process_time()
    tracker = run_many(num_frames=num_frames + 20, fps=30.0)
    whole_s = time.process_time() - began_s - tracker.cpu_s
    return 1000 * (whole_s - start_s) / num_frames


def run_many(*, num_frames: int, fps: float) -> FixedTracker:
    """Run one stream of 1080p at a rate through a model that is fast enough for it."""
    tracker = FixedTracker(seconds=0.5 / fps)

    def build(stream: StreamConfig, position: Position | None) -> Source:
        return PacedSource(make_frames(stream.id, (1920, 1080), num_frames), fps)

    with TemporaryDirectory() as folder:
        build_app(build_config(1, Path(folder)), tracker=tracker, build=build).engine.run()
    return tracker


def lock_share(seconds: float = 10.0) -> float:
    """Return the share of py-spy's samples in which a thread held the interpreter's lock."""
    spy = Path(sys.executable).with_name("py-spy")
    module = "tests.benchmarks.engine"
    command = [sys.executable, "-m", module, "--hold", str(seconds + 12)]
    with TemporaryDirectory() as folder, subprocess.Popen(command) as held:
        try:
            time.sleep(8.0)  # imports and the first frames
            samples = Path(folder) / "samples"
            record = [str(spy), "record", "--gil", "--format", "raw", "--rate", "200"]
            record += [
                "--duration",
                str(round(seconds)),
                "--pid",
                str(held.pid),
                "-o",
                str(samples),
            ]
            environment = {**os.environ, "RUST_LOG": "error"}
            subprocess.run(record, check=True, env=environment, stdout=subprocess.DEVNULL)
            lines = samples.read_text().splitlines()
            num_held = sum(int(line.rpartition(" ")[2]) for line in lines)
        finally:
            held.kill()
    return round(num_held / (200 * seconds), 3)


if __name__ == "__main__":
    main()
