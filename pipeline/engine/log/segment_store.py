"""Segments of one kind: written, made durable, recovered and removed."""

import errno
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.log.entries import (
    SEGMENT_HEAD_BYTES,
    VERSION,
    appended_ms_of,
    decode_segment_head,
    encode_segment_head,
    find_last_written,
    scan,
)
from pipeline.engine.log.folder_lock import make_folder, sync_folder, unusable
from pipeline.engine.log.segments import Hole, Point, Segment, read_around, read_bytes
from pipeline.errors import StateError

_logger = logging.getLogger("maskstream.log")

_SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class Commit:
    """Entries that are durable, to be published.

    Attributes:
        segment: Where they are; a new one, or the last.
        last_seq: Number of the last of them.
        num_bytes: Size of the file now.
        starts: Where each of them begins.
    """

    segment: Segment
    last_seq: int
    num_bytes: int
    starts: list[Point]

    @property
    def first_seq(self) -> int:
        """Number of the first of them."""
        return self.starts[0].seq


class SegmentStore:
    """The files of a folder.

    Whatever changes :attr:`segments` is called under the log's lock; what reads and writes files
    is not, and is called by one thread at a time.

    Args:
        folder: Made if need be.
        segment_bytes: A segment of this size is not written to any more.

    Raises:
        StateError: If the folder cannot be made or read, or a newer version has written there.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._fd: int | None = None  # of the last segment
        self._is_last_full = False
        self.segments: list[Segment] = []
        self.num_corrupt = 0
        try:
            make_folder(folder)
            self._recover()
        except OSError as error:
            raise unusable(folder, error) from error

    @property
    def num_bytes(self) -> int:
        """Size of all segments."""
        return sum(segment.num_bytes for segment in self.segments)

    def write(self, entries: Sequence[tuple[int, bytes]]) -> Commit:
        """Write entries, numbered without a gap, and return once they are durable.

        Raises:
            OSError: If they could not be; nothing of them counts as written.
        """
        first_seq = entries[0][0]
        last = self.segments[-1] if self.segments else None
        is_new = last is None or self._is_last_full or last.last_seq + 1 != first_seq
        segment = last
        if segment is None or is_new or segment.num_bytes >= self._segment_bytes:
            is_new = True
            path = self._folder / f"{first_seq:020}{_SUFFIX}"
            segment = Segment(path, first_seq, first_seq - 1)
        data = encode_segment_head() if is_new else b""
        at, starts = segment.num_bytes, list[Point]()
        for seq, entry in entries:
            starts.append(Point(seq, at, appended_ms_of(entry)))
            at += len(entry)
        data += b"".join(entry for _, entry in entries)
        try:
            self._write_at(segment, 0 if is_new else segment.num_bytes, data, is_new=is_new)
        except OSError:
            self._cut_off(segment, is_new=is_new)
            raise
        self._is_last_full = False
        return Commit(segment, entries[-1][0], at, starts)

    def publish(self, commit: Commit) -> None:
        """Let readers see what was written."""
        segment = commit.segment
        if not self.segments or self.segments[-1] is not segment:
            self.segments.append(segment)
        segment.last_seq, segment.num_bytes = commit.last_seq, commit.num_bytes
        for start in commit.starts:
            segment.add_to_index(start)

    def take_back(self, commit: Commit) -> None:
        """Cut off what was written and is not to be published."""
        is_new = all(segment is not commit.segment for segment in self.segments)
        self._cut_off(commit.segment, is_new=is_new)

    def delete(self, segment: Segment) -> None:
        """Remove the file of a segment that was taken out of the list."""
        if not self.segments:
            self._close_file()
        # What cannot be deleted now is found at the next start, and deleted then.
        with suppress(OSError):
            segment.path.unlink()

    def note_hole(self, segment: Segment, hole: Hole) -> None:
        """Count and tell of lost records, once."""
        num_lost = segment.num_within(hole.first_seq - 1, hole.last_seq)
        if not num_lost:
            return
        segment.add_hole(hole)
        self.num_corrupt += num_lost
        _logger.warning(
            "%s is damaged at byte %d: %d records lost, the others are read",
            segment.path,
            hole.at_byte,
            num_lost,
        )

    def probe(self) -> None:
        """Raise an OSError if nothing can be written."""
        path = self._folder / ".probe"
        try:
            path.write_bytes(bytes(4096))
            _sync_file(path)
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        self._close_file()

    def _write_at(self, segment: Segment, at: int, data: bytes, *, is_new: bool) -> None:
        if is_new:
            self._close_file()
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._fd = os.open(segment.path, flags, 0o644)
        elif self._fd is None:
            self._fd = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC)
        view = memoryview(data)
        while view:
            num_written = os.pwrite(self._fd, view, at)
            view, at = view[num_written:], at + num_written
        os.fsync(self._fd)
        if not os.fstat(self._fd).st_nlink:  # or it would go on, and nothing of it be found again
            raise OSError(errno.ENOENT, f"{segment.path} was removed while it was written to")
        if is_new:
            sync_folder(self._folder)

    def _cut_off(self, segment: Segment, *, is_new: bool) -> None:
        """Cut off what may have been written, so that it takes no room.

        The file is not written to again: after a failed fsync the system may take its pages for
        clean, and a later fsync would say that all is well.
        """
        self._close_file()
        self._is_last_full = True
        with suppress(OSError):
            if is_new:
                segment.path.unlink()
            else:
                os.truncate(segment.path, segment.num_bytes)

    def _close_file(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _recover(self) -> None:
        last_seq = 0
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        firsts = [_first_seq(path) for path in paths]
        for place, (path, first_seq) in enumerate(zip(paths, firsts, strict=True)):
            if first_seq is None:
                _logger.warning("%s is no segment: left alone", path)
                continue
            is_last = place + 1 == len(paths)
            next_seq = None if is_last else firsts[place + 1]
            segment = self._recover_segment(path, max(first_seq, last_seq + 1), next_seq)
            if segment is None:
                with suppress(OSError):
                    path.unlink()
                continue
            self.segments.append(segment)
            last_seq = segment.last_seq

    def _recover_segment(self, path: Path, first_seq: int, next_seq: int | None) -> Segment | None:
        """Return what is good of a file; a torn end is cut off.

        Args:
            path: The file.
            first_seq: Number that its first entry should have.
            next_seq: Number that the next file begins with, ``None``: there is no next.
        """
        data = _read_whole(path)
        version = decode_segment_head(data)
        if version not in {None, VERSION}:
            raise StateError(
                path=path,
                reason=f"written by a newer version (format {version})",
                accepted=f"format {VERSION}, or another folder",
            )
        if version is None and len(data) > SEGMENT_HEAD_BYTES:
            _logger.warning("%s is damaged at byte 0: its head; its records are read", path)
        segment = Segment(path, first_seq, first_seq - 1)
        for entry in scan(data, SEGMENT_HEAD_BYTES, first_seq - 1, is_whole=True):
            if entry.seq > segment.last_seq + 1:
                hole = Hole(segment.last_seq + 1, entry.seq - 1, segment.num_bytes)
                segment.last_seq = hole.last_seq
                self.note_hole(segment, hole)
            segment.add_to_index(Point(entry.seq, entry.start, entry.appended_ms))
            segment.last_seq, segment.num_bytes = entry.seq, entry.end
        is_empty = next_seq is not None and segment.last_seq < first_seq
        if segment.num_bytes < len(data) or is_empty:
            self._cut_end(segment, data, next_seq)
        return segment if segment.last_seq >= first_seq else None

    def _cut_end(self, segment: Segment, data: bytes, next_seq: int | None) -> None:
        """Cut off what comes behind the last good entry of a file.

        What was torn by a crash was promised to nobody; an entry that was written to its end, or
        has another file behind it, may have been.
        """
        end = segment.num_bytes
        last_seq = find_last_written(data, end, segment.last_seq)
        if next_seq is not None:
            last_seq = max(last_seq, next_seq - 1)
        lost = Hole(segment.last_seq + 1, last_seq, end)
        if last_seq > segment.last_seq:
            segment.last_seq = last_seq
            self.note_hole(segment, lost)
        else:
            num_bytes = len(data) - end
            _logger.warning("%s ends torn at byte %d: %d bytes cut", segment.path, end, num_bytes)
        os.truncate(segment.path, end)
        _sync_file(segment.path)


def _first_seq(path: Path) -> int | None:
    return int(path.stem) if path.stem.isascii() and path.stem.isdigit() else None


def _read_whole(path: Path) -> bytes:
    num_bytes = path.stat().st_size
    try:
        return read_bytes(path, 0, num_bytes)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # A start that fails would keep everything else from the sinks.
        _logger.warning("%s: %s; records around it are given up", path, error.strerror)
        return read_around(path, 0, num_bytes)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
