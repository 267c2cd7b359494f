"""Video files, one or a folder of them."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typing_extensions import override

from connectors.base import Source
from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    Position,
    SourceError,
    UnsupportedMediaError,
)
from connectors.frame import CaptureClock, Frame, MediaOrigin
from connectors.video.config import VIDEO_SUFFIXES, FileSourceConfig
from connectors.video.decode import Picture, VideoReader, open_video
from connectors.video.errors import translate_file_error

_NAMED_TIME_UNCERTAINTY_S = 1.0
_GUESSED_TIME_UNCERTAINTY_S = 86_400.0
_MAX_MODIFIED_S = 7_258_118_400  # the year 2200; damaged file systems tell of later ones
_READ_TO_ITS_END = -1


class FileSource(Source):
    """Plays a video file, or all videos of a folder by name, each one a new epoch.

    Any container and codec of FFmpeg, any frame rate, constant or not; pictures are turned
    upright. Files whose names begin with a dot are not played. Capture time is the container's
    creation time plus media time, or, where it has none, the file's modification time less its
    length, with an uncertainty of a day.

    Guarantee: every decodable frame exactly once, in a run that is not resumed; after a resume
        from ``position`` exactly the frames behind it, though files came or went meanwhile. A
        file that breaks off yields every readable frame and then an error. In a folder such an
        error has ``continues`` set, and the next read goes on with the next file.
    Ordering: media time within a file; files by name.
    Parallelism: none; one reader per source. ``close`` may come from another thread.
    """

    def __init__(
        self, *, stream_id: str, config: FileSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._name = str(start.get("file", ""))
        self._num_read = int(start.get("frame", 0))
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", 0))
        self._round_us = int(start.get("round_us", 0))
        self._is_folder = False
        self._has_frame_in_round = True
        self._paths: tuple[Path, ...] = ()
        self._index = 0
        self._reader: VideoReader | None = None
        self._began_at = datetime.fromtimestamp(0, tz=UTC)
        self._uncertainty_s = 0.0
        self._last_pts_us = 0
        self._pace: tuple[float, int] | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        self._is_folder = self._config.path.is_dir()
        self._paths = self._list_files()
        self._index = self._first_index()
        if not self._is_folder and self._index < len(self._paths):
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
        """Return the file to read next and how many of its frames are done; -1: all of them."""
        return {
            "file": self._name,
            "frame": self._num_read,
            "frame_seq": self._frame_seq,
            "epoch": self._epoch,
            "round_us": self._round_us,
        }

    @override
    def close(self) -> None:
        self._closing.set()
        # A read that is under way drops its reader itself: FFmpeg's contexts bear one thread only,
        # and a file system that hangs must not hold up the thread that closes.
        if self._lock.acquire(blocking=False):
            try:
                self._drop_reader()
            finally:
                self._lock.release()

    def _list_files(self) -> tuple[Path, ...]:
        path = self._config.path
        if not self._is_folder:
            return (path,)
        try:
            files = sorted(one for one in path.iterdir() if _is_video(one))
        except OSError as error:
            place = {"file": str(path)}
            raise translate_file_error(
                error, self._stream_id, position=place, is_known_container=False
            ) from error
        if not files:
            reason = f"no video in the folder {str(path)!r}"
            raise NotFoundError(
                self._stream_id, reason, accepted=f"files named {', '.join(sorted(VIDEO_SUFFIXES))}"
            )
        return tuple(files)

    def _first_index(self) -> int:
        """Return the place of the file to read next; a file that is gone is passed over."""
        names = [path.name for path in self._paths]
        index = sum(name < self._name for name in names)
        if self._name in names:
            return index + (self._num_read == _READ_TO_ITS_END)
        if index < len(names):
            self._name, self._num_read = names[index], 0
        return index

    def _begin_next(self) -> bool:
        """Open the next file; false when none is left."""
        if self._index >= len(self._paths):
            if not self._config.loop:
                return False
            self._begin_round()
        self._begin_file()
        return True

    def _begin_round(self) -> None:
        if not self._has_frame_in_round:
            reason = "not one file gave a frame in a whole round"
            raise UnsupportedMediaError(self._stream_id, reason, accepted="a folder with a video")
        self._has_frame_in_round = False
        self._index, self._name, self._num_read = 0, self._paths[0].name, 0

    def _begin_file(self) -> None:
        path = self._paths[self._index]
        try:
            if _is_special(path):
                raise LookupError("it is no regular file")  # noqa: TRY301 - translated below
            self._reader = reader = open_video(f"file:{path}")
            reader.num_to_skip = self._num_read
            self._began_at, self._uncertainty_s = _capture_start(reader, path)
        except Exception as error:
            raise self._give_up(error) from error
        self._pace = None

    def _next_picture(self) -> Picture | None:
        reader = self._reader
        try:
            picture = reader.read() if reader else None
        except Exception as error:
            raise self._give_up(error) from error
        if picture is not None:
            self._last_pts_us = picture.pts_us
            self._num_read += 1
        return picture

    def _end_file(self) -> None:
        """Leave a file that was read to its end; says so if it was not whole."""
        reader, place = self._reader, self._place()
        path = self._paths[self._index]
        if reader is None:
            return
        num_missing = reader.num_missing
        self._leave_file()
        if reader.num_decoded == 0:
            reason = f"not one picture of {str(path)!r} can be decoded"
            raise self._mark(UnsupportedMediaError(self._stream_id, reason, position=place))
        if num_missing or reader.num_damaged:
            what = f"{num_missing} packets lie behind its end"
            if reader.num_damaged:
                what = f"{reader.num_damaged} packets cannot be decoded"
                place["damaged_s"] = round(reader.first_damage_s or 0.0, 3)
            reason = f"{str(path)!r} is not whole: {what}"
            accepted = "a whole file"
            raise self._mark(
                CorruptMediaError(self._stream_id, reason, position=place, accepted=accepted)
            )

    def _leave_file(self) -> None:
        step_us = self._reader.clock.step_us if self._reader else 0
        self._drop_reader()
        self._index += 1
        self._epoch += 1
        self._num_read = _READ_TO_ITS_END
        if self._index < len(self._paths):
            self._name, self._num_read = self._paths[self._index].name, 0
        elif self._config.loop:
            self._round_us += self._last_pts_us + step_us

    def _give_up(self, error: Exception) -> SourceError:
        """Leave a file that cannot be read further, and say why."""
        path, place = self._paths[self._index], self._place()
        self._leave_file()
        # What is no regular file is not looked into: that may wait for ever.
        is_known_container = not _is_special(path) and _looks_like_video(path)
        return self._mark(
            translate_file_error(
                error, self._stream_id, position=place, is_known_container=is_known_container
            )
        )

    def _mark(self, error: SourceError) -> SourceError:
        error.continues = self._is_folder
        error.resume_position = self.position()
        return error

    def _place(self) -> dict[str, int | float | str]:
        name = str(self._paths[self._index])
        return {
            "file": name,
            "frame": self._num_read,
            "time_s": (self._last_pts_us if self._num_read else 0) / 1e6,
        }

    def _to_frame(self, picture: Picture) -> Frame:
        self._epoch += picture.is_discontinuous
        self._has_frame_in_round = True
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
            origin=MediaOrigin(media=str(self._paths[self._index]), frame_index=self._num_read - 1),
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
    modified_s = min(max(path.stat().st_mtime, 0.0), _MAX_MODIFIED_S)
    ended_at = datetime.fromtimestamp(modified_s, tz=UTC)
    return ended_at - timedelta(seconds=reader.duration_s), _GUESSED_TIME_UNCERTAINTY_S


def _is_video(path: Path) -> bool:
    """Whether a folder's entry is to be played; ``._a.mp4`` is what macOS keeps about a.mp4."""
    is_named_so = path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    return is_named_so and not path.is_dir()


def _is_special(path: Path) -> bool:
    """Whether reading it may wait for ever: a FIFO, a socket, a device."""
    return path.exists() and not path.is_file()


def _looks_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a common container, broken or not."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    return head[4:8] in {b"ftyp", b"moov", b"mdat"} or head[:4] in {b"RIFF", b"\x1aE\xdf\xa3"}
