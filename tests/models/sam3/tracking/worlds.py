"""Frames of the synthetic world."""

from connectors.world.scene import World, WorldConfig


def world_frames(num, *, first=40):
    """Frames of 200 x 150 px that follow each other, with three objects or more."""
    world = World(WorldConfig(seed=12, min_objects=3, width=200, height=150))
    return [world.render(first + k) for k in range(num)]
