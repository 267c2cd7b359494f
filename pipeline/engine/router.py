"""Which buffer takes the frames of which name. One router per source."""

import threading
from collections import OrderedDict

from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.ledger import DropCause

_MAX_REFUSED = 1024  # names; the oldest is asked for again


class FrameRouter:
    """The streams of one source by name: written by the engine, asked by the source's thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._buffers: dict[str, FrameBuffer] = {}
        self._refused: OrderedDict[str, DropCause] = OrderedDict()
        self._is_closed = False
        self._version = 0

    def open(self, stream_id: str, buffer: FrameBuffer) -> None:
        """Send frames of that name into a buffer from now on."""
        with self._changed:
            self._buffers[stream_id] = buffer
            self._tell()

    def refuse(self, stream_id: str, cause: DropCause) -> None:
        """Drop frames of that name from now on."""
        with self._changed:
            self._refused[stream_id] = cause
            if len(self._refused) > _MAX_REFUSED:
                self._refused.popitem(last=False)
            self._tell()

    def forget(self, stream_id: str) -> None:
        """Take a stream out that is gone; names that were refused may ask again."""
        with self._changed:
            self._buffers.pop(stream_id, None)
            self._refused.clear()
            self._tell()

    def close(self) -> None:
        """Let go of whoever waits here."""
        with self._changed:
            self._is_closed = True
            self._tell()

    @property
    def version(self) -> int:
        """Grows with each change; to be asked before :meth:`find` by who may wait for another."""
        return self._version

    def find(self, stream_id: str) -> FrameBuffer | DropCause | None:
        """Return where frames of that name go, or why they are dropped; ``None``: not known."""
        with self._changed:
            return self._buffers.get(stream_id) or self._refused.get(stream_id)

    def wait_change(self, version: int) -> None:
        """Return once something has changed since ``version``, or the router is closed."""
        # Not until a name leads elsewhere: it may do so and be as before when the thread looks.
        with self._changed:
            self._changed.wait_for(lambda: self._version != version or self._is_closed)

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()
