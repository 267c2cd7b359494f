"""Annotated video: every frame with its masklets, names and latest events."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray
from typing_extensions import override

from connectors.annotate.config import VideoSinkConfig
from connectors.annotate.draw import Style, draw, drawing_size
from connectors.base import Overlay, PictureSink
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


class VideoSink(PictureSink):
    """Writes one H.264 file per stream, readable up to its last second even after a kill.

    The path's ``{stream_id}`` is filled in; without it a second stream gets its name appended.
    Frames keep their distances in media time; gaps longer than two seconds, reconnects and loops
    are shortened to one frame.

    Guarantee: fragments of at most one second, so a killed process loses no more than that;
        ``flush`` does not close the current fragment, ``close`` does.
    Ordering: that of the writes, within each stream.
    Parallelism: one writer.
    """

    def __init__(self, *, config: VideoSinkConfig) -> None:
        self._config = config
        self._style = Style(min_width=config.min_width, mask_opacity=config.mask_opacity)
        self._films: dict[str, _Film] = {}

    @override
    def open(self) -> None:
        try:
            self._config.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(str(self._config.path), str(error.strerror)) from error

    @override
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        film = self._films.get(frame.stream_id)
        if film is None:
            path = path_for(self._config.path, frame.stream_id, is_first=not self._films)
            size = drawing_size(frame.pixels.shape[0], frame.pixels.shape[1], self._style)
            film = _Film.begin(path, size, self._config)
            self._films[frame.stream_id] = film
        film.add(frame, draw(frame.pixels, overlays, captions, self._style))

    @override
    def flush(self) -> None:
        """Nothing: fragments are closed by time."""

    @override
    def close(self) -> None:
        films, self._films = self._films, {}
        for film in films.values():
            film.end()


def path_for(path: Path, stream_id: str, *, is_first: bool) -> Path:
    """Return a stream's own path; a name in it is made safe for file systems."""
    safe = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in stream_id)
    if "{stream_id}" in str(path):
        return Path(str(path).replace("{stream_id}", safe))
    return path if is_first else path.with_name(f"{path.stem}-{safe}{path.suffix}")


@dataclass(slots=True)
class _Film:
    path: Path
    container: OutputContainer
    stream: VideoStream
    size_hw: tuple[int, int]
    frame_s: float
    ticks: int = -1
    key_ticks: int | None = None
    last: tuple[int, float] | None = None

    @classmethod
    def begin(cls, path: Path, size_hw: tuple[int, int], config: VideoSinkConfig) -> "_Film":
        rate = Fraction(config.fps).limit_denominator(1001)
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        try:
            container = av.open(path, "w", options={} if path.suffix == ".mkv" else options)
            stream = container.add_stream("libx264", rate)
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            stream.options = {**_ENCODER, "crf": str(config.quality)}
            container.start_encoding()
        except (OSError, FFmpegError) as error:
            raise NotWritableError(str(path), str(error), accepted="a writable path") from error
        return cls(path, container, stream, size_hw, 1.0 / config.fps)

    def add(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        self.ticks = self._next_ticks(frame)
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if picture.shape[:2] != self.size_hw:
            image = image.reformat(width=self.size_hw[1], height=self.size_hw[0])
        image.pts, image.time_base = self.ticks, Fraction(1, _TICKS_PER_S)
        if self.key_ticks is None or self.ticks - self.key_ticks >= _TICKS_PER_S:
            image.pict_type, self.key_ticks = PictureType.I, self.ticks
        self._mux(image)

    def end(self) -> None:
        self._mux(None)
        self.container.close()

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
            position = cast("dict[str, int | float | str]", {"time_s": self.ticks / _TICKS_PER_S})
            raise DeliveryFailedError(str(self.path), str(error), position=position) from error
