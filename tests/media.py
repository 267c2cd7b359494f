"""Test media made on the spot: every picture carries its number, so that gaps can be seen."""

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectors.frame import CaptureClock, Frame

_NUM_BITS = 8


def numbered_picture(number: int, *, width: int = 128, height: int = 96) -> np.ndarray:
    """A grey picture whose upper half shows the number as eight black or white bars."""
    pixels = np.full((height, width, 3), 96, np.uint8)
    for bit in range(_NUM_BITS):
        left, right = width * bit // _NUM_BITS, width * (bit + 1) // _NUM_BITS
        pixels[: height // 2, left:right] = 235 if number >> bit & 1 else 16
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Read the number back, also after lossy coding."""
    height, width = pixels.shape[:2]
    centres = [width * (2 * bit + 1) // (2 * _NUM_BITS) for bit in range(_NUM_BITS)]
    row = pixels[height // 4, :, 1]
    return sum(1 << bit for bit, x in enumerate(centres) if row[x] > 128)


def write_video(
    path: Path,
    *,
    num_frames: int = 25,
    fps: int = 25,
    options: dict[str, str] | None = None,
    times_ms: list[int] | None = None,
    codec: str = "libx264",
    title: str = "",
) -> Path:
    """Encode numbered pictures; ``times_ms`` makes the frame rate variable."""
    with av.open(path, "w", options=options or {}) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, fps)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "0", "g": "5", "threads": "1"}
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, stamps_ms: list[int], **options: str) -> Path:
    """Copy a video's packets, undecoded, under other stamps."""
    with av.open(source) as before, av.open(target, "w", options=options) as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        packets = [one for one in before.demux(video=0) if one.size]
        for packet, stamp_ms in zip(packets, stamps_ms, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = stamp_ms
            after.mux(packet)
    return target


def make_frame(number: int = 0, *, stream_id: str = "camera", epoch: int = 0, **size: int) -> Frame:
    return Frame(
        stream_id=stream_id,
        stream_epoch=epoch,
        frame_seq=number,
        pixels=numbered_picture(number, **size),
        pts_us=number * 100_000,
        captured_at=datetime.fromtimestamp(1_700_000_000 + number / 10, tz=UTC),
        capture_clock=CaptureClock.WORLD,
    )


def write_photo(path: Path, pixels: NDArray[np.uint8], *, taken_at: datetime) -> None:
    """Write a JPEG that tells in EXIF when it was taken, in whole seconds and without a zone."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = f"{taken_at:%Y:%m:%d %H:%M:%S}"
    Image.fromarray(pixels).save(path, "JPEG", quality=100, subsampling=0, exif=exif)
