"""Frames that must never change, as weights and figures hang on them.

Run as a module, this writes ``golden/world_frames.npz`` anew; do so only to add a world.
"""

from pathlib import Path

import numpy as np

from connectors.world.config import Split
from connectors.world.scene import DEMO, World, WorldConfig
from connectors.world.still import render_clip
from connectors.world.wide.casting import WideContent
from connectors.world.wide.scene import WideConfig, WideWorld
from connectors.world.wide.still import render_wide_clip

GOLDEN = Path(__file__).with_name("golden") / "world_frames.npz"


def draw_frames():
    """Return one frame of each kind of world by name."""
    small = {"width": 64, "height": 48}
    plain = World(WorldConfig(seed=1_000_003, night_probability=0.0, max_objects=3, **small))
    full = World(WorldConfig(seed=1_000_008, night_probability=1.0, **small))
    wide = [
        WideWorld(WideConfig(seed=7, content=WideContent(split=split), **small)) for split in Split
    ]
    return {
        "demo": World(DEMO).render(60),
        "plain": plain.render(110),
        "full": full.render(110),
        "clip": render_clip(np.random.default_rng(5), size=56, num_frames=3)[-1],
        "wide clip": render_wide_clip(np.random.default_rng(6), size=56, num_frames=3)[-1],
        **{f"wide {w.config.content.split}": w.render(110) for w in wide},
    }


def to_arrays(frame):
    """Return a frame's picture, made small, and its truth."""
    step = max(frame.pixels.shape[0] // 90, 1)
    truth = [
        f"{t.object_id} {t.concept} {' '.join(t.attributes)} {t.visible_mask.sum() // 16}"
        for t in frame.objects
    ]
    return frame.pixels[::step, ::step], np.array(truth, dtype=np.str_)


def write():
    """Write the file anew."""
    arrays = {}
    for name, frame in draw_frames().items():
        arrays[f"{name}/pixels"], arrays[f"{name}/truth"] = to_arrays(frame)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write()
