"""One process to a state folder."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StateError


class FolderLock:
    """Holds a folder, making it, until it is closed or the process ends, however it ends.

    Args:
        folder: The folder; its file ``lock`` names the process.

    Raises:
        StateError: If the folder cannot be made or written, or another holds it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            make_folder(folder)
            # Open for ever: the lock goes with the descriptor.
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unusable(folder, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            owner = f"process {holder}" if holder.isdigit() else "another process"
            os.close(self._fd)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise unusable(folder, error) from error
            raise StateError(
                path=folder,
                reason=f"in use by {owner}",
                accepted="a folder of its own for each process",
            ) from error
        # On a full disk the lock holds all the same; only its text is missing.
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the folder; once."""
        os.close(self._fd)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that a power cut leaves them."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names of new files durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unusable(path: Path, error: OSError) -> StateError:
    """Return the error for a folder or file that the system refuses."""
    reason = f"cannot be used: {error.strerror or error}"
    return StateError(path=path, reason=reason, accepted="a folder that can be written")
