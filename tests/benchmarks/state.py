"""``make bench-state``: what snapshots cost, and who keeps an identity through ``kill -9``.

- Identity snapshots of 5 objects at the full model's shapes, its memory filled with random numbers,
  of a 1080p picture of the wide world and of one of nothing but noise: bytes, and time of the
  engine's thread and of the writer's;
- a full snapshot of 20 objects of ``sam3-nano``, and how long a stream takes to go on from one and
  from an identity snapshot;
- the other way to exactly once: frames told again since an older snapshot;
- identities of ``sam3-nano`` on held-out worlds, from identity snapshots alone (``--worlds``).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median

import cv2
import numpy as np
import torch
from rich.console import Console

from connectors.frame import Frame
from connectors.world.wide.scene import WideConfig, WideWorld
from models.build import build_sam3
from models.catalogue import sam3_network
from models.protocols import Concept
from models.sam2.memory_bank import MemoryBank
from models.sam3.tracking.masklet import Masklet
from models.sam3.tracking.saved import SavedSam3Stream, TensorLayout
from models.sam3.tracking.stream import SearchedConcept
from models.sam3.tracking.stream import Stream as TrackerStream
from pipeline.engine.state.capture import Capture
from pipeline.engine.state.encoding import encode_capture
from pipeline.engine.state.snapshot_file import encode_snapshot_file
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from tests.benchmarks.identities import (
    MODEL,
    START,
    IdentityCount,
    Watcher,
    concepts_of,
    draw,
    make_capture,
    make_frame,
    measure,
)
from tests.benchmarks.replays import measure_replay
from tests.benchmarks.timing import machine
from tests.benchmarks.tracks import HEIGHT, WIDTH, make_crowd, make_prediction

NUM_STREAMS, EVERY_S = 60, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCost:
    """Medians of many snapshots.

    Attributes:
        kind: Which model's, how many objects.
        engine_ms: CPU of the engine's thread.
        writer_ms: CPU of the writer's thread.
        kilobytes: Of the file.
        megabytes_per_s: Of 60 such streams, each written every 2 s.
    """

    kind: str
    engine_ms: float
    writer_ms: float
    kilobytes: float
    megabytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTime:
    """CPU milliseconds until a stream of ``sam3-nano`` is ready to go on, its model loaded."""

    kind: str
    restore_ms: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=0, help="worlds in which workers are killed")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: list[object] = []
    if options.worlds:
        figures += identities(range(options.first, options.first + options.worlds))
    else:
        figures += [*full_model_costs(), *nano_costs(), measure_replay()]
    console = Console(highlight=False)
    for figure in figures:
        if options.json:
            row = {"figure": type(figure).__name__, **asdict(figure)}
            console.print_json(json.dumps(row), indent=None)
        else:
            console.print(figure)
    console.print(machine())


def identities(worlds: Iterable[int]) -> list[IdentityCount]:
    """Count kept identities over worlds."""
    model = build_sam3(MODEL, checkpoint=None, device="cpu")
    total: dict[tuple[str, str], IdentityCount] = {}
    for index in worlds:
        for count in measure(model, index):
            key = count.way, count.where
            before = total.get(key, IdentityCount(way=count.way, where=count.where))
            total[key] = before.plus(count)
    return list(total.values())


def full_model_costs(*, num_objects: int = 5, rounds: int = 20) -> list[SnapshotCost]:
    """Measure identity snapshots at the full model's shapes, of an easy and of a hard picture."""
    world = WideWorld(WideConfig(seed=1, width=WIDTH, height=HEIGHT, fps=10.0, duration_s=10.0))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = {"wide world": world.render(50).pixels, "noise": noise}
    stream, tracker = make_stream(num_objects), make_tracker_stream(num_objects)
    layout = TensorLayout.of(sam3_network("sam3"))
    found: list[SnapshotCost] = []
    for name, pixels in pictures.items():
        frame = make_frame(0, pixels)

        def capture(frame: Frame = frame) -> Capture:
            saved = SavedSam3Stream(tracker.draft(), layout)
            return make_capture(stream, saved, frame)

        kind = f"identity, sam3's shapes, {num_objects} objects, {name}"
        found.append(cost_of(kind, capture, rounds=rounds))
    return found


