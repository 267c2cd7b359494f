import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.pictures.encoding import decode_image, encode_image
from tests.media import number_of, numbered_picture

JPEG = encode_image(numbered_picture(5), "jpeg")
PNG = encode_image(numbered_picture(5), "png")


def test_png_keeps_every_pixel_and_jpeg_the_picture():
    assert np.array_equal(decode_image(PNG, max_pixels=10**6), numbered_picture(5))
    assert number_of(decode_image(JPEG, max_pixels=10**6)) == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no picture|refuses"),
        (b"hello world", "no picture|refuses"),
        (JPEG[: len(JPEG) // 2], "cut off"),
        (PNG[: len(PNG) // 2], "cut off"),
        (b"\xff\xd8\xff\xe0", "without a size"),
        (PNG[:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:], "more than the allowed"),
    ],
)
def test_bad_pictures_are_refused_with_the_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode_image(data, max_pixels=10**6)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from([b"", JPEG[:40], PNG[:40]]))
def test_garbage_is_a_value_error_or_a_picture(garbage, head):
    try:
        pixels = decode_image(head + garbage, max_pixels=10**6)
    except ValueError:
        return
    assert pixels.ndim == 3
