import numpy as np
import pytest

from tests.connectors.world.world_frames import GOLDEN, draw_frames, to_arrays


@pytest.fixture(scope="module")
def frames():
    return draw_frames()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return dict(stored)


def test_every_kind_of_world_is_frozen(frames, golden):
    assert golden.keys() == {f"{name}/{part}" for name in frames for part in ("pixels", "truth")}


@pytest.mark.parametrize("name", ["demo", "plain", "full", "clip"])
def test_worlds_that_weights_hang_on_stay_as_they_are(name, frames, golden):
    pixels, truth = to_arrays(frames[name])
    assert truth.tolist() == golden[f"{name}/truth"].tolist()
    # One grey level for processors that round otherwise.
    assert np.abs(pixels.astype(int) - golden[f"{name}/pixels"]).max() <= 1


@pytest.mark.parametrize("name", ["clip", "train", "test_combinations", "test_concepts"])
def test_wide_worlds_stay_as_they_are(name, frames, golden):
    pixels, truth = to_arrays(frames[f"wide {name}"])
    assert truth.tolist() == golden[f"wide {name}/truth"].tolist()
    # Compressed pictures may differ more between builds of the codec.
    assert np.abs(pixels.astype(int) - golden[f"wide {name}/pixels"]).mean() <= 1
