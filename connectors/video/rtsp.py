"""Network cameras over RTSP."""

from collections.abc import Callable
from functools import partial
from urllib.parse import quote, urlsplit

from typing_extensions import override

from connectors.errors import Position, UnauthorizedError
from connectors.frame import CaptureClock
from connectors.video.config import RtspSourceConfig
from connectors.video.decode import VideoReader, open_video
from connectors.video.errors import describe
from connectors.video.live import FFMPEG_GRACE_S, Arrival
from connectors.video.live_source import Capture, LiveSource

# A short probe: opening takes 0.1 s instead of 1.1 s, and the decoder learns the rest by itself.
# analyzeduration is in microseconds, and 0 would mean FFmpeg's default of seconds. Sound alone is
# no sign of life, so it is not asked for.
_LOW_DELAY = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "32768",
    "analyzeduration": "1",
    "allowed_media_types": "video",
}
_RTCP_UNCERTAINTY_S = 0.05
_ARRIVAL_UNCERTAINTY_S = 1.0


class RtspSource(LiveSource):
    """Plays one connection to a camera. It never connects again by itself.

    Capture time is the camera's own clock from RTCP sender reports, as it is, once they come;
    before, and without them, the time of arrival. It may jump, and run backwards.

    Guarantee: live, so nothing is repeated: what the camera sent while nobody was connected is
        lost. Each connection begins a new ``stream_epoch``; ``frame_seq`` goes on from
        ``position``. Silence is an error after ``read_timeout_s``, a connection that does not come
        about after ``open_timeout_s``.
    Ordering: media time within an epoch.
    Parallelism: none; one connection per source. ``close`` may come from another thread and ends
        an opening or a read at once; the connection itself may linger for the time-outs.
    """

    def __init__(
        self, *, stream_id: str, config: RtspSourceConfig, position: Position | None = None
    ) -> None:
        timeouts_s = config.open_timeout_s, config.read_timeout_s
        super().__init__(stream_id=stream_id, position=position, timeouts_s=timeouts_s)
        self._config = config

    @override
    def _prepare(self) -> Callable[[], VideoReader]:
        config = self._config
        return partial(
            open_video,
            self._address(),
            options={**_LOW_DELAY, "rtsp_transport": config.transport},
            timeout_s=(
                config.open_timeout_s + FFMPEG_GRACE_S,
                config.read_timeout_s + FFMPEG_GRACE_S,
            ),
            is_live=True,
        )

    @override
    def _capture(self, arrival: Arrival) -> Capture:
        wall_clock = arrival.picture.wall_clock
        if wall_clock is None:
            clock, uncertainty_s = CaptureClock.ARRIVAL, _ARRIVAL_UNCERTAINTY_S
            return Capture(at=arrival.arrived_at, clock=clock, uncertainty_s=uncertainty_s)
        clock, uncertainty_s = CaptureClock.RTCP_NTP, _RTCP_UNCERTAINTY_S
        return Capture(at=wall_clock, clock=clock, uncertainty_s=uncertainty_s)

    @override
    def _place(self) -> Position:
        return {"url": self._config.url, **self.position()}

    def _address(self) -> str:
        """Return the URL with user and password, percent-encoded, for FFmpeg alone."""
        if self._config.user is None:
            return self._config.url
        secret = self._password()
        password = "" if secret is None else f":{quote(secret, safe='')}"
        parts = urlsplit(self._config.url)
        netloc = f"{quote(self._config.user, safe='')}{password}@{parts.netloc}"
        return parts._replace(netloc=netloc).geturl()

    def _password(self) -> str | None:
        path, secret = self._config.password_file, self._config.password
        if path is None:
            return None if secret is None else secret.get_secret_value()
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise UnauthorizedError(
                self._stream_id,
                f"the password file {str(path)!r} cannot be read: {describe(error)}",
                accepted="a text file that holds the password",
            ) from error
