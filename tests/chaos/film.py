"""Films for cameras: a blue thing stands, a red one comes and goes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 20
NUM_PICTURES = 8 * FPS
_SIDE = 16
_FLOOR_Y = 32


def write_film(
    path: Path, *, width: int = 128, height: int = 64, flashes: range = range(0)
) -> Path:
    """Write a raw H.264 film that can be looped.

    Args:
        path: The new file.
        width: Of its pictures.
        height: Of its pictures.
        flashes: Pictures whose first pixel is white, on which the model of the tests fails.
    """

    def draw() -> Iterator[NDArray[np.uint8]]:
        for number in range(NUM_PICTURES):
            pixels = np.zeros((height, width, 3), np.uint8)
            pixels[_FLOOR_Y : _FLOOR_Y + _SIDE, 4 : 4 + _SIDE, 2] = 255
            x = 24 + number
            if x + _SIDE <= width:
                pixels[:_SIDE, x : x + _SIDE, 0] = 255
            if number in flashes:
                pixels[:_SIDE, :_SIDE] = 255
            yield pixels

    return encode_film(path, draw(), width=width, height=height, fps=FPS)


def encode_film(
    path: Path, pictures: Iterable[NDArray[np.uint8]], *, width: int, height: int, fps: int
) -> Path:
    """Write pictures as raw H.264 with a whole one each half second."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # A picture that depends on a lost one is wrong until the next whole one.
        stream.options = {
            "preset": "ultrafast",
            "bf": "0",
            "g": str(max(fps // 2, 1)),
            "threads": "1",
            "crf": "15",
        }
        for pixels in pictures:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
