"""``make bench-world``: frames a second that one core draws of both worlds, truth included.

They must be more than training and a live camera take, at least 60, or drawing is what they wait
for.
"""

import argparse
from dataclasses import dataclass
from statistics import median
from time import process_time

import cv2
from rich.console import Console

from connectors.world.scene import World, WorldConfig
from connectors.world.wide.scene import WideConfig, WideWorld
from tests.benchmarks.timing import machine

SIDE, FRAMES = 280, 200
WORLDS = ("plain", "wide")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingRate:
    """Frames for each second of processor time: the median of all scenes, and the least."""

    world: str
    frames_per_s: int
    slowest: int


def main() -> None:
    """Measure some scenes of each world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of scenes of each world")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rates = {world: [rate_of(world, seed) for seed in range(options.seeds)] for world in WORLDS}
    console = Console()
    for world, found in rates.items():
        console.print(
            DrawingRate(world=world, frames_per_s=round(median(found)), slowest=round(min(found)))
        )
    console.print(f"{SIDE} x {SIDE} px, {options.seeds} scenes of each:", machine())


def rate_of(name: str, seed: int) -> float:
    """Draw the frames of one scene, its making included, and return how many a second."""
    size = {"seed": seed, "width": SIDE, "height": SIDE, "fps": 10.0, "duration_s": FRAMES / 10}
    begin = process_time()
    world = World(WorldConfig(**size)) if name == "plain" else WideWorld(WideConfig(**size))
    for index in range(world.num_frames):
        world.render(index)
    return world.num_frames / (process_time() - begin)


if __name__ == "__main__":
    main()
