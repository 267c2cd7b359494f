"""Cameras of this machine."""

import threading
from datetime import UTC, datetime
from pathlib import Path

from av.error import FFmpegError
from typing_extensions import override

from connectors.base import Source
from connectors.errors import NotFoundError, Position, SourceError, StreamEndedError
from connectors.frame import CaptureClock, Frame
from connectors.video.config import WebcamSourceConfig
from connectors.video.decode import (
    VideoReader,
    open_video,
    translate_file_error,
    translate_live_error,
)

_ARRIVAL_UNCERTAINTY_S = 0.1


class WebcamSource(Source):
    """Plays a Video4Linux device.

    Guarantee: live, so nothing is repeated. An unplugged camera is a recoverable
        ``StreamEndedError``; opening again begins a new ``stream_epoch``.
    Ordering: media time within an epoch.
    Parallelism: none; one reader per device. ``close`` may come from another thread and ends a
        read within ``read_timeout_s``.
    """

    def __init__(
        self, *, stream_id: str, config: WebcamSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", -1))
        self._reader: VideoReader | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        self._closing.clear()
        config = self._config
        if not Path(config.device).exists():
            raise NotFoundError(
                self._stream_id,
                f"no device {config.device!r}",
                accepted=f"one of {_devices()}",
            )
        options = {"fflags": "nobuffer"}
        if config.width and config.height:
            options["video_size"] = f"{config.width}x{config.height}"
        if config.fps:
            options["framerate"] = str(config.fps)
        timeout_s = config.read_timeout_s, config.read_timeout_s
        try:
            self._reader = open_video(
                config.device,
                options=options,
                timeout_s=timeout_s,
                container_format="v4l2",
                is_live=True,
            )
        except (FFmpegError, OSError, LookupError, ValueError) as error:
            raise self._translate_open(error) from error
        self._epoch += 1

    @override
    def read(self) -> Frame | None:
        with self._lock:
            reader = self._reader
            if self._closing.is_set() or reader is None:
                self._drop_reader()
                return None
            try:
                picture = reader.read()
            except (FFmpegError, OSError) as error:
                raise translate_live_error(
                    error, self._stream_id, position=self.position()
                ) from error
            if picture is None:
                reason = "the camera was unplugged"
                raise StreamEndedError(self._stream_id, reason, position=self.position())
            self._epoch += picture.is_discontinuous
            seq, self._frame_seq = self._frame_seq, self._frame_seq + 1
            return Frame(
                stream_id=self._stream_id,
                stream_epoch=self._epoch,
                frame_seq=seq,
                pixels=picture.pixels,
                pts_us=picture.pts_us,
                captured_at=datetime.now(tz=UTC),
                capture_clock=CaptureClock.ARRIVAL,
                capture_uncertainty_s=_ARRIVAL_UNCERTAINTY_S,
                nominal_step_us=picture.nominal_step_us,
                position=self.position(),
            )

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"frame_seq": self._frame_seq, "epoch": self._epoch}

    @override
    def close(self) -> None:
        self._closing.set()
        if self._lock.acquire(blocking=False):
            try:
                self._drop_reader()
            finally:
                self._lock.release()

    def _translate_open(self, error: Exception) -> SourceError:
        position = {"device": self._config.device}
        return translate_file_error(
            error, self._stream_id, position=position, is_known_container=False
        )

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _devices() -> str:
    names = sorted(str(path) for path in Path("/dev").glob("video*"))
    return ", ".join(names) or "no camera is connected to this machine"
