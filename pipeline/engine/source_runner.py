"""One source on its own thread: read, hand over, open again after errors that may pass."""

import logging
import threading
from itertools import islice
from typing import Protocol, runtime_checkable

from connectors.backoff import Backoff
from connectors.base import Source
from connectors.errors import BadFrameError, Position, SourceError
from connectors.frame import Frame
from pipeline.clock import Clock
from pipeline.config.run import EngineConfig, StreamConfig
from pipeline.records.schema import StreamState

_logger = logging.getLogger("maskstream.capture")

_COMMIT_GRACE_S = 2.0


@runtime_checkable
class CommittingSource(Protocol):
    """A source that keeps its position elsewhere (Kafka) and is told when to move it."""

    def commit(self, position: Position) -> None:
        """Everything before ``position`` is done."""
        ...


class CaptureOwner(Protocol):
    """What a capture thread tells the engine. Called from that thread."""

    def on_frame(self, capture: "Capture", frame: Frame) -> bool:
        """Take a frame; may wait. False if it could not be taken, and was counted as dropped."""
        ...

    def on_bad_frame(self, capture: "Capture", error: BadFrameError) -> None:
        """Count a frame that cannot be used."""
        ...

    def on_state(
        self, capture: "Capture", state: StreamState, error: SourceError | None = None
    ) -> None:
        """Note what the source is doing."""
        ...

    def on_done(self, capture: "Capture", error: Exception | None) -> None:
        """The source has ended, for good or because of an error. Sets ``is_done``."""
        ...

    def settle(self, capture: "Capture") -> bool:
        """Wait until all frames so far are processed and durable; false if that failed."""
        ...


class Capture:
    """Reads one source on its own thread.

    Args:
        config: The stream, or template of streams, that the source feeds.
        source: Not open yet; used by this thread alone, but for ``close``.
        owner: Takes frames and news.
        engine: Retries and commit interval.
        clock: For the commit interval.
    """

    def __init__(
        self,
        config: StreamConfig,
        source: Source,
        owner: CaptureOwner,
        *,
        engine: EngineConfig,
        clock: Clock,
    ) -> None:
        self.config = config
        self.is_done = False
        self.error: Exception | None = None
        self._source = source
        self._owner = owner
        self._engine = engine
        self._clock = clock
        self._stopping = threading.Event()
        self._committed_s = 0.0
        self._num_failures = 0
        self._thread = threading.Thread(target=self._run, name=f"capture-{config.id}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end and wake it from a read; returns at once. Repeatable."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if isinstance(self._source, CommittingSource):
            # Closed at once it could not commit what is about to be done.
            timer = threading.Timer(_COMMIT_GRACE_S, self._close, ["stopping"])
            timer.daemon = True
            timer.start()
        else:
            self._close("stopping")

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; tell whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._read_until_done()
        except SourceError as error:
            self.error = error
        except Exception as error:
            _logger.exception("stream %s: source failed", self.config.id)
            self.error = error
        finally:
            self._close("at the end")
            self._owner.on_done(self, self.error)

    def _read_until_done(self) -> None:
        while not self._stopping.is_set():
            try:
                self._owner.on_state(self, StreamState.CONNECTING)
                self._source.open()
                self._owner.on_state(self, StreamState.RUNNING)
                self._pump()
            except SourceError as error:
                if self._stopping.is_set():
                    return
                self._num_failures += 1
                if not error.recoverable or self._num_failures > self._engine.source_retries:
                    raise
                self._owner.on_state(self, StreamState.RECONNECTING, error)
                self._close("before opening it again")
                self._stopping.wait(self._delay_s())
            else:
                return

    def _pump(self) -> None:
        self._committed_s = self._clock.monotonic_s()
        while not self._stopping.is_set():
            try:
                frame = self._source.read()
            except BadFrameError as error:
                self._owner.on_bad_frame(self, error)
                continue
            except SourceError as error:
                if not error.continues:
                    raise
                _logger.warning("%s", error)
                continue
            if frame is None:
                break
            self._num_failures = 0
            if not self._owner.on_frame(self, frame) and self._stopping.is_set():
                return  # this frame was lost: the committed position must not pass it
            if self._clock.monotonic_s() - self._committed_s >= self._engine.commit_every_s:
                self._commit()
        self._commit()

    def _commit(self) -> None:
        self._committed_s = self._clock.monotonic_s()
        if isinstance(self._source, CommittingSource) and self._owner.settle(self):
            self._source.commit(self._source.position())

    def _delay_s(self) -> float:
        delays = Backoff(initial_s=0.2, maximum_s=30.0).delays()
        return next(islice(delays, self._num_failures - 1, None))

    def _close(self, moment: str) -> None:
        try:
            self._source.close()
        except Exception:
            _logger.exception("stream %s: source could not be closed %s", self.config.id, moment)
