"""What a px of a mask counts depends on how near the object is, and it is judged in the picture."""

import pytest
import torch
from torch.nn import functional as F

from models.training.detector_losses import FAR, enlarge, neighbourhood


def test_cells_in_and_round_the_box_count_and_others_hardly():
    # A box of 2 x 4 cells of 16, its corner at (4, 6).
    weights = neighbourhood(torch.tensor([[5 / 16, 8 / 16, 2 / 16, 4 / 16]]), 16, margin=1 / 16)[0]
    assert weights.shape == (16, 16)
    assert bool((weights[6:10, 4:6] == 1).all())
    assert bool((weights[5:11, 3:7] == 1).all())
    assert float(weights[0, 0]) == float(weights[8, 12]) == float(torch.tensor(FAR))
    assert 4 * 6 <= int((weights == 1).sum()) <= 6 * 8


@pytest.mark.parametrize("edge", [13, 14, 15, 16, 17, 18])
def test_an_outline_passes_through_a_cell_where_the_logits_say(edge):
    # Cells of 4 px: an edge at any px of one is learned, not only at its border.
    truth = torch.zeros(1, 32, 32)
    truth[:, :, :edge] = 1
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(enlarge(logits, 32), truth).backward()
        optimiser.step()
    assert torch.equal(enlarge(logits.detach(), 32) > 0, truth > 0)


def test_no_masks_are_enlarged_to_none():
    assert enlarge(torch.zeros(0, 8, 8), 32).shape == (0, 32, 32)
