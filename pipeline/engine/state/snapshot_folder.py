"""The newest snapshots of each stream in a folder of its own."""

import logging
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from connectors.errors import NotWritableError, Position
from connectors.files.naming import encode_name
from connectors.files.writing import write_whole
from pipeline.engine.log.folder_lock import sync_folder
from pipeline.engine.state.snapshot_file import (
    HEAD_BYTES,
    SnapshotFileError,
    StoredSnapshot,
    check_head,
    decode_snapshot_file,
    encode_snapshot_file,
)
from pipeline.engine.state.snapshot_store import SnapshotStore

_logger = logging.getLogger("maskstream.state")

_NEWEST = "newest.snapshot"
_FORMER = "former.snapshot"
_MAX_BYTES = 8 << 30  # the whole of 600 objects of sam3, at 13 MB each


class SnapshotFolder(SnapshotStore):
    """Keeps two snapshots a stream in files.

    Args:
        folder: Made with the first snapshot.
    """

    is_shared: ClassVar[bool] = False  # one process at a time has the folder

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def prepare(self, position: Position) -> None:
        """Return at once: all is at hand."""

    @override
    def release(self, partitions: Collection[str]) -> None:
        """Keep all: partitions may come back."""

    @override
    def save(self, snapshot: StoredSnapshot) -> int:
        folder = self._folder_of(snapshot.about.stream_id)
        data = encode_snapshot_file(snapshot)
        part = folder / "next.snapshot"
        write_whole(part, data, is_synced=True)
        try:
            with suppress(FileNotFoundError):
                (folder / _NEWEST).replace(folder / _FORMER)
            part.replace(folder / _NEWEST)
            sync_folder(folder)
        except OSError as error:
            names = [str(name) for name in (error.filename, error.filename2) if name is not None]
            place = " to ".join(names) or str(folder)
            raise NotWritableError(place, str(error.strerror or error)) from error
        return len(data)

    @override
    def load(self, stream_id: str) -> tuple[StoredSnapshot | None, list[str]]:
        return self._load(self._folder_of(stream_id))

    @override
    def load_others(self, claimed: Collection[str]) -> Iterator[StoredSnapshot]:
        names = {encode_name(stream_id) for stream_id in claimed}
        try:
            folders = sorted(path for path in self._folder.iterdir() if path.name not in names)
        except FileNotFoundError:
            return
        except OSError as error:
            _logger.warning("%s cannot be read: %s", self._folder, error.strerror or error)
            return
        for folder in folders:
            stored, problems = self._load(folder)
            if stored is not None:
                yield stored
            elif problems:
                _logger.warning("%s; the event log alone tells what is open", problems[0])

    def _load(self, folder: Path) -> tuple[StoredSnapshot | None, list[str]]:
        problems: list[str] = []
        for name in (_NEWEST, _FORMER):
            path = folder / name
            try:
                snapshot = _read(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{path}: cannot be read: {error.strerror or error}")
            except SnapshotFileError as error:
                problems.append(f"{path}: {error}")
            else:
                return snapshot, problems
        return None, problems

    @override
    def delete(self, stream_id: str) -> None:
        folder = self._folder_of(stream_id)
        try:
            for path in folder.glob("*.snapshot"):
                path.unlink()
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            _logger.warning("%s cannot be deleted: %s", folder, error.strerror or error)

    @override
    def interrupt(self) -> None:
        """Do nothing: a disk that hangs cannot be called back."""

    @override
    def close(self) -> None:
        """Do nothing: nothing is held."""

    def discard_after(self, cut: int) -> None:
        """Forget, of every stream, snapshots of transactions behind ``cut``: they never were.

        Raises:
            NotWritableError: If one cannot be deleted.
        """
        for path in self._folder.glob("*/*.snapshot"):
            try:
                if decode_snapshot_file(_read_whole(path)).about.cut > cut:
                    path.unlink()
            except SnapshotFileError:
                continue  # told of when its stream is opened
            except OSError as error:
                raise NotWritableError(str(path), str(error.strerror or error)) from error

    def _folder_of(self, stream_id: str) -> Path:
        return self._folder / encode_name(stream_id)


def _read(path: Path) -> StoredSnapshot:
    snapshot = decode_snapshot_file(_read_whole(path))
    if encode_name(snapshot.about.stream_id) != path.parent.name:
        raise SnapshotFileError(f"is of stream {snapshot.about.stream_id!r}")
    return snapshot


def _read_whole(path: Path) -> bytes:
    """Return the bytes of a file that begins as a snapshot does.

    Whatever has its name by mistake is refused before it takes time or memory: a pipe has no end,
    and a disk's image more than the machine.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise SnapshotFileError("is no file")
        with open(fd, "rb", closefd=False) as file:
            head = file.read(HEAD_BYTES)
            check_head(head)
            if about.st_size > _MAX_BYTES:
                reason = f"is too large: {about.st_size} bytes (accepted: {_MAX_BYTES})"
                raise SnapshotFileError(reason)
            return head + file.read()
    finally:
        os.close(fd)
