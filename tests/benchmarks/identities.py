"""How many objects keep their identity through ``kill -9``, by the truth of held-out worlds.

A camera's stream runs as an engine runs it, and its snapshots are encoded at some frames. From each
a new stream and a new session go on, behind a gap in which the world went on. An object counts if
it was tracked on the snapshot's frame, and at least half of it shows there and on all frames looked
at after the gap; it is kept if it has the same track at the end of those.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from connectors.frame import CaptureClock, Frame
from connectors.world.scene import World, WorldConfig, WorldFrame
from models.catalogue import MODELS
from models.protocols import SavedStream
from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from models.sam3.tracking.session import Sam3Session
from pipeline.engine.state.capture import Capture
from pipeline.engine.state.encoding import encode_capture, to_memory
from pipeline.engine.state.log_mark import LogMark
from pipeline.engine.state.snapshot_file import decode_snapshot_file, encode_snapshot_file
from pipeline.lab.evaluation.held_out import held_out_rng, held_out_world_seed
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.track import Track

MODEL = "sam3-nano"
FPS = 10
START = datetime(2026, 1, 1, tzinfo=UTC)
NUM_FRAMES, NUM_LOOKED_AT, MOST_LOST = 70, 5, 20
NUM_CUTS, FIRST_CUT = 6, 15
LEAST_IOU = LEAST_VISIBILITY = 0.5
NUM_LEASED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCount:
    """Objects that keep their track, over gaps of 0 to 2 s.

    Attributes:
        way: Never killed, or killed and gone on from which kind of snapshot.
        where: Whether they were visible on the snapshot's frame, or hidden there for a moment.
        num_kept: Those that have the same track afterwards.
        num_objects: All that were visible before and after.
        lost: World, frame, frames lost and object of those that have not.
    """

    way: str
    where: str
    num_kept: int = 0
    num_objects: int = 0
    lost: tuple[tuple[int, int, int, int], ...] = ()

    def plus(self, other: "IdentityCount") -> "IdentityCount":
        """Return the count over both."""
        return replace(
            self,
            num_kept=self.num_kept + other.num_kept,
            num_objects=self.num_objects + other.num_objects,
            lost=self.lost + other.lost,
        )


class Watcher:
    """A camera's stream with its model, in one process."""

    def __init__(self, model: tuple[Sam3, Tokenizer], concepts: Sequence[str]) -> None:
        """Begin with nothing; the first frame opens the model's stream."""
        self.session = Sam3Session(*model, MODELS[MODEL].session)
        self.concepts = concepts
        self.stream = Stream(
            "cam", deployment="bench", model=MODEL, tracking=TrackingConfig(), is_live=True
        )
        self.frame = make_frame(0, np.zeros((1, 1, 3), np.uint8))
        self.num_masklets = 0

    def see(self, index: int, pixels: np.ndarray) -> tuple[Track, ...]:
        """Return the tracks of a frame."""
        self.frame = make_frame(index, pixels)
        now = self.frame.captured_at
        admission = self.stream.admit(self.frame, arrived_us=self.frame.pts_us, now=now)
        if admission.begins_session:
            self.session.open_stream("cam", self.concepts)
        (told,) = self.session.step([admission.model_input])
        self.num_masklets = len(told.masklets)
        result = self.stream.apply(admission, told, now=now, dropped_since_last=0)
        return () if result.scene is None else result.scene.tracks

    def capture(self, *, is_full: bool = False) -> Capture:
        """Return how the stream stands: what the engine's thread does for a snapshot."""
        saved = self.session.save_stream("cam")
        return make_capture(self.stream, saved, None if is_full else self.frame)

    def save(self, *, is_full: bool = False) -> bytes:
        """Return a snapshot as the bytes of a file."""
        return encode_snapshot_file(encode_capture(self.capture(is_full=is_full)))

    def go_on(self, data: bytes) -> None:
        """Take over what another one saved."""
        stored = decode_snapshot_file(data)
        snapshot = stored.stream
        self.stream.restore(snapshot, first_no=stored.about.next_no)
        memory = to_memory(stored, snapshot, has_gap=True)
        self.session.restore_stream("cam", self.concepts, memory)


def make_frame(index: int, pixels: np.ndarray) -> Frame:
    """Return a frame of the camera."""
    return Frame(
        stream_id="cam",
        stream_epoch=0,
        frame_seq=index,
        pixels=pixels,
        pts_us=index * 1_000_000 // FPS,
        captured_at=START + timedelta(seconds=index / FPS),
        capture_clock=CaptureClock.RTCP_NTP,
    )


