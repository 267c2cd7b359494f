"""How objects move: closed formulas of time, so that any frame can be drawn without the others."""

from dataclasses import dataclass
from enum import StrEnum
from math import cos, pi, sin

import numpy as np

from connectors.world.atlas import Pose

SMALLEST, TALLEST = 0.15, 0.45


class Path(StrEnum):
    """The shape of a walk."""

    CROSS = "cross"
    VISIT = "visit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One object and its whole walk. Lengths are shares of the frame, times are seconds.

    Attributes:
        concept: Name of its :class:`connectors.world.concepts.WorldConcept`.
        path: ``CROSS`` goes on in one direction; ``VISIT`` goes out, turns and comes back.
        start_x: Where it is at ``start_s``, as a share of the width.
        start_s: Time at which it is at ``start_x``.
        velocity: Shares of the width per second, to the right where positive. For ``VISIT`` the
            mean over the way out.
        span_s: For ``VISIT``, time from start to being back at ``start_x``.
        nearness: 0 walks at the horizon, 1 at the camera; also the painter's order.
        height: Height as a share of the frame's shorter side.
        sway: Amplitude of speeding up and slowing down, share of the width.
        phase: Offset of all its rhythms, radians.
        steps_per_s: Rhythm of bobbing and rocking; 0 for things that roll.
    """

    concept: str
    path: Path = Path.CROSS
    start_x: float
    start_s: float
    velocity: float
    span_s: float = 10.0
    nearness: float
    height: float
    sway: float = 0.0
    phase: float = 0.0
    steps_per_s: float = 1.6

    def x_at(self, time_s: float) -> float:
        """Return the middle of its feet, as a share of the width (outside [0, 1]: off stage)."""
        since = time_s - self.start_s
        if self.path is Path.VISIT:
            reach = self.velocity * self.span_s / 2
            share = min(max(since / self.span_s, 0.0), 1.0)
            return self.start_x + reach * 0.5 * (1 - cos(2 * pi * share))
        return (
            self.start_x
            + self.velocity * since
            + self.sway * (sin(0.9 * since + self.phase) - sin(self.phase))
        )

    def _faces_right(self, time_s: float) -> bool:
        return self.x_at(time_s + 0.01) >= self.x_at(time_s - 0.01)

    def pose_at(self, time_s: float, *, width: int, height: int, horizon: float) -> Pose:
        """Return its pose in a frame of ``width`` x ``height`` with the horizon at that share."""
        rhythm = 2 * pi * self.steps_per_s * time_s + self.phase
        tall = self.height * min(width, height) * (1 + 0.02 * sin(0.7 * time_s + self.phase))
        bob = 0.025 * abs(sin(rhythm / 2)) if self.steps_per_s else 0.004 * sin(9 * time_s)
        foot = foot_row(self.nearness, horizon) + 0.008 * sin(0.5 * time_s + self.phase)
        return Pose(
            x_px=self.x_at(time_s) * width,
            foot_px=foot * height - bob * tall,
            height_px=tall,
            angle_deg=2.2 * sin(rhythm / 2) if self.steps_per_s else 0.5 * sin(7 * time_s),
            faces_right=self._faces_right(time_s),
        )


def foot_row(nearness: float, horizon: float) -> float:
    """Return where something of that nearness touches the ground, as a share of the height."""
    # Never so close to the horizon that even the smallest thing would leave the frame's top.
    far = max(horizon + 0.04, SMALLEST + 0.05)
    return far + (0.97 - far) * nearness


def height_for(nearness: float, stature: float, horizon: float) -> float:
    """Return the height, as a share of the shorter side, of something seen at that nearness."""
    wanted = (0.2 + 0.3 * nearness) * stature
    room = foot_row(nearness, horizon)
    return float(np.clip(min(wanted, room), SMALLEST, TALLEST))
