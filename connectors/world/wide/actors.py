"""How things of the wide world move: closed formulas of time, so that any frame stands alone."""

from dataclasses import dataclass
from enum import StrEnum
from math import cos, pi, sin

from connectors.world.atlas import Pose
from connectors.world.wide.catalogue import Manner, wide_concept_named

_AIRBORNE = frozenset({Manner.FLY, Manner.HOVER})
_STEADY = frozenset({Manner.ROLL, Manner.STAND, Manner.FLOAT})


class Course(StrEnum):
    """The shape of a way."""

    STAY = "stay"
    CROSS = "cross"
    VISIT = "visit"
    SWING = "swing"


@dataclass(frozen=True, slots=True, kw_only=True)
class WideActor:
    """One object and its whole way. Lengths are shares of the frame, times are seconds.

    Attributes:
        concept: Name of its :class:`connectors.world.wide.catalogue.WideConcept`.
        attributes: Its named colour and coat.
        course: ``STAY`` hardly moves; ``CROSS`` goes on in one direction; ``VISIT`` goes out, turns
            and comes back; ``SWING`` goes to and fro, out of the frame and back into it.
        start_x: Where it is at ``start_s``; for ``STAY`` and ``SWING`` the middle of its way.
        start_s: Time at which it is at ``start_x``.
        velocity: Shares of the width per second, to the right where positive. For ``VISIT`` the
            mean over the way out; for ``SWING`` the greatest.
        span_s: For ``VISIT``, time from start to being back; for ``SWING``, of a whole round.
        foot: Row of its feet, or of the ground below it, at ``start_s``; the painter's order.
        height: Height as a share of the frame's shorter side, at ``start_s``.
        lift: How far it flies above its ground, as a share of the frame's height.
        recession: How fast it leaves for the horizon (positive) or comes near, per second.
        phase: Offset of all its rhythms, radians.
        steps_per_s: Rhythm of bobbing and rocking.
        faces_right: Where it looks while it does not move.
    """

    concept: str
    attributes: tuple[str, ...] = ()
    course: Course = Course.CROSS
    start_x: float
    start_s: float = 0.0
    velocity: float = 0.0
    span_s: float = 10.0
    foot: float
    height: float
    lift: float = 0.0
    recession: float = 0.0
    phase: float = 0.0
    steps_per_s: float = 1.6
    faces_right: bool = False

    def x_at(self, time_s: float) -> float:
        """Return its middle as a share of the width (outside [0, 1]: off stage)."""
        since = time_s - self.start_s
        match self.course:
            case Course.STAY:
                return self.start_x + 0.004 * sin(0.8 * time_s + self.phase)
            case Course.CROSS:
                return self.start_x + self.velocity * since
            case Course.VISIT:
                reach = self.velocity * self.span_s / 2
                share = min(max(since / self.span_s, 0.0), 1.0)
                return self.start_x + reach * 0.5 * (1 - cos(2 * pi * share))
            case Course.SWING:
                reach = self.velocity * self.span_s / (2 * pi)
                return self.start_x + reach * sin(2 * pi * since / self.span_s)

    def scale_at(self, time_s: float) -> float:
        """Return how large it is against its size at ``start_s``: things shrink as they recede."""
        since = time_s - self.start_s
        return min(max(1 / max(1 + self.recession * since, 0.4), 0.3), 2.5)

    def foot_at(self, time_s: float, horizon: float) -> float:
        """Return the row of the ground below it, as a share of the height."""
        return horizon + (self.foot - horizon) * self.scale_at(time_s)

    def pose_at(self, time_s: float, *, width: int, height: int, horizon: float) -> Pose:
        """Return its pose in a frame of ``width`` x ``height`` with the horizon at that share."""
        manner = wide_concept_named(self.concept).manner
        rhythm = 2 * pi * self.steps_per_s * time_s + self.phase
        tall = self.height * min(width, height) * self.scale_at(time_s)
        foot = self.foot_at(time_s, horizon) - self.lift
        bob, angle = 0.0, 0.0
        if manner in _AIRBORNE:
            foot += 0.02 * sin(1.3 * time_s + self.phase)
            angle = 5 * sin(0.9 * time_s + self.phase)
            bob = 0.05 * sin(rhythm)
        elif manner in {Manner.FLOAT, Manner.SWIM}:
            bob, angle = 0.03 * sin(1.9 * time_s + self.phase), 2.5 * sin(1.4 * time_s + self.phase)
        elif manner is Manner.ROLL:
            bob, angle = 0.004 * sin(9 * time_s), 0.6 * sin(7 * time_s)
        elif manner is Manner.WALK:
            bob, angle = 0.025 * abs(sin(rhythm / 2)), 2.2 * sin(rhythm / 2)
        return Pose(
            x_px=self.x_at(time_s) * width,
            foot_px=foot * height - bob * tall,
            height_px=tall,
            angle_deg=angle,
            faces_right=self._faces_right(time_s),
        )

    def _faces_right(self, time_s: float) -> bool:
        if self.course is Course.STAY:
            return self.faces_right
        return self.x_at(time_s + 0.01) >= self.x_at(time_s - 0.01)


def can_fly(concept: str) -> bool:
    """Return whether things of that name are found above the ground."""
    return wide_concept_named(concept).manner in _AIRBORNE


def is_steady(concept: str) -> bool:
    """Return whether things of that name neither walk nor flap."""
    return wide_concept_named(concept).manner in _STEADY
