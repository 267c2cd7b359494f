"""Single pictures to and from bytes, with distrust: broken and absurdly large ones are refused."""

import struct
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
ImageKind = Literal["jpeg", "png"]
# Three times 8K. Larger pictures are taken for mistakes or attacks.
MAX_PIXELS = 100_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_kind(data: bytes) -> ImageKind | None:
    """Return what the first bytes say; ``None`` for anything but JPEG and PNG."""
    if data.startswith(_JPEG):
        return "jpeg"
    return "png" if data.startswith(_PNG) else None


def decode_image(data: bytes, *, max_pixels: int) -> Pixels:
    """Return the picture as RGB, shape (H, W, 3), uint8, turned upright where EXIF says so.

    Args:
        data: The file's bytes. JPEG and PNG are checked for size and end before decoding.
        max_pixels: Larger pictures are refused, before any memory is taken for them.

    Raises:
        ValueError: If it is no picture, is cut off, or too large; says which.
    """
    kind = image_kind(data)
    if kind is not None:
        size = _jpeg_size(data) if kind == "jpeg" else _png_size(data)
        if size is None:
            raise ValueError(f"a {kind} of {len(data)} bytes without a size in its header")
        if not 0 < size[0] * size[1] <= max_pixels:
            raise ValueError(f"{size[1]}x{size[0]} pixels are more than the allowed {max_pixels}")
        if not _has_end(data, kind):
            raise ValueError(f"a {kind} of {len(data)} bytes that is cut off")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(f"{len(data)} bytes that OpenCV refuses: {error.err}") from error
    if decoded is None:
        raise ValueError(f"{len(data)} bytes beginning with {data[:4].hex()!r} are no picture")
    if decoded.shape[0] * decoded.shape[1] > max_pixels:
        size_text = f"{decoded.shape[1]}x{decoded.shape[0]}"
        raise ValueError(f"{size_text} pixels are more than the allowed {max_pixels}")
    return cast("Pixels", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def encode_image(pixels: Pixels, kind: ImageKind, *, quality: int = 90) -> bytes:
    """Return an RGB picture of shape (H, W, 3) as JPEG (``quality`` 1 to 100) or PNG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    suffix = ".jpg" if kind == "jpeg" else ".png"
    reason = f"a picture of shape {pixels.shape!r} cannot be encoded as {kind}"
    try:
        is_encoded, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ValueError(f"{reason}: {error.err}; accepted: (H, W, 3)") from error
    if not is_encoded:  # a JPEG's sides have 16 bits
        raise ValueError(f"{reason}; accepted: sides of at most 65,500 pixels")
    return data.tobytes()


def _has_end(data: bytes, kind: ImageKind) -> bool:
    """Whether the end marker is there; a JPEG's thumbnail ends before the picture's last scan."""
    if kind == "png":
        return b"IEND" in data[-65536:]
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        if marker == 0xFF or 0xD0 <= marker <= 0xD9:
            place += 1 if marker == 0xFF else 2
            continue
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    return None
