"""One owner per path: what a sink writes to no other sink writes to, of any process."""

import errno
import fcntl
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from connectors.errors import NotWritableError

_log = logging.getLogger("maskstream.connectors.files")
# A full disk, or a file system without locks, is no reason not to begin.
_TOLERATED = frozenset([errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
_MAX_HOLDER_BYTES = 400


@dataclass(frozen=True, slots=True)
class Ownership:
    """A lock that ends with its holder, however that ends.

    The lock lies on a hidden file beside what is owned, so that other names of the same folder,
    such as symbolic links, lead to the same lock. The file says who holds it.

    Attributes:
        path: The hidden file.
        descriptor: It, open; -1 where nothing can be locked.
        taken_ns: When it was taken, by the clock of the files' times there.
    """

    path: Path
    descriptor: int
    taken_ns: int

    @classmethod
    def take(cls, path: Path, *, owned: Path) -> Self:
        """Lock a file, making it, in the name of what is owned. Its folder must be there.

        Raises:
            NotWritableError: If it is held already, by this process or another, and by whom; or
                if it cannot be made.
        """
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                if _lock(descriptor, path, owned):
                    os.utime(descriptor)
                    return cls(path, descriptor, os.fstat(descriptor).st_mtime_ns)
        except OSError as error:
            if error.errno not in _TOLERATED:
                reason = f"{path.name}: {error.strerror or error}"
                raise NotWritableError(str(owned), reason, accepted="a writable folder") from error
            _log.warning("%s: cannot be locked, so others may write there too: %s", owned, error)
            return cls(path, -1, time.time_ns())

    def release(self) -> None:
        """Remove the file and end the lock."""
        if self.descriptor < 0:
            return
        with suppress(OSError):
            if _is_at(self.descriptor, self.path):
                self.path.unlink()
        os.close(self.descriptor)


def _lock(descriptor: int, path: Path, owned: Path) -> bool:
    """Return whether the lock is held now; closes the file if it is not."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):  # its former holder has removed it in the meantime
            os.close(descriptor)
            return False
    except BlockingIOError as error:
        holder = os.pread(descriptor, _MAX_HOLDER_BYTES, 0).decode(errors="replace").strip()
        os.close(descriptor)
        reason = f"another sink writes there: {holder or 'of a process that is just beginning'}"
        raise NotWritableError(str(owned), reason, accepted="a path of its own") from error
    except OSError:
        os.close(descriptor)
        raise
    with suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
