"""An annotated video in the making."""

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
# No look-ahead, so that a killed process leaves at most the open fragment behind in memory.
_ENCODER = {
    "preset": "veryfast",
    "bf": "0",
    "g": "600",
    "forced-idr": "1",
    "x264-params": "rc-lookahead=0:sync-lookahead=0:sliced-threads=0",
}


@dataclass(slots=True)
class VideoEncoder:
    """One H.264 file in the making, in fragments of at most a second.

    Attributes:
        path: The file.
        size_hw: Height and width of the first picture; later ones are brought to it.
    """

    path: Path
    container: OutputContainer
    stream: VideoStream
    size_hw: tuple[int, int]
    frame_s: float
    ticks: int = -1
    key_ticks: int | None = None
    last: tuple[int, float] | None = None

    @classmethod
    def begin(
        cls, path: Path, size_hw: tuple[int, int], *, fps: float, quality: int = 23
    ) -> "VideoEncoder":
        """Create the file. Raises ``NotWritableError``."""
        rate = Fraction(fps).limit_denominator(1001)
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        container: OutputContainer | None = None
        try:
            container = av.open(path, "w", options={} if path.suffix == ".mkv" else options)
            stream = container.add_stream("libx264", rate)
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            stream.options = {**_ENCODER, "crf": str(quality)}
            container.start_encoding()
        except (OSError, FFmpegError) as error:
            if container is not None:
                with suppress(OSError, FFmpegError):
                    container.close()
            _remove_empty(path)
            raise NotWritableError(str(path), str(error), accepted="a writable path") from error
        return cls(path, container, stream, size_hw, 1.0 / fps)

    def add(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Encode a drawing of a frame. Raises ``DeliveryFailedError``."""
        self.ticks = self._next_ticks(frame)
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if picture.shape[:2] != self.size_hw:
            image = image.reformat(width=self.size_hw[1], height=self.size_hw[0])
        image.pts, image.time_base = self.ticks, Fraction(1, _TICKS_PER_S)
        if self.key_ticks is None or self.ticks - self.key_ticks >= _TICKS_PER_S:
            image.pict_type, self.key_ticks = PictureType.I, self.ticks
        self._mux(image)

    def end(self) -> None:
        """Write what is left and close the file. Raises ``DeliveryFailedError``."""
        try:
            self._mux(None)
        finally:
            try:
                self.container.close()
            except (OSError, FFmpegError) as error:
                raise self._failed(error) from error
            finally:
                _remove_empty(self.path)

    def _next_ticks(self, frame: Frame) -> int:
        last, self.last = self.last, (frame.stream_epoch, frame.pts_us)
        if last is None:
            return 0
        step_s = (frame.pts_us - last[1]) / 1e6
        if last[0] != frame.stream_epoch or not 0.0 < step_s <= _LONGEST_GAP_S:
            step_s = self.frame_s
        return self.ticks + max(round(step_s * _TICKS_PER_S), 1)

    def _mux(self, image: av.VideoFrame | None) -> None:
        try:
            self.container.mux(self.stream.encode(image))
        except (OSError, FFmpegError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> DeliveryFailedError:
        position = {"time_s": self.ticks / _TICKS_PER_S}
        return DeliveryFailedError(str(self.path), str(error), position=position)


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
