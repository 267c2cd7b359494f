"""Cameras of this machine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from typing_extensions import override

from connectors.errors import NotFoundError, Position
from connectors.frame import CaptureClock
from connectors.video.config import WebcamSourceConfig
from connectors.video.decode import VideoReader, open_video
from connectors.video.live import FFMPEG_GRACE_S, Arrival
from connectors.video.live_source import Capture, LiveSource

_ARRIVAL_UNCERTAINTY_S = 0.1


class WebcamSource(LiveSource):
    """Plays a Video4Linux device. It never opens it again by itself.

    Guarantee: live, so nothing is repeated. An unplugged camera is a ``StreamEndedError``; each
        opening begins a new ``stream_epoch``, ``frame_seq`` goes on from ``position``.
    Ordering: media time within an epoch.
    Parallelism: none; one reader per device. ``close`` may come from another thread and ends an
        opening or a read at once.
    """

    def __init__(
        self, *, stream_id: str, config: WebcamSourceConfig, position: Position | None = None
    ) -> None:
        timeouts_s = config.read_timeout_s, config.read_timeout_s
        super().__init__(stream_id=stream_id, position=position, timeouts_s=timeouts_s)
        self._config = config

    @override
    def _prepare(self) -> Callable[[], VideoReader]:
        config = self._config
        if not Path(config.device).exists():
            reason = f"no device {config.device!r}"
            accepted = f"one of {_devices()}"
            raise NotFoundError(self._stream_id, reason, accepted=accepted, recoverable=True)
        options = {"fflags": "nobuffer"}
        if config.width and config.height:
            options["video_size"] = f"{config.width}x{config.height}"
        if config.fps:
            options["framerate"] = str(config.fps)
        limit_s = config.read_timeout_s + FFMPEG_GRACE_S
        return partial(
            open_video,
            config.device,
            options=options,
            timeout_s=(limit_s, limit_s),
            container_format="v4l2",
            is_live=True,
        )

    @override
    def _capture(self, arrival: Arrival) -> Capture:
        clock, uncertainty_s = CaptureClock.ARRIVAL, _ARRIVAL_UNCERTAINTY_S
        return Capture(at=arrival.arrived_at, clock=clock, uncertainty_s=uncertainty_s)

    @override
    def _place(self) -> Position:
        return {"device": self._config.device, **self.position()}


def _devices() -> str:
    names = sorted(str(path) for path in Path("/dev").glob("video*"))
    return ", ".join(names) or "no camera is connected to this machine"
