"""What the tests of several models look at."""

import pytest

from connectors.world.scene import World, WorldConfig


@pytest.fixture(scope="session")
def frame():
    """A frame of 200 x 150 px of the synthetic world with three objects or more."""
    return World(WorldConfig(seed=12, min_objects=3, width=200, height=150)).render(40)
