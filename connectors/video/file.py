"""Video files, one or a folder of them."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from av.error import FFmpegError
from typing_extensions import override

from connectors.base import Source
from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    Position,
    SourceError,
    UnsupportedMediaError,
)
from connectors.frame import CaptureClock, Frame
from connectors.video.config import VIDEO_SUFFIXES, FileSourceConfig
from connectors.video.decode import Picture, VideoReader, open_video, translate_file_error

_NAMED_TIME_UNCERTAINTY_S = 1.0
_GUESSED_TIME_UNCERTAINTY_S = 86_400.0


class FileSource(Source):
    """Plays a video file, or all videos of a folder by name, each one a new epoch.

    Any container and codec of FFmpeg, any frame rate, constant or not; pictures are turned
    upright. Capture time is the container's creation time plus media time, or, where it has none,
    the file's modification time less its length, with an uncertainty of a day.

    Guarantee: every decodable frame exactly once, in a run that is not resumed; after a resume
        from ``position`` exactly the frames behind it. A file that breaks off yields every
        readable frame and then a ``CorruptMediaError``; in a folder the next read goes on with
        the next file.
    Ordering: media time within a file; files by name.
    Parallelism: none; one reader per source. ``close`` may come from another thread.
    """

    def __init__(
        self, *, stream_id: str, config: FileSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._file_index = int(start.get("file", 0))
        self._num_to_skip = int(start.get("frame", 0))
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", 0))
        self._round_us = int(start.get("round_us", 0))
        self._num_read = self._num_to_skip
        self._paths: tuple[Path, ...] = ()
        self._reader: VideoReader | None = None
        self._began_at = datetime.fromtimestamp(0, tz=UTC)
        self._uncertainty_s = 0.0
        self._last_pts_us = 0
        self._pace: tuple[float, int] | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        self._closing.clear()
        self._paths = self._list_files()
        if self._file_index < len(self._paths):
            self._begin_file()

    @override
    def read(self) -> Frame | None:
        with self._lock:
            while not self._closing.is_set():
                if self._reader is None and not self._begin_next():
                    return None
                picture = self._next_picture()
                if picture is not None:
                    self._wait_for(picture.pts_us)
                    return self._to_frame(picture)
                self._end_file()
            self._drop_reader()
            return None

    @override
    def position(self) -> dict[str, int | float | str]:
        return {
            "file": self._file_index,
            "frame": self._num_read,
            "frame_seq": self._frame_seq,
            "epoch": self._epoch,
            "round_us": self._round_us,
        }

    @override
    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._drop_reader()

    def _list_files(self) -> tuple[Path, ...]:
        path = self._config.path
        if not path.is_dir():
            return (path,)
        files = sorted(one for one in path.iterdir() if one.suffix.lower() in VIDEO_SUFFIXES)
        if not files:
            reason = f"no video in the folder {str(path)!r}"
            raise NotFoundError(
                self._stream_id, reason, accepted=f"files named {', '.join(sorted(VIDEO_SUFFIXES))}"
            )
        return tuple(files)

    def _begin_next(self) -> bool:
        """Open the next file; false when none is left."""
        if self._file_index >= len(self._paths):
            if not self._config.loop:
                return False
            self._file_index = 0
        self._begin_file()
        return True

    def _begin_file(self) -> None:
        path = self._paths[self._file_index]
        try:
            reader = open_video(str(path))
        except (FFmpegError, OSError, LookupError) as error:
            position = self._place()
            self._leave_file()
            raise self._translate(error, path, position) from error
        self._reader = reader
        self._began_at, self._uncertainty_s = _capture_start(reader, path)
        self._pace = None
        while self._num_to_skip > 0 and self._next_picture(is_skipped=True) is not None:
            self._num_to_skip -= 1

    def _next_picture(self, *, is_skipped: bool = False) -> Picture | None:
        reader = self._reader
        if reader is None:
            return None
        try:
            picture = reader.read()
        except (FFmpegError, OSError) as error:
            place, path = self._place(), self._paths[self._file_index]
            self._leave_file()
            raise self._translate(error, path, place) from error
        if picture is not None:
            self._last_pts_us = picture.pts_us
            self._num_read += not is_skipped
        return picture

    def _end_file(self) -> None:
        """Leave a file that was read to its end; says so if it was not whole."""
        reader, place = self._reader, self._place()
        path = self._paths[self._file_index]
        if reader is None:
            return
        self._leave_file()
        if reader.num_decoded == 0:
            reason = f"not one picture of {str(path)!r} can be decoded"
            raise UnsupportedMediaError(
                self._stream_id, reason, position=place, recoverable=self._has_more()
            )
        if reader.num_missing or reader.num_damaged:
            what = f"{reader.num_missing} of {reader.stream.frames} pictures are missing"
            if reader.num_damaged:
                what = f"{reader.num_damaged} packets cannot be decoded"
                place["damaged_s"] = round(reader.first_damage_s or 0.0, 3)
            raise CorruptMediaError(
                self._stream_id,
                f"{str(path)!r} is not whole: {what}",
                position=place,
                accepted="a whole file",
                recoverable=self._has_more(),
            )

    def _leave_file(self) -> None:
        step_us = self._reader.clock.step_us if self._reader else 0
        self._drop_reader()
        self._file_index += 1
        self._num_read = self._num_to_skip = 0
        self._epoch += 1
        if self._config.loop and self._file_index >= len(self._paths):
            self._round_us += self._last_pts_us + step_us

    def _translate(self, error: Exception, path: Path, position: Position) -> SourceError:
        translated = translate_file_error(
            error,
            self._stream_id,
            position={"file": str(path), **{k: v for k, v in position.items() if k != "file"}},
            is_known_container=_looks_like_video(path),
        )
        translated.recoverable = self._has_more()
        return translated

    def _has_more(self) -> bool:
        has_next = self._config.loop or self._file_index < len(self._paths)
        return len(self._paths) > 1 and has_next

    def _place(self) -> dict[str, int | float | str]:
        name = str(self._paths[self._file_index])
        return {"file": name, "frame": self._num_read, "time_s": self._last_pts_us / 1e6}

    def _to_frame(self, picture: Picture) -> Frame:
        self._epoch += picture.is_discontinuous
        seq = self._frame_seq
        self._frame_seq += 1
        return Frame(
            stream_id=self._stream_id,
            stream_epoch=self._epoch,
            frame_seq=seq,
            pixels=picture.pixels,
            pts_us=picture.pts_us,
            captured_at=self._began_at + timedelta(microseconds=self._round_us + picture.pts_us),
            capture_clock=CaptureClock.FILE_PTS,
            capture_uncertainty_s=self._uncertainty_s,
            nominal_step_us=picture.nominal_step_us,
            position=self.position(),
        )

    def _wait_for(self, pts_us: int) -> None:
        if not self._config.realtime:
            return
        now = time.monotonic()
        if self._pace is None:
            self._pace = (now, pts_us)
        due = self._pace[0] + (pts_us - self._pace[1]) / 1e6
        self._closing.wait(max(due - now, 0.0))

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _capture_start(reader: VideoReader, path: Path) -> tuple[datetime, float]:
    """Return when the recording began, and how far off that may be in seconds."""
    if reader.created_at is not None:
        return reader.created_at, _NAMED_TIME_UNCERTAINTY_S
    ended_at = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    return ended_at - timedelta(seconds=reader.duration_s), _GUESSED_TIME_UNCERTAINTY_S


def _looks_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a common container, broken or not."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[4:8] in {b"ftyp", b"moov", b"mdat"} or head[:4] in {b"RIFF", b"\x1aE\xdf\xa3"}
