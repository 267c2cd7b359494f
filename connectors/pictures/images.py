"""Single pictures as a stream: a folder or a pattern of them."""

import threading
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typing_extensions import override

from connectors.base import Source
from connectors.errors import BadFrameError, NotFoundError, Position, SourceError
from connectors.frame import CaptureClock, Frame, MediaOrigin
from connectors.pictures.capture_times import is_contradicted
from connectors.pictures.config import IMAGE_SUFFIXES, ImagesSourceConfig
from connectors.pictures.encoding import MAX_PIXELS, Pixels, decode_image
from connectors.pictures.exif import taken_at
from connectors.pictures.stills import list_pictures

_EXIF_UNCERTAINTY_S = 1.0
_ZONE_UNCERTAINTY_S = 14 * 3600.0
_GUESSED_TIME_UNCERTAINTY_S = 86_400.0
_MAX_MODIFIED_S = 7_258_118_400  # the year 2200; damaged file systems tell of later ones
_NUM_NEIGHBOURS = 2  # on each side; with one the first of two pictures that differ is a guess
_HEAD_BYTES = 262_144  # EXIF stands in front and has at most 65,536
_LONGEST_UNCERTAINTY = timedelta(days=1)


class ImagesSource(Source):
    """Plays pictures by name at a nominal rate. Names that begin with a dot are passed over.

    Capture time is EXIF's, or the first file's modification time plus media time where a picture
    tells none. It is doubtful where two pictures before and two behind contradict it, where they
    have an EXIF time and it has none, or where it lies in the future. A new size begins a new
    ``stream_epoch``.

    Guarantee: every readable picture exactly once; after a resume from ``position`` exactly those
        behind it, though files came or went meanwhile. A broken one is a ``BadFrameError``, and
        the next read goes on behind it.
    Ordering: names, sorted.
    Parallelism: none; one reader. ``close`` may come from another thread.
    """

    def __init__(
        self, *, stream_id: str, config: ImagesSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._after = str(start.get("after", ""))
        self._index = int(start.get("index", 0))
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", 0))
        self._size_hw = int(start.get("height", 0)), int(start.get("width", 0))
        self._paths: tuple[Path, ...] = ()
        self._place = 0
        self._stamps: dict[int, tuple[datetime, bool] | None] = {}
        self._began_at = datetime.fromtimestamp(0, tz=UTC)
        self._pace: tuple[float, int] | None = None
        self._closing = threading.Event()

    @override
    def open(self) -> None:
        self._pace = None
        try:
            self._paths = list_pictures(self._config.path, IMAGE_SUFFIXES)
            modified_s = self._paths[0].stat().st_mtime if self._paths else 0.0
        except Exception as error:
            accepted = "a folder that can be read"
            raise SourceError(self._stream_id, str(error), accepted=accepted) from error
        if not self._paths:
            reason = f"no picture at {str(self._config.path)!r}"
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise NotFoundError(self._stream_id, reason, accepted=f"files named {suffixes}")
        self._place = bisect_right(self._paths, Path(self._after)) if self._after else 0
        self._began_at = datetime.fromtimestamp(min(max(modified_s, 0.0), _MAX_MODIFIED_S), tz=UTC)

    @override
    def read(self) -> Frame | None:
        if self._closing.is_set() or self._place >= len(self._paths):
            return None
        place, index = self._place, self._index
        self._wait_for(index)
        self._place, self._index = place + 1, index + 1
        self._after = str(self._paths[place])
        pixels = self._decode(place)
        size_hw = pixels.shape[0], pixels.shape[1]
        self._epoch += self._size_hw not in {(0, 0), size_hw}
        self._size_hw = size_hw
        captured_at, clock, uncertainty_s = self._capture_time(place, index)
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
            is_time_doubtful=self._is_doubtful(place),
            position=self.position(),
            origin=MediaOrigin(media=str(self._paths[place]), frame_index=0),
        )

    @override
    def position(self) -> dict[str, int | float | str]:
        """Return the picture read last, and how many came before it."""
        height, width = self._size_hw
        return {
            "after": self._after,
            "index": self._index,
            "frame_seq": self._frame_seq,
            "epoch": self._epoch,
            "height": height,
            "width": width,
        }

    @override
    def close(self) -> None:
        self._closing.set()

    def _decode(self, place: int) -> Pixels:
        path = self._paths[place]
        try:
            data = path.read_bytes()
            self._stamps[place] = taken_at(data)
            return decode_image(data, max_pixels=MAX_PIXELS)
        except Exception as error:
            raise BadFrameError(
                self._stream_id,
                str(error) or type(error).__name__,
                position={"index": place, "file": str(path)},
                accepted="JPEG, PNG, BMP, TIFF or WebP",
                resume_position=self.position(),
            ) from error

    def _capture_time(self, place: int, index: int) -> tuple[datetime, CaptureClock, float]:
        taken = self._stamp_of(place)
        if taken is not None:
            uncertainty_s = _EXIF_UNCERTAINTY_S if taken[1] else _ZONE_UNCERTAINTY_S
            return taken[0], CaptureClock.EXIF, uncertainty_s
        captured_at = self._began_at + timedelta(seconds=index / self._config.fps)
        return captured_at, CaptureClock.FILE_PTS, _GUESSED_TIME_UNCERTAINTY_S

    def _is_doubtful(self, place: int) -> bool:
        first = max(place - _NUM_NEIGHBOURS, 0)
        window = range(first, min(place + _NUM_NEIGHBOURS + 1, len(self._paths)))
        for old in self._stamps.keys() - set(window):
            del self._stamps[old]
        taken = [self._stamp_of(one) for one in window]
        stamps = [one and one[0] for one in taken]
        stamp = stamps[place - first]
        if stamp is None:
            return any(stamps)
        is_future = stamp > datetime.now(tz=UTC) + _LONGEST_UNCERTAINTY
        return is_future or is_contradicted(stamps, place - first)

    def _stamp_of(self, place: int) -> tuple[datetime, bool] | None:
        """Return what a picture's EXIF block says; a file that cannot be read says nothing."""
        if place not in self._stamps:
            try:
                with self._paths[place].open("rb") as file:
                    self._stamps[place] = taken_at(file.read(_HEAD_BYTES))
            except OSError:
                self._stamps[place] = None
        return self._stamps[place]

    def _wait_for(self, index: int) -> None:
        if not self._config.realtime:
            return
        now = time.monotonic()
        if self._pace is None:
            self._pace = (now, index)
        due = self._pace[0] + (index - self._pace[1]) / self._config.fps
        self._closing.wait(max(due - now, 0.0))
