"""The one seam to PyAV: containers opened, pictures decoded, times made sane."""

import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Protocol, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from connectors.pictures.encoding import MAX_PIXELS
from connectors.video.media_clock import DEFAULT_STEP_US, MediaClock

_EPOCH = datetime.fromtimestamp(0, tz=UTC)
# Beyond a thousand pictures a second a rate is a guess from a container without one.
_MAX_RATE = 1000
# A year. Damaged headers were seen to announce 292,000 of them.
_MAX_DURATION_S = 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One decoded picture.

    Attributes:
        pixels: RGB, upright, shape (H, W, 3), uint8.
        pts_us: Media time in microseconds; grows from picture to picture within one epoch.
        nominal_step_us: Usual media time between two pictures, if the container tells its rate.
        wall_clock: UTC time of capture by the sender's clock (RTCP sender reports), if known.
        is_discontinuous: Media time or size jumped: a new epoch begins with this picture.
    """

    pixels: NDArray[np.uint8]
    pts_us: int
    nominal_step_us: int | None
    wall_clock: datetime | None
    is_discontinuous: bool


class _SideDatum(Protocol):
    data_type: str

    def __bytes__(self) -> bytes: ...


@dataclass(slots=True)
class VideoReader:
    """The pictures of one open container's video stream.

    Attributes:
        container: Open for reading.
        stream: Which of its streams is decoded.
        clock: Makes the stamps grow.
        nominal_step_us: Usual media time between two pictures, if the container tells its rate.
        num_to_skip: Pictures to pass over first; they are decoded and not handed out.
        num_decoded: Pictures decoded so far, the skipped ones included.
        num_damaged: Packets that could not be decoded.
        first_damage_s: Media time near the first of them, if any.
        heard_s: Monotonic time of the last packet.
    """

    container: InputContainer
    stream: VideoStream
    clock: MediaClock
    nominal_step_us: int | None = None
    num_to_skip: int = 0
    num_decoded: int = 0
    num_damaged: int = 0
    first_damage_s: float | None = None
    heard_s: float = field(default_factory=time.monotonic)
    _pictures: Iterator[Picture] = field(init=False)
    _wall_offset_us: int | None = None
    _size_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._pictures = self._decode_all()

    def read(self) -> Picture | None:
        """Return the next picture, ``None`` at the end of the media.

        Raises:
            Exception: As PyAV raises it; ``connectors.video.errors`` translates it.
        """
        return next(self._pictures, None)

    def close(self) -> None:
        """Let the container go."""
        self._pictures = iter(())
        self.container.close()

    @property
    def created_at(self) -> datetime | None:
        """When the recording began, if the container says so believably."""
        text = self.container.metadata.get("creation_time", "")
        try:
            created = datetime.fromisoformat(text)
        except ValueError:
            return None
        created = created if created.tzinfo else created.replace(tzinfo=UTC)
        return created if 1990 <= created.year < 2200 else None

    @property
    def duration_s(self) -> float:
        """Length in seconds as announced, 0 if unknown or absurd."""
        announced_s = (self.container.duration or 0) / 1_000_000
        return announced_s if 0 < announced_s < _MAX_DURATION_S else 0.0

    @property
    def num_missing(self) -> int:
        """Packets that the container's index places beyond the end of the file.

        A count in a header proves nothing: a lossless trim keeps it and hides the packets.
        """
        size = self.container.size
        return sum(
            entry.pos + entry.size > size
            for entry in self.stream.index_entries
            if not entry.is_discard
        )

    def _decode_all(self) -> Iterator[Picture]:
        """Decode packet by packet; what the decoder still holds comes before a read error."""
        try:
            for packet in self.container.demux(self.stream):
                self.heard_s = time.monotonic()
                self._note_wall_clock(cast("Any", packet))
                yield from self._to_pictures(packet.pts, packet.decode)
        except FFmpegError:
            decoder: Any = self.stream.codec_context
            yield from self._to_pictures(None, decoder.decode)
            raise

    def _to_pictures(
        self, pts: int | None, decode: Callable[[], Sequence[object]]
    ) -> Iterator[Picture]:
        try:
            frames = decode()
        except FFmpegError:
            self._note_damage(pts)
            return
        for frame in frames:
            self.num_decoded += 1
            picture = self._to_picture(cast("av.VideoFrame", frame))
            if picture is not None:
                yield picture

    def _to_picture(self, frame: av.VideoFrame) -> Picture | None:
        stamp_us = _to_us(frame.pts, frame.time_base)
        pts_us, is_discontinuous = self.clock.advance(stamp_us)
        size_hw = frame.height, frame.width
        is_resized = self._size_hw not in {None, size_hw}
        self._size_hw = size_hw
        if self.num_to_skip > 0:
            self.num_to_skip -= 1
            return None
        pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
        if frame.rotation:
            pixels = np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90) % 4))
        return Picture(
            pixels=pixels,
            pts_us=pts_us,
            nominal_step_us=self.nominal_step_us,
            wall_clock=self._wall_clock_of(stamp_us),
            is_discontinuous=is_discontinuous or is_resized,
        )

    def _note_damage(self, pts: int | None) -> None:
        self.num_damaged += 1
        if self.first_damage_s is None:
            scale = float(self.stream.time_base or 0)
            self.first_damage_s = pts * scale if pts is not None else 0.0

    def _note_wall_clock(self, packet: Any) -> None:  # noqa: ANN401 - PyAV's generic Packet
        if packet.pts is None:
            return
        side_data: Iterator[_SideDatum] = packet.iter_sidedata()
        for datum in side_data:
            if datum.data_type == "prft":
                microseconds, _ = struct.unpack_from("<qi", bytes(datum))
                stamp_us = _to_us(packet.pts, packet.time_base) or 0
                self._wall_offset_us = microseconds - stamp_us

    def _wall_clock_of(self, stamp_us: int | None) -> datetime | None:
        if self._wall_offset_us is None or stamp_us is None:
            return None
        try:
            return _EPOCH + timedelta(microseconds=stamp_us + self._wall_offset_us)
        except OverflowError:
            return None  # a camera whose clock says a year that no calendar has


def open_video(
    url: str,
    *,
    options: Mapping[str, str] | None = None,
    timeout_s: tuple[float, float] | None = None,
    container_format: str | None = None,
    is_live: bool = False,
) -> VideoReader:
    """Open a container and its best video stream; cover pictures are passed over.

    Args:
        url: Path or address; may hold a password.
        options: FFmpeg options.
        timeout_s: Longest wait to open and to read.
        container_format: FFmpeg input format, if it cannot be guessed.
        is_live: Decode without delay rather than fast.

    Raises:
        LookupError: If there is no video stream, or its pictures are absurdly large.
        Exception: As PyAV raises it; ``connectors.video.errors`` translates it.
    """
    container = av.open(
        url,
        format=container_format,
        options=dict(options or {}),
        timeout=timeout_s,
        metadata_errors="replace",
    )
    stream = cast("VideoStream | None", container.streams.best("video"))
    if stream is None:
        container.close()
        raise LookupError("there is no video stream in it")
    if stream.width * stream.height > MAX_PIXELS:
        size = f"{stream.width}x{stream.height}"
        container.close()
        raise LookupError(f"its pictures are absurdly large, {size}")
    stream.thread_type = "SLICE" if is_live else "AUTO"
    rate = stream.average_rate or stream.guessed_rate
    step_us = round(1_000_000 / rate) if rate and 0 < rate <= _MAX_RATE else None
    clock = MediaClock(step_us=step_us or DEFAULT_STEP_US, origin_us=container.start_time or 0)
    return VideoReader(container, stream, clock, nominal_step_us=step_us)


def _to_us(ticks: int | None, time_base: Fraction | None) -> int | None:
    return None if ticks is None or time_base is None else round(ticks * time_base * 1_000_000)
