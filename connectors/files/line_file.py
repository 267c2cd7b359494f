"""One growing file of lines: it rotates, and is opened anew when it is gone or has failed."""

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from connectors.files.rotation import Rotation, stamped_path

# How long lines may go to a file that others have moved away: one look at a name costs 2 us.
_LOOK_S = 1.0
_STEP_BYTES = 65_536
_MAX_LINE_BYTES = 64 * 1024 * 1024


class LineFile:
    """A file of lines, opened when it is first written to. Used by one thread at a time.

    Args:
        path: Its name while it grows; its folder is made.
        rotation: When it is full.
        now: Returns the seconds since the epoch.
    """

    def __init__(
        self, path: Path, *, rotation: Rotation, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._rotation = rotation
        self._now = now
        self._descriptor = -1
        self._written_s = 0.0
        self._looked_s = 0.0
        self._unsynced: list[tuple[int, bytes]] = []  # where they begin, and lines
        self._is_cut = False  # those are not in the file
        self._is_new = False

    def append(self, data: bytes) -> int:
        """Append whole lines, all or none; returns the byte at which they begin.

        Raises:
            OSError: If they cannot be written; none of them has been.
        """
        end = -1
        try:
            self._follow()
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            now_s = self._now()
            if self._rotation.is_due(
                size=end, added=len(data), written_s=self._written_s, now_s=now_s
            ):
                self._rotate(now_s)
                end = 0
            _write_whole(self._descriptor, data)
            self._unsynced.append((end, data))
            self._written_s = now_s
        except OSError:
            self.take_back(end)
            raise
        return end

    def take_back(self, end: int) -> None:
        """Remove what lies behind a byte, and close the file: it is opened anew when needed."""
        if end >= 0:
            before = [(begin, lines) for begin, lines in self._unsynced if begin < end]
            self._unsynced = before if self._is_cut else []
        self._cut(end)

    def sync(self) -> None:
        """Return once all lines are on the disk.

        Raises:
            OSError: If they are not; the next call, or ``append``, writes them again.
        """
        if self._unsynced:
            self._sync_lines()
        if self._is_new:
            _sync_folder(self._path.parent)
            self._is_new = False

    def close(self) -> None:
        """Wait for the disk, then let the file go. Raises ``OSError``; it is let go even so."""
        try:
            with suppress(OSError):
                self.sync()
            self.sync()
        finally:
            self._let_go()

    def _sync_lines(self) -> None:
        try:
            if self._descriptor < 0:
                self._open()
            os.fsync(self._descriptor)
        except OSError:
            # The system may take pages that it could not write for clean: a second call would say
            # that all is well, though the lines were lost. So it is on NFS when the disk is full.
            if not self._is_cut:
                self._is_cut = True
                self._cut(self._unsynced[0][0])
            raise
        self._unsynced.clear()

    def _cut(self, end: int) -> None:
        with suppress(OSError):
            # Never longer: somebody else may have cut it in the meantime.
            if 0 <= end < os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, end)
        self._let_go()

    def _follow(self) -> None:
        """Open the file, if need be because another one or none has its name now."""
        is_open = self._descriptor >= 0
        if is_open and time.monotonic() - self._looked_s < _LOOK_S:
            return
        if is_open and not self._has_its_name():
            with suppress(OSError):  # whoever moved it has its lines, on the disk or nearly so
                self.sync()
            self._let_go()
        if self._descriptor < 0:
            self._open()
        self._looked_s = time.monotonic()

    def _has_its_name(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        status = os.fstat(self._descriptor)
        self._written_s, self._is_new = status.st_mtime, status.st_size == 0
        _mend_last_line(self._descriptor)
        if self._is_cut:
            self._write_again()

    def _write_again(self) -> None:
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        lines = b"".join(lines for _, lines in self._unsynced)
        try:
            _write_whole(self._descriptor, lines)
        except OSError:
            self._cut(end)
            raise
        self._unsynced, self._is_cut = [(end, lines)] if lines else [], False

    def _rotate(self, now_s: float) -> None:
        self.sync()
        self._let_go()
        self._path.rename(stamped_path(self._path, now_s))
        self._open()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):  # some file systems tell of failed writes only here
                os.close(self._descriptor)
        self._descriptor = -1


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, "the disk is full: it took only a part")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend_last_line(descriptor: int) -> None:
    """Remove what a kill left of a line; a line that lacks nothing but its end is given it."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    begin = _begin_of_last_line(descriptor, end)
    if begin == end:
        return
    if _is_object(os.pread(descriptor, min(end - begin, _MAX_LINE_BYTES), begin)):
        os.write(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, begin)


def _begin_of_last_line(descriptor: int, end: int) -> int:
    while end > 0:
        start = max(end - _STEP_BYTES, 0)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
