"""The backbone on a grid that windows fill and on one that they do not, against transformers."""

from dataclasses import replace

import pytest
import torch

from models.sam3.network.vision import VisionEncoder
from tests.parity.closeness import relative_error
from tests.parity.sam3_reference import SMALL, build_reference


@pytest.mark.parametrize("grid", [6, 7])
@torch.no_grad()
def test_grid_equal_whether_windows_fill_it_or_not(grid):
    config = replace(SMALL, vision=replace(SMALL.vision, image_size=14 * grid))
    theirs = build_reference(config).vision_encoder
    ours = VisionEncoder(config.vision).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 14 * grid, 14 * grid, generator=torch.Generator().manual_seed(1))
    features, expected = ours(images), theirs(images)
    trunk = features.trunk.flatten(2).transpose(1, 2)
    assert relative_error(trunk, expected.last_hidden_state) < 1e-5
    assert relative_error(features.detector_pyramid[-1], expected.fpn_hidden_states[2]) < 1e-5
