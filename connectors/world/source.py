"""The synthetic world as a camera."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event
from time import monotonic
from typing import Final

from typing_extensions import override

from connectors.base import Source
from connectors.errors import Position
from connectors.frame import CaptureClock, Frame
from connectors.world.compose import WorldFrame
from connectors.world.config import WorldSourceConfig
from connectors.world.scene import World, WorldConfig
from connectors.world.wide.scene import WideConfig, WideWorld

WORLD_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


def open_world(config: WorldConfig | WideConfig) -> World | WideWorld:
    """Return the world that a configuration describes."""
    return WideWorld(config) if isinstance(config, WideConfig) else World(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    """Where the wall clock and the media clock were aligned."""

    begun_s: float
    first_index: int


class WorldSource(Source):
    """Yields the frames of one synthetic camera, each with a truth to ask for.

    Guarantee: Frames are a pure function of the config and the index, so that a source reopened at
        its ``position`` repeats exactly what an uninterrupted one would have read.
    Ordering: By index.
    Parallelism: One stream; sources share nothing.
    """

    def __init__(
        self,
        *,
        stream_id: str,
        config: WorldConfig | WideConfig,
        start_index: int = 0,
        realtime: bool = False,
        started_at: datetime = WORLD_EPOCH,
    ) -> None:
        """Prepare a source; the scene is painted by :meth:`open`.

        Args:
            stream_id: Name of the camera.
            config: What it sees.
            start_index: First frame to read; ``num_frames`` gives a source that has ended.
            realtime: Hold each frame back until its time has come, counted from the first read.
            started_at: UTC time of frame 0.

        Raises:
            ValueError: If ``start_index`` is negative or ``started_at`` has no time zone.
        """
        if start_index < 0:
            raise ValueError(f"start_index must be at least 0, got {start_index!r}")
        if started_at.tzinfo is None:
            raise ValueError(f"started_at needs a time zone, got {started_at!r}")
        self._stream_id = stream_id
        self._config = config
        self._next_index = start_index
        self._realtime = realtime
        self._started_at = started_at
        self._world: World | WideWorld | None = None
        self._pace: _Pace | None = None
        self._closed = Event()

    @override
    def open(self) -> None:
        self._pace = None
        if self._world is None:
            self._world = open_world(self._config)

    @override
    def read(self) -> Frame | None:
        world = self._opened()
        index = self._next_index
        if index >= world.num_frames or not self._wait_for(index):
            return None
        drawn = world.render(index)
        self._next_index = index + 1
        return Frame(
            stream_id=self._stream_id,
            stream_epoch=0,
            frame_seq=index,
            pixels=drawn.pixels,
            pts_us=round(drawn.time_s * 1e6),
            captured_at=self._started_at + timedelta(seconds=drawn.time_s),
            capture_clock=CaptureClock.WORLD,
            nominal_step_us=round(1e6 / self._config.fps),
            position=self.position(),
        )

    @override
    def position(self) -> dict[str, int | float | str]:
        return {"index": self._next_index}

    @override
    def close(self) -> None:
        self._closed.set()

    def truth(self, index: int) -> WorldFrame:
        """Return frame ``index`` with its objects. Raises IndexError outside the scene."""
        return self._opened().render(index)

    def _opened(self) -> World | WideWorld:
        if self._world is None:
            raise RuntimeError(f"world source {self._stream_id!r} is not open; call open() first")
        return self._world

    def _wait_for(self, index: int) -> bool:
        """Wait until the frame's time has come; return whether the source is still open."""
        if self._realtime:
            if self._pace is None:
                self._pace = _Pace(begun_s=monotonic(), first_index=index)
            due_s = self._pace.begun_s + (index - self._pace.first_index) / self._config.fps
            self._closed.wait(max(due_s - monotonic(), 0.0))
        return not self._closed.is_set()


def build_world_source(
    *, stream_id: str, config: WorldSourceConfig, position: Position | None
) -> WorldSource:
    """Return the synthetic camera that a configuration describes."""
    return WorldSource(
        stream_id=stream_id,
        config=config.to_world(),
        start_index=int((position or {}).get("index", 0)),
        realtime=config.realtime,
    )
