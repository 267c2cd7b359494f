"""Easy scenes by day, and how well records agree with their truth."""

from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from connectors.world.compose import WorldObject
from connectors.world.motion import Actor
from connectors.world.motion import Path as Walk
from connectors.world.scene import World, WorldConfig
from models.common.masks import RunLengths

FPS, LOOP_S = 6, 12.0
# From the middle to the right edge and back: the end is the start, so the clip can be looped.
DEER = Actor(
    concept="deer",
    path=Walk.VISIT,
    start_x=0.42,
    start_s=0.0,
    velocity=0.4 / 6,
    span_s=LOOP_S,
    nearness=0.5,
    height=0.42,
    steps_per_s=1.0,
)
BUS = Actor(
    concept="bus",
    start_x=0.18,
    start_s=0.0,
    velocity=0.0,
    nearness=0.95,
    height=0.3,
    steps_per_s=0.0,
)
ZONE_X = 0.6
ZONE = f"{{name: right, polygon: [[{ZONE_X}, 0], [1, 0], [1, 1], [{ZONE_X}, 1]]}}"


def make_world(*cast: Actor, seconds: float = LOOP_S) -> World:
    config = WorldConfig(
        seed=3,
        width=320,
        height=240,
        fps=FPS,
        duration_s=seconds,
        night_probability=0.0,
        props=(),
        cast=cast,
    )
    return World(config)


def write_world(path: Path, world: World, *, options: dict[str, str] | None = None) -> Path:
    """Encode a scene as H.264, one slice per picture."""
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "bf": "0", "g": "6", "threads": "1", "crf": "20"}
        for index in range(world.num_frames):
            frame = av.VideoFrame.from_ndarray(world.render(index).pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ious_with_truth(world: World, masklets: dict, index: int) -> list[float]:
    """Return, for each confirmed object of a record, its best IoU with the truth of its concept."""
    things = _visible_things(world, index)
    shown = [one for one in masklets["objects"] if one["state"] == "confirmed" and "mask" in one]
    return [
        max(
            (_iou(one["mask"], t.visible_mask) for t in things if t.concept == one["concept"]),
            default=0.0,
        )
        for one in shown
    ]


@lru_cache(maxsize=80)
def _visible_things(world: World, index: int) -> tuple[WorldObject, ...]:
    return world.render(index).visible_objects


def _iou(mask: dict, truth: np.ndarray) -> float:
    found = RunLengths.from_counts(mask["counts"], tuple(mask["size"])).mask()
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)
