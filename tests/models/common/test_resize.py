"""Windows of resized maps against torch's own resizing of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from models.common.resize import resize_window


@st.composite
def windows(draw):
    """A map, a size to resize it to, and a window of that."""
    grid, size = (draw(st.tuples(st.integers(1, 40), st.integers(1, 40))) for _ in range(2))
    (y0, y1), (x0, x1) = (
        sorted((draw(st.integers(0, most)), draw(st.integers(0, most)))) for most in size
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return 8 * torch.randn(grid, generator=generator), size, (x0, y0, x1, y1)


@settings(deadline=None, max_examples=200)
@given(windows())
def test_a_window_is_that_of_the_whole_map(case):
    plane, size, (x0, y0, x1, y1) = case
    whole = F.interpolate(plane[None, None], size=size, mode="bilinear")[0, 0]
    part = resize_window(plane, size, (x0, y0, x1, y1))
    torch.testing.assert_close(part, whole[y0:y1, x0:x1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(1080, 1920), (719, 1279), (150, 200)])
def test_windows_of_one_map_are_equal_to_the_bit(size):
    plane = 8 * torch.randn(288, 288, generator=torch.Generator().manual_seed(0))
    whole = resize_window(plane, size, (0, 0, size[1], size[0]))
    y0, x0 = size[0] // 3, size[1] // 2
    assert torch.equal(resize_window(plane, size, (x0, y0, size[1], size[0])), whole[y0:, x0:])
    by_torch = F.interpolate(plane[None, None], size=size, mode="bilinear")[0, 0]
    torch.testing.assert_close(whole, by_torch, atol=1e-4, rtol=0)
