"""A live video decoded on a thread of its own, so that every wait has a bound."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.video.decode import Picture, VideoReader

# FFmpeg is given this much longer than the caller waits, so that it never speaks first.
FFMPEG_GRACE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A picture, and when it was decoded."""

    picture: Picture
    arrived_at: datetime


class LiveReader:
    """Opens and decodes one live address on a thread of its own; holds one picture at most.

    FFmpeg's time-outs bound no wait. It resolves names without one. It counts connecting and
    probing apart. On silence it first hands out the packet that its parser held back, then waits
    as long again: a camera that fell silent was noticed after 20.7 s instead of 10. So the caller
    waits by its own clock, and lets go. What was let go ends by itself: when FFmpeg's time-outs
    have passed, or with the next packet.

    Args:
        build: Opens the video; called on the reader's thread.
        name: For the thread's name.
    """

    def __init__(self, build: Callable[[], VideoReader], *, name: str) -> None:
        self._build = build
        self._changed = threading.Condition()
        self._reader: VideoReader | None = None
        self._arrival: Arrival | None = None
        self._error: Exception | None = None
        self._is_ended = False
        self._is_closed = False
        threading.Thread(target=self._run, name=f"decode-{name}", daemon=True).start()

    def wait_open(self, timeout_s: float) -> None:
        """Return once the video is open, or the reader closed.

        Raises:
            TimeoutError: If it is not open in time.
            Exception: As PyAV raises it.
        """
        with self._changed:
            is_done = self._changed.wait_for(
                lambda: self._reader is not None or self._is_ended or self._is_closed, timeout_s
            )
            if not is_done:
                raise TimeoutError
            if self._error is not None and self._reader is None and not self._is_closed:
                raise self._error

    def read(self, timeout_s: float) -> Arrival | None:
        """Return the next picture; ``None`` once the peer has hung up or the reader is closed.

        Raises:
            TimeoutError: If no packet came for so long.
            Exception: As PyAV raises it.
        """
        began_s = time.monotonic()
        with self._changed:
            while self._arrival is None and not self._is_ended and not self._is_closed:
                # Packets without pictures are no silence: a decoder may wait for a key frame.
                heard_s = self._reader.heard_s if self._reader else began_s
                left_s = max(heard_s, began_s) + timeout_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._changed.wait(left_s)
            if self._is_closed:
                return None
            arrival, self._arrival = self._arrival, None
            self._changed.notify_all()
            if arrival is None and self._error is not None:
                raise self._error
            return arrival

    def close(self) -> None:
        """Let go at once, from any thread; a wait that is under way ends."""
        with self._changed:
            self._is_closed = True
            self._arrival = None
            self._changed.notify_all()

    def _run(self) -> None:
        reader: VideoReader | None = None
        error: Exception | None = None
        try:
            reader = self._build()
            self._announce(reader)
            while (picture := reader.read()) is not None:
                if not self._hand_over(Arrival(picture=picture, arrived_at=datetime.now(tz=UTC))):
                    break
        except Exception as raised:  # noqa: BLE001 - raised again where the caller waits
            error = raised
        finally:
            if reader is not None:
                reader.close()
        with self._changed:
            self._error, self._is_ended = error, True
            self._changed.notify_all()

    def _announce(self, reader: VideoReader) -> None:
        with self._changed:
            self._reader = reader
            self._changed.notify_all()

    def _hand_over(self, arrival: Arrival) -> bool:
        """Wait until the place is free; false once nobody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrival is None or self._is_closed)
            if not self._is_closed:
                self._arrival = arrival
                self._changed.notify_all()
            return not self._is_closed
