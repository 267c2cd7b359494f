"""Position codes: their values by an explicit loop, and what rotation must keep."""

import math

import pytest
import torch

from models.common.positional import axial_rotary_table, rotate, sine_1d, sine_boxes, sine_grid

CPU = torch.device("cpu")


def rotary(height, width, dim=8, scale=1.0):
    return axial_rotary_table(height, width, dim, scale=scale, device=CPU)


def test_sine_1d_equals_loop():
    got = sine_1d(torch.tensor([0.3]), 6)[0]
    wanted = []
    for pair in range(3):
        angle = 0.3 * 2 * math.pi / 10000 ** (2 * pair / 6)
        wanted += [math.sin(angle), math.cos(angle)]
    torch.testing.assert_close(got, torch.tensor(wanted))


def test_sine_grid_holds_rows_then_columns():
    grid = sine_grid(3, 5, 8, CPU)
    assert grid.shape == (8, 3, 5)
    assert torch.equal(grid[:4, :, 0], grid[:4, :, 4])
    assert torch.equal(grid[4:, 0], grid[4:, 2])
    torch.testing.assert_close(grid[:4, 2, 0], sine_1d(torch.tensor(1.0), 4), atol=1e-5, rtol=0)


def test_sine_boxes_come_as_y_x_w_h():
    code = sine_boxes(torch.tensor([0.1, 0.2, 0.3, 0.4]), 4)
    torch.testing.assert_close(code, sine_1d(torch.tensor([0.2, 0.1, 0.3, 0.4]), 4).flatten())


def test_rotation_keeps_length():
    x = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotate(x, rotary(3, 4)).norm(dim=-1), x.norm(dim=-1))


def test_rotated_products_depend_on_distance_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 8, generator=generator).expand(25, -1) for _ in range(2))
    table = rotary(5, 5)
    products = (rotate(q, table) @ rotate(k, table).t()).view(5, 5, 5, 5)
    torch.testing.assert_close(products[:3, :3, 0, 0], products[2:, 1:4, 2, 1])


def test_scale_squeezes_positions_onto_smaller_grid():
    small, squeezed = rotary(2, 2).view(2, 2, -1), rotary(4, 4, scale=0.5).view(4, 4, -1)
    torch.testing.assert_close(squeezed[::2, ::2], small)


def test_windows_list_the_same_cells_one_window_after_another():
    by_rows = rotary(4, 6)
    order = torch.arange(24).view(2, 2, 3, 2).transpose(1, 2).flatten()
    by_windows = axial_rotary_table(4, 6, 8, scale=1.0, device=CPU, window=2)
    assert torch.equal(by_windows, by_rows[order])


@pytest.mark.parametrize("side", [6, 7])
def test_table_made_while_serving_can_be_trained_with(side):
    with torch.inference_mode():
        sine_grid(side, side, 8, CPU)
        rotary(side, side)
    x = torch.ones(1, side * side, 8, requires_grad=True)
    (rotate(x, rotary(side, side)) * sine_grid(side, side, 8, CPU).flatten(1).t()).sum().backward()
    assert x.grad is not None
