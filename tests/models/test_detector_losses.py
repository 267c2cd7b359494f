"""What a cell of a mask counts depends on how near the object is."""

import torch

from models.training.detector_losses import FAR, neighbourhood


def test_cells_in_and_round_the_box_count_and_others_hardly():
    # A box of 2 x 4 cells of 16, its corner at (4, 6).
    weights = neighbourhood(torch.tensor([[5 / 16, 8 / 16, 2 / 16, 4 / 16]]), 16)[0]
    assert weights.shape == (16, 16)
    assert bool((weights[6:10, 4:6] == 1).all())
    assert bool((weights[5:11, 3:7] == 1).all())
    assert float(weights[0, 0]) == float(weights[8, 12]) == float(torch.tensor(FAR))
    assert 4 * 6 <= int((weights == 1).sum()) <= 6 * 8
