"""Single pictures as a stream: a folder or a pattern of them."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typing_extensions import override

from connectors.base import Source
from connectors.errors import BadFrameError, NotFoundError, Position
from connectors.frame import CaptureClock, Frame
from connectors.pictures.config import IMAGE_SUFFIXES, ImagesSourceConfig
from connectors.pictures.encoding import MAX_PIXELS, decode_image
from connectors.pictures.exif import taken_at
from connectors.pictures.stills import list_pictures

_EXIF_UNCERTAINTY_S = 1.0
_ZONE_UNCERTAINTY_S = 14 * 3600.0
_GUESSED_TIME_UNCERTAINTY_S = 86_400.0


class ImagesSource(Source):
    """Plays pictures by name at a nominal rate.

    Capture time is EXIF's, or the first file's modification time plus media time where a picture
    tells none. A new size begins a new ``stream_epoch``.

    Guarantee: every readable picture exactly once; after a resume from ``position`` exactly those
        behind it. A broken one is a ``BadFrameError``, and the next read goes on behind it.
    Ordering: names, sorted.
    Parallelism: none; one reader. ``close`` may come from another thread.
    """

    def __init__(
        self, *, stream_id: str, config: ImagesSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._index = int(start.get("index", 0))
        self._frame_seq = int(start.get("frame_seq", self._index))
        self._epoch = int(start.get("epoch", 0))
        self._paths: tuple[Path, ...] = ()
        self._size_hw: tuple[int, int] | None = None
        self._began_at = datetime.fromtimestamp(0, tz=UTC)
        self._pace: tuple[float, int] | None = None
        self._closing = threading.Event()

    @override
    def open(self) -> None:
        self._closing.clear()
        self._pace = None
        self._paths = list_pictures(self._config.path, IMAGE_SUFFIXES)
        if not self._paths:
            reason = f"no picture at {str(self._config.path)!r}"
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise NotFoundError(self._stream_id, reason, accepted=f"files named {suffixes}")
        self._began_at = datetime.fromtimestamp(self._paths[0].stat().st_mtime, tz=UTC)

    @override
    def read(self) -> Frame | None:
        if self._closing.is_set() or self._index >= len(self._paths):
            return None
        index, path = self._index, self._paths[self._index]
        self._wait_for(index)
        self._index += 1
        try:
            data = path.read_bytes()
            pixels = decode_image(data, max_pixels=MAX_PIXELS)
        except (OSError, ValueError) as error:
            position = {"index": index, "file": str(path)}
            accepted = "JPEG, PNG, BMP, TIFF or WebP"
            raise BadFrameError(
                self._stream_id, str(error), position=position, accepted=accepted
            ) from error
        size_hw = pixels.shape[0], pixels.shape[1]
        self._epoch += self._size_hw not in {None, size_hw}
        self._size_hw = size_hw
        captured_at, clock, uncertainty_s = self._capture_time(data, index)
        seq, self._frame_seq = self._frame_seq, self._frame_seq + 1
        return Frame(
            stream_id=self._stream_id,
            stream_epoch=self._epoch,
            frame_seq=seq,
            pixels=pixels,
            pts_us=round(index * 1e6 / self._config.fps),
            captured_at=captured_at,
            capture_clock=clock,
            capture_uncertainty_s=uncertainty_s,
            position=self.position(),
        )

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"index": self._index, "frame_seq": self._frame_seq, "epoch": self._epoch}

    @override
    def close(self) -> None:
        self._closing.set()

    def _capture_time(self, data: bytes, index: int) -> tuple[datetime, CaptureClock, float]:
        taken = taken_at(data)
        if taken is not None:
            uncertainty_s = _EXIF_UNCERTAINTY_S if taken[1] else _ZONE_UNCERTAINTY_S
            return taken[0], CaptureClock.EXIF, uncertainty_s
        captured_at = self._began_at + timedelta(seconds=index / self._config.fps)
        return captured_at, CaptureClock.FILE_PTS, _GUESSED_TIME_UNCERTAINTY_S

    def _wait_for(self, index: int) -> None:
        if not self._config.realtime:
            return
        now = time.monotonic()
        if self._pace is None:
            self._pace = (now, index)
        due = self._pace[0] + (index - self._pace[1]) / self._config.fps
        self._closing.wait(max(due - now, 0.0))
