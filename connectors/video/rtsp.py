"""Network cameras over RTSP."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from av.error import FFmpegError
from typing_extensions import override

from connectors.backoff import Backoff
from connectors.base import Source
from connectors.errors import Position, SourceError, StreamEndedError, UnauthorizedError
from connectors.frame import CaptureClock, Frame
from connectors.video.config import RtspSourceConfig
from connectors.video.decode import Picture, VideoReader, open_video, translate_live_error

_log = logging.getLogger("maskstream.connectors.rtsp")

# A short probe: opening takes 0.1 s instead of 1.1 s, and the decoder learns the rest by itself.
# analyzeduration is in microseconds, and 0 would mean FFmpeg's default of seconds.
_LOW_DELAY = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "32768",
    "analyzeduration": "1",
}
_BELIEVABLE_CLOCK_ERROR_S = 60.0
_RTCP_UNCERTAINTY_S = 0.05
_ARRIVAL_UNCERTAINTY_S = 1.0


class RtspSource(Source):
    """Plays one camera for as long as it lives, and connects again when it goes away.

    Capture time is the camera's own clock from RTCP sender reports once they come, unless it is
    more than a minute off ours; before, and without them, the time of arrival. It never runs
    backwards.

    Guarantee: live, so nothing is repeated: what the camera sent while nobody was connected is
        lost, and each lost connection begins a new ``stream_epoch``; ``frame_seq`` goes on. A
        wrong password is never retried.
    Ordering: media time within an epoch.
    Parallelism: none; one connection per source. ``close`` may come from another thread and ends
        a read within ``read_timeout_s``, a wait between tries at once.

    Attributes:
        num_reconnects: Connections made after the first.
    """

    def __init__(
        self, *, stream_id: str, config: RtspSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        start = position or {}
        self._frame_seq = int(start.get("frame_seq", 0))
        self._epoch = int(start.get("epoch", -1))
        self._reader: VideoReader | None = None
        self._last_captured_at = datetime.fromtimestamp(0, tz=UTC)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self.num_reconnects = 0

    @override
    def open(self) -> None:
        self._closing.clear()
        with self._lock:
            self._drop_reader()
            self._connect()

    @override
    def read(self) -> Frame | None:
        with self._lock:
            while not self._closing.is_set():
                try:
                    picture = self._next_picture()
                except SourceError as error:
                    self._drop_reader()
                    if not self._config.reconnect:
                        raise
                    self._reconnect(error)
                    continue
                if not self._closing.is_set():
                    return self._to_frame(picture)
            self._drop_reader()
            return None

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"frame_seq": self._frame_seq, "epoch": self._epoch}

    @override
    def close(self) -> None:
        self._closing.set()
        # A read that is under way lets go by itself: FFmpeg's contexts bear one thread only.
        if self._lock.acquire(blocking=False):
            try:
                self._drop_reader()
            finally:
                self._lock.release()

    def _connect(self) -> None:
        config = self._config
        timeout_s = config.open_timeout_s, config.read_timeout_s
        options = {**_LOW_DELAY, "rtsp_transport": config.transport}
        try:
            reader = open_video(self._address(), options=options, timeout_s=timeout_s, is_live=True)
        except (FFmpegError, OSError, LookupError) as error:
            # Not chained: the foreign error quotes the address with its password.
            raise self._translate(error) from None
        self._reader = reader
        self._epoch += 1

    def _reconnect(self, cause: SourceError) -> None:
        """Try until connected or closed; raises the last error when the tries are used up."""
        config = self._config.backoff
        delays = Backoff(initial_s=config.initial_s, maximum_s=config.maximum_s).delays()
        num_tries = 0
        while not self._closing.is_set():
            if num_tries == self._config.max_retries or isinstance(cause, UnauthorizedError):
                raise cause
            delay_s = next(delays)
            _log.warning("%s; next try in %.1f s", cause, delay_s)
            if self._closing.wait(delay_s):
                return
            num_tries += 1
            try:
                self._connect()
            except SourceError as error:
                cause = error
            else:
                self.num_reconnects += 1
                return

    def _next_picture(self) -> Picture:
        if self._reader is None:
            raise StreamEndedError(self._stream_id, "not connected", position=self.position())
        try:
            picture = self._reader.read()
        except (FFmpegError, OSError) as error:
            raise self._translate(error) from None
        if picture is None:
            reason = "the camera hung up"
            raise StreamEndedError(self._stream_id, reason, position=self.position())
        return picture

    def _to_frame(self, picture: Picture) -> Frame:
        self._epoch += picture.is_discontinuous
        captured_at, clock = self._capture_time(picture)
        is_rtcp = clock is CaptureClock.RTCP_NTP
        seq, self._frame_seq = self._frame_seq, self._frame_seq + 1
        return Frame(
            stream_id=self._stream_id,
            stream_epoch=self._epoch,
            frame_seq=seq,
            pixels=picture.pixels,
            pts_us=picture.pts_us,
            captured_at=captured_at,
            capture_clock=clock,
            capture_uncertainty_s=_RTCP_UNCERTAINTY_S if is_rtcp else _ARRIVAL_UNCERTAINTY_S,
            nominal_step_us=picture.nominal_step_us,
            position=self.position(),
        )

    def _capture_time(self, picture: Picture) -> tuple[datetime, CaptureClock]:
        captured_at, clock = datetime.now(tz=UTC), CaptureClock.ARRIVAL
        camera = picture.wall_clock
        if camera and abs((camera - captured_at).total_seconds()) < _BELIEVABLE_CLOCK_ERROR_S:
            captured_at, clock = camera, CaptureClock.RTCP_NTP
        captured_at = max(captured_at, self._last_captured_at + timedelta(microseconds=1))
        self._last_captured_at = captured_at
        return captured_at, clock

    def _address(self) -> str:
        """Return the URL with user and password, percent-encoded, for FFmpeg alone."""
        if self._config.user is None:
            return self._config.url
        secret = self._config.password
        password = f":{quote(secret.get_secret_value(), safe='')}" if secret else ""
        parts = urlsplit(self._config.url)
        netloc = f"{quote(self._config.user, safe='')}{password}@{parts.netloc}"
        return parts._replace(netloc=netloc).geturl()

    def _translate(self, error: Exception) -> SourceError:
        position = {"url": self._config.url, **self.position()}
        return translate_live_error(error, self._stream_id, position=position)

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
