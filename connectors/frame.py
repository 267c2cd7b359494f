"""The one picture type that travels through the pipeline."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Position


class CaptureClock(StrEnum):
    """Where a frame's capture time comes from."""

    RTCP_NTP = "rtcp_ntp"
    KAFKA_TIMESTAMP = "kafka_timestamp"
    ARRIVAL = "arrival"
    FILE_PTS = "file_pts"
    EXIF = "exif"
    WORLD = "world"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOrigin:
    """The Kafka record that a frame came in."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOrigin:
    """The place of a frame in a file.

    Attributes:
        media: The file, as its source was told to read it.
        frame_index: Number of the frame in the file, from 0.
    """

    media: str
    frame_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded picture of one stream.

    Attributes:
        stream_id: The camera's name, unique in a deployment.
        stream_epoch: Grows by one at each discontinuity (reconnect, loop, new resolution).
        frame_seq: Number of the frame in its stream, from 0, never reset by a new epoch.
        pixels: RGB, shape (H, W, 3), uint8.
        pts_us: Media time in whole microseconds.
        captured_at: UTC time of capture as the source gives it; reported, not trusted.
        capture_clock: Where ``captured_at`` comes from.
        capture_uncertainty_s: Half width of the interval that holds the true capture time.
        nominal_step_us: Usual media time between two frames, if the source knows one.
        is_time_doubtful: Whether the neighbours' capture times contradict ``captured_at``.
        position: Resume point behind this frame: a source built with it goes on with the next.
        origin: Which piece of input it was, if it can be found again.
    """

    stream_id: str
    stream_epoch: int
    frame_seq: int
    pixels: NDArray[np.uint8]
    pts_us: int
    captured_at: datetime
    capture_clock: CaptureClock
    capture_uncertainty_s: float = 0.0
    nominal_step_us: int | None = None
    is_time_doubtful: bool = False
    position: Position | None = None
    origin: KafkaOrigin | MediaOrigin | None = None
