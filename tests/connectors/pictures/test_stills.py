"""Pictures of every kind in, upright 8-bit RGB out, or an error that says why not."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectors.errors import PictureError
from connectors.pictures.stills import decode_picture, list_pictures, read_picture
from tests.media import number_of, numbered_picture

RGB = numbered_picture(0b0110_1001)
# Left to right from dark to light, top row lighter: no turn of it looks like another.
RAMP = np.linspace(0, 250, 12, dtype=np.uint8).reshape(1, 12).repeat(8, 0)
RAMP[0] = 255
# How a picture lies in the file for each EXIF orientation.
STORED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}


def encoded(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey16(values, kind="PNG"):
    return encoded(Image.fromarray(values.astype(np.uint16)), kind)


def png_rgb16(values):
    """A PNG of 16-bit colours, which Pillow reads but does not write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_rgb16(values):
    """An uncompressed little-endian TIFF of 16-bit colours."""
    height, width = values.shape[:2]
    data = values.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1),
            (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height),
            (279, 4, 1, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    depths = struct.pack("<HHH", 16, 16, 16)
    return struct.pack("<2sHI", b"II", 42, 14 + len(data)) + data + depths + directory


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
    ],
)
def test_lossless_kinds_keep_every_pixel(kind, options):
    assert np.array_equal(decode_picture(encoded(Image.fromarray(RGB), kind, **options)), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_lossy_kinds_keep_the_picture(kind):
    assert number_of(decode_picture(encoded(Image.fromarray(RGB), kind))) == number_of(RGB)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG"
    pixels = decode_picture(
        encoded(Image.fromarray(RGB).convert(mode, dither=Image.Dither.NONE), kind)
    )
    assert (pixels.shape, pixels.dtype, pixels.flags.writeable) == (RGB.shape, np.uint8, True)
    assert number_of(pixels) == number_of(RGB)


def test_cmyk_jpeg_is_not_inverted():
    red = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    assert np.abs(decode_picture(encoded(red, "JPEG")) - [200.0, 30, 30]).max() < 12


def test_transparency_is_dropped_and_the_colours_beneath_stay():
    seen = Image.fromarray(np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)]))
    assert np.array_equal(decode_picture(encoded(seen)), RGB)
    palette = Image.fromarray(RGB).convert("P")
    assert number_of(decode_picture(encoded(palette, transparency=0))) == number_of(RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_by_its_full_range(kind):
    values = np.array([[0, 257, 32768, 65535]])
    assert decode_picture(grey16(values, kind))[0].tolist() == [
        [0] * 3, [1] * 3, [128] * 3, [255] * 3
    ]  # fmt: skip


@pytest.mark.parametrize("write", [png_rgb16, tiff_rgb16])
def test_16_bit_colours_are_scaled(write):
    values = np.array([[[0, 32768, 65535], [65535, 256, 1000]]])
    assert decode_picture(write(values))[0].tolist() == [[0, 128, 255], [255, 1, 3]]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100.4, 255]], np.float32), [0, 100, 255]),
        (np.array([[-10, 0, 10]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0, 1]], np.float32), [0, 0, 255]),
        (np.array([[7, 7, 700]], np.float32), [0, 0, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
        (np.array([[-3, -3, -3]], np.int32), [0, 0, 0]),
    ],
)
def test_32_bit_grey_is_scaled_to_what_it_holds(values, seen):
    assert decode_picture(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == seen


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_every_exif_orientation_is_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](RAMP)))
    pixels = decode_picture(encoded(stored, kind, exif=exif, **lossless))
    assert pixels.shape[:2] == RAMP.shape
    assert np.abs(pixels[..., 0].astype(int) - RAMP).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"x"])
def test_damaged_exif_does_not_harm_a_good_picture(exif):
    assert number_of(decode_picture(encoded(Image.fromarray(RGB), "JPEG", exif=exif))) > 0


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_first_of_several_pictures_is_taken(kind):
    first, second = (Image.fromarray(numbered_picture(number)) for number in (5, 200))
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert number_of(decode_picture(data)) == 5


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (7680, 4320)])
def test_sizes_from_one_pixel_to_8k(size):
    pixels = decode_picture(encoded(Image.new("RGB", size, (1, 2, 3)), "PNG", compress_level=1))
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels[-1, -1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("side", [11, 60_000])
def test_too_large_a_picture_is_refused_before_it_is_decoded(side):
    png = encoded(Image.new("L", (2, 2)))
    data = png[:16] + struct.pack(">II", side, side) + png[24:29]
    data += struct.pack(">I", zlib.crc32(data[12:29])) + png[33:]
    with pytest.raises(ValueError, match=r"more than the allowed 100 pixels"):
        decode_picture(data, max_pixels=100)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF"])
def test_cut_off_picture_is_an_error_that_names_the_file(tmp_path, kind):
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(PictureError, match=r"picture '.*cut\.bin': .*; accepted: a JPEG"):
        read_picture(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello world", r"11 bytes beginning with '68656c6c' are no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "are no picture"),
        (b"\x89PNG\r\n\x1a\n", "no picture|damaged"),
    ],
)
def test_what_is_no_picture_is_told(tmp_path, data, reason):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PictureError, match=reason):
        read_picture(tmp_path / "a.png")


def test_folder_and_missing_file_are_told(tmp_path):
    with pytest.raises(PictureError, match="is a folder; accepted: a JPEG"):
        read_picture(tmp_path)
    with pytest.raises(PictureError, match="no such file"):
        read_picture(tmp_path / "none.png")


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"]))
def test_damage_is_a_value_error_or_a_picture(data, kind):
    body = bytearray(encoded(Image.fromarray(RGB), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_picture(bytes(body), max_pixels=10**6)
    except ValueError:
        return
    assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)


def test_folders_and_patterns_are_listed_by_name(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in list_pictures(tmp_path / "*.PNG")] == ["b.PNG"]
    assert list_pictures(tmp_path / "notes.txt") == (tmp_path / "notes.txt",)
    assert list_pictures(tmp_path / "none.png") == ()
