"""Region pooling against samples taken one by one."""

import math

import pytest
import torch

from models.common.roi_align import roi_align


def sample(features, y, x):
    """One bilinear sample of (C, H, W); nothing beyond one cell outside, the edge's value there."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(features.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    low_y, low_x = int(y), int(x)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    top = (1 - x + low_x) * features[:, low_y, low_x] + (x - low_x) * features[:, low_y, high_x]
    bottom = (1 - x + low_x) * features[:, high_y, low_x]
    bottom = bottom + (x - low_x) * features[:, high_y, high_x]
    return (1 - y + low_y) * top + (y - low_y) * bottom


def pool(features, box, size):
    """The definition: each bin is the mean of its own lattice of samples."""
    x0, y0, x1, y1 = box
    bin_h, bin_w = max(y1 - y0, 1.0) / size, max(x1 - x0, 1.0) / size
    num_y, num_x = math.ceil(bin_h), math.ceil(bin_w)
    pooled = torch.zeros(features.shape[0], size, size)
    for row in range(size):
        for column in range(size):
            for i in range(num_y):
                for j in range(num_x):
                    y = y0 + (row + (i + 0.5) / num_y) * bin_h
                    x = x0 + (column + (j + 0.5) / num_x) * bin_w
                    pooled[:, row, column] += sample(features, y, x) / (num_y * num_x)
    return pooled


@pytest.mark.parametrize(
    "box",
    [
        (1.0, 1.5, 6.0, 4.5),
        (0.0, 0.0, 9.0, 7.0),
        (2.3, 2.1, 2.4, 2.2),
        (-3.0, -2.5, 4.0, 3.0),
        (5.0, 4.0, 14.0, 12.0),
        (20.0, 20.0, 30.0, 30.0),
        (4.0, 3.0, 4.0, 3.0),
    ],
    ids=["inside", "whole", "tiny", "beyond top left", "beyond bottom right", "outside", "empty"],
)
def test_pooling_equals_samples_one_by_one(box):
    features = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(0))
    got = roi_align(features[None], torch.tensor([[box]]), 3)
    torch.testing.assert_close(got[0], pool(features, box, 3), atol=1e-5, rtol=1e-5)


def test_box_far_outside_gives_nothing():
    assert not roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[[9.0, 9, 12, 12]]]), 2).any()


def test_boxes_come_image_by_image():
    features = torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))
    pooled = roi_align(features, torch.tensor([[[0.0, 0, 2, 2]] * 3] * 2), 2)
    assert pooled.mean((1, 2, 3)).tolist() == [0, 0, 0, 1, 1, 1]


def test_no_boxes_pool_to_nothing():
    assert roi_align(torch.ones(2, 3, 4, 4), torch.zeros(2, 0, 4), 7).shape == (0, 3, 7, 7)


def test_gradient_flows_to_features():
    features = torch.rand(1, 1, 4, 4, requires_grad=True)
    roi_align(features, torch.tensor([[[0.0, 0.0, 4.0, 4.0]]]), 2).sum().backward()
    assert float(features.grad.sum()) == pytest.approx(4.0)
