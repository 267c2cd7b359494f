"""At the published size, every parameter of transformers' video model has ours of the same shape.

Names are equal too, but for none: a checkpoint opens in both without a table.
"""

import importlib

import pytest
import torch

from models.catalogue import sam3_network
from models.sam3.network.keys import REFINER
from models.sam3.network.model import Sam3

configuration = importlib.import_module("transformers.models.sam3_video.configuration_sam3_video")
reference = importlib.import_module("transformers.models.sam3_video.modeling_sam3_video")
initialization = importlib.import_module("transformers.initialization")


def _shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return _shapes(Sam3(sam3_network("sam3")))


def test_published_size_has_the_published_keys_and_shapes(published):
    with torch.device("meta"), initialization.no_init_weights():
        theirs = _shapes(reference.Sam3VideoModel(configuration.Sam3VideoConfig()))
    assert len(published) == 1797
    assert published == theirs


def test_nano_is_the_same_graph(published):
    """But for its refiner, nano differs in widths and depths only: its keys are published ones."""
    with torch.device("meta"):
        keys = set(Sam3(sam3_network("sam3-nano")).state_dict())
    refiner = {key for key in keys if key.startswith(REFINER)}
    assert refiner
    assert keys - refiner < set(published)
