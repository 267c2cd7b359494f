"""What cameras have in common: one connection, opened once, read until it breaks."""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from typing_extensions import override

from connectors.base import Source
from connectors.errors import Position, SourceError, StreamEndedError
from connectors.frame import CaptureClock, Frame
from connectors.video.decode import VideoReader
from connectors.video.errors import translate_live_error
from connectors.video.live import Arrival, LiveReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """When a picture was taken, as ``Frame`` has it."""

    at: datetime
    clock: CaptureClock
    uncertainty_s: float


class LiveSource(Source):
    """One connection to one camera. It never connects again by itself.

    Each connection begins a new ``stream_epoch``, above that of ``position`` and no lower than the
    Unix seconds, so that none is given twice if all that is remembered of a camera is lost.
    ``frame_seq`` goes on from ``position``. Every error is recoverable: whatever a camera refuses
    now it may grant later.

    Args:
        stream_id: Name of the camera.
        position: Where to go on; ``None`` begins at the start.
        timeouts_s: Longest wait to open, and for a packet.
    """

    def __init__(
        self, *, stream_id: str, position: Position | None, timeouts_s: tuple[float, float]
    ) -> None:
        self._stream_id = stream_id
        start = position or {}
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", -1))
        self._open_timeout_s, self._read_timeout_s = timeouts_s
        self._reader: LiveReader | None = None
        self._closing = threading.Event()

    @abstractmethod
    def _prepare(self) -> Callable[[], VideoReader]:
        """Return what opens the video; it is called on another thread.

        Raises:
            SourceError: If it cannot be tried.
        """

    @abstractmethod
    def _capture(self, arrival: Arrival) -> Capture:
        """Return when a picture was taken."""

    @abstractmethod
    def _place(self) -> Position:
        """Return what errors name as the place."""

    @override
    def open(self) -> None:
        if self._closing.is_set():
            return
        self._reader = reader = LiveReader(self._prepare(), name=self._stream_id)
        if self._closing.is_set():
            self._drop_reader()
        try:
            reader.wait_open(self._open_timeout_s)
        except Exception as error:  # noqa: BLE001 - the seam to PyAV
            raise self._translate(error) from None
        self._epoch = max(self._epoch + 1, int(time.time()))

    @override
    def read(self) -> Frame | None:
        arrival = self._next_arrival()
        if arrival is None:
            return None
        picture, capture = arrival.picture, self._capture(arrival)
        self._epoch += picture.is_discontinuous
        seq, self._frame_seq = self._frame_seq, self._frame_seq + 1
        return Frame(
            stream_id=self._stream_id,
            stream_epoch=self._epoch,
            frame_seq=seq,
            pixels=picture.pixels,
            pts_us=picture.pts_us,
            captured_at=capture.at,
            capture_clock=capture.clock,
            capture_uncertainty_s=capture.uncertainty_s,
            nominal_step_us=picture.nominal_step_us,
            position=self.position(),
        )

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"frame_seq": self._frame_seq, "epoch": self._epoch}

    @override
    def close(self) -> None:
        self._closing.set()
        self._drop_reader()

    def _next_arrival(self) -> Arrival | None:
        """Wait for the next picture; ``None`` once closed."""
        reader = self._reader
        try:
            arrival = reader.read(self._read_timeout_s) if reader else None
        except Exception as error:  # noqa: BLE001 - the seam to PyAV
            raise self._translate(error) from None
        if arrival is None and not self._closing.is_set():
            self._drop_reader()
            raise StreamEndedError(self._stream_id, "the camera hung up", position=self._place())
        return arrival

    def _translate(self, error: Exception) -> SourceError:
        """Let the connection go; the foreign error is not chained, for it quotes the address."""
        self._drop_reader()
        return translate_live_error(error, self._stream_id, position=self._place())

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
