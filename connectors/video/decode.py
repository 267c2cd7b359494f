"""The one seam to PyAV: containers opened, pictures decoded, times made sane, errors translated."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Protocol, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import (
    ExitError,
    FFmpegError,
    HTTPForbiddenError,
    HTTPNotFoundError,
    HTTPUnauthorizedError,
    InvalidDataError,
)
from av.video.stream import VideoStream
from numpy.typing import NDArray

from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    Position,
    SourceError,
    StreamEndedError,
    StreamStalledError,
    UnauthorizedError,
    UnreachableError,
    UnsupportedMediaError,
)
from connectors.pictures.encoding import MAX_PIXELS

_DEFAULT_STEP_US = 40_000
_BACKWARD_JUMP_US = 1_000_000
_SAME_TIME_US = 1_000
_VIDEOS = "a video that FFmpeg decodes (MP4, MKV, AVI, MOV, TS, WebM, …)"

_Translation = tuple[tuple[type[Exception], ...], type[SourceError], str]
# Most specific first: PyAV's decoder-not-found is a LookupError too.
_FILE_ERRORS: tuple[_Translation, ...] = (
    ((FileNotFoundError,), NotFoundError, "a path that exists"),
    ((PermissionError,), UnauthorizedError, "a path that may be read"),
    ((LookupError,), UnsupportedMediaError, _VIDEOS),
)
_LIVE_ERRORS: tuple[_Translation, ...] = (
    ((HTTPUnauthorizedError, HTTPForbiddenError), UnauthorizedError, "its user and password"),
    ((HTTPNotFoundError, FileNotFoundError), NotFoundError, "a path that the camera serves"),
    ((ExitError, TimeoutError), StreamStalledError, ""),
    ((LookupError,), UnsupportedMediaError, _VIDEOS),
    ((EOFError,), StreamEndedError, ""),
)


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


@dataclass(slots=True)
class MediaClock:
    """Makes times of presentation grow: fills in missing ones, refuses repeated ones.

    A camera's first picture often has no time; a jump back by more than a second is a
    discontinuity (loop, restarted camera). Some cameras stamp pictures in the order of decoding,
    so that those shown between others come with earlier times: a live clock keeps them.
    """

    step_us: int = _DEFAULT_STEP_US
    keeps_disordered: bool = False
    _last: int | None = None
    _base: int | None = None
    num_refused: int = 0

    def advance(self, pts_us: int | None) -> tuple[int, bool] | None:
        """Return (media time, whether it is discontinuous), or ``None`` for a repeated time."""
        expected = 0 if self._last is None else self._last + self.step_us
        if pts_us is None:
            self._last = expected
            return expected, False
        if self._base is None:
            self._base = 0 if self._last is None else pts_us - expected
        now = pts_us - self._base
        if self._last is None or now > self._last:
            self._last = now
            return now, False
        if now > self._last - _BACKWARD_JUMP_US:
            if self.keeps_disordered and now < self._last - _SAME_TIME_US:
                self._last += _SAME_TIME_US
                return self._last, False
            self.num_refused += 1
            return None
        self._base, self._last = 0, pts_us
        return pts_us, True


class _SideDatum(Protocol):
    data_type: str

    def __bytes__(self) -> bytes: ...


@dataclass(slots=True)
class VideoReader:
    """The first video stream of one open container.

    Attributes:
        url: What was opened, for messages, without secrets.
        num_decoded: Pictures decoded so far.
        nominal_step_us: Usual media time between two pictures, if the container tells its rate.
        first_damage_s: Media time near the first packet that could not be decoded, if any.
    """

    url: str
    container: InputContainer
    stream: VideoStream
    clock: MediaClock
    nominal_step_us: int | None = None
    num_decoded: int = 0
    num_damaged: int = 0
    num_packets: int = 0
    first_damage_s: float | None = None
    _pictures: Iterator[Picture] = field(init=False)
    _wall_offset_s: float | None = None
    _size_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._pictures = self._decode_all()

    def read(self) -> Picture | None:
        """Return the next picture, ``None`` at the end of the media.

        Raises:
            av.error.FFmpegError: As PyAV raises it; callers translate it with their own words.
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
            time = datetime.fromisoformat(text)
        except ValueError:
            return None
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return time if time.year >= 1990 else None

    @property
    def duration_s(self) -> float:
        """Length in seconds as announced, 0 if unknown."""
        return max((self.container.duration or 0) / 1_000_000, 0.0)

    @property
    def num_missing(self) -> int:
        """Packets that the container announced and did not hold; 0 if it announced none."""
        return max(self.stream.frames - self.num_packets, 0)

    def _decode_all(self) -> Iterator[Picture]:
        """Decode packet by packet; what the decoder still holds comes before a read error."""
        try:
            for packet in self.container.demux(self.stream):
                self.num_packets += packet.size > 0
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
        except (InvalidDataError, EOFError):
            self._note_damage(pts)
            return
        for frame in frames:
            picture = self._to_picture(cast("av.VideoFrame", frame))
            if picture is not None:
                self.num_decoded += 1
                yield picture

    def _to_picture(self, frame: av.VideoFrame) -> Picture | None:
        timed = self.clock.advance(_to_us(frame.pts, frame.time_base))
        if timed is None:
            return None
        pts_us, is_discontinuous = timed
        pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
        if frame.rotation:
            pixels = np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90) % 4))
        size_hw = pixels.shape[0], pixels.shape[1]
        is_resized = self._size_hw not in {None, size_hw}
        self._size_hw = size_hw
        return Picture(
            pixels=pixels,
            pts_us=pts_us,
            nominal_step_us=self.nominal_step_us,
            wall_clock=self._wall_clock_of(frame.time),
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
                pts_s = float(packet.pts * packet.time_base)
                self._wall_offset_s = microseconds / 1e6 - pts_s

    def _wall_clock_of(self, pts_s: float | None) -> datetime | None:
        if self._wall_offset_s is None or pts_s is None:
            return None
        return datetime.fromtimestamp(pts_s + self._wall_offset_s, tz=UTC)


def open_video(
    url: str,
    *,
    options: Mapping[str, str] | None = None,
    timeout_s: tuple[float, float] | None = None,
    container_format: str | None = None,
    is_live: bool = False,
) -> VideoReader:
    """Open a container and its first video stream.

    Args:
        url: Path or address; may hold a password.
        options: FFmpeg options.
        timeout_s: Longest wait to open and to read.
        container_format: FFmpeg input format, if it cannot be guessed.
        is_live: Decode without delay rather than fast.

    Raises:
        av.error.FFmpegError: As PyAV raises it.
        LookupError: If there is no video stream, or its pictures are absurdly large.
    """
    container = av.open(
        url, format=container_format, options=dict(options or {}), timeout=timeout_s
    )
    if not container.streams.video:
        container.close()
        raise LookupError("there is no video stream in it")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        size = f"{stream.width}x{stream.height}"
        container.close()
        raise LookupError(f"its pictures are absurdly large, {size}")
    stream.thread_type = "SLICE" if is_live else "AUTO"
    rate = stream.average_rate or stream.guessed_rate
    step_us = round(1_000_000 / rate) if rate else None
    clock = MediaClock(step_us=step_us or _DEFAULT_STEP_US, keeps_disordered=is_live)
    return VideoReader(url, container, stream, clock, nominal_step_us=step_us)


def _to_us(ticks: int | None, time_base: Fraction | None) -> int | None:
    return None if ticks is None or time_base is None else round(ticks * time_base * 1_000_000)


def translate_file_error(
    error: Exception, stream_id: str, *, position: Position, is_known_container: bool
) -> SourceError:
    """Return our error for one of PyAV's about a file or device.

    Args:
        error: What PyAV or the system raised.
        stream_id: Whose it is.
        position: Where it happened.
        is_known_container: Whether the first bytes are those of a video, so that what cannot be
            opened is a broken one rather than something else.
    """
    kind, accepted = _look_up(error, _FILE_ERRORS, (CorruptMediaError, "a whole file"))
    if kind is CorruptMediaError and not is_known_container and isinstance(error, InvalidDataError):
        kind, accepted = UnsupportedMediaError, _VIDEOS
    return kind(stream_id, describe(error), position=position, accepted=accepted)


def translate_live_error(error: Exception, stream_id: str, *, position: Position) -> SourceError:
    """Return our error for one of PyAV's about a network camera."""
    kind, accepted = _look_up(error, _LIVE_ERRORS, (UnreachableError, ""))
    is_silent = kind is StreamStalledError
    reason = "silent for longer than the timeout" if is_silent else describe(error)
    return kind(stream_id, reason, position=position, accepted=accepted)


def _look_up(
    error: Exception, table: Sequence[_Translation], default: tuple[type[SourceError], str]
) -> tuple[type[SourceError], str]:
    for foreign, ours, accepted in table:
        if isinstance(error, foreign):
            return ours, accepted
    return default


def describe(error: Exception) -> str:
    """Return the reason alone, without the address that PyAV quotes."""
    if isinstance(error, FFmpegError):
        return (error.strerror or type(error).__name__).lower()
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error.args[0]) if error.args else type(error).__name__