def make_capture(stream: Stream, tracker: SavedStream, frame: Frame | None) -> Capture:
    """Return how a stream stands; ``None``: with all that its model remembers."""
    return Capture(
        stream_id="cam",
        stream=stream.snapshot(),
        model=stream.model,
        taken_at=START,
        tracker=tracker,
        is_full=frame is None,
        frame=frame,
        next_no=stream.next_no + NUM_LEASED,
        source={},
        mark=LogMark(),
        number=0,
    )


def draw(index: int, *, num_frames: int = NUM_FRAMES) -> list[WorldFrame]:
    """Draw a held-out scene in which there are always some."""
    seed = held_out_world_seed(held_out_rng(0, index))
    world = World(WorldConfig(seed=seed, fps=FPS, min_objects=3, empty_probability=0.0))
    return [world.render(k) for k in range(num_frames)]


def concepts_of(frames: Iterable[WorldFrame]) -> list[str]:
    """Return all that ever comes by."""
    return sorted({one.concept for frame in frames for one in frame.objects})


def measure(model: tuple[Sam3, Tokenizer], index: int) -> list[IdentityCount]:
    """Count the objects of one world that keep their track, on each way to go on."""
    frames, rng = draw(index), np.random.default_rng(index)
    cuts = sorted(rng.choice(range(FIRST_CUT, FIRST_CUT + 29), NUM_CUTS, replace=False).tolist())
    gaps = rng.permutation(np.linspace(0, MOST_LOST, NUM_CUTS)).astype(int).tolist()
    lost = dict(zip(cuts, gaps, strict=True))
    watcher = Watcher(model, concepts_of(frames))
    whole: list[dict[int, str]] = []
    saved: dict[str, dict[int, bytes]] = {"identity": {}, "full": {}}
    for k, frame in enumerate(frames):
        whole.append(tracks_by_object(frame, watcher.see(k, frame.pixels)))
        if k in lost:
            for way, snapshots in saved.items():
                snapshots[k] = watcher.save(is_full=way == "full")
    ways = ("never killed", *saved)
    counts = {
        (way, where): IdentityCount(way=way, where=where)
        for way in ways
        for where in ("visible", "hidden")
    }
    for k, num_lost in lost.items():
        first = k + 1 + num_lost
        looked_at = frames[first : first + NUM_LOOKED_AT]
        found = {"never killed": last_tracks(whole[first : first + NUM_LOOKED_AT])}
        for way, snapshots in saved.items():
            again = Watcher(model, watcher.concepts)
            again.go_on(snapshots[k])
            told = [tracks_by_object(f, again.see(f.index, f.pixels)) for f in looked_at]
            found[way] = last_tracks(told)
        before = last_tracks(whole[max(k - FPS, 0) : k + 1])
        after = set.intersection(*(_mostly_visible(frame) for frame in looked_at))
        for thing in sorted(before.keys() & after):
            is_seen = thing in whole[k]
            if is_seen and thing not in _mostly_visible(frames[k]):
                continue
            for way in ways:
                key = way, "visible" if is_seen else "hidden"
                is_kept = found[way].get(thing) == before[thing]
                counts[key] = counts[key].plus(
                    IdentityCount(
                        way=way,
                        where=key[1],
                        num_kept=int(is_kept),
                        num_objects=1,
                        lost=() if is_kept else ((index, k, num_lost, thing),),
                    )
                )
    return list(counts.values())


def last_tracks(told: Sequence[dict[int, str]]) -> dict[int, str]:
    """Return the last track of each object."""
    last: dict[int, str] = {}
    for tracks in told:
        last |= tracks
    return last


def tracks_by_object(frame: WorldFrame, tracks: Sequence[Track]) -> dict[int, str]:
    """Return which track is which object: that which overlaps it most, at least by half."""
    found: dict[int, str] = {}
    for thing in frame.visible_objects:
        overlaps = [
            (_iou(track.last_mask.full(), thing.visible_mask), track.uid)
            for track in tracks
            if track.is_visible and track.concept == thing.concept
        ]
        iou, uid = max(overlaps, default=(0.0, ""))
        if iou > LEAST_IOU:
            found[thing.object_id] = uid
    return found


def _mostly_visible(frame: WorldFrame) -> set[int]:
    things = frame.visible_objects
    return {thing.object_id for thing in things if thing.visibility >= LEAST_VISIBILITY}


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)
