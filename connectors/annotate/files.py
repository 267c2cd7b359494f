"""Files of a sink that draws: each stream has its own, and none is written twice."""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from connectors.annotate.config import STREAM_ID
from connectors.errors import NotWritableError, SinkError
from connectors.files.naming import encode_name
from connectors.files.ownership import Ownership
from connectors.files.rotation import stamped_path

_log = logging.getLogger("maskstream.connectors.annotate")

_PAUSE_S = 30.0
_MAX_PAUSED = 1024


class StreamFiles:
    """Chooses the files of streams, and locks their path for this sink alone.

    Without ``{stream_id}`` in the path the first stream gets the path as it is, and others have
    their name appended. A file that is there is not touched: the stream goes on in another one,
    named by the time, ``name-20261129T014500Z.mp4``.

    Args:
        path: As the configuration gives it.
        overwrite: Give names of files again that were there before this sink was opened.
        first_of: Which file of a path tells whether it is taken; by default the path itself.
        now: Returns the seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        first_of: Callable[[Path], Path] = lambda path: path,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._overwrite = overwrite
        self._first_of = first_of
        self._now = now
        self._first_stream: str | None = None
        self._ownership: Ownership | None = None

    def open(self) -> None:
        """Make the folder, and lock the path.

        Raises:
            NotWritableError: Where nothing can ever be written, or another sink writes.
        """
        folder = next(one for one in self._path.parents if STREAM_ID not in str(one))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(str(self._path), str(error.strerror)) from error
        if not os.access(folder, os.W_OK):
            raise NotWritableError(str(self._path), "no right to write", accepted="a folder")
        if self._path.is_dir():
            raise NotWritableError(str(self._path), "is a folder", accepted="a file")
        lock = f".{encode_name(str(self._path.relative_to(folder)))}.lock"
        self._ownership = Ownership.take(folder / lock, owned=self._path)

    def close(self) -> None:
        """Let others have the path."""
        ownership, self._ownership = self._ownership, None
        if ownership is not None:
            ownership.release()

    def next_path(self, stream_id: str) -> Path:
        """Return the path of a stream's next file; its folder is there, if that can be made.

        It is there already only where it is to be overwritten.
        """
        base = self._base_of(stream_id)
        with suppress(OSError):  # told when the file is opened
            base.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_taken(base) or (self._overwrite and self._is_of_a_former_run(base)):
            return base
        return stamped_path(base, self._now(), is_taken=self._is_taken)

    def _is_taken(self, path: Path) -> bool:
        return os.path.lexists(self._first_of(path))

    def _is_of_a_former_run(self, path: Path) -> bool:
        if self._ownership is None:
            return False
        try:
            return self._first_of(path).stat().st_mtime_ns < self._ownership.taken_ns
        except OSError:
            return False

    def _base_of(self, stream_id: str) -> Path:
        name = encode_name(stream_id)
        if STREAM_ID in str(self._path):
            return Path(str(self._path).replace(STREAM_ID, name))
        if self._first_stream in {None, stream_id}:
            self._first_stream = stream_id
            return self._path
        return self._path.with_name(f"{self._path.stem}-{name}{self._path.suffix}")


class StreamFaults:
    """Streams whose files failed a short while ago: they alone go without for a pause.

    Args:
        pause_s: How long a stream is left out before its file is tried again.
    """

    def __init__(self, *, pause_s: float = _PAUSE_S) -> None:
        self.num_refused = 0
        self._pause_s = pause_s
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def refuses(self, stream_id: str) -> bool:
        """Return whether a frame of a stream is to be left out, and count it if so."""
        is_refused = self.is_paused(stream_id)
        self.num_refused += is_refused
        return is_refused

    def is_paused(self, stream_id: str) -> bool:
        """Return whether a stream is left out now."""
        return time.monotonic() < self._until_s.get(stream_id, 0.0)

    def add(self, stream_id: str, error: SinkError) -> None:
        """Count and log what failed; leave the stream out for a while."""
        self.num_refused += 1
        _log.error("%s; left out for %.0f s", error, self._pause_s, extra={"stream": stream_id})
        self._until_s[stream_id] = time.monotonic() + self._pause_s
        if len(self._until_s) > _MAX_PAUSED:
            self._until_s.popitem(last=False)

    def forget(self, stream_id: str) -> None:
        """Let a stream begin anew."""
        self._until_s.pop(stream_id, None)
