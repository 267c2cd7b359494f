import pytest
import torch
from torch import nn

from models.catalogue import sam3_network
from models.sam3.network.config import VisionConfig
from models.sam3.network.vision import Neck

NANO = sam3_network("sam3-nano").vision


@pytest.mark.parametrize(
    "config", [NANO, VisionConfig(dim=32, neck_dim=6)], ids=["wide levels", "narrow levels"]
)
def test_a_level_that_one_convolution_reads_is_as_if_it_were_read_after(config):
    torch.manual_seed(0)
    neck = Neck(config)
    trunk = torch.randn(2, config.dim, 5, 5)
    readers = (nn.Conv2d(config.neck_dim, 3, 1), nn.Conv2d(config.neck_dim, 8, 1), None)
    fine, middle, coarse = neck(trunk)
    read = neck(trunk, readers)
    # The order of two sums of products changes: rounding of fp32.
    assert torch.allclose(read[0], readers[0](fine), atol=1e-5)
    assert torch.allclose(read[1], readers[1](middle), atol=1e-5)
    assert torch.equal(read[2], coarse)
    # And it learns: both weights that are made one get their gradients.
    sum(level.sum() for level in read).backward()
    for level, reader in zip(neck.fpn_layers, readers, strict=False):
        assert level.proj2.weight.grad is not None
        assert reader is None or reader.weight.grad is not None
