"""Single pictures from files of every common kind, with distrust; and to files.

What is read is always RGB, 8 bit, upright. Deeper pictures are scaled, not clipped: 16 bit by
their full range, floats from 0 to 1 or 0 to 255, anything else from its least to its greatest
value. Transparency is dropped, not blended: the colours stored beneath it show, as they do to SAM's
own code. Of animations and multi-page files the first picture is taken. Colour profiles are not
applied.
"""

import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from connectors.errors import NotWritableError, PictureError
from connectors.files.writing import write_whole
from connectors.pictures.encoding import MAX_PIXELS, Pixels

PICTURE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "gif", "jp2", "jpeg", "jpg", "mpo", "pbm", "pgm", "png", "ppm"),
        *("tif", "tiff", "webp"),
    )
)
ACCEPTED = "a JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP, JPEG 2000 or PNM file"

# Pillow knows more kinds, but some of them start other programs (EPS) or are seldom meant.
_KINDS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "JPEG2000", "PPM")
_ORIENTATION = 0x0112
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}


def read_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return a picture file as RGB, shape (H, W, 3), uint8, turned upright where EXIF says so.

    Args:
        path: A file; its ending does not matter.
        max_pixels: Larger pictures are refused before memory is taken for them.

    Raises:
        PictureError: If there is no such file, or it is no whole picture; says which and what
            would be accepted.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise PictureError(str(path), "is a folder", accepted=ACCEPTED) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(str(path), reason.lower(), accepted="a file that can be read") from error
    try:
        return decode_picture(data, max_pixels=max_pixels)
    except ValueError as error:
        raise PictureError(str(path), str(error), accepted=ACCEPTED) from error


def decode_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the picture in a file's bytes; see :func:`read_picture`.

    Raises:
        ValueError: If it is no picture, is cut off, of an unknown sort, or too large; says which.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        return _decode(data, max_pixels)
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than the allowed {max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        start = data[:4].hex()
        raise ValueError(f"{len(data)} bytes beginning with {start!r} are no picture") from error
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # damaged files make Pillow's readers raise all sorts
        raise ValueError(f"the picture is damaged: {error}".rstrip(": ").lower()) from error


def write_picture(path: Path, pixels: Pixels) -> None:
    """Write a picture of shape (H, W, 3), RGB, or (H, W), grey, in the kind its ending names.

    The file is there whole or not at all, its folder is made.

    Raises:
        NotWritableError: If the ending is no picture's or the file cannot be written.
    """
    is_grey = pixels.ndim == 2
    ordered = pixels if is_grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    try:
        is_encoded, encoded = cv2.imencode(path.suffix, ordered)
    except cv2.error:
        is_encoded, encoded = False, np.zeros(0, np.uint8)
    if not is_encoded:
        raise NotWritableError(str(path), "the picture cannot be encoded", accepted=".png, .jpg")
    write_whole(path, encoded.tobytes())


def list_pictures(path: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> tuple[Path, ...]:
    """Return the picture files that a path means, sorted: itself, a folder's, or a pattern's.

    Names that begin with a dot are passed over: ``._a.jpg`` is what macOS keeps about a.jpg.

    Args:
        path: A file of any ending, a folder, or a pattern with ``*``, ``?`` or ``[``.
        suffixes: Endings, lower case, that count in folders and patterns.
    """
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = path.iterdir()
    else:
        fixed = next((one for one in path.parents if not _is_pattern(str(one))), Path())
        found = fixed.glob(str(path.relative_to(fixed)))
    return tuple(
        sorted(
            one
            for one in found
            if one.suffix.lower() in suffixes and not one.name.startswith(".") and one.is_file()
        )
    )


def _decode(data: bytes, max_pixels: int) -> Pixels:
    with warnings.catch_warnings():
        # Pillow warns of sizes that are still allowed here.
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(data), formats=_known_kinds()) as image:
            if image.width * image.height > max_pixels:
                raise ValueError(
                    f"{image.width}x{image.height} is more than the allowed {max_pixels:,} pixels"
                )
            image.load()
            # The orientation is asked after loading: a TIFF has then turned itself, and says so.
            return _upright(_to_rgb(image), _orientation(image))


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _known_kinds() -> list[str]:
    """Return the kinds that this build of Pillow can read; AVIF is not in each."""
    Image.init()
    return [kind for kind in _KINDS if kind in Image.OPEN]


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        grey = _stretched(np.asarray(image), 0, 65535)
    elif image.mode in {"I", "F"}:
        values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        grey = _stretched(values, *_range_of(values, is_integer=image.mode == "I"))
    else:
        # np.array, not asarray: Pillow's own memory is read-only.
        return np.array(image.convert("RGB"))
    return np.repeat(grey[..., None], 3, axis=2)


def _range_of(values: NDArray[np.float64], *, is_integer: bool) -> tuple[float, float]:
    """Return the values that become black and white."""
    low, high = float(values.min()), float(values.max())
    usual = (65535.0,) if is_integer else (1.0, 255.0)
    return next(((0.0, top) for top in usual if low >= 0 and high <= top), (low, high))


def _stretched(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1  # a damaged EXIF block says nothing, and the picture is still good


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