def nano_costs(*, num_objects: int = 20) -> list[SnapshotCost | RestoreTime]:
    """Measure snapshots of a crowd of the small model, and the way back from them."""
    model = build_sam3(MODEL, checkpoint=None, device="cpu")
    frames = draw(1, num_frames=24)
    watcher = Watcher(model, concepts_of(frames))
    watcher.see(0, frames[0].pixels)
    add_objects(watcher, num_objects)
    for k, frame in enumerate(frames[1:], start=1):
        watcher.see(k, frame.pixels)
    found: list[SnapshotCost | RestoreTime] = []
    for way, is_full in (("identity", False), ("full", True)):
        kind = f"{way}, {MODEL}, {num_objects} objects"
        found.append(cost_of(kind, lambda is_full=is_full: watcher.capture(is_full=is_full)))
        data = watcher.save(is_full=is_full)
        times: list[float] = []
        for _ in range(5):
            again = Watcher(model, watcher.concepts)
            begin = time.process_time()
            again.go_on(data)
            times.append((time.process_time() - begin) * 1000)
        found.append(RestoreTime(kind=kind, restore_ms=round(median(times), 1)))
    return found


def add_objects(watcher: Watcher, num_objects: int) -> None:
    """Choose things all over the newest picture, until there are so many objects."""
    height, width = watcher.frame.pixels.shape[:2]
    rng = np.random.default_rng(0)
    for number in range(watcher.num_masklets, num_objects):
        x, y = rng.uniform(0.1, 0.8, 2)
        box = (x * width, y * height, (x + 0.12) * width, (y + 0.12) * height)
        watcher.session.add_object("cam", box=box, label=f"thing {number}")


def cost_of(kind: str, capture: Callable[[], Capture], *, rounds: int = 20) -> SnapshotCost:
    """Take and encode a snapshot many times."""
    engine_ms: list[float] = []
    writer_ms: list[float] = []
    size = 0
    for _ in range(rounds):
        begin = time.thread_time()
        taken = capture()
        middle = time.thread_time()
        size = len(encode_snapshot_file(encode_capture(taken)))
        engine_ms.append((middle - begin) * 1000)
        writer_ms.append((time.thread_time() - middle) * 1000)
    return SnapshotCost(
        kind=kind,
        engine_ms=round(median(engine_ms), 2),
        writer_ms=round(median(writer_ms), 1),
        kilobytes=round(size / 1000, 1),
        megabytes_per_s=round(size * NUM_STREAMS / EVERY_S / 1e6, 1),
    )


def make_tracker_stream(num_objects: int) -> TrackerStream:
    """Return a stream of the full model whose objects have full memories of random numbers."""
    network = sam3_network("sam3")
    tracker, layout = network.tracker, TensorLayout.of(network)
    shape = (layout.memory_dim, layout.grid, layout.grid)
    masklets: list[Masklet] = []
    num_frames = tracker.max_object_pointers + tracker.num_maskmem
    for number in range(1, num_objects + 1):
        bank = MemoryBank(tracker)
        for t in range(num_frames):
            write = bank.write_conditioning if t % 5 == 0 else bank.write
            write(t, torch.randn(shape).bfloat16(), torch.randn(layout.hidden_dim).bfloat16())
        masklets.append(
            Masklet(
                masklet_id=number,
                concept_id="deer",
                bank=bank,
                score=0.9,
                first_seen_s=0.0,
                last_seen_s=1.0,
                last_matched_s=1.0,
                last_conditioned_s=1.0,
            )
        )
    deer = Concept(concept_id="deer", phrase="deer", name="deer")
    return TrackerStream(
        stream_id="cam",
        concepts=(SearchedConcept(concept=deer, text=None, has_phrase=True),),
        masklets=masklets,
        next_id=num_objects + 1,
        frame_index=num_frames - 1,
        time_s=1.0,
    )


def make_stream(num_objects: int) -> Stream:
    """Return a 1080p stream with tracks of 400 px."""
    stream = Stream(
        "cam", deployment="bench", model="sam3", tracking=TrackingConfig(), is_live=True
    )
    crowd = make_prediction(make_crowd(num_objects, side=400))
    frame = make_frame(0, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    admission = stream.admit(frame, arrived_us=0, now=START)
    stream.apply(admission, crowd, now=START, dropped_since_last=0)
    return stream


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
