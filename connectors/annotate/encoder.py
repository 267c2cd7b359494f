"""An annotated video in the making."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from connectors.errors import DeliveryFailedError, NotWritableError
from connectors.frame import Frame

_TICKS_PER_S = 90_000
_LONGEST_GAP_S = 2.0
_FRAGMENT_US = 1_000_000
# No look-ahead, one thread and no wait for the next frame's time, so that no frame is held back: a
# thread a core held 3 of 100 back on two cores, for the same CPU time.
_ENCODER = {
    "preset": "veryfast",
    "bf": "0",
    "g": "600",
    "forced-idr": "1",
    "x264-params": "rc-lookahead=0:sync-lookahead=0:threads=1:force-cfr=1",
}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_CLUSTERED = {"cluster_time_limit": "1000", "flush_packets": "1"}
_FORMATS = {
    ".mp4": ("mp4", _FRAGMENTED),
    ".mov": ("mov", _FRAGMENTED),
    ".mkv": ("matroska", _CLUSTERED),
}


class _Output:
    """A file that FFmpeg writes to. It is new: what is there already is never touched.

    Attributes:
        has_failed: Nothing more is written, though FFmpeg is told so: it only needs to end.
        size: Its length in bytes.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._path = path
        self._descriptor = os.open(path, flags, 0o644)
        self.has_failed = False
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write all of the data; nothing more once that has failed."""
        if self.has_failed:
            return len(data)
        self.has_failed = True
        if os.write(self._descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.has_failed = False
        self.size = max(self.size, self.tell())
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as files do."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self.seek(0, os.SEEK_CUR)

    def cut(self, size: int) -> None:
        """Keep the first bytes only."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, size)

    def close(self, *, keep: bool) -> None:
        """Let the file go, and remove it unless it is to be kept."""
        with suppress(OSError):
            if not keep and os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                self._path.unlink()
        with suppress(OSError):
            os.close(self._descriptor)


@dataclass(slots=True)
class VideoEncoder:
    """One H.264 file in the making, in fragments of at most a second of media time.

    Attributes:
        path: The file.
        size_hw: Height and width of the first picture; later ones are brought to it.
        length_us: Media time since the first frame, gaps included, reconnects not.
    """

    path: Path
    size_hw: tuple[int, int]
    frame_s: float
    _output: _Output
    _container: OutputContainer
    _stream: VideoStream
    _header_bytes: int
    _whole_bytes: int
    length_us: int = 0
    _ticks: int = -1
    _fragment_us: int = 0
    _last: tuple[int, int] | None = None

    @classmethod
    def begin(
        cls, path: Path, size_hw: tuple[int, int], *, fps: float, quality: int = 23
    ) -> "VideoEncoder":
        """Create the file, which must not be there. Raises ``NotWritableError``."""
        kind, options = _FORMATS[path.suffix.lower()]
        try:
            output = _Output(path)
        except OSError as error:
            raise _not_writable(path, error) from error
        container: OutputContainer | None = None
        try:
            container = av.open(output, "w", format=kind, options=options)
            stream = container.add_stream("libx264", Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            stream.options = {**_ENCODER, "crf": str(quality)}
            container.start_encoding()
        except (OSError, FFmpegError) as error:
            output.has_failed = True
            if container is not None:
                with suppress(OSError, FFmpegError):
                    container.close()
            output.close(keep=False)
            raise _not_writable(path, error) from error
        size = output.size
        return cls(path, size_hw, 1.0 / fps, output, container, stream, size, size)

    @property
    def num_bytes(self) -> int:
        """Size of the file so far, without the fragment that is in the making."""
        return self._output.size

    def add(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Encode a drawing of a frame. Raises ``DeliveryFailedError``; then only end it."""
        step_us = self._advance(frame)
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if picture.shape[:2] != self.size_hw:
            image = image.reformat(width=self.size_hw[1], height=self.size_hw[0])
        image.pts, image.time_base = self._ticks, Fraction(1, _TICKS_PER_S)
        self._fragment_us += step_us
        if self._ticks == 0 or self._fragment_us >= _FRAGMENT_US:
            image.pict_type, self._fragment_us = PictureType.I, 0
        self._mux(image)

    def end(self) -> None:
        """Write what is left and close the file. Raises ``DeliveryFailedError``.

        What cannot be played is cut off, or the file removed if nothing in it can be.
        """
        try:
            self._mux(None)
            self._container.close()
            self._note_whole()
        except (OSError, FFmpegError) as error:
            raise self._failed(error) from error
        finally:
            self._output.has_failed = True
            with suppress(OSError, FFmpegError):
                self._container.close()
            self._output.cut(self._whole_bytes)
            self._output.close(keep=self._whole_bytes > self._header_bytes)

    def _advance(self, frame: Frame) -> int:
        """Go on to the time of a frame; returns how far it is from the one before, in us."""
        last, self._last = self._last, (frame.stream_epoch, frame.pts_us)
        if last is None:
            self._ticks = 0
            return 0
        frame_us = round(self.frame_s * 1e6)
        step_us = frame.pts_us - last[1]
        if last[0] != frame.stream_epoch or step_us <= 0:
            step_us = frame_us
        self.length_us += step_us
        shown_us = step_us if step_us <= _LONGEST_GAP_S * 1e6 else frame_us
        self._ticks += max(round(shown_us * _TICKS_PER_S / 1e6), 1)
        return step_us

    def _mux(self, image: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(image))
        except (OSError, FFmpegError) as error:
            self._output.has_failed = True
            raise self._failed(error) from error
        self._note_whole()

    def _note_whole(self) -> None:
        if not self._output.has_failed:
            self._whole_bytes = self._output.size

    def _failed(self, error: Exception) -> DeliveryFailedError:
        reason = getattr(error, "strerror", None) or str(error)
        position = {"time_s": self._ticks / _TICKS_PER_S}
        return DeliveryFailedError(str(self.path), reason, position=position, recoverable=True)


def _not_writable(path: Path, error: Exception) -> NotWritableError:
    reason = getattr(error, "strerror", None) or str(error)
    return NotWritableError(str(path), reason, accepted="a writable path")
